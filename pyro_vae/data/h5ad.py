"""Annotated matrices of single cells, `.h5ad`, by the anndata package."""

__all__ = ["h5ad_source"]

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyro_vae.data.source import Part, Source, as_numbers, checksum, refusing
from pyro_vae.errors import InputError
from pyro_vae.files import require_regular
from pyro_vae.memory import require_room

# Bytes of a value of a sparse matrix that is made dense.
_DENSE = 8


def h5ad_source(path: Path, beside: Sequence[str] = ()) -> Source:
    """Reads the matrix X, with the names of its genes, and columns of its observations.

    Arguments:
        path: The file.
        beside: Columns of `obs` to keep: labels, covariates, groups.

    Raises:
        InputError: If anndata is not installed, or the file cannot be read.
    """
    try:
        from anndata import read_h5ad
    except ImportError as error:
        raise InputError(f"--data {path} needs anndata: pip install anndata, or save X as .npy or .csv") from error
    where = f"--data {path}"
    with refusing(f"{where} cannot be read by anndata"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's, about its own use of pandas
        require_regular(path)
        _require_room(path)
        found = checksum(path)
        cells: Any = read_h5ad(path)
        values = cells.X.toarray() if hasattr(cells.X, "toarray") else np.asarray(cells.X)
    for name in beside:
        if name not in cells.obs:
            raise InputError(f"{where} has no column {name} in obs: it has {', '.join(map(str, cells.obs.columns))}")
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.round(values)).all():
        values = values.astype(np.int64)  # counts, which are stored as real numbers more often than not
    kept = {name: cells.obs[name].to_numpy(dtype=object, na_value=None) for name in beside}
    names = tuple(map(str, cells.var_names))
    return Source(Part(as_numbers(values, where, names), kept), None, found, names=names)


def _require_room(path: Path) -> None:
    """Checks that there is memory for all arrays: a chunk that was never written promises as much as one that was."""
    import h5py

    with h5py.File(path, "r") as file:
        sizes = [path.stat().st_size]

        def visited(name: str, item: "h5py.Dataset | h5py.Group") -> None:
            if isinstance(item, h5py.Dataset) and item.shape is not None:
                if item.external or item.is_virtual:
                    raise ValueError(f"{name} lies in another file")
                sizes.append(math.prod(item.shape) * item.dtype.itemsize)
            if "shape" in item.attrs and name == "X":  # a sparse matrix, which is made dense
                sizes.append(math.prod(map(int, np.ravel(item.attrs["shape"]))) * _DENSE)

        file.visititems(visited)
    require_room(2 * sum(sizes), "it unpacks to")
