"""torchvision's data sets by name, read and checked by its own classes."""

__all__ = ["SETS", "vision_source"]

import bz2
from contextlib import redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from pyro_vae.data.source import Array, Part, Source, refusing, shaped
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular, require_regular
from pyro_vae.memory import said

# By name: torchvision's class, and what makes it the training and the test split.
SETS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "fashion_mnist": ("FashionMNIST", {"train": True}, {"train": False}),
    "kmnist": ("KMNIST", {"train": True}, {"train": False}),
    "qmnist": ("QMNIST", {"train": True}, {"train": False}),
    "emnist": ("EMNIST", {"train": True, "split": "balanced"}, {"train": False, "split": "balanced"}),
    "usps": ("USPS", {"train": True}, {"train": False}),
    "cifar10": ("CIFAR10", {"train": True}, {"train": False}),
    "cifar100": ("CIFAR100", {"train": True}, {"train": False}),
    "svhn": ("SVHN", {"split": "train"}, {"split": "test"}),
    "stl10": ("STL10", {"split": "train"}, {"split": "test"}),
    "omniglot": ("Omniglot", {"background": True}, {"background": False}),
}
# Those of ink on paper, stored the other way round.
_INK = ("emnist", "kmnist", "qmnist", "usps")
# Where torchvision looks for files that are in no folder of the class's name.
_HOMES = {
    "usps": ("usps*",),
    "cifar10": ("cifar-10-*",),
    "cifar100": ("cifar-100-*",),
    "svhn": ("*_32x32.mat",),
    "stl10": ("stl10_binary*",),
    "omniglot": ("omniglot-py",),
}
# The largest of their files is STL-10's; what is packed alone is USPS.
_LARGEST, _UNPACKED = 2**32, 2**28


def vision_source(name: str, folder: Path) -> Source:
    """Reads a data set of torchvision's, which downloads it where it is not there.

    Arguments:
        name: One of `SETS`.
        folder: The folder of the data, laid out as torchvision does.

    Raises:
        InputError: If it cannot be downloaded or read.
    """
    digest = sha256()
    parts, shapes = [], []
    kind, *splits = SETS[name]
    for options in splits:
        values, labels, classes = _arrays(name, kind, folder, options)
        cells, shape = shaped(values, _channels(name), f"--data {name}")
        cells = np.ascontiguousarray(cells, dtype=np.uint8)
        digest.update(cells.tobytes())
        parts.append(Part(cells, {"labels": labels}))
        shapes.append(shape)
    ink = name in _INK
    return Source(parts[0], parts[1], digest.hexdigest(), 256, shapes[0], label="labels", classes=classes, ink=ink)


def _channels(name: str) -> str:
    return "first" if name in ("svhn", "stl10") else "last"


def _arrays(name: str, kind: str, folder: Path, options: dict[str, Any]) -> tuple[Array, Array, tuple[str, ...] | None]:
    """Images, the numbers of their classes, and the names of these where torchvision has any."""
    from torchvision import datasets

    part = getattr(datasets, kind)
    _require_files(name, folder, kind)
    try:
        with redirect_stdout(StringIO()):  # torchvision's progress is no result
            try:
                found = part(str(folder), download=False, **options)
            except RuntimeError:
                found = part(str(folder), download=True, **options)
        if not hasattr(found, "data"):
            pairs = [found[n] for n in range(len(found))]
            return np.stack([np.asarray(image) for image, _ in pairs]), np.array([label for _, label in pairs]), None
    except Exception as error:  # torchvision, urllib and the readers of many formats
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"--data {name} cannot be had ({reason}): put the files of torchvision's {kind} into {folder}, or name the "
            "folder of the data by --data-dir or PYRO_VAE_DATA"
        ) from error
    labels = found.targets if hasattr(found, "targets") else found.labels
    labels = np.asarray(labels)
    classes = tuple(map(str, getattr(found, "classes", ()))) or None
    return np.asarray(found.data), labels[:, 0] if labels.ndim == 2 else labels, classes


def _require_files(name: str, folder: Path, kind: str) -> None:
    """Checks the files of a data set that torchvision would open, before it does."""
    homes = [folder / kind, *(home for base in _HOMES.get(name, ()) for home in folder.glob(base))]
    for path in (file for home in homes for file in (home.rglob("*") if home.is_dir() else [home])):
        if path.is_dir() or not path.exists():
            continue
        with refusing(f"--data {name} cannot be read, {path}"):
            require_regular(path)
            if path.stat().st_size > _LARGEST:
                raise ValueError(f"it is larger than any of its files, which have {said(_LARGEST)} at most")
            if path.suffix == ".bz2":
                _require_small(path)


def _require_small(path: Path) -> None:
    """Checks that a packed file is no larger than the data set can be."""
    with open_regular(path) as file, bz2.open(file) as unpacked:
        size = 0
        while piece := unpacked.read(2**20):
            if (size := size + len(piece)) > _UNPACKED:
                raise ValueError(f"it unpacks to more than {_UNPACKED >> 20} MiB")
