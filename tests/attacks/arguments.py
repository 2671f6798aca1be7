"""What is typed on the command line, and code that is named there."""

from collections.abc import Iterator
from pathlib import Path

from attacks.bench import ODD_FILES, SMALL, TINY, Attack, Bench, Prepare, by_turns, nothing, said_of, writes
from attacks.folders import with_run

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
OPTIONS: dict[str, tuple[list[str], str]] = {
    "evaluate": (["evaluate", "run"], "split particles marginal set limit seed compile device data-dir data"),
    "analyze": (
        ["analyze", "run", "--limit", "2", "--draws", "4", "--warmup", "1", "--quick"],
        "limit chains draws warmup marginal seed",
    ),
    "sample": (["sample", "run", "--number", "4"], "number out device z label"),
    "reconstruct": (["reconstruct", "run"], "number out index"),
    "analogies": (["analogies", "run"], "number out"),
    "latent": (["latent", "run"], "split out device data-dir"),
    "traverse": (["traverse", "run", "--steps", "2"], "number index steps out"),
    "interpolate": (["interpolate", "run", "0", "1", "--steps", "2"], "steps out device"),
    "sweep": (
        ["sweep", *SMALL, "--data", "x.npz", "--grid", "hidden=0"],
        "grid seeds out jobs cpus gpus ray marginal limit config set",
    ),
    "manifold": (["manifold", "run"], "grid out"),
    "explore": (["explore", "run", "--html", "page.html"], "html limit port split device data"),
    "preview": (
        ["preview", "run", "--prior", "laplace", "--limit", "2", "--chains", "2", "--draws", "4", "--warmup", "1"],
        "prior limit chains draws warmup marginal set seed split",
    ),
    "check": (
        ["check", "bernoulli", "--kind", "model", "--only", "shapes"],
        "kind features only skip set data model latent hidden resize",
    ),
    "encode": (["encode", "run"], "out particles seed data"),
    "impute": (["impute", "run"], "out particles draws seed data"),
    "compare": (["compare", "run", "run", "--limit", "2"], "particles marginal limit"),
    "train": (
        ["train", *TINY, "--data", "x.npz"],
        "out latent hidden batch step-size model prior guide inference elbo optimizer set config data test device "
        "particles train-size seed kinds resize log elbo divisor test-share binarize scale",
    ),
    "paper": (["paper", "figure2", "--data-dir", "none"], "panels algorithms samples jobs out seeds"),
}


def arguments(door: str) -> Iterator[Attack]:
    """Arguments that nobody should type."""
    for name, (command, options) in OPTIONS.items():
        for option in (f"--{word}" for word in options.split()):
            for value in by_turns(VALUES, 9):
                if name == "paper" and option in ("--out", "--jobs", "--samples") and value not in VALUES[:5]:
                    continue
                if option in ("--particles", "--draws", "--warmup") and value == "1e9" and name != "train":
                    continue  # refused by its bound, or hours of work that was asked for
                yield Attack(
                    door, f"{name} {option} {said_of(value)}", [*command, option, value], with_run(lambda run: None)
                )
    points = (
        "1",
        "1,2,3",
        "1,,2",
        "nan,1",
        "inf,0",
        "1e400,0",
        "1e38,-1e38",
        "9" * 400 + ",0",
        "a,b",
        "0x1,0",
        "٣,٣",
        "1,2\n",
    )
    for value in points:
        yield Attack(door, f"sample --z {said_of(value)}", ["sample", "run", "--z", value], with_run(lambda run: None))
    many = ["sample", "run", *("--z", "0,0") * 5000]
    yield Attack(door, "sample of 5,000 --z", many, with_run(lambda run: None))
    for value in VALUES:
        given = ["interpolate", "run", value, "1"]
        yield Attack(door, f"interpolate from {said_of(value)}", given, with_run(lambda run: None))
        for command in (
            ["data", value],
            [value],
            ["evaluate", value],
            ["train", "--" + value],
            ["paper", value],
            ["compare", value, value],
        ):
            yield Attack(door, f"{command[0][:20]!a} {said_of(value)}", command, nothing)


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


def checks(door: str) -> Iterator[Attack]:
    """What `check` is given to look at."""
    for what, content in CODE.items():
        for more in ([], ["--kind", "model"], ["--kind", "guide"], ["--kind", "prior"], ["--kind", "inference"]):
            prepare = writes("m.py", content.encode("latin-1"))
            yield Attack(door, f"{what} {' '.join(more)}", ["check", "m.py", *more], prepare)
    for what, make in ODD_FILES.items():
        odd: Prepare = lambda bench, work, make=make: make(work / "m.py")  # noqa: E731
        yield Attack(door, f"the file is {what}", ["check", "m.py"], odd)
    shapes = ("100000x100000", "9999x9999", "1" + "x1" * 5000, "316x317", "0x5", "5x", "x", "1e3x1e3x1e3", "3x3x3x3")
    for shape in shapes:
        given = ["check", "bernoulli", "--kind", "model", "--only", "shapes", "--features", shape]
        yield Attack(door, f"--features {shape[:20]}", given, nothing)
    for name in (
        "latent=1000000000",
        "hidden=1000000000",
        "set=model.depth=1000000",
        "set=prior.components=1000000000",
    ):
        option, _, value = name.partition("=")
        given = ["check", "bernoulli", "--kind", "model", "--only", "shapes", f"--{option}", value]
        yield Attack(door, name, given, nothing)
