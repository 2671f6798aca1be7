"""Data in the latent space."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.analysis.explore.points import Points
from pyro_vae.analysis.explore.space import Space
from pyro_vae.errors import InputError


def test_points_are_the_means_of_the_guide(linear):
    points = Points(linear, Space(linear), "test", 1000)
    x = linear.dataset.test.first()
    mean, _ = linear.model.posterior(x)
    np.testing.assert_allclose(points.vectors, mean, atol=1e-5)
    assert points.rows.tolist() == linear.dataset.rows[1].tolist()


def test_a_sample_keeps_the_numbers_of_its_rows(linear):
    points = Points(linear, Space(linear), "test", 7)
    assert len(points.rows) == len(points.split) == 7
    whole = linear.dataset.test.first()
    place = {row: n for n, row in enumerate(linear.dataset.rows[1].tolist())}
    for n, row in enumerate(points.rows.tolist()):
        assert torch.equal(points.row(n)[0], whole[place[row]])


def test_bounds_come_a_few_at_a_time(linear):
    points = Points(linear, Space(linear), "test", 1000)
    assert np.isnan(points.column("bound")).all()
    assert points.advance()
    assert np.isfinite(points.column("bound")).sum() == points.together
    while points.advance():
        pass
    # Where the guide is the posterior, all weights are the same: the bound is log p(x), of N(b, W W^T + 0.36 I).
    model = linear.model
    marginal = dist.MultivariateNormal(model.bias, model.weight @ model.weight.T + 0.36 * torch.eye(5))
    log_px = marginal.log_prob(linear.dataset.test.first()).detach()
    for name in ("bound", "log_px"):
        np.testing.assert_allclose(points.column(name), log_px, atol=1e-3)


def test_the_nearest_are_the_nearest(linear):
    points = Points(linear, Space(linear), "test", 1000)
    x = linear.dataset.test.first()
    apart = (((x - x[4]) / x.std(0)) ** 2).sum(1)
    apart[4] = torch.inf
    assert points.nearest(x[4], without=4) == apart.argsort()[:8].tolist()
    assert points.nearest(x[4])[0] == 4


def test_hmc_and_guide_have_the_posteriors_moments(linear):
    points = Points(linear, Space(linear), "test", 20)
    kept, guide, acceptance = points.posterior(3)
    mean, covariance = linear.model.posterior(points.row(3))
    sd = covariance.diagonal().sqrt().numpy()
    # 1,000 independent draws of the guide: 5 standard errors of the mean are 0.16 s.d. HMC's 50 chains have 10 draws
    # each: were they one draw each, 5 standard errors were 0.71 s.d.
    assert (abs(guide.mean(0) - mean[0].numpy()) < 0.16 * sd).all()
    assert (abs(kept.mean(0) - mean[0].numpy()) < 0.71 * sd).all()
    assert kept.shape == (500, 2)
    assert guide.shape == (1000, 2)
    assert 0.6 < acceptance <= 1


def test_without_a_guide_each_has_a_gaussian_of_its_own(oracle, made):
    run = made(oracle.model, None, oracle.x[:60].numpy())
    points = Points(run, Space(run), "test", 1000)
    mean, covariance = oracle.model.posterior(run.dataset.test.first())
    # Means of 100 draws: five standard errors are half a standard deviation.
    assert (abs(points.vectors - mean.numpy()) < 0.5 * covariance.diagonal().sqrt().numpy()).all()
    assert np.isfinite(points.column("bound")).all()
    assert not points.advance()


class Point(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Delta(x[:, :2], event_dim=1))


def test_a_guide_that_is_a_point_tells_no_bound(oracle, made):
    run = made(oracle.model, Point(), oracle.x[:60].numpy())
    points = Points(run, Space(run), "test", 1000)
    assert "bound" not in points.columns
    np.testing.assert_allclose(points.vectors, run.dataset.test.first()[:, :2])


def test_columns_of_a_table_can_be_looked_at(made, oracle):
    run = made(oracle.model, oracle.guide, pd.DataFrame(oracle.x.numpy(), columns=list("abcde")))
    points = Points(run, Space(run), "test", 1000)
    assert points.columns[:3] == ["bound", "log_px", "khat"]
    assert points.columns[-5:] == [f"{name} (data)" for name in "abcde"]
    np.testing.assert_array_equal(points.column("c (data)"), run.dataset.test.first()[:, 2])


class Discrete(nn.Module):
    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            k = pyro.sample("k", dist.Bernoulli(0.5))
            return pyro.sample("x", dist.Normal(k.unsqueeze(-1).expand(*k.shape, 3), 1.0).to_event(1), obs=x)


class Sees(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("k", dist.Bernoulli(logits=x.sum(-1)))


def test_hmc_declines_what_it_cannot_move(made):
    run = made(Discrete(), Sees(), np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32))
    points = Points(run, Space(run), "test", 20)
    # A discrete site is at its most probable value: where logit x_1 + x_2 + x_3 is above 0.
    np.testing.assert_array_equal(points.vectors[:, 0], run.dataset.test.first().sum(1) > 0)
    with pytest.raises(InputError, match="HMC cannot move site 'k'"):
        points.posterior(0)
