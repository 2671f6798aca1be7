"""From files and what lies in memory to data sets: divided into splits, with labels, covariates and scaling.

Bytes stay bytes, and are divided by 256 when they are read, as in the author's code. Binarisation is a part of the
data, since bounds of grey, of thresholded and of sampled pixels cannot be compared. Scaling is not: bounds are in the
data's own units.
"""

__all__ = ["load_data", "more_of"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyro_vae.data.binarize import binarized
from pyro_vae.data.choices import BINARIZE, SCALES
from pyro_vae.data.dataset import Dataset, data_dir, name_of
from pyro_vae.data.kinds import kinds_of, parsed
from pyro_vae.data.labels import covariate_columns, numbered
from pyro_vae.data.missing import any_missing, first_values
from pyro_vae.data.reading import is_table, read
from pyro_vae.data.scaling import scaling, span
from pyro_vae.data.source import Array, Part, Source
from pyro_vae.data.splits import rows_of_splits
from pyro_vae.data.streamed import Streamed
from pyro_vae.errors import InputError
from pyro_vae.split import Split

# Kinds are told of the columns of tables, not of the pixels of images.
_TABLE = 20_000


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

    Example:
        >>> import numpy as np
        >>> import pyro_vae
        >>> data = pyro_vae.data("digits")
        >>> len(data.train), len(data.test), data.image_shape
        (1438, 359, (8, 8))
        >>> pyro_vae.data(np.random.default_rng(0).normal(size=(100, 3))).features
        3
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
    if source.mapped:
        if binarize != "none":
            raise InputError(f"--binarize {binarize} does not apply to {name}, which is large and so it is mapped")
        rows = [np.sort(chosen) for chosen in rows]
    if train_size is not None and train_size < 1:
        raise InputError(f"--train-size {train_size} is not possible: give a whole number of at least 1")
    if train_size is not None and train_size > len(rows[0]):
        raise InputError(
            f"--train-size {train_size} is more than the {len(rows[0])} training datapoints of {name}: lower it"
        )
    rows[0] = rows[0][:train_size]
    parts = [_taken(source.train, rows[0]), _taken(source.test or source.train, rows[1])]
    missing = not source.complete and any_missing(parts, source.names, where)
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
        first_values(train) if missing else None,
        span(splits[0], scaled),
        source.ink,
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
    parts = [_taken(part, np.arange(len(part.values))) for part in (source.train, source.test) if part is not None]
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
    test = rows[0]
    if len(rows) > 1:
        labels = None if rows[0].labels is None else torch.cat([s.labels for s in rows if s.labels is not None])
        test = replace(rows[0], values=torch.cat([split.values for split in rows]), labels=labels)
    test = replace(test, covariates=None).divided().to(like.train.device)
    kept = np.arange(len(like.train)) if like.rows is None else like.rows[0]
    return replace(like, name=name, checksum=source.checksum, test=test, rows=(kept, np.arange(sum(map(len, rows)))))


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
    kind = Streamed if source.mapped else Split
    splits: list[Split] = [kind(torch.from_numpy(np.ascontiguousarray(part.values)), divisor) for part in parts]
    splits = [binarized(split, binarize, where) for split in splits]
    if by := reading["label"] or source.label:
        numbers = tuple(map(str, range(len(source.classes or ()))))  # which a file has, and their names are elsewhere
        known = numbers if numbers and classes == source.classes else classes
        found, codes = numbered([part.beside[by] for part in parts], by, where, known)
        classes = source.classes if numbers and found == numbers and by == source.label else found
        splits = [replace(s, labels=torch.from_numpy(c)) for s, c in zip(splits, codes, strict=True)]
    if reading["covariates"]:
        asked = [dict(part.beside) for part in parts]
        columns, named = covariate_columns(asked, reading["covariates"], where, levels)
        splits = [replace(s, covariates=torch.from_numpy(c)) for s, c in zip(splits, columns, strict=True)]
        levels = {**levels, **named}
    return splits, classes or (), {**source.levels, **levels}


def _listed(names: str | Sequence[str] | None) -> list[str]:
    return [name for name in names.split(",") if name] if isinstance(names, str) else [*(names or ())]


def _divisor(own: int, divisor: int) -> int:
    if divisor not in (1, 255, 256) or (divisor == 255 and own != 256):
        raise InputError(
            f"--divisor {divisor} is not possible: bytes are divided by 255 or 256, other values by neither; 1 makes "
            "counts of them"
        )
    return divisor if own == 256 or divisor == 1 else own


def _taken(part: Part, rows: Array) -> Part:
    # Rows in a row are not copied.
    chosen = slice(rows[0], rows[-1] + 1) if len(rows) and (np.diff(rows) == 1).all() else rows
    return Part(part.values[chosen], {name: values[chosen] for name, values in part.beside.items()})
