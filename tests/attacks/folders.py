"""Run folders."""

import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as tensors_saved

from attacks.bench import ODD_FILES, OWN, RUNNING, TINY, Attack, Bench, Prepare, by_turns, mutated
from attacks.contents import SAFETENSORS, TENSORS, Executes

SHORT = ["--limit", "4", "--particles", "4"]
OPENING = {
    "evaluate": ["evaluate", "run", *SHORT],
    "sample": ["sample", "run", "--number", "4"],
    "reconstruct": ["reconstruct", "run", "--number", "2"],
    "manifold": ["manifold", "run", "--grid", "2"],
    "explore": ["explore", "run", "--html", "page.html", "--limit", "4"],
    "compare": ["compare", "run", "run", *SHORT],
    "latent": ["latent", "run"],
    "traverse": ["traverse", "run", "--steps", "2", "--number", "1"],
    "interpolate": ["interpolate", "run", "0", "1", "--steps", "2"],
    "sample z": ["sample", "run", "--z", "0,1"],
    "preview": ["preview", "run", "--prior", "laplace", "--limit", "2", "--draws", "4", "--warmup", "1"],
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
    "links for what is written beside": lambda run: [
        (run / f".{name}.{number}").symlink_to("../../elsewhere/precious.txt")
        for name in ("samples.png", "manifold.png", "metrics.csv", "run.toml")
        for number in range(os.getpid(), os.getpid() + 2000)
    ],
    "a link outside for parts": lambda run: (run / "parts").symlink_to("../../elsewhere"),
    "a link outside for the lock": lambda run: (
        (run / ".lock").unlink(missing_ok=True),
        (run / ".lock").symlink_to("../../elsewhere/precious.txt"),
    ),
    "10,000 files": lambda run: [(run / f"f{n}").touch() for n in range(10_000)],
    "folders in folders": lambda run: (run / "parts" / "/".join("d" * 400)).mkdir(parents=True),
}


def code_inside(run: Path) -> None:
    (run / "parts" / "model.py").write_text(RUNNING + OWN)


def code_beside(bench: Bench, work: Path) -> None:
    bench.run("own", work / "run")
    (work / "own.py").write_text(RUNNING + OWN)


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
        yield Attack(door, f"code in the folder, {command}", given, with_run(code_inside, "own"))
        yield Attack(door, f"code beside the folder, {command}", given, code_beside)
