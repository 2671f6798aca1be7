"""The classifier two-sample test against the best accuracy there is between Gaussians."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from pyro_vae.analysis.two_samples import accuracy

CHAINS, DRAWS, LATENTS = 4, 250, 6


def _tree(p, q):
    """Draws of HMC and of a guide, with shape `(chains, draws, datapoints, latents)`."""
    dims = ("chain", "draw", "datapoint", "z_dim_0")
    groups = {"posterior": p, "guide_posterior": q.reshape(1, -1, *q.shape[2:])}
    found = {name: xr.Dataset({"z": (dims, values)}) for name, values in groups.items()}
    found["observed_data"] = xr.Dataset(coords={"datapoint": np.arange(p.shape[2])})
    return xr.DataTree.from_dict(found)


def _normal(seed, datapoints):
    return np.random.default_rng(seed).normal(size=(CHAINS, DRAWS, datapoints, LATENTS))


def test_one_distribution_is_not_told_apart():
    found = accuracy(_tree(_normal(0, 4), _normal(1, 4)))
    # Each is the share of 2,000 draws: 0.011 of standard error, and the folds are nearly independent.
    np.testing.assert_allclose(found, 0.5, atol=0.05)


def test_two_gaussians_are_told_apart_as_far_as_can_be():
    # The best classifier of N(0, I) and N(d, I) is right with probability Phi(|d| / 2), whatever their number of
    # dimensions; d is spread over all of them, so that each marginal differs by d / sqrt(6) alone.
    for size in (1.0, 2.0):
        moved = _normal(3, 3) + size / math.sqrt(LATENTS)
        # It lacks what 27 weights cost that are learnt from 1,500 draws, 27 / 1500 at most.
        found = accuracy(_tree(_normal(2, 3), moved))
        np.testing.assert_allclose(found, norm.cdf(size / 2), atol=0.04)


def test_a_correlation_is_seen_that_no_marginal_shows():
    # Correlation r: whitened, variances 1 + r and 1 - r. At r = 0.9 the log ratio decides mostly by (z1 - z2)^2.
    q = _normal(4, 3)
    p = _normal(5, 3)
    p[..., 1] = 0.9 * p[..., 0] + math.sqrt(1 - 0.81) * p[..., 1]
    assert float(accuracy(_tree(p, q)).min()) > 0.7


def test_the_first_twenty_datapoints_are_judged():
    found = accuracy(_tree(_normal(6, 22)[:, :20, :, :1], _normal(7, 22)[:, :20, :, :1]))
    assert np.isnan(found.values).tolist() == [False] * 20 + [True] * 2
    assert found.dims == ("datapoint",)
    assert float(found[:20].mean()) == pytest.approx(0.5, abs=0.1)
