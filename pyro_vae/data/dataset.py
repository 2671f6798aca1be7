"""Data sets: what a reader found, divided into splits, with labels, covariates and scaling, on a device.

Bytes stay bytes there, and are divided by 256 when they are read, as in the author's code. Binarisation is a part of
the data, since bounds of grey, of thresholded and of sampled pixels cannot be compared. Scaling is not: bounds are in
the data's own units.
"""

__all__ = ["BINARIZE", "Dataset", "data_dir", "in_memory", "load_data", "more_of", "name_of"]

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_vae.data.binarize import binarized
from pyro_vae.data.choices import BINARIZE, SCALES
from pyro_vae.data.kinds import kinds_of, parsed
from pyro_vae.data.labels import covariate_columns, numbered
from pyro_vae.data.mapped import chunks
from pyro_vae.data.reading import is_table, read
from pyro_vae.data.scaling import scaling
from pyro_vae.data.source import Array, Part, Source
from pyro_vae.data.splits import rows_of_splits
from pyro_vae.errors import InputError
from pyro_vae.split import Split

# Kinds are told of the columns of tables, not of the pixels of images.
_TABLE = 20_000
# Datapoints that are looked at at once.
_ROWS = 4_096


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

    @property
    def features(self) -> int:
        """The number of cells of a datapoint."""
        return self.train.features

    def to(self, device: torch.device | str) -> "Dataset":
        """Returns the data set on a device."""
        scaled = None if self.scaled is None else (self.scaled[0].to(device), self.scaled[1].to(device))
        fill = None if self.fill is None else self.fill.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), scaled=scaled, fill=fill)

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
    told = parsed(kinds)
    beside_cells = [group, split_column]
    reading = {
        "columns": _listed(columns) or None,
        "drop": _listed(drop),
        "label": label,
        "covariates": _listed(covariates),
        "categories": [name for name, kind in told.items() if kind == "category"],
        "channels": channels,
        "resize": resize,
        "divisor": divisor,
    }
    source = _source(data, data_dir(folder), reading, [name for name in beside_cells if name], test, beside, {})
    name = name_of(data)
    where = f"--data {name}"
    rows = rows_of_splits(source, where, label or source.label, group, split_column, test_share, stratify)
    taken: Sequence[Array | slice] = rows
    if source.in_order:
        taken = slice(len(rows[0])), slice(len(rows[0]), None)
        _require_host(binarize, device, where)
    parts = [source.train, source.test] if source.test else [_taken(source.train, chosen) for chosen in taken]
    if train_size is not None and train_size < 1:
        raise InputError(f"--train-size {train_size} is not possible: give a whole number of at least 1")
    if train_size is not None and train_size > len(parts[0].values):
        raise InputError(
            f"--train-size {train_size} is more than the {len(parts[0].values)} training datapoints of {name}: lower it"
        )
    parts[0], rows[0] = _taken(parts[0], slice(train_size)), rows[0][:train_size]
    missing = not source.complete and _missing(parts, source.names, where)
    splits, classes, levels = _numbers(parts, source, reading, binarize, where, None, {})
    told_kinds = None
    if told or (source.image_shape is None and splits[0].features <= _TABLE and not source.in_order):
        told_kinds = kinds_of(splits, source.names, told, scale != "none", where)
    kept = [n for n, kind in enumerate(told_kinds or ()) if kind != "real"]
    scaled = scaling(splits[0], scale, source.image_shape is not None, kept)
    train, test_split = (split.divided() for split in splits)
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
        levels,
        reading,
        _first(train) if missing else None,
    ).to(device)


def more_of(data: Any, like: Dataset, folder: str | Path | None = None, **beside: Any) -> Dataset:
    """Reads other data of the same kind as a data set, all of them as its test split.

    Arguments:
        data: A name, a path, or what lies in memory; see `load_data`.
        like: The data set, which says how they are read, and keeps its training split.
        folder: The folder of the known data sets.
        beside: Arrays that belong to data in memory.

    Raises:
        InputError: If they cannot be read, or have other features.
    """
    name = name_of(data)
    where = f"--data {name}"
    # A table has its columns by name, in whatever order, and others beside them.
    reading = {**like.reading, "columns": like.names if is_table(data) else None, "drop": []}
    source = _source(data, data_dir(folder), reading, [], None, beside, like.levels)
    parts = [source.train] if source.test is None else [source.train, source.test]
    if parts[0].values.shape[1] != like.features or source.names != like.names:
        told = [
            ", ".join(names[:10]) if names else f"{size} features"
            for names, size in ((source.names, parts[0].values.shape[1]), (like.names, like.features))
        ]
        raise InputError(f"{where} has {told[0]}, and the run was trained on {told[1]}: give data of the same columns")
    splits, _, _ = _numbers(parts, source, like.reading, like.binarize, where, like.classes, like.levels)
    columns = [getattr(like.train, name) is not None and like.train.beside > 0 for name in ("labels", "covariates")]
    rows = [split.with_columns(*columns) for split in splits]
    if rows[0].beside != like.train.beside:
        raise InputError(f"{where} lacks the label or the covariates that the run was trained with: add them")
    values = torch.cat([split.values for split in rows])
    labels = None if rows[0].labels is None else torch.cat([split.labels for split in rows if split.labels is not None])
    test = replace(rows[0], values=values, labels=labels, covariates=None).divided().to(like.train.device)
    kept = np.arange(len(like.train)) if like.rows is None else like.rows[0]
    return replace(like, name=name, checksum=source.checksum, test=test, rows=(kept, np.arange(len(values))))


