"""torchvision's data sets by name, read and checked by its own classes."""

__all__ = ["SETS", "vision_source"]

from contextlib import redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from pyro_vae.data.source import Array, Part, Source, shaped
from pyro_vae.errors import InputError

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
