"""The paper's experiments, rerun: which runs they are, and what becomes of them (Section 5, Appendices A and E)."""

__all__ = [
    "PANELS",
    "STAGES",
    "TRAIN_SIZES",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "panels",
    "paper_values",
    "read_values",
]

import csv
import math
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pyro_vae.data.dataset import load_data
from pyro_vae.errors import InputError, RunError
from pyro_vae.paper import figures as paper_figures
from pyro_vae.paper.grid import STEP_SIZES, Cell, marginals, train_all
from pyro_vae.paper.tables import read_table, write_table
from pyro_vae.paper.workers import Workers
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.run import Run

PANELS = {"mnist": (3, 5, 10, 20, 200), "frey": (2, 5, 10, 20)}
"""The panels of Figure 2: numbers of latent variables by data set."""

TRAIN_SIZES = (1000, 50_000)
"""The panels of Figure 3: numbers of training datapoints."""

STAGES = tuple(1_000_000 * millions for millions in (1, 5, 10, 20, 30, 40, 50, 60))
"""After how many samples Figure 3's marginal likelihoods are estimated."""

_ALGORITHMS = {"figure2": ("aevb", "wake_sleep"), "figure3": ("aevb", "wake_sleep", "mcem")}

_NETWORKS = {
    "mnist": ("--model", "bernoulli", "--hidden", "500"),
    "frey": ("--model", "gaussian", "--hidden", "200"),
}
_ESTIMATOR = {"aevb": ("--kl", "analytic")}  # the author's choice
_COLUMNS = ("figure", "panel", "algorithm", "split", "samples", "value", "seconds", "seed")

Panel = tuple[str, int]


def panels(texts: Iterable[str]) -> list[Panel]:
    """Reads panels such as `mnist:3,20` or `frey`, all of them where there are none.

    Raises:
        InputError: If one is none.
    """
    found: list[Panel] = []
    for text in " ".join(texts).split() or PANELS:
        data, _, sizes = text.partition(":")
        if data not in PANELS or not all(size.isdigit() and int(size) > 0 for size in sizes.split(",") if sizes):
            raise InputError(f"--panels {text} is not possible: write mnist:3,20 or frey:10, for example")
        found += [(data, int(size)) for size in sizes.split(",")] if sizes else [(data, size) for size in PANELS[data]]
    return list(dict.fromkeys(found))


def paper_values(figure: str) -> list[dict[str, Any]]:
    """Returns what the curves of the paper's Figure 2 or 3 reach at chosen numbers of samples.

    They were measured on the vector paths of the printed figures, to 0.1 nats for MNIST in Figure 2, to 2 nats for Frey
    Face, and to 0.03 nats in Figure 3.

    Arguments:
        figure: `2` or `3`.

    Returns:
        Rows with `panel`, `algorithm`, `split`, `samples` and `value`, in nats per datapoint.
    """
    with files("pyro_vae").joinpath("paper_values.csv").open(encoding="utf-8") as file:
        return [
            {**row, "samples": int(row["samples"]), "value": float(row["value"])}
            for row in csv.DictReader(file)
            if row["figure"] == figure
        ]