def _source(
    data: Any,
    folder: Path,
    reading: Mapping[str, Any],
    others: Sequence[str],
    test: Any,
    beside: dict[str, Any],
    levels: Mapping[str, tuple[str, ...]],
) -> Source:
    """Reads a source that has all that is asked for beside its cells."""
    wanted = [name for name in (reading["label"], *reading["covariates"], *others) if name]
    options = {key: reading[key] for key in ("columns", "drop", "categories", "channels", "resize")}
    source = read(data, folder, test=test, beside=list(dict.fromkeys(wanted)), arrays=beside, levels=levels, **options)
    for each in wanted:
        if each not in source.train.beside or (source.test and each not in source.test.beside):
            has = ", ".join(source.train.beside) or "none"
            raise InputError(f"--data has no {each} beside its cells: name a column or an array of it, it has {has}")
    return source


def _numbers(
    parts: Sequence[Part],
    source: Source,
    reading: Mapping[str, Any],
    binarize: str,
    where: str,
    classes: tuple[str, ...] | None,
    levels: Mapping[str, tuple[str, ...]],
) -> tuple[list[Split], tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    """Splits with labels and covariates, and the names of classes and levels, which are new where none are given."""
    divisor = _divisor(source.divisor, reading["divisor"])
    splits = [Split(torch.from_numpy(np.ascontiguousarray(part.values)), divisor) for part in parts]
    splits = [binarized(split, binarize, where) for split in splits]
    if by := reading["label"] or source.label:
        classes, codes = numbered([part.beside[by] for part in parts], by, where, classes)
        splits = [replace(s, labels=torch.from_numpy(c)) for s, c in zip(splits, codes, strict=True)]
    if reading["covariates"]:
        asked = [dict(part.beside) for part in parts]
        found, named = covariate_columns(asked, reading["covariates"], where, levels)
        splits = [replace(s, covariates=torch.from_numpy(c)) for s, c in zip(splits, found, strict=True)]
        levels = {**levels, **named}
    return splits, classes or (), {**source.levels, **levels}


def _first(train: Split) -> Tensor:
    """The first value of each cell that is there."""
    found = train.values.new_full((train.features,), math.nan, dtype=torch.float32)
    for values in train.values.split(_ROWS):
        x = train.read(values)
        first = x.gather(0, (~x.isnan()).int().argmax(0).unsqueeze(0))[0]
        found = torch.where(found.isnan(), first, found)
        if not found.isnan().any():
            break
    return found


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [name for name in names.split(",") if name] if isinstance(names, str) else [*(names or ())]


def _divisor(own: int, divisor: int) -> int:
    if divisor not in (1, 255, 256) or (divisor == 255 and own != 256):
        raise InputError(
            f"--divisor {divisor} is not possible: bytes are divided by 255 or 256, other values by neither; 1 makes "
            "counts of them"
        )
    return divisor if own == 256 or divisor == 1 else own


def _require_host(binarize: str, device: torch.device | str, where: str) -> None:
    """Checks that values which are mapped are used where they are."""
    if binarize != "none" or torch.device(device).type != "cpu":
        raise InputError(
            f"{where} is large and so it is mapped: give --device cpu and --binarize none, or a smaller file"
        )


def _taken(part: Part, rows: Array | slice) -> Part:
    return Part(part.values[rows], {name: values[rows] for name, values in part.beside.items()})


def _missing(parts: Sequence[Part], names: tuple[str, ...] | None, where: str) -> bool:
    """Whether cells are missing. One that the training split never has can be learnt by nobody, and is refused."""
    found = False
    for n, part in enumerate(parts):
        if part.values.dtype.kind != "f":
            continue
        never = np.ones(part.values.shape[1], dtype=bool)
        for x in chunks(part.values):
            absent = np.isnan(x)
            never &= absent.all(0)
            found = found or bool(absent.any())
        if n == 0 and never.any():
            column = names[never.argmax()] if names else never.argmax() + 1
            raise InputError(f"{where} has no value in column {column} of its training split: leave the column out")
    return found
