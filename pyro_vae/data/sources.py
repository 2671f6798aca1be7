"""The paper's data and digits: downloads and checksums."""

__all__ = ["KNOWN"]

import gzip
import tempfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np

from pyro_vae.data.source import Part, Source, checksum
from pyro_vae.errors import InputError
from pyro_vae.files import open_regular, read_regular

_FREY = {"frey_rawface.mat": "265a83a23adb081755cd3de375509828e690324d1d60f076b8ecebc840d59c64"}
_FREY_URL = "https://cs.nyu.edu/~roweis/data/frey_rawface.mat"
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
# Of the files as torchvision unpacks them.
_MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# No file of these is larger, packed or unpacked: whoever sends more is cut off.
_LARGEST = 2**26
# A split belongs to the data: it must not change with the seed of a run.
_SEED = 0


def _digits(folder: Path) -> Source:
    from sklearn.datasets import load_digits

    found = load_digits()
    values = found.data.astype(np.uint8)
    return Source(
        Part(values, {"labels": found.target}),
        None,
        sha256(values.tobytes()).hexdigest(),
        divisor=16,
        image_shape=(8, 8),
        label="labels",
        ink=True,
    )


def _mnist(folder: Path) -> Source:
    from torchvision.datasets import MNIST

    def download(target: Path) -> None:
        for name in _MNIST:
            with gzip.open(_fetched(f"{_MNIST_URL}{name}.gz", target / f"{name}.gz")) as file:
                (target / name).write_bytes(file.read(_LARGEST))

    _provide("mnist", folder / "MNIST" / "raw", _MNIST, download)
    train, test = (MNIST(str(folder), train=train) for train in (True, False))
    # The file that the author used has the last 10,000 as its validation set.
    first, second = (
        Part(found.data.numpy().reshape(-1, 784)[rows], {"labels": found.targets.numpy()[rows]})
        for found, rows in ((train, slice(50_000)), (test, slice(None)))
    )
    digest = sha256("".join(_MNIST.values()).encode()).hexdigest()
    return Source(first, second, digest, divisor=256, image_shape=(28, 28), label="labels", ink=True)


def _frey(folder: Path) -> Source:
    from scipy.io import loadmat

    (name,) = _FREY
    folder = folder / "FreyFace"
    _provide("frey", folder, _FREY, lambda target: _fetched(_FREY_URL, target / name))
    with open_regular(folder / name) as file:
        faces = loadmat(file)["ff"].T
    order = np.random.default_rng(_SEED).permutation(len(faces))
    train, test = Part(faces[order[:1600]]), Part(faces[order[1600:]])
    return Source(train, test, _FREY[name], divisor=256, image_shape=(28, 20))


KNOWN: dict[str, Callable[[Path], Source]] = {"digits": _digits, "mnist": _mnist, "frey": _frey}


def _provide(data: str, folder: Path, files: dict[str, str], download: Callable[[Path], Any]) -> None:
    """Makes sure that files with the given checksums lie in the folder."""
    if not all((folder / name).is_file() for name in files):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # A folder beside the files, so that only whole and checked ones are renamed into place.
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
                download(Path(temporary))
                for name, expected in files.items():
                    if checksum(Path(temporary) / name) != expected:
                        raise RuntimeError(f"{name} came with another checksum")
                folder.mkdir(exist_ok=True)
                for name in files:
                    (Path(temporary) / name).replace(folder / name)
        except (OSError, RuntimeError, EOFError, HTTPException, zlib.error) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise InputError(
                f"--data {data} cannot be downloaded ({reason}): put {', '.join(files)} into {folder}, "
                "or name the folder of the data by --data-dir or PYRO_VAE_DATA"
            ) from error
    for name, expected in files.items():
        try:
            found = sha256(read_regular(folder / name, _LARGEST)).hexdigest()
        except (OSError, ValueError) as error:
            raise InputError(f"{folder / name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if found != expected:
            raise InputError(
                f"{folder / name} is damaged, its SHA-256 begins with {found[:12]} and not {expected[:12]}: "
                "delete it, and it will be downloaded again"
            )


def _fetched(url: str, path: Path) -> Path:
    """Downloads a file, and no more of it than there can be."""
    with urlopen(url, timeout=60) as response:
        if urlsplit(response.url).scheme != urlsplit(url).scheme:
            raise RuntimeError(f"{url} leads away from a safe connection, to {response.url}")
        path.write_bytes(response.read(_LARGEST))
    return path
