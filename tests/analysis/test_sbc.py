"""Simulation-based calibration against the linear-Gaussian oracle, and with several observed sites."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import kstest

from pyro_vae.analysis.sbc import simulate, simulate_at
from pyro_vae.errors import InputError


def _off(oracle, log_factor):
    """The exact guide with wider standard deviations."""
    oracle.guide.set_exact(oracle.model)
    with torch.no_grad():
        oracle.guide.log_scale += log_factor
    return oracle.guide


@pytest.mark.parametrize(("log_factor", "uniform"), [(0.0, True), (-1.0, False)])
def test_simulation_based_calibration_tells_exact_guides_from_narrow_ones(oracle, log_factor, uniform):
    pit = simulate(oracle.model, _off(oracle, log_factor), oracle.x, transitions=45)
    assert pit["guide"].shape == pit["hmc"].shape == (200, 2)
    for latent in range(2):
        # At level 0.1 % each. A guide of a third of the width puts two thirds of the ranks into the last cells.
        assert (kstest(pit["guide"][:, latent], "uniform").pvalue > 0.001) == uniform
        assert kstest(pit["hmc"][:, latent], "uniform").pvalue > 0.001


def _two_sites(x):
    """z ~ N(0, 1), x ~ N(z, 1), y ~ N(2 z, 1); of the data, y is known to be x."""
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        double = pyro.deterministic("double", 2 * z)
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.sample("y", dist.Normal(double, 1.0), obs=x)


def _guide(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(x / 2, 0.4))


def test_hmc_is_given_all_that_was_simulated():
    pit = simulate(_two_sites, _guide, torch.zeros(200), transitions=60)
    # The guide would see x alone, and is not judged. Had HMC been given the old y, or x in its place, its draws would
    # lie about a mean that is off by more than their width.
    assert set(pit) == {"hmc"}
    assert kstest(pit["hmc"][:, 0], "uniform").pvalue > 0.001


def test_posterior_calibration_begins_at_the_data(oracle, monkeypatch):
    # Data far from what the model makes, where its own simulations would not lead.
    x = oracle.x + 3
    pit = simulate_at(oracle.model, _off(oracle, 0.0), x, transitions=45)
    assert pit.shape == (200, 2)
    for latent in range(2):
        assert kstest(pit[:, latent], "uniform").pvalue > 0.001
    # Of the new data alone, latent variables would lie nearer to the prior than they do.
    monkeypatch.setattr("pyro_vae.analysis.sbc._Both", lambda one, other: other)
    forgetful = simulate_at(oracle.model, _off(oracle, 0.0), x, transitions=45)
    assert min(kstest(forgetful[:, latent], "uniform").pvalue for latent in range(2)) < 0.001


def test_posterior_calibration_is_given_all_that_was_simulated():
    pit = simulate_at(_two_sites, _guide, torch.full((200,), 1.5), transitions=45)
    assert kstest(pit[:, 0], "uniform").pvalue > 0.001


def _weighed(x):
    """z ~ N(0, 1) weighed by exp(-2 z^2), which makes N(0, 1 / 5) of it, and x ~ N(z, 1)."""
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.factor("weight", -2 * z**2)
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_factors_are_no_part_of_what_is_simulated():
    with pytest.raises(InputError, match="site 'weight' is a pyro"):
        simulate(_weighed, None, torch.zeros(20), transitions=6)


def test_posterior_calibration_counts_factors_once():
    # Given x and x', z is N((x + x') / 7, 1 / 7); counted twice the factor would make N((x + x') / 11, 1 / 11) of it,
    # 2 / 7 against 2 / 11 at x = x' = 1 and so 0.36 standard deviations off for x = 1, 1.4 for x = 4.
    pit = simulate_at(_weighed, None, torch.full((200,), 4.0), transitions=45)
    assert kstest(pit[:, 0], "uniform").pvalue > 0.001
