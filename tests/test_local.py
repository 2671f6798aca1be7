"""A Gaussian per datapoint, where its family holds the posterior and where it does not."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.local import fit_gaussian
from pyro_vae.marginal import bound
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.split import Split


def test_the_bound_is_log_px_where_the_posterior_is_in_the_family(oracle):
    torch.manual_seed(0)
    mean, se = bound(oracle.model, None, oracle.split, particles=100)
    exact = oracle.model.log_px(oracle.x).mean().item()
    assert exact - 0.02 < mean < exact + 3 * se + 1e-3


def test_it_is_the_posterior_itself(oracle):
    torch.manual_seed(0)
    guide = fit_gaussian(oracle.model, oracle.x)
    loc, covariance = oracle.model.posterior(oracle.x)
    median = guide.normal("z").mean
    # In units of the posterior's own scale: an error of 0.1 costs 0.005 nats a latent.
    assert ((median - loc) / covariance.diagonal().sqrt()).square().mean().sqrt() < 0.1


def test_the_model_stays_as_it_is(pixels):
    torch.manual_seed(0)
    model = BernoulliModel(12, 2, hidden=7)
    before = [p.detach().clone() for p in model.parameters()]
    pyro.get_param_store().clear()
    fit_gaussian(model, pixels.first(5), steps=5)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert list(pyro.get_param_store().keys()) == []


class _RateModel(nn.Module):
    """z ~ LogNormal(0, 1), x ~ N(log z, 1): log z given x is N(x / 2, 1 / 2), and x is N(0, 2)."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.LogNormal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z.log(), 1.0).to_event(1), obs=x)


def test_a_constrained_site_is_fitted_over_the_unconstrained():
    torch.manual_seed(0)
    x = torch.randn(20, 1) * 1.4
    mean, _ = bound(_RateModel(), None, Split(x), particles=100)
    assert mean == pytest.approx(dist.Normal(0.0, 2**0.5).log_prob(x).mean().item(), abs=0.02)
