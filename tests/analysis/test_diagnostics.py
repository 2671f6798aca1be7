"""Diagnostics of sampler and guide, and gaps, against the linear-Gaussian oracle's closed forms."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from pyro_vae.analysis.diagnostics import guide, sampler
from pyro_vae.analysis.gaps import gaps
from pyro_vae.analysis.posterior import from_guide
from pyro_vae.inference.importance import Importance
from pyro_vae.khat import pareto_khat
from pyro_vae.sites import isolated

# By how much a guide is off: its means, and the log of its standard deviations.
SHIFT, WIDER = 0.3, 0.3


def _off(oracle, shift=0.0, log_factor=0.0):
    oracle.guide.set_exact(oracle.model)
    with torch.no_grad():
        oracle.guide.mean.bias += shift
        oracle.guide.log_scale += log_factor
    return oracle.guide


def _with_guide(exported, other):
    """The exported tree with the draws of another guide."""
    torch.manual_seed(0)
    with isolated(), torch.no_grad():
        latents, stats = from_guide(exported.model, other, exported.x, 4000)
    tree = exported.tree.copy()
    for group, values in (("guide_posterior", latents), ("guide_sample_stats", stats)):
        old = tree[group].to_dataset()
        tree[group] = xr.DataTree(old.assign({name: old[name].copy(data=value) for name, value in values.items()}))
    return tree


def _closed_form_kl(model, shift, log_factor):
    """KL of N(m + d, (c s)^2) from N(m, s^2), summed: (c^2 + d^2 / s^2 - 1 - log c^2) / 2, here for every datapoint."""
    variance = model.posterior(torch.zeros(1, 5))[1].diagonal().double()
    return float(0.5 * (math.exp(2 * log_factor) + shift**2 / variance - 1 - 2 * log_factor).sum())


def test_the_exact_guide_is_found_to_be_exact(exported):
    found = guide(exported.tree)
    np.testing.assert_allclose(found["bound"], exported.model.log_px(exported.x), atol=1e-4)
    assert (found["khat"] == -math.inf).all()  # all weights are p(x)
    assert found["importance_ess"].min() > 0.999
    # Means of 4,000 independent draws and of more than 1,000 effective ones: 4 standard errors of their difference.
    assert found["shift"].max() < 4 * math.sqrt(1 / 4000 + 1 / 1000)
    # Relative errors of a standard deviation are 1 / sqrt(2 n), with 500 effective draws of squares.
    assert np.abs(found["scale"] - 1).max() < 4 / math.sqrt(1000)
    assert found["kl"].max() < 0.03


def test_kl_is_the_closed_form(exported, oracle):
    found = guide(_with_guide(exported, _off(oracle, SHIFT, WIDER)))
    exact = _closed_form_kl(exported.model, SHIFT, WIDER)
    # The KL of moments: their errors, 3 % of a standard deviation and 6 % of a variance, cost 0.05 of one datapoint's
    # 1.0 nats. Twelve datapoints share no draws: 5 standard errors of their mean.
    assert float(found["kl"].mean()) == pytest.approx(exact, abs=5 * 0.05 / math.sqrt(12))
    # The same by another way: log p(x) less the bound.
    gap = exported.model.log_px(exported.x).numpy() - found["bound"]
    assert float(gap.mean()) == pytest.approx(exact, abs=5 * float(found["bound_se"].mean()) / math.sqrt(12))
    np.testing.assert_allclose(found["scale"], math.exp(WIDER), rtol=0.1)
    # The sharper latent variable has the larger shift. Its Wasserstein distance, of Gaussians on a line, lies between
    # the shift and sqrt(d^2 + (c - 1)^2), Jensen's bound by the distance W2.
    sharpest = SHIFT / float(exported.model.posterior(exported.x)[1].diagonal().sqrt().min())
    np.testing.assert_allclose(found["shift"], sharpest, atol=0.15)
    assert found["wasserstein"].min() > sharpest - 0.15
    assert found["wasserstein"].max() < math.hypot(sharpest, math.exp(WIDER) - 1) + 0.15


def test_khat_is_large_for_a_narrow_guide_and_small_for_a_wide_one(exported, oracle):
    narrow = guide(_with_guide(exported, _off(oracle, 0.0, math.log(0.2))))
    assert (narrow["khat"] > 0.7).mean() > 0.9
    assert narrow["importance_ess"].max() < 0.2
    np.testing.assert_allclose(narrow["scale"], 0.2, rtol=0.15)
    # Weights under a wider guide are bounded. Had log-weights the wrong sign, the two would change places.
    wide = guide(_with_guide(exported, _off(oracle, 0.0, math.log(2.0))))
    assert wide["khat"].max() < 0.5


def test_khat_is_unknown_for_a_few_draws():
    assert np.isnan(pareto_khat(np.zeros((24, 3)))).all()


def test_sampler_names_the_datapoint_whose_chains_disagree(exported):
    found = sampler(exported.tree)
    assert float(found["rhat"].max()) < 1.01
    assert float(found["ess_bulk"].min()) > 1000
    tree = exported.tree.copy(deep=True)
    tree["posterior"]["z"].values[0, :, 7, 1] += 3.0  # one chain of one datapoint elsewhere
    tree["sample_stats"]["diverging"].values[2, :5, 4] = True
    found = sampler(tree)
    assert found["rhat"].values.argmax() == 7
    assert float(found["rhat"][7]) > 1.2
    assert found["divergences"].values.tolist() == [5 if n == 4 else 0 for n in range(12)]


def test_gaps_are_those_of_an_off_guide_in_a_family_that_holds_the_posterior(oracle):
    x = oracle.x[:40]
    found = gaps(oracle.model, _off(oracle, SHIFT, WIDER), x, Importance(2000))
    exact = oracle.model.log_px(x).numpy()
    error = float(np.sqrt((found["log_px_se"] ** 2).sum())) / 40
    assert float((found["log_px"] - exact).mean()) == pytest.approx(0, abs=4 * error)
    # No approximation gap: the Gaussian of its own is the posterior, up to how far 300 steps come (see test_local).
    assert -0.03 < float((found["local_bound"] - exact).mean()) < 0.005


def test_too_few_draws_leave_the_divergence_unknown():
    """Four draws span three dimensions of four: their covariance has no inverse."""
    generator = np.random.default_rng(0)
    draws = {name: generator.normal(size=(shape, 4 // shape, 2, 4)) for name, shape in (("p", 2), ("q", 1))}
    dims = ("chain", "draw", "datapoint", "z_dim_0")
    stats = {name: (dims[:3], generator.normal(size=(1, 4, 2))) for name in ("log_p", "log_q")}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"z": (dims, draws["p"])}),
            "guide_posterior": xr.Dataset({"z": (dims, draws["q"])}),
            "guide_sample_stats": xr.Dataset(stats),
            "observed_data": xr.Dataset(coords={"datapoint": [0, 1]}),
        }
    )
    found = guide(tree)
    assert np.isnan(found["kl"]).all()
    assert np.isfinite(found["shift"]).all()


def test_functions_of_the_latent_variables_are_not_judged(exported):
    tree = exported.tree.copy()
    posterior = tree["posterior"].to_dataset()
    made = (posterior["z"].isel(z_dim_0=0) * 0).assign_attrs(deterministic="a function")
    tree["posterior"] = xr.DataTree(posterior.assign(made=made))
    xr.testing.assert_identical(sampler(tree), sampler(exported.tree))
    xr.testing.assert_identical(guide(tree), guide(exported.tree))
