"""Coverage of predictive intervals against what is known of a Gaussian and of coins."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from pyro_vae.analysis.coverage import coverage

N, DRAWS = 4000, 99


def _tree(data, prior, posterior):
    groups = {"observed_data": data, "prior_predictive": prior, "posterior_predictive": posterior}
    dims = {"observed_data": ("datapoint", "x_dim_0")}
    return xr.DataTree.from_dict(
        {
            name: xr.Dataset({"x": (dims.get(name, ("chain", "draw", "datapoint", "x_dim_0")), v)})
            for name, v in groups.items()
        }
    )


def test_intervals_of_a_gaussian_hold_what_they_say():
    # z ~ N(0, 1), x = z + s e. Given x, z has mean x / v and variance s^2 / v with v = 1 + s^2: a replication has the
    # variance s^2 / v + s^2 and lies about x / v, from which x is off by s^2 / v x, of variance s^4 / v.
    rng, s = np.random.default_rng(0), 0.8
    v = 1 + s**2
    x = math.sqrt(v) * rng.normal(size=(N, 2))
    prior = math.sqrt(v) * rng.normal(size=(1, DRAWS, N, 2))
    posterior = x / v + math.sqrt(s**2 / v + s**2) * rng.normal(size=(1, DRAWS, N, 2))
    found = coverage(_tree(x, prior, posterior))["x"]
    assert found["count"].values.tolist() == [N, N]
    for level in (0.5, 0.9):
        error = 4 * math.sqrt(level * (1 - level) / N)
        np.testing.assert_allclose(found["prior_predictive"].sel(level=level), level, atol=error)
        ratio = math.sqrt(s**2 / v + s**2) / math.sqrt(s**4 / v)
        exact = 1 - 2 * norm.sf(norm.ppf((1 + level) / 2) * ratio)
        # Ranks among 99 draws are those of a Gaussian but for a hundredth.
        np.testing.assert_allclose(found["posterior_predictive"].sel(level=level), exact, atol=error + 0.01)


def test_coins_are_covered_alike_and_wrong_coins_are_not():
    rng = np.random.default_rng(1)
    coins = (rng.random((N, 1)) < 0.9).astype(np.uint8)
    right, wrong = ((rng.random((1, DRAWS, N, 1)) < p).astype(np.uint8) for p in (0.9, 0.1))
    found = coverage(_tree(coins, right, wrong))["x"]
    levels = found["level"].values
    np.testing.assert_allclose(found["prior_predictive"][:, 0], levels, atol=4 * math.sqrt(0.25 / N))
    # Nine in ten lie among the largest tenth, and the others among the rest; which tenth it is, draws leave open.
    assert float(found["posterior_predictive"].sel(level=0.8)[0]) < 0.25


def test_missing_cells_are_left_out():
    rng = np.random.default_rng(2)
    x, draws = rng.normal(size=(N, 1)), rng.normal(size=(1, DRAWS, N, 1))
    x[: N // 2] = math.nan
    found = coverage(_tree(x, draws, draws))["x"]
    assert found["count"].values.tolist() == [N // 2]
    assert float(found["prior_predictive"].sel(level=0.5)[0]) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / (N / 2)))