def read_values(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of `figure2.csv` or `figure3.csv`, none where there is no such file.

    Returns:
        Rows with `figure`, `panel`, `algorithm`, `split`, `samples`, `value` in nats per datapoint, `seconds` of
        training, and `seed`.
    """
    return read_table(path, _COLUMNS, ("figure", "panel", "algorithm", "split"))


def figure2(
    out: Path,
    chosen: Sequence[Panel],
    algorithms: Sequence[str],
    samples: int,
    seeds: int,
    workers: Workers | None = None,
    data_dir: str | None = None,
) -> list[Path]:
    """Reruns Figure 2: the bound of AEVB and of wake-sleep over the training samples seen.

    Arguments:
        out: The folder of the results; the runs go to `figure2` in it.
        chosen: The panels.
        algorithms: The algorithms.
        samples: The budget of each run.
        seeds: The number of seeds.
        workers: What trains them, a process of this machine per core if omitted.
        data_dir: The folder of the data sets.

    Returns:
        The paths of what was written: a table, and pictures against samples and against training time.

    Raises:
        RunError: If a run failed; the results of the others are written.
    """
    _require_known(algorithms, "figure2")
    cells = [
        _cell(data, latent, algorithm, seed)
        for data, latent in chosen
        for algorithm in algorithms
        for seed in range(seeds)
    ]
    folders, failures = _train(cells, samples, out / "figure2", workers, data_dir)
    rows = [
        _row("2", f"{cell.data}:{cell.latent}", cell, split, row[0], row[column], row[1])
        for cell, folder in folders.items()
        for split, column in (("train", 2), ("test", 3))
        for row in read_metrics(folder)
        if 0 < row[0] <= samples
    ]
    written = [write_table(rows, _COLUMNS, out / "figure2.csv")]
    if rows:
        written += paper_figures.figure2(rows, paper_values("2"), out)
    _require_all(failures, written)
    return written


def figure3(
    out: Path,
    sizes: Sequence[int],
    algorithms: Sequence[str],
    samples: int,
    seeds: int,
    workers: Workers | None = None,
    data_dir: str | None = None,
) -> list[Path]:
    """Reruns Figure 3: the marginal likelihood of the first 1,000 datapoints of each split, for three algorithms.

    It is the higher of two estimates from below: by importance sampling, with the guide as proposal, and by annealed
    importance sampling, which rests neither on the guide nor on where a chain starts. On test data, after AEVB on 1,000
    datapoints, the posterior has several modes: the guide misses most of it, and the chains of the paper's own
    estimator (`reciprocal`) stay where they begin. MCEM keeps the step size of the author's code, 0.1: its first
    iteration alone is past the samples by which the others choose theirs.

    Arguments are those of `figure2`, but for `sizes`, the numbers of training datapoints.
    """
    _require_known(algorithms, "figure3")
    cells = [
        Cell(
            "mnist",
            3,
            algorithm,
            seed,
            ("--hidden", "100", *_ESTIMATOR.get(algorithm, ())),
            train_size=size,
            step_sizes=(0.1,) if algorithm == "mcem" else STEP_SIZES,
        )
        for size in sizes
        for algorithm in algorithms
        for seed in range(seeds)
    ]
    stages = sorted({*(stage for stage in STAGES if stage < samples), samples})
    folders, failures = _train(cells, samples, out / "figure3", workers, data_dir, stages)
    rows = [
        _row("3", f"N={cell.train_size}", cell, split, samples, value, seconds[samples])
        for cell, folder in folders.items()
        for seconds in [{samples: seconds for samples, seconds, *_ in read_metrics(folder)}]
        for (samples, split), value in _highest(marginals(folder)).items()
    ]
    written = [write_table(rows, _COLUMNS, out / "figure3.csv")]
    if rows:
        written += paper_figures.figure3(rows, paper_values("3"), out)
    _require_all(failures, written)
    return written


def _highest(rows: Iterable[dict[str, Any]]) -> dict[tuple[float, str], float]:
    """The higher one of the estimates at each number of samples, for each split."""
    found: dict[tuple[float, str], float] = {}
    for row in rows:
        key = row["samples"], row["split"]
        found[key] = max(row["log_px"], found.get(key, -math.inf))
    return found


def figure4(out: Path, samples: int, workers: Workers | None = None, data_dir: str | None = None) -> list[Path]:
    """Reruns Figure 4: the learnt manifolds of models with two latent variables, 20 x 20 digits and 10 x 10 faces.

    Arguments are those of `figure2`.
    """
    sides = {"mnist": 20, "frey": 10}
    cells = [_cell(data, 2, "aevb", 0) for data in sides]
    folders, failures = _train(cells, samples, out / "figure2", workers, data_dir)
    runs = {sides[cell.data]: Run.open(folder, data_dir=data_dir) for cell, folder in folders.items()}
    written = [paper_figures.figure4(runs, out / "figure4.png")] if runs else []
    _require_all(failures, written)
    return written


def figure5(out: Path, samples: int, workers: Workers | None = None, data_dir: str | None = None) -> list[Path]:
    """Reruns Figure 5: samples from models of MNIST with 2, 5, 10 and 20 latent variables.

    Arguments are those of `figure2`.
    """
    cells = [_cell("mnist", latent, "aevb", 0) for latent in (2, 5, 10, 20)]
    folders, failures = _train(cells, samples, out / "figure2", workers, data_dir)
    runs = [Run.open(folders[cell], data_dir=data_dir) for cell in cells if cell in folders]
    written = [paper_figures.figure5(runs, out / "figure5.png")] if runs else []
    _require_all(failures, written)
    return written


def _cell(data: str, latent: int, algorithm: str, seed: int) -> Cell:
    return Cell(data, latent, algorithm, seed, (*_NETWORKS[data], *_ESTIMATOR.get(algorithm, ())))


def _row(
    figure: str, panel: str, cell: Cell, split: str, samples: float, value: float, seconds: float
) -> dict[str, Any]:
    values = (figure, panel, cell.algorithm, split, int(samples), value, seconds, cell.seed)
    return dict(zip(_COLUMNS, values, strict=True))


def _require_known(algorithms: Sequence[str], figure: str) -> None:
    for algorithm in algorithms:
        if algorithm not in _ALGORITHMS[figure]:
            raise InputError(
                f"--algorithms {algorithm} is not in Figure {figure[-1]}: choose from {', '.join(_ALGORITHMS[figure])}"
            )


def _train(
    cells: Sequence[Cell],
    samples: int,
    out: Path,
    workers: Workers | None,
    data_dir: str | None,
    stages: Sequence[int] = (),
) -> tuple[dict[Cell, Path], dict[Cell, str]]:
    for data in {cell.data: None for cell in cells}:
        load_data(data, folder=data_dir)  # what is missing is said, or fetched, before the long part
    return train_all(cells, samples, out, workers=workers, data_dir=data_dir, stages=stages)


def _require_all(failures: dict[Cell, str], written: Sequence[Path]) -> None:
    if failures:
        rest = f"; the others are in {', '.join(map(str, written))}" if written else ""
        raise RunError(f"{len(failures)} runs failed ({'; '.join(failures.values())}){rest}")
