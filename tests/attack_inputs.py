"""What `attack.py` attacks with: for each door, inputs that nobody should send.

A door is a function that yields attacks: a command, and what makes the files that it finds. `DOORS` is their table.
"""

import bz2
import io
import itertools
import os
import pickle
import random
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tomli_w
import torch
from PIL import Image
from safetensors.torch import save as tensors_saved

Prepare = Callable[["Bench", Path], object]


class Attack(NamedTuple):
    """A command with its arguments, what makes its files, the door it is for and what is wicked about it."""

    door: str
    what: str
    command: list[str]
    prepare: Prepare


class Bench:
    """Well-made run folders and data files to be spoilt, made when they are first asked for."""

    def __init__(self, home: Path, forked: Callable[[list[str], Path], Any]) -> None:
        self.home, self.forked = home, forked
        self.seeds = home / "seeds" / "work"
        for name in ("work", "home", "tmp"):
            (home / "seeds" / name).mkdir(parents=True)
        for name, content in data_files().items():
            (self.seeds / name).write_bytes(content)
        (self.seeds / "own.py").write_text(OWN)
        self.made: set[str] = set()

    def run(self, kind: str, at: Path) -> Path:
        """Copies a run folder of a kind of `RUNS`."""
        if kind not in self.made:
            given = [word.replace("{seeds}", str(self.seeds)) for word in RUNS[kind]]
            answer = self.forked(["train", *TINY, *given, "--out", kind], self.seeds)
            if answer.status:
                raise SystemExit(f"{kind} cannot be made: {answer.err}")
            self.made.add(kind)
        return Path(shutil.copytree(self.seeds / kind, at))

    def data(self, name: str, at: Path) -> bytes:
        """Copies a data file, and returns its content."""
        shutil.copy(self.seeds / name, at)
        return at.read_bytes()


OWN = """
from pathlib import Path
from pyro_vae.models.bernoulli import BernoulliModel
class Own(BernoulliModel): ...
"""
RUNNING = "from pathlib import Path\nPath('executed').touch()\n"
TINY = ["--hidden", "5", "--samples", "400", "--no-figures", "--compile", "off"]
RUNS = {
    "plain": ["--data", "{seeds}/x.npz"],
    "table": ["--data", "{seeds}/x.csv", "--model", "mixed", "--label", "kind"],
    "missing": ["--data", "{seeds}/missing.csv", "--model", "normal"],
    "mcem": ["--data", "{seeds}/x.npz", "--inference", "mcem"],
    "own": ["--data", "{seeds}/x.npz", "--model", "own.py"],
}


