"""The importance-weighted estimator and its diagnostics against known answers."""

import math

import torch

from pyro_vae.device import seeded
from pyro_vae.inference.importance import Importance
from pyro_vae.khat import pareto_khat
from pyro_vae.marginal import Estimates, bound, chunked_log_weights


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


def test_datapoints_keep_their_weights_where_chunks_are_joined(oracle, monkeypatch):
    # Chunks of 3 datapoints, of which 31 are joined by tens; under a guide that is off, so that weights differ.
    monkeypatch.setattr("pyro_vae.marginal.ROWS", 120)
    monkeypatch.setattr("pyro_vae.inference.importance._TOGETHER", 40 * 31)
    with seeded(0, oracle.x.device):
        found = Importance(40).estimate(oracle.model, oracle.guide, oracle.split)
    with seeded(0, oracle.x.device):
        log_w = torch.cat(list(chunked_log_weights(oracle.model, oracle.guide, oracle.split, 40)), dim=1)
    torch.testing.assert_close(found.log_px, log_w.logsumexp(0) - math.log(40))
    khat = torch.from_numpy(pareto_khat(log_w.numpy(), found.log_px.abs().numpy()))
    assert khat.isfinite().sum() > 0
    assert torch.equal(found.details["khat_over_0_7"] == 1, khat > 0.7)
