"""Where data come from: downloads, checksums, and the checks on a user's own arrays."""

__all__ = ["KNOWN", "Source", "user_array"]

import gzip
import math
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from hashlib import file_digest, sha256
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pyro_vae.errors import InputError

Array = NDArray[Any]

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
# What deflate can make of a byte at most, by the account of zlib.
_DEFLATE = 1032
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# A split belongs to the data: it must not change with the seed of a run.
_SEED = 0


class Source(NamedTuple):
    """Arrays as they were found, with shape `(datapoints, features)`."""

    train: Array
    test: Array
    image_shape: tuple[int, int]
    checksum: str
    divisor: int
    """What makes the values real numbers in [0, 1]: 256 for bytes."""


def _digits(folder: Path) -> Source:
    from sklearn.datasets import load_digits

    values = load_digits().data.astype(np.uint8)
    return Source(*_split(values), (8, 8), sha256(values.tobytes()).hexdigest(), 16)


def _mnist(folder: Path) -> Source:
    from torchvision.datasets import MNIST

    def download(target: Path) -> None:
        for name in _MNIST:
            with gzip.open(_fetched(f"{_MNIST_URL}{name}.gz", target / f"{name}.gz")) as file:
                (target / name).write_bytes(file.read(_LARGEST))

    _provide("mnist", folder / "MNIST" / "raw", _MNIST, download)
    train, test = (MNIST(str(folder), train=train).data.numpy().reshape(-1, 784) for train in (True, False))
    # The file that the author used has the last 10,000 as its validation set.
    return Source(train[:50_000], test, (28, 28), sha256("".join(_MNIST.values()).encode()).hexdigest(), 256)


def _frey(folder: Path) -> Source:
    from scipy.io import loadmat

    (name,) = _FREY
    folder = folder / "FreyFace"
    _provide("frey", folder, _FREY, lambda target: _fetched(_FREY_URL, target / name))
    return Source(*_split(loadmat(folder / name)["ff"].T, train=1600), (28, 20), _FREY[name], 256)


KNOWN: dict[str, Callable[[Path], Source]] = {"digits": _digits, "mnist": _mnist, "frey": _frey}


def _split(values: Array, train: int | None = None) -> tuple[Array, Array]:
    """Splits at random, 80/20 where no number of training datapoints is given."""
    order = np.random.default_rng(_SEED).permutation(len(values))
    train = round(0.8 * len(values)) if train is None else train
    return values[order[:train]], values[order[train:]]


def _provide(data: str, folder: Path, files: dict[str, str], download: Callable[[Path], Any]) -> None:
    """Makes sure that files with the given checksums lie in the folder."""
    if not all((folder / name).is_file() for name in files):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            # A folder beside the files, so that only whole and checked ones are renamed into place.
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
                download(Path(temporary))
                for name, checksum in files.items():
                    if _checksum(Path(temporary) / name) != checksum:
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
    for name, checksum in files.items():
        try:
            found = _checksum(folder / name)
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read: {error.strerror}") from error
        if found != checksum:
            raise InputError(
                f"{folder / name} is damaged, its SHA-256 begins with {found[:12]} and not {checksum[:12]}: "
                "delete it, and it is downloaded anew"
            )


def _fetched(url: str, path: Path) -> Path:
    """Downloads a file, and no more of it than there can be."""
    with urlopen(url, timeout=60) as response:
        if urlsplit(response.url).scheme != urlsplit(url).scheme:
            raise RuntimeError(f"{url} leads away from a safe connection, to {response.url}")
        path.write_bytes(response.read(_LARGEST))
    return path


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def user_array(path: Path) -> Source:
    """Reads a user's `.npy` (split 80/20) or `.npz` with `train` and `test`.

    Arguments:
        path: The file. Its arrays are bytes or real values in [0, 1], with shape `(datapoints, features)` or
            `(datapoints, height, width)`.

    Raises:
        InputError: If the file or its values are not so.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe may never end
            raise ValueError("it is no regular file")
        checksum = _checksum(path)
        arrays = _unpacked(path)
    except InputError:
        raise
    except Exception as error:  # NumPy and zipfile have many words for a damaged file
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"--data {path} cannot be read as a NumPy array: {reason}") from error
    arrays = [_checked(array, path) for array in arrays]
    if arrays[0].shape[1:] != arrays[-1].shape[1:] or arrays[0].dtype != arrays[-1].dtype:
        kinds = " and ".join(f"{array.dtype} {array.shape[1:]}" for array in arrays)
        raise InputError(f"--data {path} has train and test of different kinds, {kinds}: make them alike")
    shape = arrays[0].shape[1:]
    image_shape = shape if len(shape) == 2 else _image_shape(*shape)
    flat = [array.reshape(len(array), -1) for array in arrays]
    train, test = _split(flat[0]) if len(flat) == 1 else flat
    if not len(train) or not len(test):
        raise InputError(f"--data {path} has {len(flat[0])} datapoints: give enough for two splits")
    return Source(train, test, image_shape, checksum, 256 if train.dtype == np.uint8 else 1)


def _unpacked(path: Path) -> list[Array]:
    """Reads the one array of an `.npy` file, or `train` and `test` of an `.npz` file."""
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return [_read(file, size)]
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        if not {"train", "test"} <= set(names):
            raise InputError(f"--data {path} needs the arrays train and test, it has {sorted(names)}")
        arrays = []
        for name in ("train", "test"):
            entry = archive.getinfo(names[name])
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("it is compressed in another way than NumPy's")
            with archive.open(entry) as file:
                arrays.append(_read(file, min(entry.file_size, _DEFLATE * size)))
    return arrays


def _read(file: IO[bytes], size: int) -> Array:
    """Reads an array from a file of so many bytes. A header that promises more is refused before it is believed."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"its format is version {version}")
    shape, _, dtype = _HEADERS[version](file)
    if math.prod(shape) * max(1, dtype.itemsize) > size - file.tell():
        raise ValueError(f"its header promises {dtype} values of shape {shape}, more than the file holds")
    file.seek(0)
    array: Array = npy.read_array(file, allow_pickle=False)
    return array


def _checked(array: Array, path: Path) -> Array:
    if array.ndim not in (2, 3) or array.size == 0:
        raise InputError(
            f"--data {path} has shape {array.shape}: give (datapoints, features) or (datapoints, height, width), "
            "none of them 0"
        )
    if array.dtype == np.uint8:
        if array.max() <= 1:
            raise InputError(f"--data {path} has bytes of 0 and 1 only, which are divided by 256: store it as bool")
        return array
    if array.dtype.kind not in "fb":
        raise InputError(f"--data {path} has values of type {array.dtype}: give uint8 or real values in [0, 1]")
    # Not-a-number fails this comparison too.
    inside = (array >= 0) & (array <= 1)
    if not inside.all():
        raise InputError(
            f"--data {path} has the value {array[~inside][0]}: give real values in [0, 1], or bytes as uint8"
        )
    return array.astype(np.float32)


def _image_shape(features: int) -> tuple[int, int]:
    side = math.isqrt(features)
    return (side, side) if side * side == features else (1, features)
