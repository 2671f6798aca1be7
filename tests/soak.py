"""Kills and resumes runs at random moments, and compares their ends, bit by bit, with those of uninterrupted runs.

    python tests/soak.py --record docs/results/soak.md

takes about an hour on two busy cores. It is no part of `make test`, which kills runs a few times only. Every fifth
process is a fresh interpreter; the others are forks of one that has only imported the libraries, to save their start.
"""

import argparse
import multiprocessing
import os
import platform
import random
import signal
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch

from pyro_vae import run  # noqa: F401, what a fork need not import
from pyro_vae.cli import main as pyro_vae_main
from pyro_vae.data import mapped
from pyro_vae.data.loading import load_data
from pyro_vae.run.folder import read_checkpoint, read_metrics

# Options of each. MCEM visits all data in a step: it has ten. Global latent variables are for aevb alone.
_PLAIN = ("--compile", "off")
_TABLES = {
    "mapped": ("--data", "mapped.npy"),
    "labels": ("--data", "labels.csv", "--label", "kind", "--model", "labelled.py", "--trust"),
    "missing cells": ("--data", "missing.csv", "--model", "normal"),
    "enumerated": ("--model", "clusters.py", "--enumerate", "--trust"),
    "global latents": ("--data", "table.csv", "--model", "shared.py:model", "--trust"),
}
CASES = {
    "aevb": _PLAIN,
    "wake_sleep": _PLAIN,
    "mcem": (*_PLAIN, "--data", "ten.npz"),
    "full_vb": _PLAIN,
    "aevb, traced": ("--compile", "on"),
    **{f"aevb, {kind}": (*_PLAIN, *given) for kind, given in _TABLES.items()},
    **{
        f"wake_sleep, {kind}": (*_PLAIN, *_TABLES[kind]) for kind in ("mapped", "missing cells")
    },  # labels are not dreamt
    "mcem, enumerated": (*_PLAIN, *_TABLES["enumerated"], "--data", "ten.npz"),
    "mcem, labels": (*_PLAIN, *_TABLES["labels"], "--train-size", "10"),
    "mcem, missing cells": (*_PLAIN, *_TABLES["missing cells"], "--train-size", "10"),
    "full_vb, missing cells": (*_PLAIN, *_TABLES["missing cells"]),
}
LABELLED = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Labelled(nn.Module):
    def __init__(self, features, latent, hidden=10, classes=2):
        super().__init__()
        self.latent, self.classes = latent, classes
        self.mean = nn.Sequential(nn.Linear(latent + classes, hidden), nn.Tanh(), nn.Linear(hidden, features))

    def forward(self, x=None, size=None, label=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(self.mean[0].weight.new_zeros(self.latent), 1.0).to_event(1))
            known = nn.functional.one_hot(label.clamp(0), self.classes).expand(*z.shape[:-1], -1).to(z.dtype)
            return pyro.sample("x", dist.Normal(self.mean(torch.cat([z, known], -1)), 1.0).to_event(1), obs=x)
"""
CLUSTERS = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Clusters(nn.Module):
    def __init__(self, features, latent, hidden=10, clusters=3):
        super().__init__()
        self.logits, self.loc = nn.Parameter(torch.zeros(clusters)), nn.Parameter(torch.randn(clusters, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, features))

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=self.logits))
            z = pyro.sample("z", dist.Normal(self.loc[y], 1.0).to_event(1))
            pixels = dist.Bernoulli(logits=self.decoder(z), validate_args=False)
            return pyro.sample("x", pixels.to_event(1), obs=x)
"""
# Of 200 rows, 160 train.
SHARED = """
import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints


def model(x, hidden):
    w = pyro.sample("w", dist.Normal(torch.zeros(3), 2.0).to_event(1))
    within = pyro.param("within", lambda: torch.randn(2, hidden))
    out = pyro.param("out", lambda: torch.randn(hidden, 3) / hidden)
    with pyro.plate("data", 160, subsample_size=len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(w + (z @ within).tanh() @ out, 0.5).to_event(1), obs=x)


def guide(x, hidden):
    loc = pyro.param("loc", torch.zeros(3))
    scale = pyro.param("scale", torch.ones(3), constraint=constraints.positive)
    pyro.sample("w", dist.Normal(loc, scale).to_event(1))
    first = pyro.param("first", lambda: torch.randn(3, hidden))
    second = pyro.param("second", lambda: torch.randn(hidden, 2) / hidden)
    with pyro.plate("data", 160, subsample_size=len(x)):
        pyro.sample("z", dist.Normal((x @ first).tanh() @ second, 0.5).to_event(1))
"""
# An array of more bytes is mapped.
SMALL = 1000
# No process gets so far.
UNENDING = 10**9
# Killed at most so long after the first step, in seconds.
LONGEST = 1.0


def arguments(case: str, folder: Path, samples: int) -> list[str]:
    given = ["--hidden", "20", "--samples", str(samples), "--checkpoint-every", "0", *CASES[case]]
    return ["train", "--inference", case.partition(",")[0], *given, "--out", str(folder)]


def make_data(home: Path) -> None:
    """Writes the data of all cases into a folder."""
    images = load_data("digits").train.first(20).numpy()
    np.savez(home / "ten.npz", train=images[:10], test=images[10:])
    draw = np.random.default_rng(0)
    table = draw.normal(size=(200, 3))
    np.save(home / "mapped.npy", (draw.random((300, 64)) < 0.3).astype(np.float32))
    holes = np.where(draw.random(table.shape) < 0.2, "", table.astype(str))
    table = table.astype(str)
    labels = [[*row, kind] for row, kind in zip(table, "ab" * 100, strict=True)]
    for name, lines in {"labels.csv": labels, "missing.csv": holes, "table.csv": table}.items():
        header = ["a", "b", "c", "kind"][: len(lines[0])]
        (home / name).write_text("".join(f"{','.join(line)}\n" for line in [header, *lines]), encoding="utf-8")
    for name, text in {"labelled": LABELLED, "clusters": CLUSTERS, "shared": SHARED}.items():
        (home / f"{name}.py").write_text(text, encoding="utf-8")


