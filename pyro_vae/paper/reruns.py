"""The paper's experiments, rerun: which runs they are, and what becomes of them (Section 5, Appendices A and E)."""

__all__ = ["figure2", "figure3", "figure4", "figure5", "redrawn"]

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from pyro_vae.errors import InputError, RunError
from pyro_vae.paper import figures
from pyro_vae.paper.cells import Cell
from pyro_vae.paper.commands import marginals
from pyro_vae.paper.grid import Grid, Trained
from pyro_vae.paper.protocol import FIGURE3_NETWORK, NETWORKS, STAGES, find_algorithm
from pyro_vae.paper.values import COLUMNS, add_values, paper_values, read_values
from pyro_vae.run import parts
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.run import Run
from pyro_vae.run.stored import METRICS


def figure2(grid: Grid, panels: Sequence[tuple[str, int]], algorithms: Sequence[str], seeds: int) -> list[Path]:
    """Reruns Figure 2: the bound of AEVB and of wake-sleep over the training samples seen.

    Arguments:
        grid: What trains the runs, in its folder `figure2`.
        panels: Data sets and numbers of latent variables.
        algorithms: The algorithms, by name or `FILE.py[:CLASS]`.
        seeds: The number of seeds.

    Returns:
        The paths of what was written: a table, to which other runs can be added by another call, and pictures of all of
        it against samples and against training time.

    Raises:
        InputError: If there is no such algorithm, data are missing, or the table is damaged.
        RunError: If a run failed; the results of the others are written.
    """
    _require_found(algorithms)
    cells = [
        _cell(data, latent, algorithm, seed, NETWORKS[data])
        for data, latent in panels
        for algorithm in algorithms
        for seed in range(seeds)
    ]

    def values(cell: Cell, folder: Path) -> pd.DataFrame:
        bounds = _metrics(folder).rename(columns={"train_bound": "train", "test_bound": "test"})
        bounds = bounds[bounds["samples"].between(1, grid.samples)]
        return bounds.melt(["samples", "seconds"], ["train", "test"], "split").assign(
            panel=f"{cell.data}:{cell.latent}"
        )

    return _rerun(grid, "2", cells, (), values, figures.figure2)


def figure3(grid: Grid, train_sizes: Sequence[int], algorithms: Sequence[str], seeds: int) -> list[Path]:
    """Reruns Figure 3: the marginal likelihood of the first 1,000 datapoints of each split, for three algorithms.

    It is the higher of two estimates from below: by importance sampling, with the guide as proposal, and by annealed
    importance sampling, which rests neither on the guide nor on where a chain starts. On test data, after AEVB on 1,000
    datapoints, the posterior has several modes: the guide misses most of it, and the chains of the paper's own
    estimator (`reciprocal`) stay where they begin.

    Arguments are those of `figure2`, but for `train_sizes`, the numbers of training datapoints.
    """
    _require_found(algorithms)
    cells = [
        _cell("mnist", 3, algorithm, seed, FIGURE3_NETWORK, train_size)
        for train_size in train_sizes
        for algorithm in algorithms
        for seed in range(seeds)
    ]

    def values(cell: Cell, folder: Path) -> pd.DataFrame:
        highest = marginals(folder).groupby(["samples", "split"], sort=False)["log_px"].max()
        metrics = _metrics(folder)
        seconds = dict(zip(metrics["samples"], metrics["seconds"], strict=True))
        found = highest.reset_index(name="value").assign(panel=f"N={cell.train_size}")
        return found.assign(seconds=found["samples"].map(seconds))

    stages = {*(stage for stage in STAGES if stage < grid.samples), grid.samples}
    return _rerun(grid, "3", cells, stages, values, figures.figure3)


def figure4(grid: Grid) -> list[Path]:
    """Reruns Figure 4: the learnt manifolds of models with two latent variables, 20 x 20 digits and 10 x 10 faces.

    Arguments and errors are those of `figure2`.
    """
    sides = {"mnist": 20, "frey": 10}
    trained = grid.train([_cell(data, 2, "aevb", 0, NETWORKS[data]) for data in sides], "figure2")
    runs = {sides[cell.data]: Run.open(folder, data_dir=grid.data_dir) for cell, folder in trained.folders.items()}
    return _require_all(trained, figures.figure4(runs, grid.out / "figure4") if runs else [])


def figure5(grid: Grid) -> list[Path]:
    """Reruns Figure 5: samples from models of MNIST with 2, 5, 10 and 20 latent variables.

    Arguments and errors are those of `figure2`.
    """
    cells = [_cell("mnist", latent, "aevb", 0, NETWORKS["mnist"]) for latent in (2, 5, 10, 20)]
    trained = grid.train(cells, "figure2")
    runs = [Run.open(folder, data_dir=grid.data_dir) for folder in trained.folders.values()]
    return _require_all(trained, figures.figure5(runs, grid.out / "figure5") if runs else [])


def redrawn(figure: str, out: Path) -> list[Path]:
    """Draws Figure 2 or 3 from its table alone, and trains nothing.

    Arguments:
        figure: `2` or `3`.
        out: The folder of the table.

    Raises:
        InputError: If there is no table, or it is damaged.
    """
    path = out / f"figure{figure}.csv"
    if (table := read_values(path)) is None or not len(table):
        raise InputError(f"{path} is not there: train the runs first, or name the folder of the table by --out")
    draw = {"2": figures.figure2, "3": figures.figure3}[figure]
    return draw(table, paper_values(figure), out)


def _rerun(
    grid: Grid,
    figure: str,
    cells: Sequence[Cell],
    stages: Iterable[int],
    values: Callable[[Cell, Path], pd.DataFrame],
    draw: Callable[[pd.DataFrame, pd.DataFrame, Path], list[Path]],
) -> list[Path]:
    """Trains runs, adds their values to a figure's table, and draws it."""
    path = grid.out / f"figure{figure}.csv"
    read_values(path)  # a damaged one is refused before the long part
    trained = grid.train(cells, f"figure{figure}", stages)
    tables = [
        values(cell, folder).assign(figure=figure, algorithm=cell.algorithm, seed=cell.seed)
        for cell, folder in trained.folders.items()
    ]
    if not tables:
        return _require_all(trained, [])
    table = add_values(pd.concat(tables)[list(COLUMNS)].astype(COLUMNS), path)
    return _require_all(trained, [path, *draw(table, paper_values(figure), grid.out)])


def _cell(
    data: str, latent: int, algorithm: str, seed: int, network: tuple[str, ...], train_size: int | None = None
) -> Cell:
    given = find_algorithm(algorithm)
    return Cell(data, latent, algorithm, seed, (*network, *given.arguments), train_size, given.step_sizes)


def _metrics(folder: Path) -> pd.DataFrame:
    return pd.DataFrame(read_metrics(folder), columns=list(METRICS))


def _require_found(algorithms: Iterable[str]) -> None:
    for algorithm in algorithms:
        try:
            parts.find("inference", algorithm)
        except InputError as error:
            raise InputError(str(error).replace("--inference", "--algorithms", 1)) from error


def _require_all(trained: Trained[Cell], written: list[Path]) -> list[Path]:
    if trained.failures:
        rest = f"; the others are in {', '.join(map(str, written))}" if written else ""
        raise RunError(f"{len(trained.failures)} runs failed ({'; '.join(trained.failures.values())}){rest}")
    return written
