"""Result tables: pandas data frames, as CSV files with a header."""

__all__ = ["read_table", "write_table"]

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pyro_vae.errors import InputError
from pyro_vae.run.folder import replace_file


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """Writes a table to a file and returns its path."""
    replace_file(path, lambda beside: table.to_csv(beside, index=False, lineterminator="\n"))
    return path


def read_table(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    """Reads a table, one without rows where there is no file.

    Arguments:
        path: The file.
        columns: The types of its columns, in order.

    Raises:
        InputError: If it is damaged.
    """
    try:
        # As text first: what is empty or no number is then refused, and a number is read to its last digit.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if list(table) != list(columns) or not isinstance(table.index, pd.RangeIndex):
            raise ValueError(f"its columns are not {', '.join(columns)}")
        return table.astype(columns)
    except FileNotFoundError:
        return pd.DataFrame(columns=list(columns)).astype(columns)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
