"""A folder of images, with a label in each subfolder's name."""

__all__ = ["folder_source"]

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np

from pyro_vae.data.source import Array, Part, Source, refusing
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular
from pyro_vae.memory import require_room

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_SPLITS = ("train", "test")


def folder_source(folder: Path, resize: str | None) -> Source:
    """Reads images, grey ones as they are, all of them as red, green and blue where any has colours.

    Arguments:
        folder: The folder. Its subfolders are classes; `train` and `test` are splits, which may have classes in them.
        resize: Height and width to make them, `28x28` for example; None wants them of one size.

    Raises:
        InputError: If there are no images, one cannot be read, or their sizes differ.
    """
    size = _size(resize)
    parted = all((folder / split).is_dir() for split in _SPLITS)
    roots = [folder / split for split in _SPLITS] if parted else [folder]
    paths = [sorted(p for p in root.rglob("*") if _is_image(p, root)) for root in roots]
    for root, found in zip(roots, paths, strict=True):
        if not found:
            raise InputError(f"--data {root} has no images: give files that end in {', '.join(sorted(_SUFFIXES))}")
    coloured = any(_coloured(path) for found in paths for path in found)
    digest = sha256()
    parts = []
    first: tuple[int, ...] | None = None
    for root, found in zip(roots, paths, strict=True):
        images: list[Array] = []
        for path in found:
            with refusing(f"--data {path} cannot be read as an image"):
                image = _read(path, coloured, size)
                if first is None:
                    require_room(2 * image.nbytes * sum(map(len, paths)), "it and the others of its size unpack to")
            first = first or image.shape
            if image.shape != first:
                sizes = " and ".join("{}x{}".format(*shape) for shape in (first, image.shape))
                raise InputError(
                    f"--data {path} is of another size than the first, {sizes}: give --resize HEIGHTxWIDTH"
                )
            digest.update(path.relative_to(folder).as_posix().encode() + image.tobytes())
            images.append(image.reshape(-1))
        labels = [path.relative_to(root).parts[0] if path.parent != root else None for path in found]
        parts.append(Part(np.stack(images), {"labels": np.array(labels, dtype=object)} if any(labels) else {}))
    label = "labels" if parts[0].beside else None
    return Source(parts[0], parts[1] if parted else None, digest.hexdigest(), 256, first, label=label)


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in _SUFFIXES and not hidden and not path.is_dir()


def _size(resize: str | None) -> tuple[int, int] | None:
    if resize is None:
        return None
    found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", resize)
    if not found or "0" in found.groups():
        raise InputError(f"--resize {resize} is not possible: give HEIGHTxWIDTH in pixels, 28x28 for example")
    return int(found[1]), int(found[2])


def _coloured(path: Path) -> bool:
    from PIL import Image

    what = f"--data {path} cannot be read as an image"
    with refusing(what), open_regular(path) as file, Image.open(file) as image:
        return image.mode not in ("1", "L", "LA", "I", "I;16", "F")


def _read(path: Path, coloured: bool, size: tuple[int, int] | None) -> Array:
    from PIL import Image

    # An image that promises far more pixels than a picture has is a bomb: Pillow only warns of smaller ones.
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with open_regular(path) as file, Image.open(file) as image, _quiet():
            if image.mode in ("I", "I;16", "F"):
                raise ValueError(f"its pixels are of mode {image.mode}: save it with 8 bits a channel")
            plain = image.convert("RGB" if coloured else "L")
            if size is not None:
                plain = plain.resize((size[1], size[0]), Image.Resampling.BOX)
            return np.asarray(plain, dtype=np.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Sends nowhere what libraries in C write to standard error themselves: what is wrong is told in one line."""
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # it is closed
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
