"""Settings, in a record of a run and in files of configuration."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from attacks.bench import ODD_FILES, OWN, RUNNING, TINY, WORDS, Attack, Bench, by_turns, said_of
from attacks.folders import OPENING, OTHER, replaced, with_run

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


DATA = (
    "features train test covariates image_shape divisor fill loc scale classes names kinds levels reading checksum "
    "folder binarize missing labels"
)


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
    for name in DATA.split():
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
