"""HMC against posteriors that are known, and its step sizes."""

import math

import pytest
import torch
from pyro import poutine
from scipy.stats import chisquare

from pyro_vae.hmc import HMC, sample, with_gradient
from pyro_vae.log_joint import LogJoint
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.sites import isolated

_normal = with_gradient(lambda z: -0.5 * z.double().square().sum(-1))


@pytest.fixture
def linear(oracle):
    """Creates a linear-Gaussian model whose W has columns at any angle, and datapoints from it."""

    def create(latent, size):
        torch.manual_seed(latent)
        features = 2 * latent + 1
        model = type(oracle.model)(0.7 * torch.randn(features, latent), torch.randn(features), noise=0.5)
        with torch.no_grad():
            return model, model(None, size=size)

    return create


def _scores(values):
    """The mean over independent chains (first dimension), in standard errors of that mean."""
    return values.mean(0) / (values.std(0) / math.sqrt(len(values)))


@pytest.mark.parametrize(("latent", "shared_step"), [(2, False), (5, False), (20, False), (5, True)])
def test_draws_have_the_moments_of_the_posterior(linear, latent, shared_step):
    # Chains share nothing but arithmetic, so that their averages are independent, and the spread between these
    # averages is the Monte Carlo error, whatever the correlation within a chain.
    model, x = linear(latent, size=20)
    loc, covariance = model.posterior(x)
    torch.manual_seed(0)
    with isolated():
        log_joint = LogJoint(model, x)
        kernel = HMC(log_joint.with_gradient, log_joint.start(chains=40), shared_step=shared_step)
        draws = sample(kernel, draws=20, warmup=90)
    assert draws.position.shape == (20, 40, 20, latent)
    error = draws.position - loc
    squares = error.unsqueeze(-1) * error.unsqueeze(-2) - covariance
    upper = torch.triu_indices(latent, latent)
    moments = torch.cat([error, squares[..., upper[0], upper[1]]], -1).mean(0)
    # At most 20 + 210 scores over the 800 chains: beyond 4 by chance with 1.5 %.
    assert _scores(moments.flatten(0, 1)).abs().max() < 4
    # Each datapoint's own posterior mean: 20 x 20 scores at most, over 40 chains and so with t's heavier tails
    # (39 degrees of freedom, beyond 5 by chance with 1.3e-5 each).
    assert _scores(error.mean(0)).abs().max() < 5
    assert _scores(error.mean(0)).square().mean() < 1.5

    assert draws.acceptance.mean() == pytest.approx(0.9, abs=0.03)
    assert draws.acceptance.min() > 0.5
    assert draws.divergences.sum() == 0
    assert draws.step_size.shape == ((1,) if shared_step else (20,))
    with isolated():
        torch.testing.assert_close(draws.log_density[-1], log_joint(draws.position[-1]))


def test_one_chain_a_datapoint_is_tuned_as_well(linear):
    # This is Monte Carlo EM's use: no other chain of the datapoint to average acceptance with.
    model, x = linear(5, size=100)
    torch.manual_seed(0)
    with isolated():
        log_joint = LogJoint(model, x)
        draws = sample(HMC(log_joint.with_gradient, log_joint.start(chains=1)), draws=40, warmup=120)
    assert draws.acceptance.mean() == pytest.approx(0.9, abs=0.03)
    assert draws.acceptance.min() > 0.5


