"""The importance-weighted estimator and its diagnostics against known answers."""

import math

import numpy as np
import pytest
import torch

from pyro_vae.data.dataset import Dataset
from pyro_vae.device import seeded
from pyro_vae.inference.importance import Importance
from pyro_vae.khat import pareto_khat
from pyro_vae.marginal import Estimates, bound
from pyro_vae.run.score import evaluate


def test_is_log_px_under_the_exact_posterior(oracle):
    oracle.guide.set_exact(oracle.model)
    log_px, se, details, _ = Importance(100).estimate(oracle.model, oracle.guide, oracle.split)
    torch.testing.assert_close(log_px.float(), oracle.model.log_px(oracle.x), atol=2e-4, rtol=0)
    assert se.max() < 1e-4
    assert details["particles"] == 100
    assert torch.equal(details["khat_over_0_7"], torch.zeros(200, dtype=torch.float64))


def test_lies_within_its_error_of_log_px_and_above_the_bound(oracle):
    oracle.guide.set_exact(oracle.model)
    with torch.no_grad():
        oracle.guide.mean.bias += 0.3
        oracle.guide.log_scale += 0.3  # wider than the posterior: bounded weights
    exact = oracle.model.log_px(oracle.x)
    with seeded(0, exact.device):
        log_px, se, *_ = Importance(2000).estimate(oracle.model, oracle.guide, oracle.split)
    mean, error = Estimates(log_px, se).mean()
    assert abs(mean - exact.mean().item()) < 3 * error
    # 200 datapoints: standardised errors have a mean square of 1 within 5 sqrt(2 / 200) = 0.5.
    assert 0.5 < (((log_px - exact) / se) ** 2).mean() < 1.5
    assert bound(oracle.model, oracle.guide, oracle.split, 100).mean < mean - 0.05


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0])
def test_khat_is_the_shape_of_a_pareto_tail(shape):
    # exp(k E) with E ~ Exp(1) is Pareto with shape k. The fit sees the 3 sqrt(10,000) = 300 largest weights: its
    # standard error is (1 + k) / sqrt(300), 0.12 at most.
    log_w = shape * np.random.default_rng(0).exponential(size=10_000)
    assert pareto_khat(log_w[:, None])[0] == pytest.approx(shape, abs=0.36)


def test_khat_tells_a_guide_that_is_too_narrow(oracle):
    shares = []
    for factor in (2.0, 0.1):  # weights under a wider guide are bounded; under a narrow one k tends to 1
        oracle.guide.set_exact(oracle.model)
        with torch.no_grad():
            oracle.guide.log_scale += math.log(factor)
        shares.append(
            Importance(2000).estimate(oracle.model, oracle.guide, oracle.split).details["khat_over_0_7"].mean()
        )
    assert shares[0] == 0
    assert shares[1] > 0.5


def test_chunks_change_nothing_but_memory(oracle, monkeypatch):
    monkeypatch.setattr("pyro_vae.marginal.ROWS", 7)  # one datapoint at a time, in several draws
    oracle.guide.set_exact(oracle.model)
    log_px, se, *_ = Importance(40).estimate(oracle.model, oracle.guide, oracle.split)
    assert log_px.shape == se.shape == (200,)
    torch.testing.assert_close(log_px.float(), oracle.model.log_px(oracle.x), atol=2e-4, rtol=0)


def test_evaluate_says_what_it_does_not_know(oracle):
    dataset = Dataset("toy", oracle.split, oracle.split, (1, 5), "", "none")
    result = evaluate(oracle.model, oracle.guide, dataset, particles=1, limit=10)
    assert result["datapoints"] == 10
    assert result["bound_se"] is None
    assert result["importance"]["khat_over_0_7"] is None
    with_error = evaluate(oracle.model, oracle.guide, dataset, particles=50)
    assert with_error["bound"] < oracle.model.log_px(oracle.x).mean()
    assert with_error["bound_se"] > 0


def test_evaluating_leaves_the_generators_alone(oracle):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = bound(oracle.model, oracle.guide, oracle.split, particles=2, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert bound(oracle.model, oracle.guide, oracle.split, particles=2, seed=1) == first
