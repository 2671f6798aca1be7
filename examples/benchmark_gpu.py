"""What does a step cost on a GPU: ours, Pyro's, a loop by hand, and the same loop from a CUDA graph?

python examples/benchmark_gpu.py [ROUNDS [FILE.md]]

Contestants take turns within one process, as in `benchmark.py`. Without MNIST, pixels are drawn at random: a step costs
the same. Several runs at once on the device are the last table. A single round is a smoke test of the first.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from benchmark import BATCH, OURS, STEP_SIZE, STEPS, Case, Contestant, by_hand, hand_step, ours, pyro_svi, race, table

import pyro_vae
from pyro_vae.errors import InputError
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.replay import capture

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_device(latent: int, hidden: int) -> Case:
    """MNIST, or pixels at random, on the device."""
    try:
        case = Case("mnist", latent, hidden)
    except InputError:  # a machine without a network
        case = Case("digits", latent, hidden)
        case.data = pyro_vae.data(np.random.default_rng(0).integers(0, 256, (60_000, 784), dtype=np.uint8))
    case.data = case.data.to(DEVICE)
    return case


def adam(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Torch's fused Adam, its step count on the device so that a graph can hold it."""
    return torch.optim.Adam(groups, lr=1e-3, fused=True, capturable=DEVICE.type == "cuda")


def timed(contestant: Contestant) -> Contestant:
    """A turn that ends when the device has ended."""

    def run() -> None:
        contestant()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    return run


def replayed(case: Case, algorithm: type = AEVB, **settings: str) -> Contestant:
    """Our steps from one CUDA graph, as `pyro-vae train` launches them."""
    model, guide = (module.to(DEVICE) for module in case.pair())
    settings |= {"kl": "analytic"} if algorithm is AEVB else {}
    learner = algorithm(model, guide, case.data.train, batch=BATCH, step_size=STEP_SIZE, compile=True, **settings)
    while not learner.settled:
        learner.step()
    replay = capture(learner, STEPS)
    if replay is None:
        sys.exit("benchmark: the steps cannot be recorded; the line above says why")
    return replay


def by_hand_from_a_graph(case: Case) -> Contestant:
    """The loop by hand, all steps of a turn in one CUDA graph, after a warm-up on a stream of its own."""
    step = hand_step(case, adam)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(STEPS):
            step()
    return graph.replay


def contestants(case: Case) -> Iterator[tuple[str, Contestant]]:
    if DEVICE.type == "cuda":
        yield OURS, replayed(case)
        yield "pyro_vae, AEVB by Adam", replayed(case, optimizer="Adam")
        yield "pyro_vae, wake-sleep", replayed(case, WakeSleep)
        yield "pyro_vae, AEVB, launched one by one", ours(case)
        yield "torch by hand, fused Adam, from a CUDA graph", by_hand_from_a_graph(case)
    else:
        yield OURS, ours(case)
    yield "torch by hand, fused Adam", by_hand(case, adam)
    yield "pyro.infer.SVI.step", pyro_svi(case)


def at_once() -> Iterator[str]:
    """Seconds of as many runs as are started together."""
    yield "| runs at once | seconds | runs a minute |\n|---|---|---|"
    for runs in (1, 2, 4):
        with TemporaryDirectory() as folder:
            options = ["--samples", "2e5", "--compile", "on", "--no-figures", "--device", str(DEVICE)]
            command = [sys.executable, "-m", "pyro_vae", "train", *options]
            began = time.perf_counter()
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            started = [subprocess.Popen([*command, "--out", f"{folder}/{n}"], **quiet) for n in range(runs)]
            if any(process.wait() for process in started):
                sys.exit("benchmark: a run failed")
            seconds = time.perf_counter() - began
        yield f"| {runs} | {seconds:.1f} | {60 * runs / seconds:.1f} |"


def main(rounds: int = 15, page: str = "") -> None:
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "a CPU, as a rehearsal"
    case = on_device(20, 500)
    torch.set_default_device(DEVICE)
    times = race({title: timed(contestant) for title, contestant in contestants(case)}, rounds)
    torch.set_default_device("cpu")
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "pyro-ppl"))
    lines = [
        "# On a GPU, measured",
        f"`make gpu` on {name}; {versions}. Milliseconds a step, medians of {rounds} rounds of {STEPS} steps.",
        f"## {case.title}",
        "\n".join(table(times, OURS)),
    ]
    if rounds > 1:
        lines += ["## Several runs on one device", "\n".join(at_once())]
    text = "\n\n".join(lines) + "\n"
    print(text)
    if page:
        Path(page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    rounds, *rest = sys.argv[1:] or ["15"]
    main(int(rounds), *rest)
