"""Annealed importance sampling against log p(x) that is known."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.inference.ais import AIS
from pyro_vae.marginal import Estimates
from pyro_vae.split import Split


def _linear(oracle, features, latent):
    """A linear-Gaussian model whose W has columns at any angle."""
    torch.manual_seed(latent)
    return type(oracle.model)(0.7 * torch.randn(features, latent), torch.randn(features), noise=0.5)


@pytest.mark.parametrize(("latent", "temperatures"), [(2, 100), (5, 200), (20, 1000)])
def test_lies_within_three_standard_errors_of_log_px(oracle, latent, temperatures):
    model = _linear(oracle, 2 * latent, latent)
    with torch.no_grad():
        x = model(None, size=10)
    with seeded(1, x.device):
        log_px, se, details, _ = AIS(temperatures).estimate(model, None, Split(x))
    exact = model.log_px(x)
    mean, error = Estimates(log_px, se).mean()
    assert log_px.shape == se.shape == (10,)
    assert error < 0.2
    assert abs(mean - exact.mean().item()) < 3 * error
    assert details["temperatures"] == temperatures
    assert details["acceptance"].mean() == pytest.approx(0.9, abs=0.03)


def test_its_standard_errors_are_true(oracle):
    # With 30 chains the mean weight is nearly Gaussian: the standardised errors of 200 datapoints have a mean square
    # of 1 within 5 sqrt(2 / 200) = 0.5.
    with seeded(0, oracle.x.device):
        log_px, se, *_ = AIS(temperatures=50, chains=30).estimate(oracle.model, None, oracle.split)
    scores = (log_px - oracle.model.log_px(oracle.x)) / se
    assert 0.5 < scores.square().mean() < 1.5
    assert abs(scores.mean()) < 3 / math.sqrt(200)


def test_one_temperature_is_importance_sampling_from_the_prior(oracle):
    # log w = log p(x|z) with z from the prior: E w = p(x), whatever the transition after it.
    with seeded(0, oracle.x.device):
        log_px, se, *_ = AIS(temperatures=1, chains=4000).estimate(oracle.model, None, oracle.split.head(20))
    mean, error = Estimates(log_px, se).mean()
    assert abs(mean - oracle.model.log_px(oracle.x[:20]).mean().item()) < 3 * error


def test_chunks_change_nothing_but_memory(oracle, monkeypatch):
    monkeypatch.setattr("pyro_vae.inference.ais.ROWS", 20 * 60)
    with seeded(0, oracle.x.device):
        log_px, se, *_ = AIS(temperatures=50, chains=20).estimate(oracle.model, None, oracle.split.head(130))
    assert log_px.shape == se.shape == (130,)
    mean, error = Estimates(log_px, se).mean()
    assert abs(mean - oracle.model.log_px(oracle.x[:130]).mean().item()) < 3 * error


class _TwoLayerModel(nn.Module):
    """z2 ~ N(0, I), z1 given z2 a single number, x given z1: x is N(0, I + 4 1 1^T), as Var z1 = 3 + 1."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2.sum(-1), 1.0))
            return pyro.sample("x", dist.Normal(z1.unsqueeze(-1).expand(*z1.shape, 4), 1.0).to_event(1), obs=x)


def test_two_latent_sites():
    torch.manual_seed(0)
    x = _TwoLayerModel()(None, size=50)
    with seeded(0, x.device):
        log_px, se, *_ = AIS(temperatures=100).estimate(_TwoLayerModel(), None, Split(x))
    exact = dist.MultivariateNormal(torch.zeros(4), torch.eye(4) + 4 * torch.ones(4, 4)).log_prob(x)
    mean, error = Estimates(log_px, se).mean()
    assert error < 0.1
    assert abs(mean - exact.mean().item()) < 3 * error


class _RateModel(nn.Module):
    """z ~ Gamma(2, 3) and x ~ Poisson(z): x is negative binomial with r = 2 and p(x) = C(x + 1, x) (1/4)^x (3/4)^2."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Gamma(torch.full((1,), 2.0), 3.0).to_event(1))
            return pyro.sample("x", dist.Poisson(z).to_event(1), obs=x)


def test_a_latent_variable_that_is_constrained():
    x = torch.arange(5.0).unsqueeze(-1)
    with seeded(0, x.device):
        log_px, se, *_ = AIS(temperatures=100, chains=100).estimate(_RateModel(), None, Split(x))
    exact = (x + 1).log() + x * math.log(0.25) + 2 * math.log(0.75)
    assert ((log_px - exact.squeeze(-1)).abs() < 3.5 * se).all()


@pytest.mark.parametrize("settings", [{"temperatures": 0}, {"chains": 1}, {"leapfrogs": 1.5}])
def test_impossible_numbers_are_refused(settings):
    ((name, value),) = settings.items()
    with pytest.raises(InputError, match=f"{name} {value} is not possible: give a whole number from"):
        AIS(**settings)
