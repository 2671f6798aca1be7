"""Data: digits, MNIST, Frey Face and a user's own arrays, kept as bytes on the device.

Values are float32 in [0, 1] once they are read, with shape `(datapoints, features)`. Bytes are divided by
256, as in the author's code. Binarisation is a part of the data, since bounds of grey, of thresholded and
of sampled pixels cannot be compared.
"""

__all__ = ["Dataset", "data_dir", "load_data"]

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pyro_vae.data.sources import KNOWN, user_array
from pyro_vae.errors import InputError
from pyro_vae.run.settings import BINARIZE
from pyro_vae.split import Split

# Static binarisation belongs to the data: it must not change with the seed of a run.
_SEED = 0


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


def _binarized(split: Split, binarize: str) -> Split:
    if binarize == "threshold":
        return Split((split.first() >= 0.5).to(torch.uint8))
    if binarize == "static":
        generator = torch.Generator().manual_seed(_SEED)
        return Split(torch.bernoulli(split.first(), generator=generator).to(torch.uint8))
    return replace(split, dynamic=binarize == "dynamic")
