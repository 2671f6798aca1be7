"""The log joint over unconstrained latent variables against Pyro's own trace and against closed forms."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
import zuko
from pyro import poutine
from pyro.contrib.zuko import ZukoToPyro
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.hmc import HMC, sample
from pyro_vae.log_joint import LogJoint, bijection, bijection_to
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.gaussian import GaussianModel
from pyro_vae.sites import isolated


class _TwoLayerModel(nn.Module):
    """Sites of different event shapes: z1 is a vector, z2 a matrix, z3 a single number."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            z2 = pyro.sample(
                "z2", dist.Normal(z1.sum(-1)[..., None, None].expand(*z1.shape[:-1], 2, 2), 0.5).to_event(2)
            )
            z3 = pyro.sample("z3", dist.StudentT(4.0, z2.sum((-1, -2)), 1.0))
            loc = z3.unsqueeze(-1) + z1
            return pyro.sample("x", dist.Normal(loc.repeat_interleave(4, -1), 1.0).to_event(1), obs=x)


def _loop(model, latents, x):
    """The log joint of one chain and one datapoint at a time, from a conditioned trace."""
    chains = len(next(iter(latents.values())))
    rows = []
    for k in range(chains):
        for n in range(len(x)):
            values = {name: value[k, n : n + 1] for name, value in latents.items()}
            trace = poutine.trace(poutine.condition(model, values)).get_trace(x[n : n + 1])
            rows.append(trace.log_prob_sum())
    return torch.stack(rows).view(chains, len(x))


def test_a_mixtures_bijection_is_that_of_its_parts():
    # Of positive numbers it is exp, whose log derivative is its argument, summed over what is one event.
    weights = dist.Categorical(torch.ones(2, 3))
    gammas = dist.MixtureSameFamily(weights, dist.Gamma(torch.ones(2, 3), 1.0))
    u = torch.tensor([[-1.0, 0.5], [2.0, 0.0]])
    for distribution, log_jacobian in ((gammas, u), (gammas.to_event(1), u.sum(-1))):
        bijection = bijection_to(distribution.support)
        torch.testing.assert_close(bijection(u), u.exp())
        torch.testing.assert_close(bijection.log_abs_det_jacobian(u, bijection(u)), log_jacobian)


@pytest.mark.parametrize(
    ("create", "size"),
    [(lambda: BernoulliModel(12, 2, hidden=7), 2), (lambda: GaussianModel(12, 3, hidden=7), 3), (_TwoLayerModel, 8)],
)
def test_is_the_log_joint_of_the_trace(pixels, create, size):
    torch.manual_seed(0)
    model, x = create(), pixels.first(4)
    with isolated(), torch.no_grad():
        log_joint = LogJoint(model, x)
        position = log_joint.start(chains=3) + 0.3
        prior, likelihood = log_joint.parts(position)
        expected = _loop(model, log_joint.latents(position), x)
    assert log_joint.size == size
    assert position.shape == (3, 4, size)
    assert prior.dtype == likelihood.dtype == torch.float64
    torch.testing.assert_close(prior + likelihood, expected.double(), atol=1e-4, rtol=1e-5)
    with isolated():
        assert torch.equal(log_joint(position), prior + likelihood)
        only_x = poutine.trace(poutine.condition(model, {k: v[0] for k, v in log_joint.latents(position).items()}))
        trace = only_x.get_trace(x)
        trace.compute_log_prob()
    torch.testing.assert_close(likelihood[0].float(), trace.nodes["x"]["log_prob"], atol=1e-4, rtol=1e-5)


