"""Wake-sleep's two phases against gradients written by hand."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_vae.device import generator_state, set_generator_state
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.split import Split

LR, NOISE = 0.01, 0.5


class _Model(nn.Module):
    """x ~ N(W z + b, 0.5^2 I)."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(3))

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = z @ self.weight.T + self.bias
            return pyro.sample("x", dist.Normal(loc, NOISE).to_event(1), obs=x)


class _Guide(nn.Module):
    """z ~ N(A x, I)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(x @ self.weight.T, 1.0).to_event(1))


def _step(**settings):
    """One step of plain gradient descent; returns parts before and after it, the minibatch, recognised and dreamt."""
    torch.manual_seed(0)
    split = Split(torch.randn(40, 3))
    model, guide = _Model(), _Guide()
    settings = {"weight_prior": math.inf, **settings}
    learner = WakeSleep(model, guide, split, batch=10, optimizer="sgd", step_size=LR, **settings)
    before = copy.deepcopy(model), copy.deepcopy(guide)
    state = generator_state(split.device)
    learner.step()
    set_generator_state(state, split.device)
    particles = settings.get("particles", 1)
    with torch.no_grad(), pyro.plate("particles", particles, dim=-2):
        x = split.minibatch(10)
        z = before[1](x)
    with torch.no_grad():
        dream = poutine.trace(model).get_trace(None, size=10)  # the model has been updated: that is the point
    return before, learner, x, z.reshape(particles, 10, 2), dream.nodes["z"]["value"], dream.nodes["x"]["value"]


def _wake(model, x, z, weights):
    """The gradient of sum_i sum_k w_ki log N(x_i; W z_ki + b, s^2 I): residuals / s^2 times z, and alone."""
    residual = weights.unsqueeze(-1) * (x - z @ model.weight.T - model.bias) / NOISE**2
    return torch.einsum("kix,kiz->xz", residual, z), residual.sum((0, 1))


def _sleep(guide, x, z):
    """The gradient of sum_i log N(z_i; A x_i, I)."""
    return (z - x @ guide.weight.T).mT @ x


def test_a_step_is_a_wake_phase_and_then_a_sleep_phase():
    (model, guide), learner, x, z, dream_z, dream_x = _step()
    with torch.no_grad():
        weight, bias = _wake(model, x, z, torch.ones(1, 10))
        torch.testing.assert_close(learner.model.weight, model.weight + LR * weight)
        torch.testing.assert_close(learner.model.bias, model.bias + LR * bias)
        torch.testing.assert_close(learner.guide.weight, guide.weight + LR * _sleep(guide, dream_x, dream_z))
        # Its loss is the negative bound of the minibatch, with the model and guide before the step.
        log_joint = -0.5 * ((x - z[0] @ model.weight.T - model.bias) / NOISE).square().sum(-1) - 3 * math.log(NOISE)
        log_joint = log_joint - 0.5 * z[0].square().sum(-1) - 2.5 * math.log(2 * math.pi)
        log_q = -0.5 * (z[0] - x @ guide.weight.T).square().sum(-1) - math.log(2 * math.pi)
        torch.testing.assert_close(learner.loss, (log_q - log_joint).mean())


def test_dreams_come_from_the_updated_model():
    # Dreams of the model before the step would have given another guide: x = W z + b + noise with the old W and b.
    (model, guide), learner, _, _, dream_z, dream_x = _step()
    with torch.no_grad():
        shift = dream_z @ (model.weight - learner.model.weight).T + model.bias - learner.model.bias
        wrong = guide.weight + LR * _sleep(guide, dream_x + shift, dream_z)
    assert (learner.guide.weight - wrong).abs().max() > 1e-3


def test_particles_are_weighed_by_importance():
    (model, guide), learner, x, z, dream_z, dream_x = _step(particles=4)
    with torch.no_grad():
        log_joint = -0.5 * ((x - z @ model.weight.T - model.bias) / NOISE).square().sum(-1) - 0.5 * z.square().sum(-1)
        weights = (log_joint + 0.5 * (z - x @ guide.weight.T).square().sum(-1)).softmax(0)
        weight, bias = _wake(model, x, z, weights)
        torch.testing.assert_close(learner.model.weight, model.weight + LR * weight, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(learner.model.bias, model.bias + LR * bias, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(learner.guide.weight, guide.weight + LR * _sleep(guide, dream_x, dream_z))


@pytest.mark.parametrize("insomnia", [0.3, 1.0])
def test_insomnia_mixes_wake_phi_into_the_guides_update(insomnia):
    (model, guide), learner, x, z, dream_z, dream_x = _step(particles=4, insomnia=insomnia)
    with torch.no_grad():
        log_joint = -0.5 * ((x - z @ model.weight.T - model.bias) / NOISE).square().sum(-1) - 0.5 * z.square().sum(-1)
        residual = z - x @ guide.weight.T
        weights = (log_joint + 0.5 * residual.square().sum(-1)).softmax(0)
        wake = torch.einsum("ki,kiz,ix->zx", weights, residual, x)
        gradient = (1 - insomnia) * _sleep(guide, dream_x, dream_z) + insomnia * wake
        torch.testing.assert_close(learner.guide.weight, guide.weight + LR * gradient, atol=1e-5, rtol=1e-4)


def test_the_weight_prior_enters_both_phases_with_the_minibatchs_share():
    # The wake phase differs by -lr (M/N) w on weights alone; the sleep phase of one and the same dream would as well,
    # and its dream differs: it is compared with the gradient of its own.
    (model, guide), learner, x, z, dream_z, dream_x = _step(weight_prior=0.5)
    with torch.no_grad():
        share = 10 / 40 / 0.5**2
        weight, bias = _wake(model, x, z, torch.ones(1, 10))
        torch.testing.assert_close(learner.model.weight, model.weight + LR * (weight - share * model.weight))
        torch.testing.assert_close(learner.model.bias, model.bias + LR * bias)
        gradient = _sleep(guide, dream_x, dream_z) - share * guide.weight
        torch.testing.assert_close(learner.guide.weight, guide.weight + LR * gradient)


@pytest.mark.parametrize("settings", [{}, {"particles": 3, "insomnia": 0.5}])
def test_state_dict_carries_all_that_the_next_step_needs(pixels, settings):
    torch.manual_seed(0)
    parts = BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    learner = WakeSleep(*parts, pixels, batch=10, step_size=0.1, **settings)
    for _ in range(110):  # past the warm-up
        learner.step()
    others = copy.deepcopy(parts)
    other = WakeSleep(*others, pixels, batch=10, step_size=0.1, **settings)
    state = copy.deepcopy(learner.state_dict())
    for _ in range(2):
        learner.step()
    other.load_state_dict(state)
    for _ in range(2):
        other.step()
    for part, resumed in zip(parts, others, strict=True):
        for p, q in zip(part.parameters(), resumed.parameters(), strict=True):
            assert torch.equal(p, q)


def test_each_phase_has_an_optimizer_of_its_own(pixels):
    model, guide = BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    learner = WakeSleep(model, guide, pixels, batch=10)
    assert learner.step() == 10
    for phase, module in (("wake", model), ("sleep", guide)):
        update = getattr(learner, phase)
        assert {id(p) for p in update.parameters} == {id(p) for p in module.parameters()}
        assert update.optimizer.group["steps"] == 1
        shapes = [each["sum"].shape for each in learner.state_dict()[phase]["state"].values()]
        assert shapes == [parameter.shape for parameter in module.parameters()]


def test_the_guide_gets_the_authors_factor(pixels):
    # His wake-sleep multiplies the weights of the log variance by 0.1, in AEVB it does not, and the biases in neither.
    guide = GaussianGuide(12, 2, hidden=7, **WakeSleep.guide_defaults)
    assert guide.log_variance_factor == 0.1
    x = pixels.first(4)
    with torch.no_grad():
        guide.log_variance.weight.fill_(3.0)
        guide.log_variance.bias.fill_(2.0)
        h = guide.hidden(x)
    # Each log variance is 0.1 x 3 sum_j h_j + 2.
    expected = (0.5 * (0.3 * h.sum(1, keepdim=True) + 2.0)).exp().expand(4, 2)
    torch.testing.assert_close(guide.posterior(x).base_dist.scale, expected)


class _TwoLayerModel(nn.Module):
    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z2 = pyro.sample("z2", dist.Normal(z1.sum(-1), 1.0))
            x_loc = z2.unsqueeze(-1).expand(*z2.shape, 12)
            return pyro.sample("x", dist.Normal(x_loc, 1.0).to_event(1), obs=x)


class _TwoLayerGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 2), nn.Linear(12, 1)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(self.second(x).squeeze(-1), 0.3))
            pyro.sample("z1", dist.Normal(self.first(x) + z2.unsqueeze(-1) / 3, 0.6).to_event(1))


def test_two_latent_sites_in_another_order():
    # E(z2|x) = 3 sum(x) / (1 + 12 x 3): every weight of a linear regression on dreams tends to 3 / 37. Its residual has
    # the variance 3 / 37, and x the variance 1 along every direction but one: the weights' mean over 300 steps is a
    # regression on 30,000 dreams, with an error of sqrt(3 / 37 / 30,000) = 0.0016 each.
    torch.manual_seed(0)
    guide = _TwoLayerGuide()
    x = _TwoLayerModel()(None, size=100)
    learner = WakeSleep(_Trainable(), guide, Split(x), optimizer="adam", step_size=0.02, weight_prior=math.inf)
    for _ in range(200):
        learner.step()
    mean = torch.zeros(1, 12)
    for _ in range(300):
        learner.step()
        mean += guide.second.weight.detach() / 300
    torch.testing.assert_close(mean, torch.full((1, 12), 3 / 37), atol=5 * 0.0016, rtol=0)


class _Trainable(_TwoLayerModel):
    """An optimiser wants a parameter, even one that no one uses."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(2, 2))


@pytest.mark.parametrize("settings", [{"insomnia": 0.5}, {"insomnia": 1.5, "particles": 2}, {"insomnia": -1}])
def test_impossible_insomnia_is_refused(pixels, settings):
    with pytest.raises(InputError, match=rf"insomnia {settings['insomnia']} must lie in \[0, 1\]"):
        WakeSleep(BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7), pixels, **settings)
