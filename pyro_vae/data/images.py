"""A folder of images, with a label in each subfolder's name."""

__all__ = ["folder_source"]

import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO

import numpy as np
from rich.console import Console
from rich.progress import Progress

from pyro_vae.data.source import Array, Part, Source, refusing
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular
from pyro_vae.memory import require_room

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_SPLITS = ("train", "test")
# Enlarged, an image holds nothing new: so many times its height and width are a slip of the keyboard.
_ENLARGED = 16
# Images are held one by one, and as an array.
_HELD = 2
# So many are read in a moment.
_FEW = 1000


def folder_source(folder: Path, resize: str | None) -> Source:
    """Reads images, grey ones as they are, all of them as red, green and blue where any has colours.

    Arguments:
        folder: The folder. Its subfolders are classes; `train` and `test` are splits, which may have classes in them.
        resize: Height and width to make them, `28x28` for example; None wants them of one size.

    Raises:
        InputError: If there are no images, one cannot be read, their sizes differ, or memory does not hold them.
    """
    size = _size(resize)
    parted = all((folder / split).is_dir() for split in _SPLITS)
    roots = [folder / split for split in _SPLITS] if parted else [folder]
    paths = [sorted(p for p in root.rglob("*") if _is_image(p, root)) for root in roots]
    for root, found in zip(roots, paths, strict=True):
        if not found:
            raise InputError(f"--data {root} has no images: give files that end in {', '.join(sorted(_SUFFIXES))}")
    coloured, size = _looked_at([path for found in paths for path in found], folder, size)
    digest = sha256()
    parts = []
    for root, found in zip(roots, paths, strict=True):
        images: list[Array] = []
        with _quiet() as screen, _bar(screen, len(found)) as bar:
            task = bar.add_task("reading images", total=len(found))
            for path in found:
                with refusing(f"--data {path} cannot be read as an image"):
                    image = _read(path, coloured, size, resized=resize is not None)
                digest.update(path.relative_to(folder).as_posix().encode() + image.tobytes())
                images.append(image.reshape(-1))
                bar.advance(task)
        labels = [path.relative_to(root).parts[0] if path.parent != root else None for path in found]
        parts.append(Part(np.stack(images), {"labels": np.array(labels, dtype=object)} if any(labels) else {}))
    label = "labels" if parts[0].beside else None
    shape = (*size, 3) if coloured else size
    return Source(parts[0], parts[1] if parted else None, digest.hexdigest(), 256, shape, label=label)


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in _SUFFIXES and not hidden and not path.is_dir()


def _size(resize: str | None) -> tuple[int, int] | None:
    if resize is None:
        return None
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", resize, re.ASCII)
    if not found or not (int(found[1]) and int(found[2])):
        raise InputError(f"--resize {resize} is not possible: give HEIGHTxWIDTH in pixels, 28x28 for example")
    return int(found[1]), int(found[2])


def _looked_at(paths: list[Path], folder: Path, size: tuple[int, int] | None) -> tuple[bool, tuple[int, int]]:
    """Looks at the headers of images: whether any has colours, and the size that all have, or are to have."""
    headers = [_header(path) for path in paths]
    coloured = any(header[0] for header in headers)
    first = headers[0][1]
    if size is None:
        for path, (_, other) in zip(paths, headers, strict=True):
            if other != first:
                raise InputError(
                    f"--data {path} is of another size than the first, {_said(first)} and {_said(other)}: give "
                    "--resize HEIGHTxWIDTH"
                )
    else:
        most = tuple(max(header[1][side] for header in headers) for side in (0, 1))
        if any(wanted > _ENLARGED * there for wanted, there in zip(size, most, strict=True)):
            raise InputError(
                f"--resize {_said(size)} is more than {_ENLARGED} times the size of the images in {folder}, which is "
                f"{_said(most)} at most: give a smaller one"
            )
    made = size or first
    with refusing(f"--data {folder} cannot be held in memory"):
        what = f"as {len(paths):,} images of {_said(made)} pixels it takes"
        require_room(_HELD * len(paths) * math.prod(made) * (3 if coloured else 1), what)
    return coloured, made


def _said(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _header(path: Path) -> tuple[bool, tuple[int, int]]:
    """Whether an image has colours, and its height and width."""
    from PIL import Image

    with refusing(f"--data {path} cannot be read as an image"), open_regular(path) as file, Image.open(file) as image:
        return image.mode not in ("1", "L", "LA", "I", "I;16", "F"), (image.height, image.width)


def _read(path: Path, coloured: bool, size: tuple[int, int], resized: bool) -> Array:
    from PIL import Image

    # An image that promises far more pixels than a picture has is a bomb: Pillow only warns of smaller ones.
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with open_regular(path) as file, Image.open(file) as image:
            if image.mode in ("I", "I;16", "F"):
                raise ValueError(f"its pixels are of mode {image.mode}: save it with 8 bits a channel")
            plain = image.convert("RGB" if coloured else "L")
            if resized:
                plain = plain.resize((size[1], size[0]), Image.Resampling.BOX)
            if (plain.height, plain.width) != size:
                raise ValueError(f"it has {plain.height}x{plain.width} pixels, and its header says {_said(size)}")
            return np.asarray(plain, dtype=np.uint8)


def _bar(screen: IO[str] | None, number: int) -> Progress:
    """A bar that shows on a terminal how many images have been read, where they are many."""
    console = Console(file=screen, quiet=screen is None)
    return Progress(console=console, transient=True, disable=number < _FEW or not console.is_terminal)


@contextmanager
def _quiet() -> Iterator[IO[str] | None]:
    """Sends nowhere what libraries in C write to standard error themselves: what is wrong is told in one line.

    Yields standard error itself, None where it is closed.
    """
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:
        yield None
        return
    os.dup2(nowhere, 2)
    try:
        with open(kept, "w", encoding="utf-8", errors="replace", closefd=False) as screen:
            yield screen
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
