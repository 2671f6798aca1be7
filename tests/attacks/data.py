"""Data files of all kinds."""

import bz2
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attacks.bench import ODD_FILES, TINY, WORDS, Attack, Bench, data_files, mutated, writes, written
from attacks.contents import (
    HEADERS,
    IMAGES,
    SAFETENSORS,
    TABLES,
    TENSORS,
    Executes,
    bomb,
    h5ad_bomb,
    h5ad_elsewhere,
    parquet_bomb,
    zipped,
)
from pyro_vae.data import mapped


def as_data(door: str, name: str, number: int) -> Iterator[Attack]:
    """A data file of a kind, changed and odd, to the commands that read it."""
    content, draw = data_files()[name], random.Random(name)
    commands = [["data", name], ["train", *TINY, "--data", name, "--out", "out"]]
    for n in range(number):
        yield Attack(door, f"{name}, changed {n}", commands[n % 4 == 0], writes(name, mutated(content, draw)))
    for n, (what, make) in enumerate(ODD_FILES.items()):
        command = commands[n % 4 == 0]
        yield Attack(door, f"{name}, {what}", command, lambda bench, work, make=make: make(work / name))


def crafted(door: str, name: str, contents: Mapping[str, bytes | Callable[[], bytes]]) -> Iterator[Attack]:
    for what, content in contents.items():
        for command in (["data", name], ["train", *TINY, "--data", name, "--out", "out"]):
            yield Attack(door, f"{name}, {what}", command, writes(name, content))


def arrays(door: str) -> Iterator[Attack]:
    for name, number in (("x.npy", 60), ("x.npz", 60)):
        yield from as_data(door, name, number)
    yield from crafted(door, "x.npy", HEADERS)
    for what, content in HEADERS.items():
        whole = zipped({"train.npy": content, "test.npy": content}, compression=zipfile.ZIP_DEFLATED)
        yield Attack(door, f"x.npz, {what}", ["data", "x.npz"], writes("x.npz", whole))
    odd = {
        "a bomb of 9 GB": bomb,
        "no arrays": zipped({}),
        "names that lead out": zipped({"../../elsewhere/precious.txt": HEADERS["one datapoint"]}),
        "the same name twice": zipped({"train.npy": HEADERS["one datapoint"], "train": HEADERS["one datapoint"]}),
        "another compression": zipped({"x.npy": data_files()["x.npy"]}, compression=zipfile.ZIP_BZIP2),
        "100,000 arrays": lambda: zipped(dict.fromkeys(map(str, range(10**5)), b"")),
        "a name that moves the cursor": zipped({"\x1b[2J.npy": data_files()["x.npy"], "y.npy": data_files()["x.npy"]}),
        "labels of objects": zipped({"x.npy": data_files()["x.npy"], "labels.npy": HEADERS["objects"]}),
    }
    yield from crafted(door, "x.npz", odd)


def tensors(door: str) -> Iterator[Attack]:
    for name, number in (("x.pt", 60), ("x.safetensors", 40)):
        yield from as_data(door, name, number)
    yield from crafted(door, "x.pt", TENSORS)
    yield from crafted(door, "x.safetensors", SAFETENSORS)


def tables(door: str) -> Iterator[Attack]:
    for name, number in (("x.csv", 60), ("x.tsv", 20), ("x.parquet", 60)):
        yield from as_data(door, name, number)
    yield from crafted(door, "x.csv", TABLES)
    yield from crafted(door, "x.tsv", {what: TABLES[what] for what in ("NUL", "UTF-16", "rows of different lengths")})
    yield from crafted(door, "x.parquet", {"a bomb of 560 million values": parquet_bomb})
    for option in ("--columns", "--drop", "--kinds", "--label", "--covariates", "--group", "--split-column"):
        for value in WORDS:
            command = ["train", *TINY, "--data", "x.csv", option, value, "--out", "out"]
            yield Attack(
                door, f"{option} {value[:20]!a}", command, lambda bench, work: bench.data("x.csv", work / "x.csv")
            )


def large_is_small() -> None:
    """Has all data taken for larger than memory, so that they are mapped or read by row groups."""
    mapped.LARGE = 1000


