"""Arrays that may be larger than memory: mapped from a file, and never read as a whole.

Minibatches are gathered from the mapping as from memory. What has been touched counts as resident until it is given
back to the page cache, which a thread does fifty times a second: what a process holds of a file stays below 1 GiB.
"""

__all__ = ["LARGE", "chunks", "fingerprint", "mapped_source", "scratch"]

import math
import mmap
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np

from pyro_vae.data.source import Array, Part, Source, checksum
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular

# What takes more bytes is mapped; less lies on the device.
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
    array = _mapped(path, dtype, shape, offset)
    values = array.reshape(len(array), -1)
    complete = True
    for rows in chunks(values) if dtype.kind == "f" else ():
        if not np.isfinite(rows).all():
            if np.isinf(rows).any():
                raise InputError(f"--data {path} has infinite values: give finite ones")
            complete = False
    image_shape = shape[1:] if len(shape) == 3 else None
    divisor = 256 if dtype == np.uint8 else 1
    found = fingerprint(path)
    return Source(Part(values), None, found, divisor, image_shape, mapped=True, in_order=True, complete=complete)


def scratch(parts: Iterable[Array], columns: int) -> Array:
    """Writes rows into a file without a name, which is gone when nobody maps it any more, and maps it.

    Arguments:
        parts: Some rows after others, in memory one by one.
        columns: The number of their columns.

    Returns:
        Their values, float32.

    Raises:
        InputError: If there is no room for them.
    """
    rows = 0
    try:
        with tempfile.TemporaryFile() as file:
            for part in parts:
                file.write(np.ascontiguousarray(part, np.float32).data)
                rows += len(part)
            file.flush()
            return _mapped(file, np.dtype(np.float32), (rows, columns), 0)
    except OSError as error:
        raise InputError(
            f"there is no room for large data in {tempfile.gettempdir()} ({error.strerror}): name a folder on a larger "
            "disk by TMPDIR"
        ) from error


def _mapped(file: Any, dtype: "np.dtype[Any]", shape: tuple[int, ...], offset: int) -> Array:
    # Private, so that torch takes it for writable; nothing writes.
    array = np.memmap(file, dtype=dtype, mode="c", offset=offset, shape=shape)
    mapping: mmap.mmap = array._mmap  # type: ignore[attr-defined]
    mapping.madvise(mmap.MADV_RANDOM)
    threading.Thread(target=_give_back, args=(weakref.ref(mapping),), daemon=True).start()
    return array


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


def fingerprint(path: Path) -> str:
    """Returns the SHA-256 of a file; of a large one, of its size and of pieces all over it, since that is faster."""
    size = path.stat().st_size
    if size <= LARGE:
        return checksum(path)
    digest = sha256(str(size).encode())
    with open_regular(path) as file:
        for n in range(_PLACES):
            file.seek(n * max(0, size - _PIECE) // (_PLACES - 1))
            digest.update(file.read(_PIECE))
    return digest.hexdigest()
