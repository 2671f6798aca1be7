"""Data that are in Python already: arrays, tensors, DataFrames, DataArrays and torch's data sets."""

__all__ = ["object_source"]

from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from pyro_vae.data.arrays import named_arrays
from pyro_vae.data.source import Array, Source
from pyro_vae.data.tables import frame_source
from pyro_vae.errors import InputError


def object_source(data: Any, channels: str | None, arrays: dict[str, Any], **chosen: Any) -> Source:
    """Makes a source of what lies in memory.

    Arguments:
        data: An array, masked or not, a tensor, a DataFrame, an xarray `DataArray`, a `torch.utils.data.Dataset` of
            tensors or of pairs of a tensor and a label, or arrays by name as an `.npz` file has them.
        channels: Where the channels of images are.
        arrays: Arrays by name that belong to the datapoints, such as `labels` or `observed`.
        chosen: What the columns of a DataFrame are; see `pyro_vae.data.tables.frame_source`.

    Raises:
        InputError: If it is none of these.
    """
    where = f"data of type {type(data).__name__}"
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        import pandas as pd

        frame = data.assign(**arrays)
        digest = sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
        digest.update(repr([*map(str, frame.columns)]).encode())
        return frame_source(frame, where, digest.hexdigest(), **chosen)
    if any(value for value in chosen.values() if value):
        raise InputError(f"columns, drop and kinds are of tables with names, and this is {where}: leave them out")
    named = {name: _array(value, where) for name, value in (_named(data, where) | arrays).items()}
    digest = sha256()
    for name, array in sorted(named.items()):
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes() if array.dtype != object else repr(array.tolist()).encode())
    return named_arrays(named, where, digest.hexdigest(), channels)


def _named(data: Any, where: str) -> dict[str, Any]:
    """Arrays by name, of what is not a table."""
    if isinstance(data, dict):
        return data
    if isinstance(data, np.ma.MaskedArray):
        return {"x": data.data, "observed": ~np.ma.getmaskarray(data)}
    if hasattr(data, "dims") and hasattr(data, "coords"):  # a DataArray, whose first dimension is the datapoints'
        coords = data.coords.get(data.dims[1]) if data.ndim == 2 else None
        names = {} if coords is None or coords.dtype.kind not in "USO" else {"names": coords.to_numpy().astype(str)}
        return {"x": data.to_numpy(), **names}
    if isinstance(data, TorchDataset):
        items = [data[n] for n in range(len(data))]  # type: ignore[arg-type]
        if not items:
            raise InputError(f"{where} is empty: give at least two datapoints")
        pairs = [item if isinstance(item, tuple | list) else (item,) for item in items]
        x = np.stack([_array(pair[0], where) for pair in pairs])
        return {"x": x} | (
            {"labels": np.array([_array(pair[1], where) for pair in pairs])} if len(pairs[0]) > 1 else {}
        )
    return {"x": data}


def _array(value: Any, where: str) -> Array:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if hasattr(value, "to_numpy"):
        return value.to_numpy()
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InputError(f"{where} is no array: {error}") from error
