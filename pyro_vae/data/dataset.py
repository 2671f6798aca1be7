"""Data sets: what a reader found, divided into splits, with labels, covariates and scaling, on a device.

Bytes stay bytes there, and are divided by 256 when they are read, as in the author's code. Binarisation is a part of
the data, since bounds of grey, of thresholded and of sampled pixels cannot be compared. Scaling is not: bounds are in
the data's own units.
"""

__all__ = ["BINARIZE", "Dataset", "data_dir", "load_data"]

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_vae.data.choices import BINARIZE, SCALES
from pyro_vae.data.kinds import kinds_of, parsed
from pyro_vae.data.labels import covariate_columns, numbered
from pyro_vae.data.reading import read
from pyro_vae.data.scaling import scaling
from pyro_vae.data.source import Array, Part, Source
from pyro_vae.data.splits import divided
from pyro_vae.errors import InputError
from pyro_vae.split import Split

# Static binarisation belongs to the data: it must not change with the seed of a run.
_SEED = 0
# Kinds are told of the columns of tables, not of the pixels of images.
_TABLE = 20_000


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

    @property
    def features(self) -> int:
        """The number of cells of a datapoint."""
        return self.train.features

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


def load_data(
    data: Any,
    *,
    binarize: str = "none",
    divisor: int = 256,
    train_size: int | None = None,
    device: torch.device | str = "cpu",
    folder: str | Path | None = None,
    columns: str | Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    kinds: str | None = None,
    label: str | None = None,
    covariates: str | Sequence[str] | None = None,
    group: str | None = None,
    split_column: str | None = None,
    test: Any = None,
    test_share: float = 0.2,
    stratify: bool = False,
    scale: str = "none",
    channels: str | None = None,
    resize: str | None = None,
    **beside: Any,
) -> Dataset:
    """Loads a data set by its name, from a file or a folder, or from what lies in memory.

    Of several ranks (see `pyro_vae.ranks`), each keeps its part.

    Arguments:
        data: `digits`, `mnist`, `frey` or one of torchvision's sets, downloaded and checked where it is not there; the
            path of an `.npy`, `.npz`, `.pt`, `.safetensors`, `.csv`, `.tsv`, `.parquet` or `.h5ad` file, or of a folder
            of images; or an array, a tensor, a DataFrame, a DataArray or a torch data set. Not-a-number and empty cells
            are missing ones.
        binarize: `none` keeps grey values, `threshold` cuts at one half, `static` draws each pixel once and
            `dynamic` draws it anew at every reading.
        divisor: What bytes are divided by, 256 as in the author's code or 255; 1 makes them counts.
        train_size: The number of training datapoints, the first ones; all of them if omitted.
        device: The device to keep the data on.
        folder: The folder of the known data sets; see `data_dir`.
        columns: The columns of a table that are cells, separated by commas; all that are nothing else if omitted.
        drop: Columns to leave out.
        kinds: Kinds of columns, `age:real,sex:category` for example; see `pyro_vae.data.kinds`.
        label: The column, or the array of an `.npz` file, that is the label.
        covariates: Those that are covariates.
        group: The one that is a group, all of which is in one split.
        split_column: The one that says `train` or `test`.
        test: Data of the same kind that are the test split.
        test_share: The share of the test split, where the data have none of their own.
        stratify: Whether each class has that share of the test split.
        scale: `none`, or how the cells are scaled for networks, by the training split: `unit` or `standard`.
        channels: Where the channels of images are, `first` or `last`; None looks.
        resize: Height and width of images from a folder, `28x28` for example.
        beside: Of what lies in memory, arrays that belong to its datapoints: `labels`, `observed` (which cells are
            there), or others under the names that are asked for.

    Raises:
        InputError: If there is no such data set, its files are missing or damaged, or are not what is asked for.
    """
    if binarize not in BINARIZE:
        raise InputError(f"--binarize {binarize} is unknown: choose from {', '.join(BINARIZE)}")
    if scale not in SCALES:
        raise InputError(f"--scale {scale} is unknown: choose from {', '.join(SCALES)}")
    asked = _listed(covariates)
    told = parsed(kinds)
    wanted = [name for name in (label, group, split_column, *asked) if name]
    source = read(
        data,
        data_dir(folder),
        test=test,
        columns=_listed(columns) or None,
        drop=_listed(drop),
        beside=list(dict.fromkeys(wanted)),
        categories=[name for name, kind in told.items() if kind == "category"],
        channels=channels,
        resize=resize,
        arrays=beside,
    )
    name = str(data) if isinstance(data, str | Path) else f"({type(data).__name__})"
    where = f"--data {name}"
    for each in wanted:
        if each not in source.train.beside or (source.test and each not in source.test.beside):
            has = ", ".join(source.train.beside) or "none"
            raise InputError(f"{where} has no {each} beside its cells: name a column or an array of it, it has {has}")
    rows = _rows(source, where, label or source.label, group, split_column, test_share, stratify)
    parts = [source.train, source.test] if source.test else [_taken(source.train, chosen) for chosen in rows]
    divided_by = _divisor(source.divisor, divisor)
    if train_size is not None and train_size < 1:
        raise InputError(f"--train-size {train_size} is not possible: give a whole number of at least 1")
    if train_size is not None and train_size > len(parts[0].values):
        raise InputError(
            f"--train-size {train_size} is more than the {len(parts[0].values)} training datapoints of {name}: lower it"
        )
    parts[0], rows[0] = _taken(parts[0], slice(train_size)), rows[0][:train_size]
    splits = [Split(torch.from_numpy(np.ascontiguousarray(part.values)), divided_by) for part in parts]
    missing = _missing(splits, source, where)
    splits = [_binarized(split, binarize, missing, where) for split in splits]
    classes: tuple[str, ...] = ()
    if by := label or source.label:
        classes, codes = numbered([part.beside[by] for part in parts], by, where)
        splits = [replace(s, labels=torch.from_numpy(c)) for s, c in zip(splits, codes, strict=True)]
    if asked:
        found = covariate_columns([dict(part.beside) for part in parts], asked, where)
        splits = [replace(s, covariates=torch.from_numpy(c)) for s, c in zip(splits, found, strict=True)]
    told_kinds = None
    if told or (source.image_shape is None and splits[0].features <= _TABLE):
        told_kinds = kinds_of(splits, source.names, told, scale != "none", where)
    kept = [n for n, kind in enumerate(told_kinds or ()) if kind != "real"]
    scaled = scaling(splits[0], scale, source.image_shape is not None, kept)
    train, test_split = (split.divided().to(device) for split in splits)
    if scaled is not None:
        scaled = scaled[0].to(device), scaled[1].to(device)
    return Dataset(
        name,
        train,
        test_split,
        source.image_shape,
        source.checksum,
        binarize,
        source.names,
        told_kinds,
        classes,
        scaled,
        missing,
        (rows[0], rows[1]),
    )


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [name for name in names.split(",") if name] if isinstance(names, str) else [*(names or ())]


