"""A bench of well-made run folders and data files, and what spoils any of them."""

import io
import itertools
import os
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save as tensors_saved

Prepare = Callable[["Bench", Path], object]


def usual() -> None:
    """Spoils nothing."""


class Attack(NamedTuple):
    """A command with its arguments, what makes its files, the door it is for and what is wicked about it.

    What its process does first comes last.
    """

    door: str
    what: str
    command: list[str]
    prepare: Prepare
    spoil: Callable[[], object] = usual


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
SMALL = ["--hidden", "5", "--samples", "400", "--compile", "off"]
TINY = [*SMALL, "--no-figures"]
RUNS = {
    "plain": ["--data", "{seeds}/x.npz"],
    "table": ["--data", "{seeds}/x.csv", "--model", "mixed", "--label", "kind"],
    "missing": ["--data", "{seeds}/missing.csv", "--model", "normal"],
    "mcem": ["--data", "{seeds}/x.npz", "--inference", "mcem"],
    "own": ["--data", "{seeds}/x.npz", "--model", "own.py"],
    "swept": ["--data", "x.npz"],
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


_turns = itertools.count()


def restart() -> None:
    """Begins the turns anew."""
    global _turns
    _turns = itertools.count()


def by_turns(every: Sequence[Any], number: int) -> list[Any]:
    """So many of a few, others the next time."""
    start = next(_turns) * number
    return [every[(start + n) % len(every)] for n in range(number)]


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


def said_of(value: Any, most: int = 30) -> str:
    return ascii(value)[:most]
