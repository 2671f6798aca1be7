"""The bound against models whose answers are known."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.checks import check_pair
from pyro_vae.elbo import elbo, isolated, log_weights
from pyro_vae.errors import InputError
from pyro_vae.evaluation import bound
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.models.bernoulli import BernoulliModel


def test_log_weights_are_log_px_under_the_exact_posterior(oracle):
    # log p(x, z) - log p(z|x) = log p(x) for every z.
    oracle.guide.set_exact(oracle.model)
    with isolated():
        weights = log_weights(oracle.model, oracle.guide, oracle.x, particles=3)
    assert weights.shape == (3, 200)
    torch.testing.assert_close(weights, oracle.model.log_px(oracle.x).expand(3, 200), atol=2e-4, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_bound_never_exceeds_log_px(oracle, seed):
    torch.manual_seed(seed)
    nn.init.normal_(oracle.guide.mean.weight, std=0.3)
    nn.init.normal_(oracle.guide.log_scale, std=0.3)
    mean, se = bound(oracle.model, oracle.guide, oracle.split, particles=500, seed=seed)
    assert mean <= oracle.model.log_px(oracle.x).mean() + 3 * se


def test_bound_is_log_px_minus_the_divergence_from_the_posterior(oracle):
    # L = log p(x) - KL(q || p(z|x)), with both Gaussians and so the divergence in closed form.
    torch.manual_seed(0)
    nn.init.normal_(oracle.guide.mean.weight, std=0.3)
    mean, se = bound(oracle.model, oracle.guide, oracle.split, particles=2000)
    loc, covariance = oracle.model.posterior(oracle.x)
    q = dist.MultivariateNormal(oracle.guide.mean(oracle.x), torch.eye(2))
    divergence = torch.distributions.kl_divergence(q, dist.MultivariateNormal(loc, covariance))
    expected = (oracle.model.log_px(oracle.x) - divergence).mean().item()
    assert abs(mean - expected) < 4 * se


def _gradients(oracle, analytic_kl, draws):
    parameters = list(oracle.guide.parameters())
    gradients = []
    for _ in range(draws):
        loss = elbo(oracle.model, oracle.guide, oracle.x[:20], analytic_kl=analytic_kl).sum()
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(gradients)


def test_estimators_a_and_b_agree_and_b_varies_less(oracle):
    torch.manual_seed(0)
    nn.init.normal_(oracle.guide.mean.weight, std=0.3)
    draws = 1000
    with isolated():
        a, b = (_gradients(oracle, analytic_kl, draws) for analytic_kl in (False, True))
        bounds_a = elbo(oracle.model, oracle.guide, oracle.x, particles=draws)
        bounds_b = elbo(oracle.model, oracle.guide, oracle.x, particles=draws, analytic_kl=True)
    se = ((a.var(0) + b.var(0)) / draws).sqrt()
    assert ((a.mean(0) - b.mean(0)).abs() < 4.5 * se).all()  # 14 gradients: 1e-4 by chance
    assert b.var(0).sum() < a.var(0).sum()
    # Within a datapoint log w has a standard deviation of a few nats: their mean over 200,000 draws, under 0.01.
    assert abs(bounds_a.mean() - bounds_b.mean()) < 0.04


def test_analytic_kl_is_sampled_where_pyro_has_none():
    # KL(Normal || StudentT) is not known: the estimator takes the sampled term for that site, draw by draw.
    class Model(nn.Module):
        def forward(self, x=None, size=None):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                z = pyro.sample("z", dist.StudentT(4.0, torch.zeros(2), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    class Guide(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))

    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    results = []
    for analytic_kl in (False, True):
        torch.manual_seed(3)
        results.append(elbo(Model(), Guide(), x, analytic_kl=analytic_kl))
    torch.testing.assert_close(*results)


def test_isolated_leaves_the_store_and_validation_alone(oracle):
    pyro.get_param_store().clear()
    pyro.param("outer", torch.ones(()))
    with isolated():
        log_weights(oracle.model, oracle.guide, oracle.x)
    assert list(pyro.get_param_store().keys()) == ["outer"]
    with pytest.raises(ValueError, match="Expected parameter"):
        dist.Normal(math.nan, 1.0)
    pyro.get_param_store().clear()


class _Swapped(nn.Module):
    """A model or guide of one line, for what check_pair must refuse."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x=None, size=None):
        return self.body(x)


def _without_plate(x):
    pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("x", dist.Bernoulli(logits=torch.zeros(12), validate_args=False).to_event(1), obs=x)


def _without_event(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(torch.zeros(12), 1.0).to_event(1), obs=x)
    pyro.sample("w", dist.Normal(0.0, 1.0), obs=torch.zeros(()))


def _without_data(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


def _stored(x):
    loc = pyro.param("loc", torch.zeros(2))
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


def _other_name(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("u", dist.Normal(torch.zeros(2), 1.0).to_event(1))


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (_without_plate, _without_data, "site 'z' must be sampled inside"),
        (_without_event, _without_data, "site 'w' must be sampled inside"),
        (_without_data, _without_data, "does not observe the data: sample a site 'x'"),
        (None, _other_name, r"the latent sites of BernoulliModel are \['z'\], but _Swapped samples \['u'\]"),
        (None, _stored, "pyro.param 'loc' does not belong to a module"),
    ],
)
def test_check_pair_says_what_does_not_fit(pixels, model, guide, message):
    model = BernoulliModel(12, 2, hidden=3) if model is None else _Swapped(model)
    with pytest.raises(InputError, match=message):
        check_pair(model, _Swapped(guide), pixels.first(5))


def test_check_pair_wants_the_features_of_the_data(pixels):
    with pytest.raises(InputError, match=r"cannot be run on data of shape \(5, 12\)"):
        check_pair(BernoulliModel(12, 2, hidden=3), GaussianGuide(11, 2, hidden=3), pixels.first(5))
