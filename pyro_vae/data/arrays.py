"""Arrays and tensors in files: `.npy`, `.npz`, `.pt` and `.safetensors`, read as data and never as code."""

__all__ = ["SUFFIXES", "array_source", "named_arrays"]

import math
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from pyro_vae.data import mapped
from pyro_vae.data.source import Array, Part, Source, as_numbers, checksum, refusing, shaped
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular, require_regular
from pyro_vae.memory import require_room

SUFFIXES = (".npy", ".npz", ".pt", ".safetensors")
# What deflate can make of a byte at most, by the account of zlib.
_DEFLATE = 1032
# Values are held as they were read and as what they are kept as.
_HELD = 2
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def array_source(path: Path, channels: str | None) -> Source:
    """Reads arrays.

    Arguments:
        path: The file. Where it holds several arrays, they are named: `train` and `test`, or `x` alone, are the cells.
            Of the others, `labels`, `observed` (which cells are there) and whatever the user asks for by name belong to
            the datapoints of `x`, and `train_labels` and so on to those of a split.
        channels: Where the channels of images are; see `shaped`.

    Raises:
        InputError: If the file or its values are not so.
    """
    with refusing(f"--data {path} cannot be read as {_kind(path)}"):
        require_regular(path)
        if path.suffix == ".npy" and path.stat().st_size > mapped.LARGE:
            if channels is not None:
                raise InputError(
                    f"--channels does not apply to {path}, which is large and so it is mapped: leave it out"
                )
            with open_regular(path) as file:
                header = _header(file, path.stat().st_size)
                return mapped.mapped_source(path, *header, file.tell())
        require_room(_HELD * path.stat().st_size, "it takes")
        found = checksum(path)
        arrays = {".pt": _torch, ".safetensors": _safetensors}.get(path.suffix, _numpy)(path)
    return named_arrays(arrays, f"--data {path}", found, channels)


def _kind(path: Path) -> str:
    return "a NumPy array" if path.suffix in (".npy", ".npz") else "tensors"


def named_arrays(arrays: Mapping[str, Array], where: str, found: str, channels: str | None) -> Source:
    """Makes a source of arrays by name; see `array_source`."""
    splits = [name for name in ("train", "test") if name in arrays]
    if len(splits) == 1 or not (splits or "x" in arrays):
        raise InputError(f"{where} needs the arrays train and test, or x, it has {sorted(arrays)}")
    parts = []
    if splits and (arrays["train"].shape[1:], arrays["train"].dtype) != (
        arrays["test"].shape[1:],
        arrays["test"].dtype,
    ):
        told = " and ".join(f"{arrays[name].dtype} {arrays[name].shape[1:]}" for name in splits)
        raise InputError(f"{where} has train and test of different kinds, {told}: make them alike")
    for name in splits or ["x"]:
        values, image_shape = shaped(arrays[name], channels, where)
        mine = {
            other.removeprefix(f"{name}_") if splits else other: array
            for other, array in arrays.items()
            if other not in (name, "names") and (other.startswith(f"{name}_") if splits else True)
        }
        there = mine.pop("observed", None)
        numbers = as_numbers(values, where)
        if numbers.dtype == np.uint8 and values.dtype == np.uint8 and numbers.max() <= 1 and there is None:
            raise InputError(f"{where} has bytes of 0 and 1 only, which are divided by 256: store it as bool")
        if there is not None:
            numbers = _masked(numbers, values, there, where)
        parts.append((Part(numbers, mine), image_shape, 256 if values.dtype == np.uint8 else 1))
    (train, image_shape, divisor), *rest = parts
    names = arrays.get("names")
    if names is not None:
        names = names.reshape(-1)
        if len(names) != train.values.shape[1] or names.dtype.kind not in "US":
            raise InputError(f"{where} has {len(names)} names of type {names.dtype}: give one text for each feature")
    return Source(
        train,
        rest[0][0] if rest else None,
        found,
        divisor,
        image_shape,
        None if names is None else tuple(map(str, names)),
        "labels" if "labels" in train.beside else None,
    )


def _masked(numbers: Array, values: Array, there: Array, where: str) -> Array:
    there = there.reshape(len(there), -1)
    if there.dtype != bool or there.shape != values.shape:
        raise InputError(
            f"{where} has a mask observed of type {there.dtype} and shape {there.shape}: make it bool, True where a "
            f"cell is there, with shape {values.shape}"
        )
    return np.where(there, numbers, np.float32(np.nan)).astype(np.float32)


def _numpy(path: Path) -> dict[str, Array]:
    """Reads the one array of an `.npy` file, or all of an `.npz` file."""
    with open_regular(path) as content:
        size = os.fstat(content.fileno()).st_size
        if not zipfile.is_zipfile(content):
            content.seek(0)
            return {"x": _read(content, size)}
        with zipfile.ZipFile(content) as archive:
            arrays = {}
            sizes = {entry: min(entry.file_size, _DEFLATE * size) for entry in archive.infolist()}
            require_room(_HELD * sum(sizes.values()), "it unpacks to")
            for entry, most in sizes.items():
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError("it is compressed in another way than NumPy's")
                with archive.open(entry) as file:
                    arrays[entry.filename.removesuffix(".npy")] = _read(file, most)
    return arrays if "train" in arrays or len(arrays) != 1 else {"x": next(iter(arrays.values()))}


def _read(file: IO[bytes], size: int) -> Array:
    """Reads an array from a file of so many bytes. A header that promises more is refused before it is believed."""
    _header(file, size)
    file.seek(0)
    array: Array = npy.read_array(file, allow_pickle=False)
    return array


def _header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"its format is version {version}")
    shape, fortran, dtype = _HEADERS[version](file)
    if math.prod(shape) * max(1, dtype.itemsize) > size - file.tell():
        raise ValueError(f"its header promises {dtype} values of shape {shape}, more than the file holds")
    return shape, fortran, dtype


def _torch(path: Path) -> dict[str, Array]:
    """Reads a tensor, or tensors by name, from a file of `torch.save`."""
    import torch

    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
        size = os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as archive:
            # torch compresses nothing.
            if sum(entry.file_size for entry in archive.infolist()) > size:
                raise ValueError("its parts are larger than the file")
        file.seek(0)
        return _arrays(torch.load(file, map_location="cpu", weights_only=True), size)


def _safetensors(path: Path) -> dict[str, Array]:
    from safetensors.torch import load_file

    require_regular(path)
    return _arrays(load_file(path), path.stat().st_size)


def _arrays(content: Any, size: int) -> dict[str, Array]:
    """Makes arrays of tensors from a file of so many bytes. One may promise more by strides of 0."""
    import torch

    tensors = content if isinstance(content, dict) else {"x": content}
    if not tensors or not all(isinstance(value, torch.Tensor) and isinstance(n, str) for n, value in tensors.items()):
        raise ValueError("it holds something else than tensors by name")
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > size:
            raise ValueError(f"{name} is sparse, or promises more values than the file holds")
        arrays[name] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    return arrays if "train" in arrays or len(arrays) != 1 else {"x": next(iter(arrays.values()))}
