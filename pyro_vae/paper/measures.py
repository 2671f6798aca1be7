"""What the paper's claims need besides the figures' curves: measured on a grid's runs, or on small runs of their own.

Each measure is a generator of quantities and values in nats, unless it says otherwise.
"""

__all__ = ["measure", "read_measures"]

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.distributions import Normal, kl_divergence

from pyro_vae.data.dataset import load_data
from pyro_vae.device import seeded
from pyro_vae.elbo import elbo
from pyro_vae.errors import RunError
from pyro_vae.marginal import bound
from pyro_vae.paper.grid import STEP_SIZES, Cell, train_all
from pyro_vae.paper.tables import read_table, write_table
from pyro_vae.paper.workers import Workers
from pyro_vae.run import parts
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.run import Run
from pyro_vae.sites import isolated

_COLUMNS = ("claim", "quantity", "value")

Quantities = Iterator[tuple[str, float]]


class _NoRun(LookupError):
    """A figure's run that a measure needs is not there."""


class _Place(NamedTuple):
    """Where runs are, and what new ones may take."""

    out: Path
    samples: int
    workers: Workers | None
    data_dir: str | None

    def run(self, panel: str, algorithm: str) -> Run:
        """Opens the run of a panel of Figure 2 that has come furthest."""
        data, _, latent = panel.partition(":")
        names = [Cell(data, int(latent), algorithm, 0).name(step) for step in STEP_SIZES]
        found = [self.out / "figure2" / name for name in names if (self.out / "figure2" / name / "run.toml").exists()]
        if not found:
            raise _NoRun
        return Run.open(max(found, key=lambda path: read_metrics(path)[-1][0]), data_dir=self.data_dir)

    def bounds(self, cells: list[Cell], folder: str) -> list[float]:
        """Trains small runs and returns their last test bounds."""
        folders, failures = train_all(
            cells, self.samples, self.out / folder, workers=self.workers, data_dir=self.data_dir
        )
        if failures:
            raise RunError("; ".join(failures.values()))
        return [read_metrics(folders[cell])[-1][3] for cell in cells]


def read_measures(out: Path) -> list[dict[str, Any]]:
    """Reads the rows of `measures.csv`: claim, quantity and value."""
    return read_table(out / "measures.csv", _COLUMNS, ("claim", "quantity"))


def measure(out: Path, samples: int, workers: Workers | None = None, data_dir: str | None = None) -> Path:
    """Measures what is not in `measures.csv` yet, and leaves out what runs are missing for.

    Arguments:
        out: The folder of the figures' runs, and of the small runs.
        samples: The budget of the small runs.
        workers: What trains them, a process of this machine per core if omitted.
        data_dir: The folder of the data sets.

    Returns:
        The table.
    """
    rows = read_measures(out)
    place = _Place(out, samples, workers, data_dir)
    for claim, quantities in _MEASURES.items():
        if not any(row["claim"] == claim for row in rows):
            with suppress(_NoRun), seeded(0, torch.device("cpu")):
                rows += [dict(zip(_COLUMNS, (claim, *each), strict=True)) for each in quantities(place)]
                write_table(rows, _COLUMNS, out / "measures.csv")
    return write_table(rows, _COLUMNS, out / "measures.csv")


def _baseline(place: _Place) -> Quantities:
    """The Gaussian without latent variables: a mean and a variance per pixel, by maximum likelihood."""
    data = load_data("frey", folder=place.data_dir)
    train, test = data.train.first().double(), data.test.first().double()
    fitted = Normal(train.mean(0), train.std(0, correction=0))
    for split, x in (("train", train), ("test", test)):
        yield f"per-pixel Gaussian, {split}", fitted.log_prob(x).sum(1).mean().item()


def _pruned(place: _Place) -> Quantities:
    """The share of latent variables that carry information about the data."""
    for panel in ("mnist:20", "mnist:200"):
        run = place.run(panel, "aevb")
        with isolated(), torch.no_grad():
            q: Any = run.guide.posterior(run.dataset.test.first())  # type: ignore[union-attr, operator]
            kl = kl_divergence(q.base_dist, Normal(0.0, 1.0)).mean(0)
        yield f"share of {panel.partition(':')[2]} latents with mean KL above 0.01", (kl > 0.01).double().mean().item()


def _variance(place: _Place) -> Quantities:
    run = place.run("mnist:20", "aevb")
    passes = [bound(run.model, run.guide, run.dataset.test, 1, seed).mean for seed in range(20)]
    yield "variance of the mean test bound over 20 passes with L = 1 (nats^2)", torch.tensor(passes).var().item()


def _reliability(place: _Place) -> Quantities:
    """The paper's estimator against importance sampling: 4 leapfrogs, 50 draws for the density and 50 for the mean."""
    for panel in ("mnist:2", "mnist:3", "mnist:5", "mnist:10"):
        run = place.run(panel, "aevb")
        data = run.dataset.test.head(200)
        reciprocal = parts.find("marginal", "reciprocal")(draws=50, chains=2, leapfrogs=4, force=True)
        importance = parts.find("marginal", "importance")(particles=5000)
        log_px = [estimator.estimate(run.model, run.guide, data).log_px for estimator in (reciprocal, importance)]
        latent = panel.partition(":")[2]
        yield f"mean absolute error of the estimator, {latent} latents", (log_px[0] - log_px[1]).abs().mean().item()


def _acceptance(place: _Place) -> Quantities:
    """The last 40 of 60 iterations: the step size has found its level."""
    data = load_data("mnist", train_size=1000, folder=place.data_dir)
    model = parts.find("model", "bernoulli")(data.features, 3, hidden=100)
    learner = parts.find("inference", "mcem")(model, None, data.train)
    accepted = []
    for _ in range(60):
        learner.step()
        accepted.append(learner.acceptance.item())
    yield "mean acceptance of the E-steps, N = 1000", sum(accepted[20:]) / 40


def _estimators(place: _Place) -> Quantities:
    """The total variance of the gradient's noise, at the same weights and minibatch."""
    for panel in ("mnist:3", "mnist:20"):
        run = place.run(panel, "aevb")
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


def _particles(place: _Place) -> Quantities:
    for particles in (1, 5, 10):
        arguments = ("--hidden", "100", "--kl", "analytic", "--particles", str(particles))
        cell = Cell("mnist", 3, "aevb", 0, arguments, step_sizes=(0.02,))
        yield f"test bound with L = {particles}", place.bounds([cell], f"particles-{particles}")[0]


def _widths(place: _Place) -> Quantities:
    for hidden in (200, 500, 1000):
        cells = [
            Cell("mnist", 10, "aevb", 0, ("--hidden", str(hidden), "--kl", "analytic")),
            Cell("mnist", 10, "wake_sleep", 0, ("--hidden", str(hidden))),
        ]
        aevb, wake_sleep = place.bounds(cells, f"hidden-{hidden}")
        yield f"test bound of AEVB minus wake-sleep, {hidden} hidden units", aevb - wake_sleep


_MEASURES: dict[str, Callable[[_Place], Quantities]] = {
    "A8": _baseline,
    "A9": _pruned,
    "A10": _variance,
    "A15": _reliability,
    "A16": _acceptance,
    "A17": _estimators,
    "A18": _particles,
    "A19": _widths,
}