def _divisor(own: int, divisor: int) -> int:
    if divisor not in (1, 255, 256) or (divisor == 255 and own != 256):
        raise InputError(
            f"--divisor {divisor} is not possible: bytes are divided by 255 or 256, other values by neither; 1 makes "
            "counts of them"
        )
    return divisor if own == 256 or divisor == 1 else own


def _taken(part: Part, rows: Array | slice) -> Part:
    return Part(part.values[rows], {name: values[rows] for name, values in part.beside.items()})


def _rows(
    source: Source,
    where: str,
    label: str | None,
    group: str | None,
    column: str | None,
    share: float,
    stratify: bool,
) -> list[Array]:
    """Which datapoints are in the two splits: the source's own, or as they are asked for."""
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise InputError(f"--test-share {share} is not possible: give a share between 0 and 1")
    asked = [
        flag
        for flag, given in (
            ("--group", group),
            ("--split-column", column),
            ("--stratify", stratify),
            ("--test-share", share != 0.2),
        )
        if given
    ]
    if source.test is not None:
        if asked:
            raise InputError(f"{asked[0]} means nothing to {where}, which has a test split of its own: leave it out")
        return [np.arange(len(part.values)) for part in (source.train, source.test)]
    if len(asked) > 1 and asked != ["--stratify", "--test-share"] and asked != ["--group", "--test-share"]:
        raise InputError(f"{' and '.join(asked)} do not go together: give one way to divide the data")
    if stratify and label is None:
        raise InputError(f"--stratify needs a label, and {where} has none: name it by --label")
    beside = source.train.beside
    return [
        *divided(
            len(source.train.values),
            where,
            share=share,
            groups=beside[group] if group else None,
            classes=beside[label] if stratify and label else None,
            column=beside[column] if column else None,
        )
    ]


def _missing(splits: list[Split], source: Source, where: str) -> bool:
    """Whether cells are missing; one that the training split never has can be learnt by nobody."""
    if not splits[0].values.is_floating_point():
        return False
    absent = [split.values.isnan() for split in splits]
    empty = absent[0].all(0).nonzero().flatten().tolist()
    if empty:
        column = source.names[empty[0]] if source.names else empty[0] + 1
        raise InputError(f"{where} has no value in column {column} of its training split: leave the column out")
    return any(bool(part.any()) for part in absent)


def _binarized(split: Split, binarize: str, missing: bool, where: str) -> Split:
    if binarize == "none":
        return split
    grey = split.first()
    if missing and binarize == "dynamic":
        raise InputError(f"--binarize dynamic is not possible where cells are missing, as in {where}: give static")
    if bool(((grey < 0) | (grey > 1)).any()):
        raise InputError(f"--binarize {binarize} needs values from 0 to 1, and {where} has others: leave it out")
    if binarize == "dynamic":
        return replace(split, dynamic=True)
    if binarize == "threshold":
        binary = (grey >= 0.5).to(torch.uint8)
    else:
        generator = torch.Generator().manual_seed(_SEED)
        binary = torch.bernoulli(grey.nan_to_num(), generator=generator).to(torch.uint8)
    return Split(torch.where(grey.isnan(), math.nan, binary) if missing else binary)
