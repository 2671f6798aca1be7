"""Arrays that may be larger than memory: mapped from their file, and never read as a whole.

Minibatches are gathered from the mapping as from memory. What has been touched counts as resident until it is given
back to the page cache, which a thread does fifty times a second: what a process holds of a file stays below 1 GiB.
"""

__all__ = ["LARGE", "chunks", "mapped_source"]

import math
import mmap
import threading
import weakref
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np

from pyro_vae.data.source import Array, Part, Source
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular

# An .npy file of more bytes is mapped; smaller ones lie on the device.
LARGE = 2**31
# Cells that are looked at at once.
_CELLS = 2**22
_PERIOD = 0.02
# What of a file is hashed, at so many places.
_PLACES, _PIECE = 1024, 2**16
_TYPES = (np.uint8, np.int8, np.int16, np.int32, np.float16, np.float32, np.float64)


def mapped_source(path: Path, shape: tuple[int, ...], fortran: bool, dtype: "np.dtype[Any]", offset: int) -> Source:
    """Maps an `.npy` file. It is cut in its order: the last datapoints test, since rows that are shuffled are copied.

    Arguments:
        path: The file.
        shape: What its header says: the shape,
        fortran: whether columns come first,
        dtype: and the type of its values.
        offset: Where they begin.

    Raises:
        InputError: If its values are of another type or order than can be used where they are, or no finite numbers.
    """
    if fortran or not dtype.isnative or dtype not in _TYPES or len(shape) not in (2, 3):
        raise InputError(
            f"--data {path} is large and so it is mapped: give (datapoints, features) or (datapoints, height, width), "
            "whole or real numbers in native byte order, row by row"
        )
    # Private, so that torch takes it for writable; nothing writes.
    array = np.memmap(path, dtype=dtype, mode="c", offset=offset, shape=shape)
    mapping: mmap.mmap = array._mmap  # type: ignore[attr-defined]
    mapping.madvise(mmap.MADV_RANDOM)
    threading.Thread(target=_give_back, args=(weakref.ref(mapping),), daemon=True).start()
    values = array.reshape(len(array), -1)
    complete = True
    for rows in chunks(values) if dtype.kind == "f" else ():
        if not np.isfinite(rows).all():
            if np.isinf(rows).any():
                raise InputError(f"--data {path} has infinite values: give finite ones")
            complete = False
    image_shape = shape[1:] if len(shape) == 3 else None
    divisor = 256 if dtype == np.uint8 else 1
    return Source(Part(values), None, _checksum(path), divisor, image_shape, in_order=True, complete=complete)


def chunks(values: Array) -> Iterator[Array]:
    """Cuts an array into parts that are looked at one by one."""
    rows = max(1, _CELLS // math.prod(values.shape[1:]))
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


def _give_back(mapping: "weakref.ref[mmap.mmap]") -> None:
    while (held := mapping()) is not None:
        held.madvise(mmap.MADV_DONTNEED)
        del held
        sleep(_PERIOD)


def _checksum(path: Path) -> str:
    """SHA-256 of the size of a file and of pieces all over it: the whole would take longer than some runs."""
    size = path.stat().st_size
    digest = sha256(str(size).encode())
    with open_regular(path) as file:
        for n in range(_PLACES):
            file.seek(n * max(0, size - _PIECE) // (_PLACES - 1))
            digest.update(file.read(_PIECE))
    return digest.hexdigest()
