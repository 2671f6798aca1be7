"""The bound against models whose answers are known."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.elbo import elbo, iwae, log_weights
from pyro_vae.marginal import bound
from pyro_vae.sites import isolated


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


def test_the_importance_weighted_bound_is_its_integral_and_rises_to_log_px(oracle):
    # One latent, and a q that is shifted by 0.8 and wider by half: with z = m + s e, log w is a quadratic in e, and
    # L_1 and L_2 are integrals over e and over (e, e'), which 80 Gauss-Hermite nodes a dimension give to 1e-6.
    torch.manual_seed(0)
    model = type(oracle.model)(torch.randn(4, 1), torch.randn(4), noise=0.7)
    guide = type(oracle.guide)(4, 1)
    guide.set_exact(model)
    with torch.no_grad():
        guide.mean.bias += 0.8 * guide.log_scale.exp()
        guide.log_scale += math.log(1.5)
        x = model(None, size=6)
        loc, scale, (exact, covariance) = guide.mean(x), guide.log_scale.exp(), model.posterior(x)
    nodes, masses = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(80))
    masses = masses / masses.sum()
    z = (loc + scale * nodes).double()  # (6, 80)
    log_w = dist.Normal(exact.double(), covariance.double().sqrt()).log_prob(z) - dist.Normal(loc, scale).log_prob(z)
    log_w += model.log_px(x).double().unsqueeze(1)
    first = log_w @ masses
    pairs = torch.logaddexp(log_w.unsqueeze(2), log_w.unsqueeze(1)) - math.log(2)
    second = torch.einsum("nij,i,j->n", pairs, masses, masses)

    draws = 40_000
    repeated = x.repeat(draws, 1)
    found = {}
    with isolated(), torch.no_grad():
        for k in (1, 2, 10, 50):
            bounds = iwae(model, guide, repeated[: 6 * draws // k], k).view(-1, 6).mean(1)
            found[k] = bounds.mean(), bounds.std() / math.sqrt(len(bounds))
    for k, expected in ((1, first), (2, second)):
        mean, se = found[k]
        assert abs(mean - expected.mean()) < 4 * se
    assert se < 0.01
    means = [mean.item() for mean, _ in found.values()]
    errors = [se.item() for _, se in found.values()]
    for k in range(3):  # the last and smallest step is some 0.02 nats, ten of its errors
        assert means[k + 1] - means[k] > 4 * math.hypot(errors[k], errors[k + 1])
    assert means[3] < model.log_px(x).mean() + 3 * errors[3]


def test_the_importance_weighted_bound_of_one_draw_is_the_bound(oracle):
    with isolated():
        torch.manual_seed(0)
        one = iwae(oracle.model, oracle.guide, oracle.x)
        torch.manual_seed(0)
        assert torch.equal(one, elbo(oracle.model, oracle.guide, oracle.x).double())


def test_draws_are_weighed_within_their_datapoint(oracle):
    # Were the weights shared by the batch, a datapoint's bound would depend on its neighbours.
    with isolated():
        torch.manual_seed(0)
        log_w = log_weights(oracle.model, oracle.guide, oracle.x, 5)
        torch.manual_seed(0)
        bounds = iwae(oracle.model, oracle.guide, oracle.x, 5)
    expected = log_w.double().exp().mean(0).log()
    torch.testing.assert_close(bounds, expected)


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
