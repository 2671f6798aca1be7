"""One reader a kind of data, found by the name, by the end of the path, or by what lies in memory."""

__all__ = ["NAMED", "is_table", "read"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyro_vae.data import arrays as array_files
from pyro_vae.data import tables
from pyro_vae.data.arrays import array_source
from pyro_vae.data.h5ad import h5ad_source
from pyro_vae.data.images import folder_source
from pyro_vae.data.objects import object_source
from pyro_vae.data.row_groups import is_large, row_group_source
from pyro_vae.data.source import Source
from pyro_vae.data.sources import KNOWN
from pyro_vae.data.tables import table_source
from pyro_vae.data.vision import SETS, vision_source
from pyro_vae.errors import InputError

NAMED = (*KNOWN, *SETS)
_FILES = (*array_files.SUFFIXES, *tables.SUFFIXES, ".h5ad")


def is_table(data: Any) -> bool:
    """Whether data have columns with names."""
    if isinstance(data, str | Path):
        return Path(data).suffix.lower() in tables.SUFFIXES
    return hasattr(data, "columns")


def read(
    data: Any,
    folder: Path,
    *,
    test: Any,
    columns: Sequence[str] | None,
    drop: Sequence[str],
    beside: Sequence[str],
    categories: Sequence[str],
    channels: str | None,
    resize: str | None,
    arrays: dict[str, Any],
    levels: Mapping[str, tuple[str, ...]],
) -> Source:
    """Reads data of any kind.

    Arguments:
        data: A name, a path, or an object; see `pyro_vae.load_data`.
        folder: The folder of the known data sets.
        test: Data of the same kind that are the test split.
        columns: The columns of a table that are cells.
        drop: Those to leave out.
        beside: Those that are kept beside the cells.
        categories: Those of text that are numbered.
        channels: Where the channels of images are.
        resize: The size of images from a folder.
        arrays: Arrays beside the cells of what lies in memory.
        levels: The texts that are numbered in columns of categories, where they are known.

    Raises:
        InputError: If there is no reader, or it refuses; or an option does not apply to it.
    """
    named = isinstance(data, str | Path)
    path = Path(data) if named else Path()
    suffix = path.suffix.lower()
    chosen: dict[str, Any] = {"columns": columns, "drop": drop, "categories": categories}
    if named and arrays:
        raise InputError(
            f"{next(iter(arrays))} is not a setting of {data}: give arrays beside the cells with data in memory"
        )
    if not named:
        if is_table(data):
            chosen["levels"] = levels
            chosen["beside"] = [*beside, *(name for name in arrays if name not in beside)]
        source = object_source(data, channels, arrays, **chosen)
    elif str(data) == "-":
        raise InputError("--data - is a pipe, and a run must find its data again: save them in a file, and name it")
    elif suffix == ".parquet" and any(is_large(Path(each)) for each in (data, test) if each is not None):
        _refuse(data, channels=channels, resize=resize)
        if is_large(path):
            source = row_group_source(path, beside=beside, levels=levels, **chosen)
        else:
            source = table_source(path, beside=beside, levels=levels, **chosen)
        levels = {**levels, **source.levels}
    elif suffix in tables.SUFFIXES:
        _refuse(data, channels=channels, resize=resize)
        return table_source(path, None if test is None else Path(test), beside=beside, levels=levels, **chosen)
    else:
        _refuse(data, columns=columns, drop=drop, kinds=categories)
        if str(data) in KNOWN:
            _refuse(data, channels=channels, resize=resize)
            source = KNOWN[str(data)](folder)
        elif str(data) in SETS:
            _refuse(data, channels=channels, resize=resize)
            source = vision_source(str(data), folder)
        elif suffix in array_files.SUFFIXES:
            _refuse(data, resize=resize)
            source = array_source(path, channels)
        elif suffix == ".h5ad":
            _refuse(data, channels=channels, resize=resize)
            source = h5ad_source(path, beside)
        elif path.is_dir():
            _refuse(data, channels=channels)
            source = folder_source(path, resize)
        else:
            raise InputError(
                f"--data {data} is unknown: choose from {', '.join(NAMED)}, or give the path of a folder of "
                f"images or of a file that ends in {', '.join(_FILES)}"
            )
    if test is None:
        return source
    return _joined(
        source,
        read(
            test,
            folder,
            test=None,
            columns=columns,
            drop=drop,
            beside=beside,
            categories=categories,
            channels=channels,
            resize=resize,
            arrays={},
            levels=levels,
        ),
        data,
        test,
    )


def _joined(source: Source, other: Source, data: Any, test: Any) -> Source:
    """A source with another in the place of its test split."""
    if source.test is not None or other.test is not None:
        raise InputError(f"--test {test} is not possible: {data} or it has a test split of its own")
    kinds = [(s.train.values.shape[1], s.image_shape, s.names, s.divisor) for s in (source, other)]
    if kinds[0] != kinds[1]:
        features, image_shape, *_ = kinds[1]
        raise InputError(
            f"--test {test} has other values than {data}, {features} of shape {image_shape or 'none'}: make them alike"
        )
    return source._replace(test=other.train, checksum=source.checksum + other.checksum)


def _refuse(data: Any, **options: Any) -> None:
    for name, given in options.items():
        if given:
            raise InputError(f"--{name} does not apply to {data}: leave it out")
