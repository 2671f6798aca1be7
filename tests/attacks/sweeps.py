"""Grids of runs, and what runs tell others while they train."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacks.bench import ODD_FILES, OWN, RUNNING, SMALL, TINY, Attack, Bench, nothing
from attacks.folders import OPENING, OTHER, with_run
from attacks.settings import TOML

SWEEP = ["sweep", *SMALL, "--data", "x.npz", "--limit", "2", "--jobs", "1", "--out", "out"]
# The one run of a grid that is there, so that nothing is trained.
NAME = "latent=2-seed=0"
KEYS = ["latent", "hidden", "batch", "particles", "train_size", "step_size", "divisor", "test_share", "kl", "device"]
GRIDS = {
    "10^20 runs": [word for key in KEYS for word in ("--grid", f"{key}=" + ",".join(map(str, range(1, 101))))],
    "10^9 runs of ten keys": [
        word for name in "abcdefghi" for word in ("--grid", f"model.{name}=" + ",".join(map(str, range(10))))
    ],
    "10^6 values": ["--grid", "latent=" + ",".join(map(str, range(1, 10**4 + 2)))],
    "a thousand seeds of a thousand values": [
        "--grid",
        "latent=" + ",".join(map(str, range(1, 1001))),
        "--seeds",
        "1000",
    ],
    "the same value twice": ["--grid", "latent=2,2"],
    "values of one name": ["--grid", "latent=2,2 "],
    "names that lead out": ["--grid", "data=../../elsewhere/precious.txt,/etc/passwd"],
    "names that move the cursor": ["--grid", "model=\x1b[2J,x"],
    "a name of 5,000 characters": ["--grid", "model=" + "x" * 5000],
    "a seed": ["--grid", "seed=1,2"],
    "set": ["--grid", "set=1,2"],
    "a dunder": ["--grid", "__class__=1,2"],
    "a part that is none": ["--grid", "nothing.depth=1,2"],
    "an empty part": ["--grid", ".depth=1,2"],
    "an empty key": ["--grid", "model.=1,2"],
    "sizes of 10^9": ["--grid", "hidden=1e9,2e9"],
    "depths of 10^6": ["--grid", "model.depth=1000000"],
    "lists": ["--grid", "model.depth=[1],[2]"],
    "deep lists": ["--grid", "model.depth=" + "[" * 5000],
    "code": ["--grid", "guide=evil.py:Nothing"],
}
FILES: dict[str, str | bytes] = {
    "no grid": "latent = 2",
    "an empty grid": "[grid]",
    "a grid of numbers": "grid = 3",
    "a grid of a list": "grid = [1, 2]",
    "no lists": "[grid]\nlatent = 3",
    "empty lists": "[grid]\nlatent = []",
    "lists of lists": "[grid]\nlatent = [[1], [2]]",
    "tables": "[grid]\nlatent = [{a = 1}]",
    "texts": "[grid]\nlatent = ['a', '\\u001b[2J']",
    "not-a-number": "[grid]\nlatent = [nan, inf]",
    "dates": "[grid]\nlatent = [1979-05-27]",
    "a million values": "[grid]\nlatent = [" + "1," * 10**6 + "]",
    "10^20 runs": "[grid]\n" + "".join(f"{key} = {[*range(1, 101)]}\n" for key in KEYS),
    "code": "[grid]\nmodel = ['evil.py:Own']",
    "code beside the grid": "model = 'evil.py:Own'\n[grid]\nlatent = [2]",
    "code of its own guide": "[grid]\nmodel = ['bernoulli']\nguide = ['evil.py:Own']",
    "code as a program": "model = 'evil.py'\n[grid]\nlatent = [2]",
    "code as an estimator": "elbo = 'evil.py:Own'\n[grid]\nlatent = [2]",
    "seeds of 10^9": "seeds = 1000000000\n[grid]\nlatent = [2]",
    "seeds of text": "seeds = 'x'\n[grid]\nlatent = [2]",
    "seeds of a list": "seeds = [1]\n[grid]\nlatent = [2]",
}
RESULT: dict[str, Any] = {"measure": "m", "bound": 0.0, "bound_se": 0.0}
EVALUATIONS: dict[str, Any] = {
    "nothing": {},
    "a list": [1],
    "a number": 3,
    "no result": {"samples": 400, "arguments": []},
    "an empty result": {"result": {}},
    "texts": {"result": {"measure": 3, "bound": "x", "bound_se": [1]}},
    "a measure that moves the cursor": {"result": {**RESULT, "measure": "\x1b[2J"}},
    "an estimator without numbers": {"result": {**RESULT, "importance": {}}},
    "an estimator of texts": {"result": {**RESULT, "importance": {"log_px": "=1", "se": None}}},
    "an estimator of nothing": {"result": {**RESULT, "importance": {"log_px": None, "se": None}}},
    "not-a-number": {"result": {**RESULT, "bound": float("nan"), "bound_se": float("inf")}},
    "numbers of 1e308": {"result": {**RESULT, "bound": 1e308, "bound_se": -1e308}},
    "a thousand estimators": {"result": {**RESULT, **{f"e{n}": {"log_px": 0.0, "se": 0.0} for n in range(1000)}}},
}


def grids(door: str) -> Iterator[Attack]:
    """Grids, their files, and folders of them from a stranger."""

    def with_data(bench: Bench, work: Path) -> None:
        bench.data("x.npz", work / "x.npz")
        (work / "evil.py").write_text(RUNNING + OWN)

    for what, given in GRIDS.items():
        if what != "code":  # which the user names
            yield Attack(door, what, [*SWEEP, *given], with_data)
    for what, content in {**FILES, **TOML}.items():

        def with_file(bench: Bench, work: Path, content: str | bytes = content) -> None:
            with_data(bench, work)
            (work / "s.toml").write_bytes(content if isinstance(content, bytes) else content.encode())

        yield Attack(door, f"a file of {what}", ["sweep", "s.toml", *SWEEP[1:]], with_file)
    for what, make in ODD_FILES.items():
        given = ["sweep", "s.toml", *SWEEP[1:]]
        yield Attack(
            door, f"the file is {what}", given,
            lambda bench, work, make=make: (with_data(bench, work), make(work / "s.toml")),
        )  # fmt: skip
        yield Attack(
            door, f"the folder is {what}", [*SWEEP, "--grid", "latent=0"],
            lambda bench, work, make=make: (with_data(bench, work), make(work / "out")),
        )  # fmt: skip
    for place in ("evaluation.json", "run.toml", "metrics.csv", "checkpoint.pt"):
        for what, make in ODD_FILES.items():
            if place != "evaluation.json" and what == "a link to nothing":
                continue
            yield Attack(door, f"{place} of a run is {what}", [*SWEEP, "--grid", "latent=2"], found(place, make))
    for what, content in EVALUATIONS.items():
        if isinstance(content, dict) and "result" in content:
            content = {"samples": 400, "arguments": ["--marginal", "importance", "--limit", "2"], **content}
        text = json.dumps(content).encode()
        make = lambda path, text=text: path.write_bytes(text)  # noqa: E731
        yield Attack(door, f"an evaluation of {what}", [*SWEEP, "--grid", "latent=2"], found("evaluation.json", make))
    for beside in (".log", ".toml"):
        for what in ("a pipe", "a device without an end", "a link to a file outside", "a folder", "a link to itself"):
            yield Attack(
                door, f"NAME{beside} is {what}", [*SWEEP, "--grid", "latent=2"],
                found("evaluation.json", Path.touch, beside, ODD_FILES[what]),
            )  # fmt: skip
    for name in ("sweep.csv", "sweep.png"):
        for what in ("a pipe", "a device without an end", "a link to a file outside", "a folder"):
            yield Attack(
                door, f"{name} is {what}", [*SWEEP, "--grid", "latent=2"],
                found("evaluation.json", known, f"/../{name}", ODD_FILES[what]),
            )  # fmt: skip


def known(path: Path) -> None:
    """An evaluation as it should be, so that nothing is computed."""
    result = {"measure": "m", "bound": -1.0, "bound_se": 0.1, "importance": {"log_px": -1.0, "se": 0.1}}
    known = {"samples": 400, "arguments": ["--marginal", "importance", "--limit", "2"], "result": result}
    path.write_text(json.dumps(known))


def found(
    name: str, make: Callable[[Path], object], beside: str = "", make_beside: Callable[[Path], object] = Path.touch
) -> Callable[[Bench, Path], None]:
    """A folder of a sweep with the one run that it asks for, spoilt at one place and at one beside it."""

    def prepare(bench: Bench, work: Path) -> None:
        run = bench.run("swept", work / "out" / NAME)
        bench.data("x.npz", work / "x.npz")
        (run / name).unlink(missing_ok=True)
        make(run / name)
        if beside:
            path = run.parent / Path(f"{NAME}{beside}").name if "/" in beside else run.parent / f"{NAME}{beside}"
            make_beside(path)

    return prepare


def trackers(door: str) -> Iterator[Attack]:
    """What is told of a run, into its folder."""
    resume = [*OPENING["resume"], "--log", "tensorboard"]
    for what, make in ODD_FILES.items():
        yield Attack(door, f"tensorboard is {what}", resume, with_run(lambda run, make=make: make(run / "tensorboard")))
    for command, given in (("resume", resume), ("overwrite", [*OTHER["overwrite"], "--log", "tensorboard"])):
        outside = with_run(lambda run: (run / "tensorboard").symlink_to("../../elsewhere"))
        yield Attack(door, f"tensorboard is a link to a folder outside, {command}", given, outside)
    for name in ("mlflow", "wandb", "Tensorboard", "tensorboard ", "os", "", "\x1b[2J", "../tensorboard", "x" * 5000):
        given = ["train", *TINY, "--data", "x.npz", "--out", "out", "--log", name]
        yield Attack(door, f"--log {name[:20]!a}", given, lambda bench, work: bench.data("x.npz", work / "x.npz"))
    yield Attack(door, "--log of nothing", ["train", "--log"], nothing)
