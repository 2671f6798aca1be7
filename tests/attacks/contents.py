"""Contents that no file should have."""

import io
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks.bench import RUNNING, data_files, written


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
    """A table of 280 million rows of one value, in two megabytes."""
    import pyarrow as pa
    from pyarrow import parquet

    buffer = io.BytesIO()
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**7, np.int32)), pa.array([1.0]))
    table = pa.table({"a": column, "b": column})
    with parquet.ParquetWriter(buffer, table.schema) as writer:
        for _ in range(28):
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
