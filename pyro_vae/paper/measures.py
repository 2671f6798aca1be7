"""What the paper's claims need besides the figures' curves: measured on a grid's runs, or on small runs of their own.

Each measure is a generator of quantities and values in nats, unless it says otherwise.
"""

__all__ = ["measure", "read_measures"]

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.distributions import Normal, kl_divergence

from pyro_vae.data.loading import load_data
from pyro_vae.device import seeded
from pyro_vae.elbo import elbo
from pyro_vae.errors import RunError
from pyro_vae.marginal import bound
from pyro_vae.paper.cells import Cell
from pyro_vae.paper.evidence import NotRun
from pyro_vae.paper.grid import Grid
from pyro_vae.paper.protocol import STEP_SIZES
from pyro_vae.run import parts
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.run import Run
from pyro_vae.run.tables import read_table, write_table
from pyro_vae.sites import isolated

_COLUMNS = {"claim": str, "quantity": str, "value": float}

Quantities = Iterator[tuple[str, float]]


def read_measures(out: Path) -> pd.DataFrame:
    """Reads `measures.csv`: claim, quantity and value."""
    return read_table(out / "measures.csv", _COLUMNS)


def measure(grid: Grid) -> pd.DataFrame:
    """Measures what is not in `measures.csv` yet, and leaves out what runs are missing for.

    Arguments:
        grid: What trains the small runs; its folder has the figures' runs.

    Returns:
        All measures, which `measures.csv` holds now.

    Raises:
        RunError: If a small run failed.
    """
    measured = read_measures(grid.out)
    grid.out.mkdir(parents=True, exist_ok=True)
    for claim, quantities in _MEASURES.items():
        if claim in set(measured["claim"]):
            continue
        with suppress(NotRun), seeded(0, torch.device("cpu")):
            found = [(claim, quantity, value) for quantity, value in quantities(grid)]
            measured = pd.concat([measured, pd.DataFrame(found, columns=list(_COLUMNS))])
            write_table(measured, grid.out / "measures.csv")
    write_table(measured, grid.out / "measures.csv")
    return measured


def _open(grid: Grid, panel: str, algorithm: str) -> Run:
    """Opens the run of a panel of Figure 2 that has come furthest."""
    data, _, latent = panel.partition(":")
    cell = Cell(data, int(latent), algorithm, 0)
    folders = [grid.out / "figure2" / cell.name(step_size) for step_size in STEP_SIZES]
    found = [folder for folder in folders if (folder / "run.toml").exists()]
    if not found:
        raise NotRun(f"{panel} by {algorithm} has not been run")
    return Run.open(max(found, key=lambda path: read_metrics(path)[-1][0]), data_dir=grid.data_dir)


def _test_bounds(grid: Grid, cells: list[Cell], folder: str) -> list[float]:
    """Trains small runs and returns their last test bounds."""
    folders, failures = grid.train(cells, folder)
    if failures:
        raise RunError("; ".join(failures.values()))
    return [read_metrics(folders[cell])[-1][3] for cell in cells]


def _baseline(grid: Grid) -> Quantities:
    """The Gaussian without latent variables: a mean and a variance per pixel, by maximum likelihood."""
    data = load_data("frey", folder=grid.data_dir)
    train, test = data.train.first().double(), data.test.first().double()
    fitted = Normal(train.mean(0), train.std(0, correction=0))
    for split, x in (("train", train), ("test", test)):
        yield f"per-pixel Gaussian, {split}", fitted.log_prob(x).sum(1).mean().item()


def _pruned(grid: Grid) -> Quantities:
    """The share of latent variables that carry information about the data."""
    for panel in ("mnist:20", "mnist:200"):
        run = _open(grid, panel, "aevb")
        with isolated(), torch.no_grad():
            q: Any = run.guide.posterior(run.dataset.test.first())  # type: ignore[union-attr, operator]
            kl = kl_divergence(q.base_dist, Normal(0.0, 1.0)).mean(0)
        yield f"share of {panel.partition(':')[2]} latents with mean KL above 0.01", (kl > 0.01).double().mean().item()


