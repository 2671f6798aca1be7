"""Tables with named columns: `.csv`, `.tsv`, `.parquet` and DataFrames."""

__all__ = ["SUFFIXES", "beside_array", "cells_of", "frame_source", "pyarrow_parquet", "require_filled", "table_source"]

import csv
import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_vae.data.source import Array, Part, Source, as_numbers, checksum, refusing
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular, require_regular
from pyro_vae.memory import require_room, said

SUFFIXES = (".csv", ".tsv", ".parquet")
# What a byte of text takes when it is read, and a cell of a column.
_HELD, _CELL = 8, 16
# What packing makes of a byte at most, where values are data; and how much may be packed better.
_PACKED, _SMALL = 500, 2**27


def table_source(path: Path, test: Path | None = None, **chosen: Any) -> Source:
    """Reads a table.

    Arguments:
        path: The file.
        test: A file with the same columns, whose rows are the test split.
        chosen: What the columns are; see `frame_source`.

    Raises:
        InputError: If it cannot be read, a column is not there, or holds what is no number.
    """
    frame, found = _read(path)
    if test is None:
        return frame_source(frame, f"--data {path}", found, **chosen)
    other, also = _read(test)
    if (left := set(frame.columns) ^ set(other.columns)) or len(frame.columns) != len(other.columns):
        raise InputError(f"--test {test} has other columns than {path}, {sorted(map(str, left))}: make them alike")
    both = pd.concat([frame, other[list(frame.columns)]], ignore_index=True)
    return frame_source(both, f"--data {path}", found + also, training=len(frame), **chosen)


def _read(path: Path) -> tuple[Any, str]:
    with refusing(f"--data {path} cannot be read as a table"):
        require_regular(path)
        require_room(_HELD * path.stat().st_size, "it takes")
        found = checksum(path)
        if path.suffix.lower() == ".parquet":
            with open_regular(path) as content:
                file = pyarrow_parquet(path).ParquetFile(content)
                require_filled(file.metadata, path.stat().st_size)
                require_room(_CELL * file.metadata.num_rows * file.metadata.num_columns, "it unpacks to")
                return file.read().to_pandas().reset_index(drop=True), found
        return _text(path, "\t" if path.suffix.lower() == ".tsv" else ","), found


