"""Tables that go on to elsewhere: `.csv`, `.tsv`, `.parquet`, `.npy` and `.npz`."""

__all__ = ["TABLES", "require_table", "write_table"]

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_vae.errors import InputError
from pyro_vae.run.folder import replace_file

TABLES = (".csv", ".tsv", ".parquet", ".npz", ".npy")


def require_table(path: Path) -> None:
    """Checks that a table can be written there, before the long part starts.

    Raises:
        InputError: If its format is not known, or its folder is not there.
    """
    if path.suffix.lower() not in TABLES or not path.absolute().parent.is_dir():
        raise InputError(
            f"--out {path} is not possible: give the name of a file that ends in {', '.join(TABLES)}, in a folder that "
            "exists"
        )
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(f"--out {path} needs pyarrow: pip install pyarrow, or write .csv")


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Writes a table; `.npz` has an array for each column, `.npy` one of the columns that are numbers."""
    require_table(path)
    suffix = path.suffix.lower()

    def write(beside: Path) -> None:
        if suffix in (".csv", ".tsv"):
            frame.to_csv(beside, index=False, sep="\t" if suffix == ".tsv" else ",")
        elif suffix == ".parquet":
            frame.to_parquet(beside, engine="pyarrow", index=False)
        else:
            with beside.open("wb") as file:  # numpy would give the name another end
                if suffix == ".npy":
                    np.save(file, frame.select_dtypes("number").to_numpy(np.float32))
                else:
                    arrays: dict[str, Any] = {str(name): _plain(column) for name, column in frame.items()}
                    np.savez(file, **arrays)

    replace_file(path, write)
    return path


def _plain(column: pd.Series) -> np.ndarray:
    """Text as NumPy's own, which needs no pickle."""
    values = column.to_numpy()
    return np.array(["" if pd.isna(value) else str(value) for value in values]) if values.dtype == object else values
