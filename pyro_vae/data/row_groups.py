"""Parquet tables that are larger than memory, read by row groups."""

__all__ = ["is_large", "row_group_source"]

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyro_vae.data import mapped
from pyro_vae.data.source import Array, Part, Source, refusing
from pyro_vae.data.tables import beside_array, cells_of, frame_source, pyarrow_parquet, require_filled
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular, require_regular

# Cells that are looked at at once.
_CELLS = 2**22


def is_large(path: Path) -> bool:
    """Whether a parquet file has more cells than are held in memory; what cannot be told is no large one."""
    try:
        with open_regular(path) as content:
            found = pyarrow_parquet(path).ParquetFile(content).metadata
    except Exception:  # its reader has the words for it
        return False
    return found.num_rows * found.num_columns * np.dtype(np.float32).itemsize > mapped.LARGE


class RowGroups:
    """Cells of a parquet file in the place of an array: rows that are taken of it are read into a file and mapped.

    Arguments:
        file: The open file.
        where: What it is, for the message.
        cells: The columns that are cells.
        options: How they become numbers; see `pyro_vae.data.tables.frame_source`.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, file: Any, where: str, cells: Sequence[str], options: Mapping[str, Any]) -> None:
        self.file, self.where, self.cells, self.options = file, where, [*cells], options
        self.shape = (file.metadata.num_rows, len(cells))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Array | slice) -> Array:
        """Takes rows, in the order of the file.

        Raises:
            InputError: If they cannot be read.
        """
        wanted = np.zeros(len(self), dtype=bool)
        wanted[rows] = True
        return mapped.scratch(self._taken(wanted), len(self.cells))

    def _taken(self, wanted: Array) -> Iterator[Array]:
        with refusing(f"{self.where} cannot be read as a table"):
            for start, frame in frames(self.file, self.cells):
                chosen = wanted[start : start + len(frame)]
                if chosen.any():
                    where = f"{self.where}, from row {start + 1} on," if start else self.where
                    yield frame_source(frame, where, "", columns=self.cells, **self.options).train.values[chosen]


def frames(file: Any, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """The rows of a parquet file as one DataFrame after another, each with the number of its first row."""
    start = 0
    for batch in file.iter_batches(max(1, _CELLS // len(columns)), columns=[*columns]):
        frame = batch.to_pandas().reset_index(drop=True)
        yield start, frame
        start += len(frame)


def row_group_source(
    path: Path,
    *,
    columns: Sequence[str] | None,
    drop: Sequence[str],
    beside: Sequence[str],
    categories: Sequence[str],
    levels: Mapping[str, tuple[str, ...]],
) -> Source:
    """Reads what is beside the cells, and leaves these for later; the arguments are those of `frame_source`.

    Raises:
        InputError: If it cannot be read, or a column is not there.
    """
    where = f"--data {path}"
    with refusing(f"{where} cannot be read as a table"):
        require_regular(path)
        file = pyarrow_parquet(path).ParquetFile(path, memory_map=True)
        require_filled(file.metadata, path.stat().st_size)
        names = [str(name) for name in file.schema_arrow.empty_table().to_pandas().columns]
        cells = cells_of(names, where, columns, drop, beside, categories)
        numbered = dict(levels)
        for name in categories:
            if name not in numbered:
                found = {value for _, frame in frames(file, [name]) for value in frame[name].dropna().unique()}
                numbered[name] = tuple(map(str, sorted(found)))
        kept = [(name, file.read(columns=[name]).to_pandas()[name]) for name in beside]
    if not cells or not file.metadata.num_rows:
        raise InputError(f"{where} has {len(cells)} columns of cells and no rows: give at least one of each")
    options = {"categories": [name for name in categories if name in cells], "levels": numbered}
    values: Any = RowGroups(file, where, cells, options)
    return Source(
        Part(values, {name: beside_array(column) for name, column in kept}),
        None,
        mapped.fingerprint(path),
        names=tuple(cells),
        levels={name: numbered[name] for name in options["categories"]},
        mapped=True,
    )
