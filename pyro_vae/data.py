"""Data: digits, MNIST, Frey Face and a user's own arrays, kept as bytes on the device.

Values are float32 in [0, 1] once they are read, with shape `(datapoints, features)`. Bytes are divided by
256, as in the author's code. Binarisation is a part of the data, since bounds of grey, of thresholded and
of sampled pixels cannot be compared.
"""

__all__ = ["Dataset", "Split", "data_dir", "load_data"]

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_vae import ranks
from pyro_vae.errors import InputError
from pyro_vae.settings import BINARIZE
from pyro_vae.sources import KNOWN, user_array

# Static binarisation belongs to the data: it must not change with the seed of a run.
_SEED = 0


@dataclass(frozen=True)
class Split:
    """A part of a data set on its device.

    Arguments:
        values: The values, with shape `(datapoints, features)`, as bytes or as float32 in [0, 1].
        divisor: What the values are divided by when they are read.
        dynamic: Whether each reading draws new binary pixels with the values as probabilities.
        whole: The number of datapoints on all ranks, where this is one rank's part (see `pyro_vae.ranks`).
    """

    values: Tensor
    divisor: int = 1
    dynamic: bool = False
    whole: int | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def total(self) -> int:
        """The number of datapoints, those of other ranks among them."""
        return len(self) if self.whole is None else self.whole

    @property
    def weight(self) -> float:
        """How much a draw counts in a sum over ranks, which draw alike from parts that may differ by a datapoint."""
        return 1.0 if self.whole is None else len(self) * ranks.count() / self.whole

    @property
    def device(self) -> torch.device:
        """The device that holds the values."""
        return self.values.device

    def read(self, values: Tensor) -> Tensor:
        """Converts stored values, float32 in [0, 1] afterwards."""
        x = values.to(torch.float32) / self.divisor
        return torch.bernoulli(x) if self.dynamic else x

    def minibatch(self, size: int, values: Tensor | None = None) -> Tensor:
        """Draws datapoints with replacement, as the author's code does, with shape `(size, features)`.

        Arguments:
            size: The number of datapoints.
            values: What to draw from, the split's own values if omitted. A traced function has them as an input.
        """
        values = self.values if values is None else values
        return self.read(values[torch.randint(len(self), (size,), device=self.device)])

    def first(self, size: int | None = None) -> Tensor:
        """Reads the first datapoints, all of them by default, with shape `(size, features)`."""
        return self.read(self.values[:size])

    def head(self, size: int | None) -> "Split":
        """Returns the split of the first datapoints."""
        return self if size is None or size >= self.total else self._taken(slice(self._own(size)), size)

    def some(self, size: int) -> "Split":
        """Returns the split of a fixed random choice of datapoints, all where there are no more than size."""
        if self.total <= size:
            return self
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(_SEED))[: self._own(size)]
        return self._taken(chosen.sort().values.to(self.device), size)

    def divided(self) -> "Split":
        """Returns this rank's part; the split itself where there is one rank."""
        if ranks.count() == 1:
            return self
        own = slice(ranks.rank(), None, ranks.count())
        return replace(self, values=self.values[own].clone(), whole=_divisible(len(self)))

    def _own(self, size: int) -> int:
        """How many of the first datapoints are here."""
        return size if self.whole is None else len(ranks.mine(size))

    def _taken(self, rows: slice | Tensor, size: int) -> "Split":
        return replace(self, values=self.values[rows], whole=None if self.whole is None else _divisible(size))


@dataclass(frozen=True)
class Dataset:
    """A data set with its two splits.

    Arguments:
        name: The name or path that it was asked by.
        train: The training split.
        test: The test split.
        image_shape: Height and width of a datapoint.
        checksum: SHA-256 of the file or files that it came from.
        binarize: How pixels were made binary, one of `none`, `threshold`, `static` and `dynamic`.
    """

    name: str
    train: Split
    test: Split
    image_shape: tuple[int, int]
    checksum: str
    binarize: str

    @property
    def features(self) -> int:
        """The number of pixels of a datapoint."""
        return math.prod(self.image_shape)


def data_dir(path: str | Path | None = None) -> Path:
    """Returns the folder of the data: the path given, else `$PYRO_VAE_DATA`, else `./data`."""
    return Path(path or os.environ.get("PYRO_VAE_DATA") or "data")


def load_data(
    name: str,
    *,
    binarize: str = "none",
    divisor: int = 256,
    train_size: int | None = None,
    device: torch.device | str = "cpu",
    folder: str | Path | None = None,
) -> Dataset:
    """Loads a data set, after downloading and checking it where it is one of the known ones.

    Of several ranks (see `pyro_vae.ranks`), each keeps its part.

    Arguments:
        name: `digits`, `mnist`, `frey`, or the path of an `.npy` file, which is split 80/20, or of an `.npz`
            file with the arrays `train` and `test`.
        binarize: `none` keeps grey values, `threshold` cuts at one half, `static` draws each pixel once and
            `dynamic` draws it anew at every reading.
        divisor: What bytes are divided by, 256 as in the author's code or 255.
        train_size: The number of training datapoints, the first ones; all of them if omitted.
        device: The device to keep the data on.
        folder: The folder of the known data sets; see `data_dir`.

    Raises:
        InputError: If there is no such data set, or its files are missing, damaged or out of range.
    """
    if binarize not in BINARIZE:
        raise InputError(f"--binarize {binarize} is unknown: choose from {', '.join(BINARIZE)}")
    if name in KNOWN:
        source = KNOWN[name](data_dir(folder))
    elif name.endswith((".npy", ".npz")):
        source = user_array(Path(name))
    else:
        raise InputError(
            f"--data {name} is unknown: choose from {', '.join(KNOWN)}, or give the path of an .npy or .npz file"
        )
    if divisor not in (255, 256) or (divisor == 255 and source.divisor != 256):
        raise InputError(
            f"--divisor {divisor} is not possible: bytes are divided by 255 or 256, other values by neither"
        )
    if train_size is not None and train_size < 1:
        raise InputError(f"--train-size {train_size} is not possible: give a whole number of at least 1")
    if train_size is not None and train_size > len(source.train):
        raise InputError(
            f"--train-size {train_size} is more than the {len(source.train)} training datapoints of {name}: lower it"
        )
    scale = divisor if source.divisor == 256 else source.divisor
    train, test = (
        _binarized(Split(torch.from_numpy(np.ascontiguousarray(part)), scale), binarize)
        for part in (source.train[:train_size], source.test)
    )
    train, test = (split.divided() for split in (train, test))
    train, test = (replace(split, values=split.values.to(device)) for split in (train, test))
    return Dataset(name, train, test, source.image_shape, source.checksum, binarize)


def _divisible(size: int) -> int:
    if size < ranks.count():
        raise InputError(f"{size} datapoints do not divide among {ranks.count()} ranks: start fewer")
    return size


def _binarized(split: Split, binarize: str) -> Split:
    if binarize == "threshold":
        return Split((split.first() >= 0.5).to(torch.uint8))
    if binarize == "static":
        generator = torch.Generator().manual_seed(_SEED)
        return Split(torch.bernoulli(split.first(), generator=generator).to(torch.uint8))
    return replace(split, dynamic=binarize == "dynamic")