def _bernoulli():
    """A posterior that is no Gaussian: a decoder with weights large enough to bend it."""
    model = BernoulliModel(8, 2, hidden=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(1.5 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", ["linear", "bernoulli"])
def test_simulation_based_calibration(linear, name):
    # With z ~ p(z), x ~ p(x|z) and 15 independent draws of p(z|x), the rank of z among them is uniform on 0 ... 15
    # (Talts et al., 2018). Four tests in all, each at level 0.1 %.
    torch.manual_seed(0)
    model = linear(2, size=1)[0] if name == "linear" else _bernoulli()
    with isolated(), torch.no_grad():
        z = torch.randn(400, 2)
        x = _generate(model, z)
        log_joint = LogJoint(model, x)
        draws = sample(HMC(log_joint.with_gradient, log_joint.start(chains=15)), draws=1, warmup=60, thinning=10)
    ranks = (draws.position[0] < z).sum(0)
    for coordinate in ranks.T:
        assert chisquare(coordinate.bincount(minlength=16)).pvalue > 0.001


def _generate(model, z):
    return poutine.condition(model, {"z": z})(None, size=len(z))


def test_every_datapoint_finds_its_own_step_size():
    # Gaussians that differ in scale alone: the dynamics are the same but for that scale, and so is the best step.
    torch.manual_seed(0)
    scale = torch.tensor([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0])
    start = scale.unsqueeze(-1) * torch.randn(20, 6, 3)
    normal = with_gradient(lambda z: -0.5 * (z / scale.unsqueeze(-1)).double().square().sum(-1))
    kernel = HMC(normal, start, step_size=0.1)
    draws = sample(kernel, draws=200, warmup=300)
    torch.testing.assert_close(draws.acceptance, torch.full((6,), 0.9, dtype=torch.float64), atol=0.03, rtol=0)
    relative = draws.step_size / scale
    assert (relative / relative.mean() - 1).abs().max() < 0.15
    # 20 chains of 200 draws of 3 coordinates: relative error of a variance sqrt(2 / n), for n = 1000 effective draws
    # 4.5 %, at 4 standard errors.
    variance = (draws.position / scale.unsqueeze(-1)).square().mean((0, 1, 3))
    assert (variance - 1).abs().max() < 0.18


def test_a_shared_step_is_the_mean_of_all_acceptances():
    kernel = HMC(
        _normal,
        torch.zeros(2, 3, 1),
        step_size=0.5,
        shared_step=True,
    )
    acceptance = torch.tensor([[1.0, 0.8, 0.3], [0.9, 0.6, 0.6]])
    kernel.adapt(acceptance, gain=2.0)
    # log 0.5 + 2 (0.7 - 0.9)
    torch.testing.assert_close(kernel.log_step, torch.tensor([math.log(0.5) - 0.4]))
    own = HMC(kernel.density, torch.zeros(2, 3, 1), step_size=0.5)
    own.adapt(acceptance, gain=2.0)
    torch.testing.assert_close(own.log_step, math.log(0.5) + torch.tensor([0.1, -0.4, -0.9]))


def test_step_sizes_freeze_after_warm_up(linear):
    model, x = linear(2, size=7)
    torch.manual_seed(0)
    with isolated():
        log_joint = LogJoint(model, x)
        kernel = HMC(log_joint.with_gradient, log_joint.start(chains=2))
        first = kernel.log_step
        kernel.warm_up(20)
        frozen = kernel.log_step.clone()
        draws = sample(kernel, draws=10, warmup=0)
    assert (frozen != first).all()
    assert torch.equal(kernel.log_step, frozen)
    assert torch.equal(draws.step_size, frozen.exp())


def test_energies_that_are_not_finite_are_rejected_and_counted():
    # The Rayleigh density z exp(-z^2 / 2) on z > 0, written so that value and gradient are nan outside:
    # E z = sqrt(pi / 2) and E z^2 = 2.
    torch.manual_seed(0)

    def log_density(z):
        return (2 * z.sqrt().log() - 0.5 * z.square()).double().sum(-1)

    kernel = HMC(with_gradient(log_density), torch.ones(4, 100, 1), step_size=0.3, leapfrogs=5)
    draws = sample(kernel, draws=300, warmup=0)
    assert draws.divergences.sum() > 0
    assert (draws.position > 0).all()
    assert draws.log_density.isfinite().all()
    z = draws.position[100:].flatten(1, 2)
    moments = torch.cat([z - math.sqrt(math.pi / 2), z.square() - 2], -1).mean(0)
    assert _scores(moments).abs().max() < 4


def test_a_step_too_long_moves_nothing_and_counts_as_a_divergence():
    start = torch.randn(2, 3, 4)
    kernel = HMC(_normal, start, step_size=torch.tensor([1e4, 0.1, 1e30]))
    draws = sample(kernel, draws=6, warmup=0)
    assert draws.divergences.tolist() == [12, 0, 12]  # 6 draws of 2 chains
    assert draws.acceptance[[0, 2]].tolist() == [0, 0]
    assert torch.equal(draws.position[-1][:, [0, 2]], start[:, [0, 2]])
    assert not torch.equal(draws.position[-1][:, 1], start[:, 1])


def test_thinning_keeps_every_second_draw():
    def kernel():
        torch.manual_seed(0)
        return HMC(_normal, torch.zeros(2, 3, 1))

    every, second = sample(kernel(), draws=10, warmup=5), sample(kernel(), draws=5, warmup=5, thinning=2)
    assert torch.equal(every.position[1::2], second.position)
    assert torch.equal(every.log_density[1::2], second.log_density)


def test_energies_are_in_double_precision(linear):
    model, x = linear(2, size=3)
    with isolated():
        kernel = HMC((log_joint := LogJoint(model, x)).with_gradient, log_joint.start(chains=1))
        acceptance = kernel.transition().acceptance
    assert kernel.position.dtype == torch.float32
    assert kernel.value.dtype == acceptance.dtype == torch.float64
