"""Result tables as CSV files with a header."""

__all__ = ["read_table", "write_table"]

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyro_vae.errors import InputError
from pyro_vae.run.folder import replace_file


def write_table(rows: Sequence[dict[str, Any]], columns: Sequence[str], path: Path) -> Path:
    """Writes rows to a file and returns its path.

    Arguments:
        rows: The rows, each with a value for every column.
        columns: The columns, in order.
        path: The file.
    """

    def write(beside: Path) -> None:
        with beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    replace_file(path, write)
    return path


def read_table(path: Path, columns: Sequence[str], words: Sequence[str]) -> list[dict[str, Any]]:
    """Reads the rows of a file, none where there is no file.

    Arguments:
        path: The file.
        columns: The columns that it must have.
        words: Those that are words; the others are numbers.

    Raises:
        InputError: If it is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = csv.DictReader(file)
            if list(found.fieldnames or ()) != list(columns):
                raise ValueError(f"its columns are not {', '.join(columns)}")
            return [{key: row[key] if key in words else float(row[key]) for key in columns} for row in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
