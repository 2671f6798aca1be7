"""What claims need besides curves: measured once, on the runs that are there."""

import math

import pytest
from scipy.stats import norm

from pyro_vae import train
from pyro_vae.data.loading import load_data
from pyro_vae.paper import measures
from pyro_vae.paper.cells import Cell
from pyro_vae.paper.grid import Grid
from pyro_vae.run.tables import write_table


def test_the_gaussian_per_pixel_is_the_one_of_maximum_likelihood(real_data, tmp_path):
    found = dict(measures._baseline(Grid(tmp_path, 0, data_dir=str(real_data))))
    data = load_data("frey", folder=real_data)
    train, test = data.train.first().double(), data.test.first().double()
    # By scipy, and for the training data in closed form: -sum_j (1 + log 2 pi s_j^2) / 2.
    assert found["per-pixel Gaussian, train"] == pytest.approx(
        -(1 + (2 * math.pi * train.var(0, correction=0)).log()).sum().item() / 2, abs=1e-6
    )
    expected = norm.logpdf(test, train.mean(0), train.std(0, correction=0)).sum(1).mean()
    assert found["per-pixel Gaussian, test"] == pytest.approx(expected, abs=1e-6)


def test_runs_are_measured_once_and_missing_ones_left_out(tmp_path, monkeypatch):
    chosen = {key: measures._MEASURES[key] for key in ("A9", "A10", "A17")}
    monkeypatch.setattr("pyro_vae.paper.measures._MEASURES", chosen)
    grid = Grid(tmp_path / "out", 1000)
    assert measures.measure(grid).empty
    # A run on digits in the place of those on MNIST; the folder knows its own data.
    for latent in (3, 20, 200):
        train(
            grid.out / "figure2" / Cell("mnist", latent, "aevb", 0).name(0.02),
            data="digits",
            latent=latent,
            samples=20_000,
            hidden=20,
            kl="analytic",
            progress=False,
        )
    found = measures.measure(grid).set_index("quantity")["value"]
    assert 0 < found["share of 20 latents with mean KL above 0.01"] <= 1
    assert 0 < found["share of 200 latents with mean KL above 0.01"] <= 1
    # 360 test digits whose log weights spread by some nats: the variance of the mean is below 10^2 / 360.
    assert 0 < found["variance of the mean test bound over 20 passes with L = 1 (nats^2)"] < 0.28
    assert (found.filter(like="gradient variance") > 0).all()
    rows = measures.read_measures(grid.out).assign(value=7.0)
    write_table(rows, grid.out / "measures.csv")
    assert measures.measure(grid).equals(rows)  # what is there is not measured again
    assert measures.read_measures(grid.out).equals(rows)


def test_small_runs_of_their_own_give_their_last_test_bounds(tmp_path, workers):
    cells = [
        Cell("digits", 2, algorithm, 0, ("--hidden", "8"), step_sizes=(0.02,)) for algorithm in ("aevb", "wake_sleep")
    ]
    bounds = measures._test_bounds(Grid(tmp_path, 1000, workers), cells, "small")
    assert all(-100 < bound < -20 for bound in bounds)