class _OneSite(nn.Module):
    """One latent site with any distribution, and one number observed beside it."""

    def __init__(self, create):
        super().__init__()
        self.create = create

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", self.create())
            return pyro.sample("x", dist.Normal(z.reshape(*z.shape[: z.ndim - 1], -1)[..., :1], 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(
    "create",
    [
        lambda: dist.LogNormal(torch.zeros(1), 1.0).to_event(1),
        lambda: dist.Gamma(torch.full((1,), 2.0), 3.0).to_event(1),
        lambda: dist.Beta(torch.full((1,), 2.0), 3.0).to_event(1),
        lambda: dist.Uniform(torch.full((1,), -1.0), 4.0).to_event(1),
    ],
)
def test_a_constrained_prior_stays_a_density(create):
    # Over the unconstrained variable exp(log p(z) + log |dz/du|) has the integral 1, and the mean of z is the prior's.
    x = torch.zeros(1, 1)
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float32)
    with isolated(), torch.no_grad():
        log_joint = LogJoint(_OneSite(create), x)
        prior, _ = log_joint.parts(grid.view(-1, 1, 1))
        z = log_joint.latents(grid.view(-1, 1, 1))["z"].flatten().double()
    density = prior.flatten().exp() * 0.001
    assert density.sum().item() == pytest.approx(1, abs=1e-4)
    assert (density * z).sum().item() == pytest.approx(create().mean.item(), abs=1e-3)


def test_a_simplex_has_one_dimension_less_and_stays_a_density():
    # Dirichlet(2, 3, 4) over two unconstrained numbers: integral 1, mean (2, 3, 4) / 9.
    alpha = torch.tensor([2.0, 3.0, 4.0])
    axis = torch.linspace(-12, 12, 481)
    grid = torch.cartesian_prod(axis, axis).view(-1, 1, 2)
    with isolated(), torch.no_grad():
        log_joint = LogJoint(_OneSite(lambda: dist.Dirichlet(alpha)), torch.zeros(1, 1))
        prior, _ = log_joint.parts(grid)
        z = log_joint.latents(grid)["z"].squeeze(1).double()
    density = prior.flatten().exp() * 0.05**2
    assert log_joint.size == 2
    assert density.sum().item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(density @ z, alpha.double() / 9, atol=1e-3, rtol=0)


def test_a_log_normal_is_a_normal_of_its_logarithm():
    # u = log z ~ N(1, 2^2), exactly.
    with isolated():
        log_joint = LogJoint(_OneSite(lambda: dist.LogNormal(torch.ones(1), 2.0).to_event(1)), torch.zeros(5, 1))
        position = torch.randn(3, 5, 1)
        prior, _ = log_joint.parts(position)
    torch.testing.assert_close(
        prior.float(), dist.Normal(1.0, 2.0).log_prob(position).squeeze(-1), atol=1e-5, rtol=1e-5
    )


class _RateModel(nn.Module):
    """z ~ Gamma(2, 3), x ~ Poisson(z): z given x is Gamma(2 + x, 4)."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Gamma(torch.full((1,), 2.0), 3.0).to_event(1))
            return pyro.sample("x", dist.Poisson(z).to_event(1), obs=x)


def test_hmc_on_a_constrained_site_draws_from_the_posterior():
    torch.manual_seed(0)
    x = torch.tensor([[0.0], [1.0], [5.0]])
    with isolated():
        log_joint = LogJoint(_RateModel(), x)
        draws = sample(HMC(log_joint.with_gradient, log_joint.start(chains=200), leapfrogs=5), draws=20, warmup=60)
        z = torch.stack([log_joint.latents(position)["z"] for position in draws.position])
    # mean (2 + x) / 4 and variance (2 + x) / 16; the spread between independent chains is the error.
    mean = (2 + x) / 4
    moments = torch.cat([z - mean, (z - mean).square() - (2 + x) / 16], -1).mean(0)
    assert (moments.mean(0) / (moments.std(0) / math.sqrt(200))).abs().max() < 4


def test_a_support_that_no_bijection_leads_to_is_named():
    flow = ZukoToPyro(zuko.flows.NSF(2, transforms=1, hidden_features=(4,))())
    cases = {
        "the support IntegerInterval(lower_bound=0, upper_bound=3)": dist.Categorical(torch.ones(4)),
        "the support IntegerGreaterThan(lower_bound=0)": dist.Poisson(1.0),
        "a distribution that does not tell its support": flow,
    }
    for has, latent in cases.items():
        with pytest.raises(InputError) as told:
            bijection("z", {"fn": latent})
        assert str(told.value).startswith(f"site 'z' has {has}, and HMC")
        assert "use importance" in str(told.value)
    assert bijection("z", {"fn": dist.Gamma(1.0, 1.0)})(torch.zeros(())) == 1


def test_starts_come_from_the_prior_or_the_guide(pixels):
    torch.manual_seed(0)
    model, guide = BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    with torch.no_grad():
        guide.mean.bias.copy_(torch.tensor([3.0, -3.0]))
    with isolated():
        log_joint = LogJoint(model, pixels.first(10))
        prior, recognised = log_joint.start(1000), log_joint.start(1000, guide)
    # Means over 1000 draws of unit variance have a standard error of 0.03.
    assert prior.mean((0, 1)).abs().max() < 0.05
    torch.testing.assert_close(recognised.mean((0, 1)), torch.tensor([3.0, -3.0]), atol=0.3, rtol=0)


def test_starts_of_a_constrained_site_are_its_prior_unconstrained():
    torch.manual_seed(0)
    with isolated():
        log_joint = LogJoint(_OneSite(lambda: dist.LogNormal(torch.ones(1), 2.0).to_event(1)), torch.zeros(4, 1))
        start = log_joint.start(2000)
    # N(1, 2^2): 8000 draws have standard errors of 2 / sqrt(8000) = 0.022 and 0.016.
    assert start.mean().item() == pytest.approx(1, abs=0.09)
    assert start.std().item() == pytest.approx(2, abs=0.07)


def test_gradients_are_those_of_autograd_through_the_model(pixels):
    torch.manual_seed(0)
    model = BernoulliModel(12, 2, hidden=7)
    x = pixels.first(4)
    with isolated():
        log_joint = LogJoint(model, x)
        position = torch.randn(1, 4, 2, requires_grad=True)
        (gradient,) = torch.autograd.grad(log_joint(position).sum(), position)
        # Datapoints share no gradient: each alone has the same.
        alone = LogJoint(model, x[2:3])
        (own,) = torch.autograd.grad(alone(position[:, 2:3]).sum(), position)
    torch.testing.assert_close(gradient[:, 2], own[:, 2])


class _Deterministic(nn.Module):
    """Sites that are no latent variables: a function of all datapoints, one of z, one of x, and a factor."""

    def forward(self, x=None, size=None):
        weights = pyro.deterministic("weights", torch.eye(2))
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = pyro.deterministic("loc", z @ weights, event_dim=1)
            pyro.factor("f", torch.full(z.shape[:-1], -0.5))
            x = pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)
            pyro.deterministic("rest", x - loc, event_dim=1)
            return x


def test_starts_and_densities_beside_deterministic_sites_and_factors():
    torch.manual_seed(0)
    model, x = _Deterministic(), torch.ones(3, 2)
    with isolated(), torch.no_grad():
        log_joint = LogJoint(model, x)
        start = log_joint.start(2000)
        prior, likelihood = log_joint.parts(start)
    assert start.shape == (2000, 3, 2)
    # 6,000 draws of N(0, I) have means with a standard error of 0.013.
    assert start.mean((0, 1)).abs().max() < 0.06
    torch.testing.assert_close(prior.float(), dist.Normal(0.0, 1.0).log_prob(start).sum(-1))
    torch.testing.assert_close(likelihood.float(), dist.Normal(start, 1.0).log_prob(x).sum(-1) - 0.5)
    # Of other data the traced functions are the same, and what they say is theirs.
    with isolated():
        other = log_joint.on(2 * x)
        value, _ = other.with_gradient(start)
    expected = prior.float() + dist.Normal(start, 1.0).log_prob(2 * x).sum(-1) - 0.5
    torch.testing.assert_close(value.float(), expected)