def pyarrow_parquet(path: Path) -> Any:
    """Returns pyarrow's module of parquet files.

    Raises:
        InputError: If it is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"--data {path} needs pyarrow: pip install pyarrow, or save the table as .csv") from error
    return parquet


def require_filled(found: Any, size: int) -> None:
    """Refuses a parquet file that is next to nothing and promises hours of work: one value over and over takes no room.

    Arguments:
        found: Its metadata.
        size: Its size in bytes.

    Raises:
        ValueError: If it is so.
    """
    promised = found.num_rows * found.num_columns * np.dtype(np.float32).itemsize
    if promised > max(_PACKED * size, _SMALL):
        raise ValueError(f"it promises {found.num_rows:,} rows of {found.num_columns:,} columns in {said(size)}")


def _text(path: Path, separator: str) -> Any:
    """Reads text, after a look at whether all of its rows are alike."""
    where = f"--data {path}"
    try:
        with open_regular(path) as content, TextIOWrapper(content, "utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=separator, strict=True)
            header = next((row for row in rows if row), [])
            for row in rows:
                if row and len(row) != len(header):
                    raise InputError(
                        f"{where} has {len(row)} fields in line {rows.line_num}, and {len(header)} in its first line: "
                        "make all of them alike"
                    )
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not in UTF-8 ({error.reason}): save it in that encoding") from error
    if not header:
        raise InputError(f"{where} is empty: give a line with the names of the columns, and rows under it")
    if len(header) == 1 and separator == "," and any(other in header[0] for other in ";\t"):
        raise InputError(f"{where} has no comma in its first line: separate fields by commas, or name the file .tsv")
    # Numbers are no names, but for those that pandas gives columns without one.
    named = not all(map(_is_number, header)) or header == [str(n) for n in range(max(2, len(header)))]
    names = header if named else [str(n + 1) for n in range(len(header))]
    _check_names(names, where)
    with open_regular(path) as content:
        return pd.read_csv(
            content,
            sep=separator,
            encoding="utf-8-sig",
            header=0 if named else None,
            names=names,
            index_col=False,
            low_memory=False,
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def frame_source(
    frame: Any,
    where: str,
    found: str,
    *,
    training: int | None = None,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    beside: Sequence[str] = (),
    categories: Sequence[str] = (),
    levels: Mapping[str, tuple[str, ...]] | None = None,
) -> Source:
    """Makes a source of a DataFrame.

    Arguments:
        frame: The table, one datapoint in each row.
        where: What it is, for the message.
        found: Its checksum.
        training: How many of its rows are the training split; None leaves it whole.
        columns: The columns that are cells; all that are nothing else if omitted.
        drop: Columns to leave out.
        beside: Columns that are no cells, but are kept: labels, groups and such.
        categories: Columns of text whose values are numbered, in their order.
        levels: Those values, where they are known.

    Raises:
        InputError: If a column is not there, or holds what is no number.
    """
    names = [str(name) for name in frame.columns]
    cells = cells_of(names, where, columns, drop, beside, categories)
    if not cells or not len(frame):
        raise InputError(f"{where} has {len(cells)} columns of cells and {len(frame)} rows: give at least one of each")
    series = {name: frame.iloc[:, n] for n, name in enumerate(names)}
    numbers, found_levels = [], {}
    for name in cells:
        if name in categories:
            codes, found_levels[name] = _categories(series[name], name, where, (levels or {}).get(name))
            numbers.append(codes)
        else:
            numbers.append(_numbers(series[name], name, where))
    whole = all(column.dtype.kind in "iu" for column in numbers)
    values = np.empty((len(frame), len(cells)), np.int64 if whole else np.float32)
    for n, column in enumerate(numbers):
        values[:, n] = column
    values = as_numbers(values, where, tuple(cells))
    kept = {name: beside_array(series[name]) for name in beside}
    cut = len(frame) if training is None else training
    parts = [Part(values[rows], {n: v[rows] for n, v in kept.items()}) for rows in (slice(cut), slice(cut, None))]
    return Source(parts[0], None if training is None else parts[1], found, names=tuple(cells), levels=found_levels)


def cells_of(
    names: Sequence[str],
    where: str,
    columns: Sequence[str] | None,
    drop: Sequence[str],
    beside: Sequence[str],
    categories: Sequence[str],
) -> list[str]:
    """Returns which columns are cells; see `frame_source`.

    Raises:
        InputError: If one that is named is not there.
    """
    _check_names(names, where)
    for name in (*(columns or ()), *drop, *beside, *categories):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            mend = f"did you mean {near[0]}?" if near else f"it has {', '.join(names[:20])}"
            raise InputError(f"{where} has no column {name}: {mend}")
    return [name for name in columns or names if name not in drop and name not in beside]


def _check_names(names: Sequence[str], where: str) -> None:
    seen: set[str] = set()
    for n, name in enumerate(names):
        if not name.strip():
            raise InputError(
                f"{where} has no name for column {n + 1}: name it, or leave it out where it is only the row's number"
            )
        if not name.isprintable():
            raise InputError(f"{where} has characters that do not print in the name of column {n + 1}: rename it")
        if name in seen:
            raise InputError(f"{where} has two columns called {name}: rename one")
        seen.add(name)


def _categories(column: Any, name: str, where: str, levels: tuple[str, ...] | None) -> tuple[Array, tuple[str, ...]]:
    """The numbers of the values of a column, in which a missing one is not-a-number, and these values."""
    codes, found = pd.factorize(column, sort=True)
    names = tuple(map(str, found))
    if levels is not None:
        for unknown in (each for each in names if each not in levels):
            raise InputError(f"{where} has {unknown[:40]} in column {name}, which is none of {', '.join(levels[:20])}")
        codes = np.array([*map(levels.index, names), -1])[codes]
    return np.where(codes < 0, np.nan, codes) if (codes < 0).any() else codes, levels or names


def _numbers(column: Any, name: str, where: str) -> Array:
    """The numbers of a column, in which a missing value is not-a-number."""
    if column.dtype.kind == "b":
        return (
            column.to_numpy(dtype=np.uint8) if not column.isna().any() else column.to_numpy(np.float32, na_value=np.nan)
        )
    if column.dtype.kind in "iuf":
        if column.isna().any() or column.dtype.kind == "f":
            values: Array = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            values = column.to_numpy(dtype=column.dtype.name.lower())
        return as_numbers(values[:, None], where, (name,))[:, 0]
    given = column.dropna()
    wrong = given[pd.to_numeric(given, errors="coerce").isna()] if column.dtype.kind not in "mM" else given
    if not len(wrong):  # numbers, stored as text
        return as_numbers(pd.to_numeric(column).to_numpy(np.float64)[:, None], where, (name,))[:, 0]
    row = int(np.flatnonzero(column.index == wrong.index[0])[0]) + 1
    what = "dates" if column.dtype.kind in "mM" or _is_date(wrong.iloc[0]) else "text"
    raise InputError(
        f"{where} has {what} in column {name}, {str(wrong.iloc[0])[:40]} in row {row}: leave it out by --drop {name}, "
        f"make it the --label, or number its values by --kinds {name}:category"
    )


def _is_date(value: Any) -> bool:
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return True


def beside_array(column: Any) -> Array:
    """The values of a column that is no cell, None where one is missing."""
    if column.dtype.kind in "iufb" and not column.isna().any():
        return column.to_numpy(dtype=column.dtype.name.lower())
    return column.to_numpy(dtype=object, na_value=None)
