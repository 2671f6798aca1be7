"""Data sets: splits on a device, with what is known of their cells."""

__all__ = ["Dataset", "data_dir", "in_memory", "name_of"]

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_vae.data.source import Array
from pyro_vae.split import Split


@dataclass(frozen=True)
class Dataset:
    """A data set with its two splits.

    Arguments:
        name: The name or path that it was asked by.
        train: The training split.
        test: The test split.
        image_shape: Height, width and, of coloured images, channels of a datapoint; None where it is no image.
        checksum: SHA-256 of the file or files that it came from.
        binarize: How pixels were made binary, one of `none`, `threshold`, `static` and `dynamic`.
        names: The names of the cells, where they have any.
        kinds: The kinds of the cells of a table; see `pyro_vae.data.kinds`.
        classes: The names of the classes that labels number.
        scaled: Offsets and factors of the cells for networks, with shape `(features,)`; see `pyro_vae.data.scaling`.
        missing: Whether cells are missing.
        rows: Which datapoints of the file the two splits are, by number from 0.
        levels: The texts that are numbered in columns of categories and in covariates, by column.
        reading: How the file was read, for others of the same kind; see `more_of`.
        fill: Where cells are missing, a possible value of each, with shape `(features,)`.
        span: The least and the largest value of each cell as networks see it; None where all are from 0 to 1.
    """

    name: str
    train: Split
    test: Split
    image_shape: tuple[int, ...] | None
    checksum: str
    binarize: str
    names: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    scaled: tuple[Tensor, Tensor] | None = None
    missing: bool = False
    rows: tuple[Array, Array] | None = None
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    fill: Tensor | None = None
    span: tuple[Tensor, Tensor] | None = None

    @property
    def features(self) -> int:
        """The number of cells of a datapoint."""
        return self.train.features

    @property
    def cells(self) -> tuple[str, str]:
        """What the cells are, in two words: `pixels` and of which kind, or `counts` or `columns` and how many."""
        if self.binarize != "none":
            return "pixels", self.binarize
        values = self.train.values
        if self.train.divisor > 1 or (self.image_shape and values.is_floating_point()):
            return "pixels", "grey"
        if self.image_shape and bool((values[:1000] <= 1).all()):
            return "pixels", "binary"
        counted = not values.is_floating_point() if self.kinds is None else {*self.kinds} == {"count"}
        return "counts" if counted else "columns", f"{self.features}"

    def to(self, device: torch.device | str) -> "Dataset":
        """Returns the data set on a device."""
        scaled, span = (
            None if pair is None else (pair[0].to(device), pair[1].to(device)) for pair in (self.scaled, self.span)
        )
        fill = None if self.fill is None else self.fill.to(device)
        train, test = self.train.to(device), self.test.to(device)
        return replace(self, train=train, test=test, scaled=scaled, fill=fill, span=span)

    @property
    def offers(self) -> dict[str, Any]:
        """What the constructor of a part gets of the data, where it takes an argument of the name."""
        covariates = self.train.covariates
        return {
            "image_shape": self.image_shape,
            "kinds": self.kinds,
            "classes": len(self.classes),
            "covariates": 0 if covariates is None else covariates.shape[1],
        }


def data_dir(path: str | Path | None = None) -> Path:
    """Returns the folder of the data: the path given, else `$PYRO_VAE_DATA`, else `./data`."""
    return Path(path or os.environ.get("PYRO_VAE_DATA") or "data")


def name_of(data: Any) -> str:
    """Returns what data are called: their name or path, in parentheses where they lie in memory."""
    if isinstance(data, str | Path):
        return str(data)
    name = data.name if isinstance(data, Dataset) else type(data).__name__
    return name if in_memory(name) else f"({name})"


def in_memory(name: str) -> bool:
    """Whether data of this name lie in memory, so that nothing can be read by it."""
    return name.startswith("(")