def larger_than_memory(door: str) -> Iterator[Attack]:
    """Arrays and tables that are mapped from their files."""
    for name, number, odd in (("x.npy", 60, HEADERS), ("x.parquet", 60, {"a bomb": parquet_bomb})):
        for attack in (*as_data(door, name, number), *crafted(door, name, odd)):
            yield attack._replace(spoil=large_is_small)
    draw = np.random.default_rng(0)
    values = draw.random((300, 6)).astype(np.float32)
    spoilt = {
        "not-a-number at its end": np.concatenate([values, np.full((1, 6), np.nan, np.float32)]),
        "infinity at its end": np.concatenate([values, np.full((1, 6), np.inf, np.float32)]),
        "huge values": values * 1e38,
        "one column": values[:, :1],
        "one row": values[:1],
        "columns first": np.asfortranarray(values),
        "big-endian values": values.astype(">f4"),
        "four axes": values.reshape(75, 2, 3, 4),
        "complex values": values.astype(np.complex64),
    }
    for what, array in spoilt.items():
        content = written(lambda file, array=array: np.save(file, array))
        for given in (["data", "x.npy"], ["train", *TINY, "--data", "x.npy", "--model", "normal", "--out", "out"]):
            yield Attack(door, f"x.npy, {what}", given, writes("x.npy", content), large_is_small)
    frames = {
        "a column of nothing": pd.DataFrame({"a": [None] * 300, "b": range(300)}),
        "a column of lists": pd.DataFrame({"a": [[1, 2]] * 300}),
        "a column of dates": pd.DataFrame({"a": pd.date_range("2020", periods=300)}),
        "a column of text": pd.DataFrame({"a": ["\x1b[2J"] * 300, "b": range(300)}),
        "equal names": pd.DataFrame({"a": range(300), "a ": range(300)}),
        "names that move the cursor": pd.DataFrame({"\x1b[2J": range(300), "b": range(300)}),
        "10,000 columns": pd.DataFrame(np.zeros((3, 10_000)), columns=[f"c{n}" for n in range(10_000)]),
        "no rows": pd.DataFrame({"a": np.zeros(0)}),
        "numbers of 10^30": pd.DataFrame({"a": np.full(300, 1e30)}),
        "infinity": pd.DataFrame({"a": [*range(299), np.inf]}),
    }
    options = ([], ["--columns", "b"], ["--label", "a"], ["--kinds", "a:category"], ["--covariates", "a"])
    for what, frame in frames.items():
        content = written(lambda file, frame=frame: frame.to_parquet(file))
        for more in options:
            given = ["train", *TINY, "--data", "x.parquet", "--model", "normal", *more, "--out", "out"]
            yield Attack(door, f"x.parquet, {what}, {more}", given, writes("x.parquet", content), large_is_small)


def cells(door: str) -> Iterator[Attack]:
    """Matrices of single cells."""
    if "x.h5ad" in data_files():
        yield from as_data(door, "x.h5ad", 60)
        yield from crafted(door, "x.h5ad", {"a bomb of 4 TB": h5ad_bomb, "values of another file": h5ad_elsewhere})


def pictures(door: str) -> Iterator[Attack]:
    draw = random.Random(door)
    command = ["data", "folder"]

    def folder(files: Mapping[str, bytes], bench: Bench, work: Path) -> None:
        for name, content in files.items():
            path = work / "folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    for name in ("x.png", "x.jpg", "x.gif", "x.tif"):
        content = data_files()[name]
        for n in range(20):
            files = {f"{k}{name}": content for k in range(3)} | {f"9{name}": mutated(content, draw)}
            yield Attack(door, f"{name}, changed {n}", command, partial(folder, files))
    for what, files in IMAGES.items():
        yield Attack(door, what, command, partial(folder, files))
        resized = ["train", *TINY, "--data", "folder", "--resize", "4x4", "--out", "out"]
        yield Attack(door, what, resized, partial(folder, files))
    good = {f"{k}.png": data_files()["x.png"] for k in range(10)}
    for size in ("9999x9999", "99999x99999", "9999x1", "384x720", "0x5", "1e3x5", "٣x٣", "5x5\n", "5", "-1x5"):
        given = ["train", *TINY, "--data", "folder", "--resize", size, "--out", "out"]
        yield Attack(door, f"--resize {size!a}", given, partial(folder, good))
    for what, make in ODD_FILES.items():

        def odd(bench: Bench, work: Path, make: Callable[[Path], object] = make) -> None:
            folder(good, bench, work)
            make(work / "folder" / "5x.png")

        yield Attack(door, what, command, odd)
        yield Attack(door, f"{what} for the folder", command, lambda bench, work, make=make: make(work / "folder"))


SETS = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "frey": "FreyFace/frey_rawface.mat",
    "usps": "usps.bz2",
    "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
    "kmnist": "KMNIST/raw/train-images-idx3-ubyte",
    "cifar10": "cifar-10-batches-py/data_batch_1",
    "svhn": "train_32x32.mat",
    "stl10": "stl10_binary/train_X.bin",
}


def known(door: str) -> Iterator[Attack]:
    """The known data sets, from a folder that is a stranger's. Nothing is downloaded: no address is reached."""
    contents: dict[str, Callable[[Path], object]] = {
        **ODD_FILES,
        "a pickle that executes": lambda path: path.write_bytes(pickle.dumps(Executes())),
        "a bomb": lambda path: path.write_bytes(bz2.compress(bytes(1 << 29))),
        "an idx file of 10^12 values": lambda path: path.write_bytes(struct.pack(">4i", 2051, 10**6, 1000, 1000)),
    }
    for name, file in SETS.items():
        for what, make in contents.items():

            def prepare(bench: Bench, work: Path, make: Any = make, file: str = file) -> None:
                path = work / "sets" / file
                path.parent.mkdir(parents=True)
                for other in OTHERS.get(path.parent.name, ()) if file.endswith("ubyte") else ():
                    (path.parent / other).write_bytes(bytes(16))
                make(path)

            yield Attack(door, f"{name}, {what}", ["data", name, "--data-dir", "sets"], prepare)


OTHERS = {
    "raw": ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
}