def written(write: Callable[[Any], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


@cache
def data_files() -> Mapping[str, bytes]:
    """Small data of each kind of file."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (120, 9), dtype=np.uint8)
    frame = pd.DataFrame(draw.normal(size=(200, 3)), columns=["a", "b", "c"])
    frame["kind"] = ["one", "two"] * 100
    holes = frame[["a", "b", "c"]].mask(draw.random((200, 3)) < 0.1)
    files = {
        "x.npy": written(lambda file: np.save(file, x)),
        "x.npz": written(lambda file: np.savez_compressed(file, train=x, test=x[:10])),
        "x.pt": written(lambda file: torch.save({"x": torch.from_numpy(x)}, file)),
        "x.safetensors": tensors_saved({"x": torch.from_numpy(x)}),
        "x.csv": frame.to_csv(index=False).encode(),
        "x.tsv": frame[["a", "b", "c"]].to_csv(index=False, sep="\t").encode(),
        "missing.csv": holes.to_csv(index=False).encode(),
        "x.parquet": written(lambda file: frame[["a", "b", "c"]].to_parquet(file)),
        "x.png": written(lambda file: Image.fromarray(x.reshape(24, 45)).save(file, "png")),
        "x.jpg": written(lambda file: Image.fromarray(x.reshape(24, 45)).save(file, "jpeg")),
        "x.gif": written(lambda file: Image.fromarray(x.reshape(24, 45)).save(file, "gif")),
        "x.tif": written(lambda file: Image.fromarray(x.reshape(24, 45)).save(file, "tiff")),
    }
    try:
        import anndata

        path = Path(os.environ.get("TMPDIR", "/tmp"), f"attack-{os.getpid()}.h5ad")
        anndata.AnnData(x.astype(np.float32)).write_h5ad(path)
        files["x.h5ad"] = path.read_bytes()
        path.unlink()
    except ImportError:
        pass
    return files


LARGE = (b"1000000000000", b"-1", b"1e400", b"nan", b"9" * 5000)


def mutated(content: bytes, draw: random.Random) -> bytes:
    """A file with one to four changes: bits, cuts, doubled and foreign pieces, numbers."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(changed) + 1)
        end = min(len(changed), at + draw.choice((1, 4, 8, 64)))
        kind = draw.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            changed[at:at] = changed[at:end] * draw.choice((1, 2, 50))
        elif kind == 4:
            changed[at:end] = draw.randbytes(end - at)
        elif numbers := list(re.finditer(rb"\d+", bytes(changed))):
            number = draw.choice(numbers)
            changed[slice(*number.span())] = draw.choice(LARGE)
    return bytes(changed)


# --- What no file should be ------------------------------------------------------------------------------------------


def nothing(bench: Bench, work: Path) -> None:
    """Makes no files."""


def writes(name: str, content: bytes | Callable[[], bytes]) -> Prepare:
    return lambda bench, work: (work / name).write_bytes(content if isinstance(content, bytes) else content())


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def huge(path: Path) -> None:
    """Sixty gigabytes of nothing, which take no place on a disk."""
    path.touch()
    os.truncate(path, 60 << 30)


def precious(path: Path) -> None:
    path.symlink_to("../elsewhere/precious.txt")


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device without an end": zeros,
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "its own standard input": lambda path: path.symlink_to("/dev/stdin"),
    "a folder": Path.mkdir,
    "a link to itself": loop,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to a file outside": precious,
    "60 GB of zeros": huge,
    "empty": Path.touch,
    "one byte": lambda path: path.write_bytes(b"x"),
    "unreadable": lambda path: (path.touch(), path.chmod(0)),
    "random bytes": lambda path: path.write_bytes(random.Random(0).randbytes(4096)),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "a megabyte of brackets": lambda path: path.write_bytes(b"[" * 2**20),
    "a megabyte of newlines": lambda path: path.write_bytes(b"\n" * 2**20),
    "a megabyte of commas": lambda path: path.write_bytes(b"," * 2**20),
}


class Executes:
    """What runs when a pickle of it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (RUNNING,)


def zipped(files: Mapping[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy_header(descr: str, shape: str, version: bytes = b"\x01\x00", fortran: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header


@cache
def bomb(size: int = 9 << 30) -> bytes:
    """An .npz file of two arrays of 9 GB of zeros each: some megabytes."""
    header = npy_header("'|u1'", f"({size}, 1)")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(header)
    piece = bytes(1 << 24)
    for _ in range(8):  # a true start, and a directory that promises the rest
        packed += packer.compress(piece)
    packed += packer.flush()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("train.npy", "test.npy"):
            entry = zipfile.ZipInfo(name)
            archive.writestr(entry, packed)
    raw = bytearray(content.getvalue())
    for magic, at_method, at_size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
        for found in re.finditer(re.escape(magic), bytes(raw)):
            raw[found.start() + at_method : found.start() + at_method + 2] = struct.pack("<H", 8)
            raw[found.start() + at_size : found.start() + at_size + 4] = struct.pack("<I", 2**32 - 2)
    return bytes(raw)


def true_bomb() -> bytes:
    """Three gigabytes of zeros in three megabytes, all of them there, many times in one archive."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    size = 3 << 30
    packed = packer.compress(npy_header("'|u1'", f"({size}, 1)"))
    piece = bytes(1 << 24)
    for _ in range(size >> 24):
        packed += packer.compress(piece)
    return packed + packer.flush()


HEADERS = {
    "a shape of 10^18": npy_header("'<f8'", "(1000000000, 1000000000)"),
    "a negative shape": npy_header("'<f8'", "(-1, 5)"),
    "a shape of 10^30": npy_header("'|u1'", f"({10**30},)"),
    "a shape that is text": npy_header("'<f8'", "'abc'"),
    "objects": npy_header("'|O'", "(5,)") + pickle.dumps(Executes()),
    "a call in its header": npy_header("__import__('os').mkdir('executed')", "(5,)"),
    "nested parentheses": npy_header("(" * 3000 + ")" * 3000, "(5,)"),
    "records": npy_header("[('a', '<f8'), ('b', '|O')]", "(5,)"),
    "version 3": npy_header("'<f8'", "(5, 1)", b"\x03\x00"),
    "version 9": npy_header("'<f8'", "(5, 1)", b"\x09\x09"),
    "values of no bytes": npy_header("'|V0'", "(1000000000000, 1)"),
    "text of no characters": npy_header("'<U0'", "(1000000000000, 1)"),
    "zero datapoints": npy_header("'<f8'", "(0, 5)"),
    "dates": npy_header("'<M8[s]'", "(2, 1)") + bytes(16),
    "complex values": npy_header("'<c16'", "(2, 1)") + bytes(32),
    "a thousand axes": npy_header("'|u1'", "(" + "1," * 1000 + ")") + b"x",
    "one datapoint": npy_header("'<f8'", "(1, 2)") + bytes(16),
    "infinite values": npy_header("'<f8'", "(10, 1)") + struct.pack("<d", float("inf")) * 10,
    "missing values only": npy_header("'<f8'", "(10, 1)") + struct.pack("<d", float("nan")) * 10,
    "big-endian values": npy_header("'>f8'", "(10, 1)") + bytes(80),
}


def sparse(**changes: Any) -> bytes:
    tensors: dict[str, Any] = {"x": torch.rand(10, 3).to_sparse(), **changes}
    return written(lambda file: torch.save(tensors, file))


TENSORS: dict[str, Callable[[], bytes]] = {
    "a pickle that executes": lambda: written(lambda file: torch.save(Executes(), file)),
    "an old pickle that executes": lambda: pickle.dumps(Executes()),
    "a plain pickle after torch's magic": lambda: pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(Executes()),
    "a zip of a pickle": lambda: zipped({"a/data.pkl": pickle.dumps(Executes()), "a/version": b"3"}),
    "TorchScript": lambda: zipped({"a/constants.pkl": b"", "a/data.pkl": b"", "a/code/__torch__.py": RUNNING.encode()}),
    "sparse tensors": sparse,
    "strides of 0": lambda: written(lambda file: torch.save({"x": torch.zeros(1).expand(10**6, 10**6)}, file)),
    "quantised tensors": lambda: written(
        lambda file: torch.save({"x": torch.quantize_per_tensor(torch.rand(10, 3), 0.1, 0, torch.quint8)}, file)
    ),
    "tensors of the meta device": lambda: written(
        lambda file: torch.save({"x": torch.empty(10**6, 10**6, device="meta")}, file)
    ),
    "complex tensors": lambda: written(lambda file: torch.save({"x": torch.rand(10, 3, dtype=torch.cfloat)}, file)),
    "a list": lambda: written(lambda file: torch.save([1, 2], file)),
    "a number": lambda: written(lambda file: torch.save(3, file)),
    "an empty table": lambda: written(lambda file: torch.save({}, file)),
    "numbers for names": lambda: written(lambda file: torch.save({1: torch.rand(3, 3)}, file)),
    "a tensor alone": lambda: written(lambda file: torch.save(torch.rand(20, 3), file)),
    "no dimensions": lambda: written(lambda file: torch.save(torch.rand(()), file)),
    "nested tables": lambda: written(lambda file: torch.save(nested(200), file)),
    "compressed": lambda: zipped({"a/data.pkl": bytes(2**24), "a/version": b"3"}, compression=zipfile.ZIP_DEFLATED),
    "an archive with a path": lambda: zipped({"../../elsewhere/precious.txt": b"gone", "/tmp/executed": b"gone"}),
}


def nested(depth: int) -> Any:
    value: Any = torch.zeros(1)
    for _ in range(depth):
        value = {"x": value}
    return value


def safe(header: bytes, size: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


SAFETENSORS = {
    "a header of 10^18 bytes": safe(b"{}", 10**18),
    "no tensors": safe(b"{}"),
    "a tensor that overlaps": safe(
        b'{"x":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]}}',
        data=bytes(4),
    ),
    "a shape of 10^18": safe(
        b'{"x":{"dtype":"U8","shape":[1000000000,1000000000],"data_offsets":[0,1000000000000000000]}}'
    ),
    "nested JSON": safe(b'{"x":' * 50000 + b"1" + b"}" * 50000),
    "a type of no name": safe(b'{"x":{"dtype":"X9","shape":[1],"data_offsets":[0,1]}}', data=b"x"),
    "a list": safe(b"[]"),
    "no JSON": safe(b"\xff\xfe"),
}

TABLES: dict[str, bytes | Callable[[], bytes]] = {
    "a formula": b"a,b\n=cmd|'/C calc'!A0,1\n2,3\n",
    "a name that moves the cursor": b"a\x1b[2J,b\n1,2\n3,4\n",
    "a text that moves the cursor": b"a,b\n\x1b[2J\x1b]0;title\x07,2\n3,4\n",
    "a name of a megabyte": b"a" * 2**20 + b",b\n1,2\n3,4\n",
    "a text of a megabyte": b"a,b\n" + b"x" * 2**20 + b",2\n3,4\n",
    "100,000 columns": lambda: ",".join(f"c{n}" for n in range(10**5)).encode() + b"\n" + b"1," * (10**5 - 1) + b"1\n",
    "100,000 equal names": b"a," * 10**5 + b"a\n" + b"1," * 10**5 + b"1\n",
    "a million rows of nothing": b"a\n" + b"\n" * 10**6,
    "a quote without an end": b'a,b\n"' + b"x" * 10**5,
    "many quotes": b"a,b\n" + b'"' * 10**5 + b",1\n",
    "NUL": b"a,b\n\0,1\n2,3\n",
    "UTF-16": "a,b\n1,2\n3,4\n".encode("utf-16"),
    "latin-1": "ä,b\n1,2\n3,4\n".encode("latin-1"),
    "carriage returns": b"a,b\r1,2\r3,4\r",
    "numbers of 5,000 digits": b"a,b\n" + b"9" * 5000 + b",1\n2,3\n",
    "infinite values": b"a,b\ninf,1\n2,-inf\n",
    "1e400": b"a,b\n1e400,1\n2,3\n4,5\n6,7\n",
    "hexadecimal numbers": b"a,b\n0x1p3,1\n0xff,3\n",
    "dates": b"a,b\n2020-01-01,1\n2020-01-02,3\n",
    "a header alone": b"a,b\n",
    "one row": b"a,b\n1,2\n",
    "rows of different lengths": b"a,b\n1,2,3\n4\n",
    "no value in a column": b"a,b\n,1\n,2\n,3\n,4\n,5\n,6\n",
    "names of templates": b"{{7*7}},<script>alert(1)</script>\n1,2\n3,4\n5,6\n7,8\n",
    "names of markup": b"[red]a[/red],[link=file:///etc/passwd]b[/link]\n1,2\n3,4\n5,6\n7,8\n9,9\n",
    "right-to-left names": "\u202ea,b\n1,2\n3,4\n5,6\n7,8\n".encode(),
    "names of no glyphs": "名前,🦆\n1,2\n3,4\n5,6\n7,8\n9,1\n".encode(),
    "truth values": b"a,b\nTrue,1\nFalse,2\n",
}


def parquet_bomb() -> bytes:
    """A table of 4 * 10^9 rows of one value, in a few kilobytes."""
    import pyarrow as pa
    from pyarrow import parquet

    buffer = io.BytesIO()
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**7, np.int32)), pa.array([1.0]))
    table = pa.table({"a": column, "b": column})
    with parquet.ParquetWriter(buffer, table.schema) as writer:
        for _ in range(100):
            writer.write_table(table)
    return buffer.getvalue()