def work(given: list[str]) -> None:
    mapped.LARGE = SMALL
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    pyro_vae_main(given)


def start(given: list[str], fresh: bool = True) -> BaseProcess:
    process = multiprocessing.get_context("spawn" if fresh else "fork").Process(target=work, args=(given,))
    process.start()
    return process


def watch(folder: Path) -> Callable[[], bool]:
    """What tells whether a process has begun to train: it writes a checkpoint before its first step and after it."""
    checkpoint = folder / "checkpoint.pt"

    def written() -> int:
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    seen = {written()}

    def trains() -> bool:
        seen.add(written())
        return len(seen) > 2

    return trains


def end_of(folder: Path) -> tuple[dict[str, object], list[list[float]]]:
    """The whole checkpoint but for its clock's seconds, and the metrics but for theirs."""
    state = read_checkpoint(folder, torch.device("cpu"))
    metrics = [[row[0], *row[2:]] for row in read_metrics(folder)]
    return {**state, "clock": state["clock"]["samples"], "metrics": metrics}, metrics


def same(a: object, b: object) -> bool:
    """Whether two values are equal bit by bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def soak(case: str, kills: int, draw: random.Random, home: Path) -> dict[str, object]:
    began = time.monotonic()
    os.chdir(home)
    make_data(home)
    whole, broken = home / "whole", home / "broken"
    sent = {signal.SIGKILL: 0, signal.SIGTERM: 0}
    torn = loading = samples = 0
    for kill in range(kills):
        begun = (broken / "checkpoint.pt").exists()
        how = [] if not broken.exists() else ["--resume"] if begun else ["--overwrite"]
        trains = watch(broken)
        process = start([*arguments(case, broken, UNENDING), *how], fresh=kill % 5 == 0)
        if draw.random() < 0.8:
            while process.is_alive() and not trains():
                time.sleep(0.002)
        time.sleep(draw.uniform(0, LONGEST))
        number = draw.choice([signal.SIGKILL, signal.SIGTERM])
        if process.is_alive():
            os.kill(process.pid or 0, number)
        process.join()
        # A handler that is there makes 143 of SIGTERM, after a checkpoint.
        if process.exitcode not in (-number, 128 + signal.SIGTERM):
            said = Path("log").read_text(encoding="utf-8")
            raise SystemExit(f"{case}: ended with {process.exitcode} before it was killed, after {kill} kills: {said}")
        sent[number] += 1
        loading += not trains()
        torn += any(broken.glob(".*.[0-9]*"))
        if (broken / "checkpoint.pt").exists():
            state, metrics = end_of(broken)
            if state["clock"] < samples or not all(a[0] < b[0] for a, b in pairwise(metrics)):
                raise SystemExit(f"{case}: {broken} went back to {state['clock']} of {samples}, or has rows twice")
            samples = state["clock"]
    end = samples + 1000
    start([*arguments(case, broken, end), "--resume"]).join()
    start(arguments(case, whole, end)).join()
    equal = all(map(same, end_of(whole), end_of(broken)))
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (whole, broken)]
    return {
        "run": case,
        "kills": kills,
        "fresh": -(-kills // 5),
        "SIGKILL": sent[signal.SIGKILL],
        "SIGTERM": sent[signal.SIGTERM],
        "while loading": loading,
        "while writing": torn,
        "samples at the last kill": samples,
        "at the end": end_of(whole)[0]["clock"],
        "bitwise equal": "yes" if equal and weights[0] == weights[1] else "NO",
        "minutes": f"{(time.monotonic() - began) / 60:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all of them if omitted")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="a Markdown file for the results")
    options = parser.parse_args()
    rows, here = [], Path.cwd()
    for case in options.cases or CASES:
        with tempfile.TemporaryDirectory(prefix="soak-") as home:
            rows.append(soak(case, options.kills, random.Random(options.seed), Path(home)))
            os.chdir(here)
        print(rows[-1], flush=True)
    if options.record:
        chosen = "".join(f' "{case}"' for case in options.cases)
        command = f"python tests/soak.py{chosen} --kills {options.kills} --seed {options.seed}"
        options.record.write_text(report(rows, command), encoding="utf-8")
    if any(row["bitwise equal"] != "yes" for row in rows):
        raise SystemExit("a run did not end as its uninterrupted twin")


def report(rows: list[dict[str, object]], command: str) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "pyro-ppl", "numpy"))
    table = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    lines = "\n".join(f"| {' | '.join(line)} |" for line in table)
    return f"""# Killed and resumed

Runs that are killed at random moments and resumed, beside the same runs uninterrupted. Compared are all
weights, the optimisers, the chains, the states of all random generators and the rows of `metrics.csv` but for their
seconds, bit by bit. A checkpoint is written after every step, so that many a kill falls into the writing: *while
writing* counts those that left a half-written file beside the whole one, *while loading* those before the first step.
After each kill the checkpoint and the metrics must be readable, and the run must not have gone back. *Fresh* counts the
kills of fresh interpreters; the others were forks of one that had only imported the libraries.

{lines}

`{command}`: Python {platform.python_version()}, {versions}, on a CPU.
"""


if __name__ == "__main__":
    main()