def _variance(grid: Grid) -> Quantities:
    run = _open(grid, "mnist:20", "aevb")
    passes = [bound(run.model, run.guide, run.dataset.test, 1, seed).mean for seed in range(20)]
    yield "variance of the mean test bound over 20 passes with L = 1 (nats^2)", torch.tensor(passes).var().item()


def _reliability(grid: Grid) -> Quantities:
    """The paper's estimator against importance sampling: 4 leapfrogs, 50 draws for the density and 50 for the mean."""
    for panel in ("mnist:2", "mnist:3", "mnist:5", "mnist:10"):
        run = _open(grid, panel, "aevb")
        data = run.dataset.test.head(200)
        reciprocal = parts.find("marginal", "reciprocal")(draws=50, chains=2, leapfrogs=4, force=True)
        importance = parts.find("marginal", "importance")(particles=5000)
        log_px = [estimator.estimate(run.model, run.guide, data).log_px for estimator in (reciprocal, importance)]
        latent = panel.partition(":")[2]
        yield f"mean absolute error of the estimator, {latent} latents", (log_px[0] - log_px[1]).abs().mean().item()


def _acceptance(grid: Grid) -> Quantities:
    """The last 40 of 60 iterations: the step size has found its level."""
    data = load_data("mnist", train_size=1000, folder=grid.data_dir)
    model = parts.find("model", "bernoulli")(data.features, 3, hidden=100)
    learner = parts.find("inference", "mcem")(model, None, data.train)
    accepted = []
    for _ in range(60):
        learner.step()
        accepted.append(learner.acceptance.item())
    yield "mean acceptance of the E-steps, N = 1000", sum(accepted[20:]) / 40


def _estimators(grid: Grid) -> Quantities:
    """The total variance of the gradient's noise, at the same weights and minibatch."""
    for panel in ("mnist:3", "mnist:20"):
        run = _open(grid, panel, "aevb")
        guide: Any = run.guide
        x = run.dataset.train.first(100)
        variances = []
        for analytic in (False, True):
            draws = []
            for _ in range(200):
                with isolated():
                    loss = elbo(run.model, guide, x, analytic_kl=analytic).sum()
                gradients = torch.autograd.grad(loss, list(guide.parameters()))
                draws.append(torch.cat([g.flatten() for g in gradients]))
            variances.append(torch.stack(draws).var(0).sum().item())
        yield f"gradient variance of A over that of B, {panel.partition(':')[2]} latents", variances[0] / variances[1]


def _particles(grid: Grid) -> Quantities:
    for particles in (1, 5, 10):
        arguments = ("--hidden", "100", "--kl", "analytic", "--particles", str(particles))
        cell = Cell("mnist", 3, "aevb", 0, arguments, step_sizes=(0.02,))
        yield f"test bound with L = {particles}", _test_bounds(grid, [cell], f"particles-{particles}")[0]


def _widths(grid: Grid) -> Quantities:
    for hidden in (200, 500, 1000):
        cells = [
            Cell("mnist", 10, "aevb", 0, ("--hidden", str(hidden), "--kl", "analytic")),
            Cell("mnist", 10, "wake_sleep", 0, ("--hidden", str(hidden))),
        ]
        aevb, wake_sleep = _test_bounds(grid, cells, f"hidden-{hidden}")
        yield f"test bound of AEVB minus wake-sleep, {hidden} hidden units", aevb - wake_sleep


_MEASURES: dict[str, Callable[[Grid], Quantities]] = {
    "A8": _baseline,
    "A9": _pruned,
    "A10": _variance,
    "A15": _reliability,
    "A16": _acceptance,
    "A17": _estimators,
    "A18": _particles,
    "A19": _widths,
}