def h5ad_bomb() -> bytes:
    """A matrix of 10^6 by 10^6 of which nothing was written."""
    import h5py

    path = Path(os.environ.get("TMPDIR", "/tmp"), f"bomb-{os.getpid()}.h5ad")
    try:
        path.write_bytes(data_files()["x.h5ad"])
        with h5py.File(path, "r+") as file:
            attributes = dict(file["X"].attrs)
            del file["X"]
            made = file.create_dataset("X", (10**6, 10**6), "f4", chunks=(1000, 1000), compression="gzip")
            made.attrs.update(attributes)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def h5ad_elsewhere() -> bytes:
    """A matrix whose values are those of a file outside."""
    import h5py

    path = Path(os.environ.get("TMPDIR", "/tmp"), f"else-{os.getpid()}.h5ad")
    try:
        path.write_bytes(data_files()["x.h5ad"])
        with h5py.File(path, "r+") as file:
            attributes = dict(file["X"].attrs)
            del file["X"]
            made = file.create_dataset("X", (8, 1), "u1", external=[("../elsewhere/precious.txt", 0, 8)])
            made.attrs.update(attributes)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    row = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", row) + chunk(b"IEND", b"")


IMAGES: dict[str, Mapping[str, bytes]] = {
    "a picture of 10^10 pixels": {"a.png": png(100_000, 100_000)},
    "a picture of 10^8 pixels": {"a.png": png(10_000, 10_000)},
    "pictures of 80 million pixels": {f"{n}.png": png(9_000, 9_000) for n in range(400)},
    "a picture without pixels": {"a.png": png(0, 0)},
    "PostScript": {"a.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(executed) (w) file closefile\n"},
    "SVG": {"a.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'},
    "a name that moves the cursor": {"\x1b[2J.png": b"none"},
    "a folder that moves the cursor": {"\x1b[2J/a.png": b"none"},
}


_turns = itertools.count()


def by_turns(every: Sequence[Any], number: int) -> list[Any]:
    """So many of a few, others the next time."""
    start = next(_turns) * number
    return [every[(start + n) % len(every)] for n in range(number)]


# --- Doors -----------------------------------------------------------------------------------------------------------


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
    yield from crafted(door, "x.parquet", {"a bomb of 2 * 10^9 values": parquet_bomb})
    for option in ("--columns", "--drop", "--kinds", "--label", "--covariates", "--group", "--split-column"):
        for value in WORDS:
            command = ["train", *TINY, "--data", "x.csv", option, value, "--out", "out"]
            yield Attack(
                door, f"{option} {value[:20]!a}", command, lambda bench, work: bench.data("x.csv", work / "x.csv")
            )


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
    for size in ("9999x9999", "0x5", "1e3x5", "٣x٣", "5x5\n", "5", "-1x5"):
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

# --- Run folders -----------------------------------------------------------------------------------------------------

SHORT = ["--limit", "4", "--particles", "4"]
OPENING = {
    "evaluate": ["evaluate", "run", *SHORT],
    "sample": ["sample", "run", "--number", "4"],
    "reconstruct": ["reconstruct", "run", "--number", "2"],
    "manifold": ["manifold", "run", "--grid", "2"],
    "compare": ["compare", "run", "run", *SHORT],
    "encode": ["encode", "run", "--out", "t.csv", "--particles", "2"],
    "analyze": ["analyze", "run", "--limit", "3", "--draws", "4", "--chains", "2", "--warmup", "2", "--quick"],
    "resume": ["train", "--resume", "--out", "run", "--samples", "500", "--no-figures", "--compile", "off"],
}
OTHER = {
    "config": ["train", "--config", "run/run.toml", "--out", "out", "--samples", "400", "--no-figures"],
    "overwrite": ["train", *TINY, "--data", "x.npz", "--overwrite", "--out", "run"],
    "train": ["train", *TINY, "--data", "x.npz", "--out", "run"],
    "impute": ["impute", "run", "--data", "x.npz", "--out", "t.csv", "--particles", "2"],
}
RUN_FILES = ("run.toml", "metrics.csv", "weights.safetensors", "checkpoint.pt")


def with_run(change: Callable[[Path], object], kind: str = "plain") -> Prepare:
    def prepare(bench: Bench, work: Path) -> None:
        run = bench.run(kind, work / "run")
        for name in ("x.npz", "x.csv"):
            bench.data(name, work / name)
        change(run)

    return prepare


def changed_folders(door: str) -> Iterator[Attack]:
    """Run folders of which one file was changed at random."""
    draw = random.Random(door)
    for n in range(300):
        name = RUN_FILES[n % 4]
        what = [*OPENING, *OTHER][n // 4 % (len(OPENING) + len(OTHER))]
        if what == "analyze" and n % 8:
            what = "evaluate"
        seed = draw.random()

        def change(run: Path, name: str = name, seed: float = seed) -> None:
            (run / name).write_bytes(mutated((run / name).read_bytes(), random.Random(seed)))

        kind = ("plain", "table", "mcem")[n % 3]
        yield Attack(door, f"{kind}, {name} changed {n}", {**OPENING, **OTHER}[what], with_run(change, kind))


def odd_folders(door: str) -> Iterator[Attack]:
    """Run folders of which one file or folder is what it should not be."""
    places = (*RUN_FILES, ".lock", "parts", "analysis", "samples.png", "report.html", "parts/model.py")
    for name in places:
        for what, make in ODD_FILES.items():

            def change(run: Path, name: str = name, make: Any = make) -> None:
                path = run / name
                path.parent.mkdir(exist_ok=True)
                if path.is_dir():
                    shutil.rmtree(path)
                path.unlink(missing_ok=True)
                make(path)

            turns = ("evaluate", "resume", "overwrite", *(("sample", "config") if name in places[:3] else ()))
            for command in by_turns(turns, 2):
                yield Attack(door, f"{name} is {what}, {command}", {**OPENING, **OTHER}[command], with_run(change))
    for what, make in ODD_FILES.items():
        for command in ("evaluate", "train", "resume", "overwrite"):
            prepare: Prepare = lambda bench, work, make=make: (bench.data("x.npz", work / "x.npz"), make(work / "run"))  # noqa: E731
            yield Attack(door, f"the folder is {what}, {command}", {**OPENING, **OTHER}[command], prepare)


def checkpoint(**changes: Any) -> Callable[[Path], object]:
    """A checkpoint with some of its values exchanged."""

    def change(run: Path) -> None:
        state = torch.load(run / "checkpoint.pt", weights_only=True)
        torch.save({**state, **changes}, run / "checkpoint.pt")

    return change


def first_weight(spoil: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        from safetensors.torch import load

        state = load((run / "weights.safetensors").read_bytes())
        name = sorted(state)[0]
        (run / "weights.safetensors").write_bytes(tensors_saved({**state, name: spoil(state[name])}))
        saved = torch.load(run / "checkpoint.pt", weights_only=True)
        part, _, rest = name.partition(".")
        saved[part][rest] = spoil(saved[part][rest])
        torch.save(saved, run / "checkpoint.pt")

    return change


def replaced(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(content if isinstance(content, bytes) else content())


SPOILT: dict[str, Callable[[Path], object]] = {
    "weights that are not-a-number": first_weight(lambda x: x * float("nan")),
    "infinite weights": first_weight(lambda x: x + float("inf")),
    "weights of another shape": first_weight(lambda x: x.flatten()[:1]),
    "weights of whole numbers": first_weight(lambda x: x.long()),
    "weights of half precision": first_weight(lambda x: x.half()),
    "complex weights": first_weight(lambda x: x.to(torch.complex64)),
    "weights of eight bits": first_weight(lambda x: x.to(torch.float8_e4m3fn)),
    "weights of 1e38": first_weight(lambda x: x * 0 + 1e38),
    "a negative clock": checkpoint(clock={"samples": -(10**9), "seconds": -1.0}),
    "a clock of no number": checkpoint(clock={"samples": float("nan"), "seconds": float("nan")}),
    "a clock at the end of time": checkpoint(clock={"samples": 2**62, "seconds": 1e300}),
    "a clock that is a tensor": checkpoint(clock=torch.zeros(3)),
    "a clock that is true": checkpoint(clock={"samples": True, "seconds": True}),
    "a checkpoint without a clock": checkpoint(clock=None),
    "a checkpoint of another format": checkpoint(format=99),
    "a checkpoint of a format that is a tensor": checkpoint(format=torch.ones(3)),
    "metrics of a checkpoint that are no numbers": checkpoint(metrics=[["a", "b", "c", "d"]]),
    "metrics of a checkpoint that are a tensor": checkpoint(metrics=torch.zeros(2, 2)),
    "a million metrics": checkpoint(metrics=[[0, 0.0, 0.0, 0.0]] * 10**6),
    "generators of another size": checkpoint(generators={"cpu": torch.zeros(3, dtype=torch.uint8)}),
    "host generators of nothing": checkpoint(host_generators={"python": (3, (), None), "numpy": ("MT19937",)}),
    "values of Python that are no list": checkpoint(python={"model": "x", "guide": 3}),
    "values of Python that lead elsewhere": checkpoint(python={"model": [[["__class__"], "x"]]}),
    "a learner that is a tensor": checkpoint(learner=torch.zeros(3)),
    "an empty learner": checkpoint(learner={}),
    "a model that is a number": checkpoint(model=3),
    "unsaved things of no text": checkpoint(unsaved=[torch.zeros(2)]),
    "unsaved things that move the cursor": checkpoint(unsaved=["\x1b[2J"]),
    **{f"a checkpoint of {what}": replaced("checkpoint.pt", make) for what, make in TENSORS.items()},
    **{f"weights of {what}": replaced("weights.safetensors", content) for what, content in SAFETENSORS.items()},
    "weights of a pickle": replaced("weights.safetensors", pickle.dumps(Executes())),
    **{
        f"metrics of {what}": replaced("metrics.csv", content)
        for what, content in {
            "nothing": b"",
            "a header": b"samples,seconds,train_bound,test_bound\n",
            "text": b"samples,seconds,train_bound,test_bound\na,b,c,d\n",
            "no numbers": b"samples,seconds,train_bound,test_bound\n0,0,nan,inf\n",
            "5,000 digits": b"samples,seconds,train_bound,test_bound\n" + b"9" * 5000 + b",0,0,0\n",
            "negative numbers": b"samples,seconds,train_bound,test_bound\n-1,-1,0,0\n",
            "a million rows": b"samples,seconds,train_bound,test_bound\n" + b"0,0.0,1.0,1.0\n" * 10**6,
            "a row that moves the cursor": b"samples,seconds,train_bound,test_bound\n\x1b[2J,0,0,0\n",
            "1e300 nats": b"samples,seconds,train_bound,test_bound\n0,0,1e300,-1e300\n",
            "other columns": b"a,b\n1,2\n",
            "NUL": b"samples,seconds,train_bound,test_bound\n0,0,\0,0\n",
        }.items()
    },
    "a part that executes": lambda run: ((run / "parts").mkdir(), (run / "parts" / "model.py").write_text(RUNNING)),
    "a package beside it": lambda run: (run / "torch.py").write_text(RUNNING),
    "a conftest beside it": lambda run: (run / "sitecustomize.py").write_text(RUNNING),
    "a link to a folder outside for pictures": lambda run: (run / "samples.png").symlink_to(
        "../../elsewhere/precious.txt"
    ),
    "a link to a folder outside for analysis": lambda run: (run / "analysis").symlink_to("../../elsewhere"),
    "a link to a file outside for metrics": lambda run: (
        (run / "metrics.csv").unlink(),
        (run / "metrics.csv").symlink_to("../../elsewhere/precious.txt"),
    ),
    "a link outside for parts": lambda run: (run / "parts").symlink_to("../../elsewhere"),
    "a link outside for the lock": lambda run: (
        (run / ".lock").unlink(missing_ok=True),
        (run / ".lock").symlink_to("../../elsewhere/precious.txt"),
    ),
    "10,000 files": lambda run: [(run / f"f{n}").touch() for n in range(10_000)],
    "folders in folders": lambda run: (run / "parts" / "/".join("d" * 400)).mkdir(parents=True),
}


def spoilt_folders(door: str) -> Iterator[Attack]:
    """Run folders with values that no run has written."""
    for what, change in SPOILT.items():
        for command in by_turns(("evaluate", "sample", "resume", "overwrite", "compare"), 3):
            for kind in ("plain", "mcem") if "checkpoint" in what or "clock" in what else ("plain",):
                yield Attack(door, f"{kind}, {what}, {command}", {**OPENING, **OTHER}[command], with_run(change, kind))
    for command in ("analyze", "encode", "manifold", "reconstruct"):
        for what in [*SPOILT][:8] + [w for w in SPOILT if "link" in w]:
            yield Attack(door, f"{what}, {command}", OPENING[command], with_run(SPOILT[what]))
    for command, given in {**OPENING, "config": OTHER["config"]}.items():
        run_it = lambda run: (run / "parts" / "model.py").write_text(RUNNING + OWN)  # noqa: E731
        yield Attack(door, f"code in the folder, {command}", given, with_run(run_it, "own"))
        with_code = lambda bench, work: (
            with_run(lambda run: None, "own")(bench, work),
            (work / "own.py").write_text(RUNNING + OWN),
        )  # noqa: E731
        yield Attack(door, f"code beside the folder, {command}", given, with_code)


# --- Settings --------------------------------------------------------------------------------------------------------

NUMBERS: tuple[Any, ...] = (
    0,
    -1,
    10**9,
    10**12,
    2**53,
    2**62,
    10**40,
    1e300,
    float("nan"),
    float("inf"),
    True,
    "x",
    [1],
)
WORDS = (
    "",
    " ",
    "x" * 5000,
    "\x1b[2J\x1b[31m",
    "../../elsewhere",
    "a\nb",
    "\u202eabc",
    "名前",
    "a,b,,",
    "{0}",
    "%s",
    "[red]",
    "\udcff",
)
SETTINGS = {
    **dict.fromkeys(["latent", "hidden", "samples", "batch", "train_size", "particles", "seed", "divisor"], NUMBERS),
    **dict.fromkeys(["step_size", "test_share", "checkpoint_every"], (*NUMBERS, 1e-300, -0.0)),
    **dict.fromkeys(["model", "prior", "guide", "inference", "elbo", "optimizer", "data", "kl", "compile"], WORDS),
    **dict.fromkeys(
        ["device", "binarize", "scale", "channels", "resize", "columns", "label", "test", "data_dir"], WORDS
    ),
}
OF_PARTS = [
    ("model", "depth"),
    ("guide", "depth"),
    ("prior", "components"),
    ("prior", "transforms"),
    ("prior", "pseudo_inputs"),
    ("inference", "leapfrog"),
    ("model", "levels"),
    ("guide", "transforms"),
]


def toml_of(changes: Mapping[str, Any]) -> Callable[[Path], object]:
    """A record with some of its settings exchanged."""

    def change(run: Path) -> None:
        import tomllib

        content = tomllib.loads((run / "run.toml").read_text())
        for place, value in changes.items():
            *path, last = place.split(".")
            table = content
            for part in path:
                table = table.setdefault(part, {})
            table[last] = value
        text = tomli_w.dumps(content)
        (run / "run.toml").write_bytes(text.encode(errors="surrogateescape"))

    return change


def said_of(value: Any) -> str:
    return ascii(value)[:30]


def settings(door: str) -> Iterator[Attack]:
    """Settings of a stranger's record: of all sizes."""
    for name, values in SETTINGS.items():
        for value in values:
            change = toml_of({f"settings.{name}": value})
            for command in by_turns(("evaluate", "resume", "config"), 1):
                given = OPENING.get(command) or OTHER[command]
                if name == "samples" and command != "evaluate":
                    given = [arg for arg in given if arg not in ("--samples", "500", "400")]
                    if isinstance(value, float | int) and not isinstance(value, bool) and value > 10**6:
                        continue  # that is a long run, which its progress shows
                yield Attack(door, f"{name} = {said_of(value)}, {command}", given, with_run(change))


def sizes(door: str) -> Iterator[Attack]:
    """Arguments of parts in a stranger's record: of all sizes."""
    for part, name in OF_PARTS:
        owner = {
            "components": {"settings.prior": "mixture"},
            "transforms": {f"settings.{part}": "flow"},
            "pseudo_inputs": {"settings.prior": "vamp"},
            "leapfrog": {"settings.inference": "mcem"},
            "levels": {"settings.model": "categorical"},
        }.get(name, {})
        for value in (10**6, 10**9, 2**53, -1, 0, 1e300, float("nan"), "x", [10**9], {"a": 1}):
            for command in by_turns(("evaluate", "resume", "config"), 2):
                if name == "leapfrog" and command != "evaluate" and isinstance(value, int) and value > 1:
                    continue  # that is a long run
                change = toml_of({**owner, f"settings.set.{part}.{name}": value})
                given = OPENING.get(command) or OTHER[command]
                yield Attack(door, f"{part}.{name} = {said_of(value)}, {command}", given, with_run(change))
    for name in ("features", "train", "test", "covariates", "image_shape", "divisor", "fill", "loc", "scale", "classes",
                 "names", "kinds", "levels", "reading", "checksum", "folder", "binarize", "missing", "labels"):  # fmt: skip
        for value in (10**9, -1, "x", [10**9], [], {}, float("nan"), "\x1b[2J", True):
            for command, absent in by_turns((("sample", True), ("evaluate", False), ("resume", True)), 1):

                def change(run: Path, name: str = name, value: Any = value, absent: bool = absent) -> None:
                    toml_of({f"data.{name}": value, **({"settings.data": "gone.npz"} if absent else {})})(run)

                yield Attack(door, f"data.{name} = {said_of(value)}, {command}", OPENING[command], with_run(change))


TOML: dict[str, bytes] = {
    "a dotted key of 10^6 parts": b"a" + b".a" * 10**6 + b" = 1",
    "a quoted dotted key": b'"a"' + b'."a"' * 10**5 + b" = 1",
    "10^6 lists": b"x = " + b"[" * 10**6,
    "500 lists": b"x = " + b"[" * 500 + b"]" * 500,
    "tables of 15 parts": b"".join(b"[%s]\n" % b".".join([b"k%d" % n] * 15) for n in range(20_000)),
    "an integer of 10,000 digits": b"latent = " + b"9" * 10_000,
    "a hexadecimal integer of 10^6 digits": b"latent = 0x" + b"f" * 10**6,
    "an octal integer of 10^6 digits": b"latent = 0o" + b"7" * 10**6,
    "a float of 10^6 digits": b"step_size = 0." + b"1" * 10**6,
    "10^6 keys": b"".join(b"k%d = 1\n" % n for n in range(10**5)),
    "a date": b"latent = 1979-05-27",
    "a time": b"seed = 07:32:00",
    "lists of lists": b"latent = [[[[[[1]]]]]]",
    "a table for a number": b"[latent]\nx = 1",
    "a number for settings": b"settings = 3",
    "settings in settings": b"[settings.settings]\nlatent = 3",
    "control characters": b'data = "\\u001b[2J\\u0000"',
    "an unknown key that moves the cursor": b'"\\u001b[2J" = 1',
    "an unknown key of a megabyte": b'"' + b"k" * 2**20 + b'" = 1',
    "a value of a megabyte": b'kl = "' + b"k" * 2**20 + b'"',
    "set of no part": b"[set.data]\nx = 1",
    "set of a number": b"set = 3",
    "set of a dunder": b"[set.model]\n__class__ = 3\nself = 1\nfeatures = 3",
    "NUL": b"latent = 3\0",
    "UTF-16": "latent = 3".encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbflatent = 3",
    "the same key twice": b"latent = 3\nlatent = 4",
    "code": b'model = "evil.py"',
    "code with a class": b'guide = "evil.py:Own"',
    "code as data": b'data = "evil.py"',
    "code as an optimiser": b'optimizer = "evil.py"',
    "code as an estimator": b'elbo = "evil.py:Own"',
    "a module": b'model = "os"',
    "a path on the shelf": b'model = "../../evil"',
    "a dotted name on the shelf": b'model = "priors.normal"',
    "an optimiser with a dot": b'optimizer = "lr_scheduler.StepLR"',
    "an optimiser with underscores": b'optimizer = "__builtins__"',
    "an estimator with underscores": b'elbo = "__loader__"',
}


def configurations(door: str) -> Iterator[Attack]:
    """Files for `--config` and `run.toml` that are no such thing."""
    base = ["train", "--samples", "400", "--no-figures", "--data", "x.npz", "--out", "out", "--config", "c.toml"]
    for what, content in TOML.items():

        def prepare(bench: Bench, work: Path, content: bytes = content) -> None:
            bench.data("x.npz", work / "x.npz")
            (work / "evil.py").write_text(RUNNING + OWN)
            (work / "c.toml").write_bytes(content)

        yield Attack(door, what, base, prepare)
        yield Attack(door, f"{what}, data its own", [a for a in base if a not in ("--data", "x.npz")], prepare)
        for command in ("evaluate", "overwrite", "resume"):
            given = {**OPENING, **OTHER}[command]
            yield Attack(door, f"{what}, {command}", given, with_run(replaced("run.toml", content)))
    for what, make in ODD_FILES.items():
        yield Attack(door, f"the file is {what}", base, lambda bench, work, make=make: make(work / "c.toml"))
    for what, make in ODD_FILES.items():
        odd_part = ["train", *TINY, "--data", "x.npz", "--out", "out", "--model", "m.py"]
        yield Attack(
            door, f"the model is {what}", odd_part,
            lambda bench, work, make=make: (bench.data("x.npz", work / "x.npz"), make(work / "m.py")),
        )  # fmt: skip


# --- Arguments -------------------------------------------------------------------------------------------------------

VALUES = (
    "",
    "-1",
    "0",
    "1e400",
    "nan",
    "9" * 10_000,
    "1e9",
    "0x" + "f" * 9999,
    "\x1b[2J",
    "\udcff",
    "a\nb",
    "名前",
    "--",
    "٣",
    "1_0",
)
OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "evaluate": (["evaluate", "run"], ["--split", "--particles", "--marginal", "--set", "--limit", "--seed", "--compile", "--device", "--data-dir", "--data"]),
    "analyze": (["analyze", "run", "--limit", "2", "--draws", "4", "--warmup", "1", "--quick"], ["--limit", "--chains", "--draws", "--warmup", "--marginal", "--seed"]),
    "sample": (["sample", "run"], ["--number", "--out", "--device"]),
    "reconstruct": (["reconstruct", "run"], ["--number", "--out"]),
    "manifold": (["manifold", "run"], ["--grid", "--out"]),
    "encode": (["encode", "run"], ["--out", "--particles", "--seed", "--data"]),
    "impute": (["impute", "run"], ["--out", "--particles", "--draws", "--seed", "--data"]),
    "compare": (["compare", "run", "run", "--limit", "2"], ["--particles", "--marginal", "--limit"]),
    "train": (["train", *TINY, "--data", "x.npz"], ["--out", "--latent", "--hidden", "--batch", "--step-size", "--model", "--prior", "--guide", "--inference", "--elbo", "--optimizer", "--set", "--config", "--data", "--test", "--device", "--particles", "--train-size", "--seed", "--kinds", "--resize"]),
    "paper": (["paper", "figure2", "--data-dir", "none"], ["--panels", "--algorithms", "--samples", "--jobs", "--out", "--seeds"]),
}  # fmt: skip


def arguments(door: str) -> Iterator[Attack]:
    """Arguments that nobody should type."""
    for name, (command, options) in OPTIONS.items():
        for option in options:
            for value in by_turns(VALUES, 9):
                if name == "paper" and option in ("--out", "--jobs", "--samples") and value not in VALUES[:5]:
                    continue
                if option in ("--particles", "--draws", "--warmup") and value == "1e9" and name != "train":
                    continue  # refused by its bound, or hours of work that was asked for
                yield Attack(
                    door, f"{name} {option} {said_of(value)}", [*command, option, value], with_run(lambda run: None)
                )
    for value in VALUES:
        for command in (
            ["data", value],
            [value],
            ["evaluate", value],
            ["train", "--" + value],
            ["paper", value],
            ["compare", value, value],
        ):
            yield Attack(door, f"{command[0][:20]!a} {said_of(value)}", command, nothing)


# --- Code that the user names ----------------------------------------------------------------------------------------

CODE = {
    "an endless recursion": "def f(): f()\nf()\n",
    "an end": "import sys\nsys.exit(0)\n",
    "an end by the system's hand": "raise SystemExit\n",
    "a keyboard interrupt": "raise KeyboardInterrupt\n",
    "a metaclass": "class M(type):\n    def __getattr__(c, n): return 1\nclass Own(metaclass=M): ...\n",
    "an error that fails to speak": "class E(Exception):\n    def __str__(s): raise s\nraise E\n",
    "an error of many lines": "raise ValueError('a\\n' * 10**5)\n",
    "an error that moves the cursor": "raise ValueError('\\x1b[2J')\n",
    "a warning": "import warnings\nwarnings.warn('one\\ntwo')\nraise ValueError\n",
    "brackets": "(" * 10_000,
    "a deep expression": "x = " + "-" * 10_000 + "1\n",
    "NUL": "x = 1\0",
    "another encoding": "# coding: utf-7\nx = 1\n",
    "an unknown encoding": "# coding: none\nx = 1\n",
    "no class": "x = 1\n",
    "a module of its own name": "import m\nclass Own: ...\n",
    "a million imports": "".join(f"import a{n}\n" for n in range(10_000)),
    "its parent's neighbour": "from .. import x\n",
}


def code(door: str) -> Iterator[Attack]:
    """Python files that the user names: they may do what they like, and fail in one line."""
    for what, content in CODE.items():
        for option in ("--model", "--guide", "--prior", "--inference", "--elbo"):
            command = ["train", *TINY, "--data", "x.npz", "--out", "out", option, "m.py"]

            def prepare(bench: Bench, work: Path, content: str = content) -> None:
                bench.data("x.npz", work / "x.npz")
                (work / "m.py").write_text(content, encoding="latin-1")

            yield Attack(door, f"{option} of {what}", command, prepare)


DOORS: dict[str, Callable[[str], Iterator[Attack]]] = {
    "arrays": arrays,
    "tensors": tensors,
    "tables": tables,
    "single cells": cells,
    "pictures": pictures,
    "known data": known,
    "run folders, changed": changed_folders,
    "run folders, odd": odd_folders,
    "run folders, spoilt": spoilt_folders,
    "settings of a record": settings,
    "sizes in a record": sizes,
    "configurations": configurations,
    "arguments": arguments,
    "the user's code": code,
}


def made(door: str) -> list[Attack]:
    """The attacks of a door, the same in whatever order doors are asked for."""
    global _turns
    _turns = itertools.count()
    return [*DOORS[door](door)]


if __name__ == "__main__":
    for door in DOORS:
        print(f"{len(made(door)):6,}  {door}")
