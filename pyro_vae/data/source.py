"""What a reader makes of a file: numbers, and what it knows of them."""

__all__ = ["Array", "Part", "Source", "as_numbers", "checksum", "refusing", "shaped"]

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_vae.errors import InputError
from pyro_vae.files import open_regular

Array = NDArray[Any]

# Above, float32 does not tell whole numbers apart.
_LARGEST_COUNT = 2**24


class Part(NamedTuple):
    """Datapoints of a file: all of them, or those of one split.

    Arguments:
        values: The cells, with shape `(datapoints, features)`: bytes, whole numbers or float32, in which a missing
            cell is not-a-number.
        beside: What else there is of each datapoint by name, such as labels, with shape `(datapoints, ...)`.
    """

    values: Array
    beside: Mapping[str, Array] = {}


class Source(NamedTuple):
    """A file as it was found.

    Arguments:
        train: The training split, or all datapoints where there is no test split.
        test: The test split, where the file has one.
        checksum: SHA-256 of the file or files.
        divisor: What makes the values real numbers in [0, 1]: 256 for bytes; 1 where they are read as they are.
        image_shape: Height, width and, of coloured images, channels of a datapoint; None where it is no image.
        names: The names of the cells, where they have any.
        label: What of the things beside is the label where the user names none.
        levels: The texts that are numbered in columns of categories, by column.
        classes: The names of the classes, where its labels are their numbers.
        mapped: Whether values are too large for memory, and are or will be mapped from a file.
        in_order: Whether splits are cut in the order of the file, and values are not copied.
        complete: Whether it is known that no cell is missing.
        ink: Whether larger values are darker, as ink on paper is.
    """

    train: Part
    test: Part | None
    checksum: str
    divisor: int = 1
    image_shape: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    label: str | None = None
    levels: Mapping[str, tuple[str, ...]] = {}
    classes: tuple[str, ...] | None = None
    mapped: bool = False
    in_order: bool = False
    complete: bool = False
    ink: bool = False


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        OSError: If it cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turns whatever goes wrong while a file is read, of which libraries have many words, into one line.

    Raises:
        InputError: If anything does.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries, about files that are refused or well
            yield
    except InputError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{what}: {reason}") from error


def as_numbers(values: Array, where: str, names: tuple[str, ...] | None = None) -> Array:
    """Returns values in the smallest type that holds them, in native byte and memory order.

    Arguments:
        values: The values, with shape `(datapoints, features)`, of any type.
        where: What they are, for the message.
        names: The names of the features, for the message.

    Returns:
        Bytes and booleans as bytes, other whole numbers as bytes or whole numbers, the rest as float32.

    Raises:
        InputError: If they are no numbers, infinite, or too large to be told apart.
    """
    kind = values.dtype.kind
    if kind not in "fbiu":
        raise InputError(f"{where} has values of type {values.dtype}: give real or whole numbers")
    if kind == "b" or values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.uint8)
    if kind == "f":
        with np.errstate(over="ignore"):
            numbers = np.ascontiguousarray(values, dtype=np.float32)
        infinite = np.isinf(numbers)
        if infinite.any():
            raise InputError(_refusal(values, infinite, where, names, "give finite ones that float32 holds"))
        return numbers
    low, high = values.min(), values.max()
    if max(-int(low), int(high)) > _LARGEST_COUNT:
        large = (values > _LARGEST_COUNT) | (values < -_LARGEST_COUNT)
        mend = "leave the column out, or give real numbers of another unit"
        raise InputError(_refusal(values, large, where, names, f"float32 does not hold it exactly: {mend}"))
    smallest = next(t for t in (np.uint8, np.int16, np.int32) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return np.ascontiguousarray(values, dtype=smallest)


def _refusal(values: Array, wrong: Array, where: str, names: tuple[str, ...] | None, mend: str) -> str:
    row, column = np.argwhere(wrong.reshape(len(wrong), -1))[0]
    value = values.reshape(len(values), -1)[row, column]
    return f"{where} has the value {value} in row {row + 1}, column {names[column] if names else column + 1}: {mend}"


def shaped(values: Array, channels: str | None, where: str) -> tuple[Array, tuple[int, ...] | None]:
    """Lays the cells of each datapoint out in a row, colours last.

    Arguments:
        values: An array with shape `(datapoints, features)`, `(datapoints, height, width)` or that with channels, which
            are 1, 3 or 4, before or after height and width.
        channels: Whether they are `first` or `last`; None looks.
        where: What the values are, for the message.

    Returns:
        The cells, with shape `(datapoints, features)`, and the shape of an image. Cells that have no shape of their
        own are an image where they are bytes or real numbers in [0, 1] and make a square.

    Raises:
        InputError: If there are no cells, or it is not clear which axis is the channels'.
    """
    if values.ndim not in (2, 3, 4) or values.size == 0:
        raise InputError(
            f"{where} has shape {values.shape}: give (datapoints, features), (datapoints, height, width) or that with "
            "channels, none of them 0"
        )
    if values.ndim == 2:
        side = math.isqrt(values.shape[1])
        square = side > 1 and side * side == values.shape[1]
        return values, (side, side) if square and _grey(values) else None
    if values.ndim == 3:
        return values.reshape(len(values), -1), values.shape[1:]
    first, last = (values.shape[axis] in (1, 3, 4) for axis in (1, 3))
    if channels is None and first == last:
        raise InputError(f"{where} has shape {values.shape}, and its channels may be first or last: give --channels")
    if channels == "first" or (channels is None and first):
        values = values.transpose(0, 2, 3, 1)
    shape = values.shape[1:3] if values.shape[3] == 1 else values.shape[1:]
    return values.reshape(len(values), -1), shape


def _grey(values: Array) -> bool:
    """Whether values may be grey levels: bytes, booleans, or real numbers in [0, 1]."""
    if values.dtype.kind != "f":
        return values.dtype in (np.uint8, np.bool_)
    return bool(((values >= 0) & (values <= 1) | np.isnan(values)).all())
