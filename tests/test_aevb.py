"""AEVB against exact answers and against Pyro's own SVI."""

import copy
import math
from functools import partial

import pyro
import pyro.distributions as dist
import pyro.optim
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints

from pyro_vae.elbo import log_weights
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.marginal import bound
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.gaussian import GaussianModel
from pyro_vae.split import Split


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_reaches_log_px_with_the_posteriors_family(oracle, kl):
    torch.manual_seed(0)
    learner = AEVB(
        oracle.model, oracle.guide, oracle.split, optimizer="adam", step_size=0.02, kl=kl, weight_prior=math.inf
    )
    for _ in range(1500):
        learner.step()
    mean, se = bound(oracle.model, oracle.guide, oracle.split, particles=500)
    exact = oracle.model.log_px(oracle.x).mean().item()
    assert exact - 0.05 < mean <= exact + 3 * se


@pytest.mark.parametrize("model_class", [BernoulliModel, GaussianModel])
@pytest.mark.parametrize(("optimizer", "step_size"), [("Adam", 1e-2), ("SGD", 1e-3), ("Adagrad", 1e-2)])
@pytest.mark.parametrize(
    ("own", "particles", "elbo"),
    [
        ({"kl": "sampled"}, 1, Trace_ELBO),
        ({"kl": "analytic"}, 1, TraceMeanField_ELBO),
        ({"kl": "sampled"}, 3, Trace_ELBO),
        # Where all sites lie in the plate, Pyro's weighs the draws of each datapoint apart, too.
        ({"objective": "iwae"}, 3, partial(RenyiELBO, alpha=0)),
    ],
)
def test_twenty_steps_are_those_of_pyro_svi(pixels, model_class, optimizer, step_size, own, particles, elbo):
    torch.manual_seed(0)
    model, guide = model_class(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    pyro_model, pyro_guide = copy.deepcopy(model), copy.deepcopy(guide)

    torch.manual_seed(1)
    learner = AEVB(
        model,
        guide,
        pixels,
        batch=10,
        optimizer=optimizer,
        step_size=step_size,
        particles=particles,
        weight_prior=math.inf,
        **own,
    )
    torch.manual_seed(2)
    for _ in range(20):
        learner.step()

    torch.manual_seed(2)
    with pyro.get_param_store().scope():
        loss = elbo(num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1)
        svi = SVI(pyro_model, pyro_guide, getattr(pyro.optim, optimizer)({"lr": step_size}), loss)
        for _ in range(20):
            svi.step(pixels.minibatch(10))

    for ours, theirs in ((model, pyro_model), (guide, pyro_guide)):
        for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(parameter, other, atol=1e-5, rtol=1e-4, msg=name)


def test_weight_prior_enters_with_the_share_of_the_minibatch(pixels):
    # Two equal plain gradient steps, with and without the prior, differ by -lr (M/N) w on weights alone.
    torch.manual_seed(0)
    pairs = [(BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7))]
    pairs.append(copy.deepcopy(pairs[0]))
    before = [p.detach().clone() for module in pairs[0] for p in module.parameters()]
    for (model, guide), prior in zip(pairs, (1.0, math.inf), strict=True):
        learner = AEVB(model, guide, pixels, batch=15, optimizer="sgd", step_size=0.1, weight_prior=prior)
        torch.manual_seed(1)
        learner.step()
    after = [[p for module in pair for p in module.parameters()] for pair in pairs]
    for start, with_prior, without in zip(before, *after, strict=True):
        expected = -0.1 * (15 / 60) * start if start.ndim > 1 else torch.zeros_like(start)
        torch.testing.assert_close(with_prior - without, expected, atol=1e-6, rtol=1e-3)


def _trained(pixels, seed, steps=30):
    torch.manual_seed(seed)
    model, guide = BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    learner = AEVB(model, guide, pixels, batch=10, optimizer="adam", step_size=0.01)
    for _ in range(steps):
        learner.step()
    return [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]


def test_two_models_of_one_class_do_not_touch_each_other(pixels):
    first, second = _trained(pixels, seed=1), _trained(pixels, seed=2)
    # In a process of its own the second one must end the same.
    again = _trained(pixels, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(second, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_state_dict_carries_all_that_the_next_step_needs(pixels):
    torch.manual_seed(0)
    model, guide = BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    learner = AEVB(model, guide, pixels, batch=10, step_size=0.1)
    for _ in range(110):  # past the warm-up
        learner.step()
    other_model, other_guide = copy.deepcopy(model), copy.deepcopy(guide)
    other = AEVB(other_model, other_guide, pixels, batch=10, step_size=0.1)
    state = copy.deepcopy(learner.state_dict())
    learner.step()
    after = [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]
    other.load_state_dict(state)
    other.step()
    for p, q in zip(after, (*other_model.parameters(), *other_guide.parameters()), strict=True):
        assert torch.equal(p, q)


class _PlainModel(nn.Module):
    """Neither pyro.module nor PyroModule: its parameters must train all the same."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(12))

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = self.loc + z.sum(-1, keepdim=True)
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


class _ConstrainedGuide(PyroModule):
    def __init__(self):
        super().__init__("guide")
        self.scale = PyroParam(torch.ones(2), constraint=constraints.positive)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(torch.zeros(2), self.scale).to_event(1))


def test_plain_modules_and_constrained_parameters_train(pixels):
    model, guide = _PlainModel(), _ConstrainedGuide()
    learner = AEVB(model, guide, pixels, batch=10, optimizer="sgd", step_size=0.01)
    learner.step()
    assert model.loc.abs().min() > 0
    assert (guide.scale != 1).all()


class _TwoLayerModel(nn.Module):
    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z2 = pyro.sample("z2", dist.Normal(z1.sum(-1), 1.0))
            return pyro.sample("x", dist.Normal(z2.unsqueeze(-1).expand(*z2.shape, 12), 1.0).to_event(1), obs=x)


class _TwoLayerGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 2), nn.Linear(12, 1)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(self.first(x), 0.5).to_event(1))
            pyro.sample("z2", dist.Normal(self.second(x).squeeze(-1) + z1.sum(-1), 0.5))


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_two_latent_sites_train_and_evaluate(pixels, kl):
    torch.manual_seed(0)
    model, guide = _TwoLayerModel(), _TwoLayerGuide()
    before, _ = bound(model, guide, pixels, particles=50)
    learner = AEVB(model, guide, pixels, batch=30, optimizer="adam", step_size=0.02, kl=kl, particles=2)
    for _ in range(200):
        learner.step()
    after, _ = bound(model, guide, pixels, particles=50)
    assert after > before + 0.5


class _CoinModel(nn.Module):
    """z is 0 or 1: no reparameterisation. x ~ N(3 z, 1)."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Bernoulli(torch.full((1,), 0.5)).to_event(1))
            return pyro.sample("x", dist.Normal(3 * z, 1.0).to_event(1), obs=x)


class _CoinGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.logit = nn.Linear(1, 1)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Bernoulli(logits=self.logit(x)).to_event(1))


def test_guides_without_reparameterisation_go_by_the_score_function():
    # p(z=1|x) = sigmoid(3 x - 4.5), from N(x; 3, 1) / N(x; 0, 1) = exp(3 x - 4.5): slope 3, offset -4.5.
    torch.manual_seed(0)
    x = torch.randn(500, 1) + 3 * torch.randint(0, 2, (500, 1))
    guide = _CoinGuide()
    learner = AEVB(
        _CoinModel(), guide, Split(x), batch=100, optimizer="adam", step_size=0.02, particles=5, weight_prior=math.inf
    )
    for _ in range(1500):
        learner.step()
    exact = torch.logsumexp(dist.Normal(torch.tensor([0.0, 3.0]), 1.0).log_prob(x), -1) - math.log(2)
    mean, se = bound(_CoinModel(), guide, Split(x), particles=200)
    assert exact.mean() - 0.03 < mean <= exact.mean() + 3 * se
    assert log_weights(_CoinModel(), guide, x).shape == (1, 500)
    with pytest.raises(InputError, match="kl = analytic needs a reparameterised guide"):
        AEVB(_CoinModel(), guide, Split(x), kl="analytic")
    with pytest.raises(InputError, match="objective = iwae needs a reparameterised guide"):
        AEVB(_CoinModel(), guide, Split(x), objective="iwae", particles=5)


@pytest.mark.parametrize("model_class", [BernoulliModel, GaussianModel])
def test_iwae_of_one_particle_is_the_elbo(pixels, model_class):
    ends = []
    for objective in ("elbo", "iwae"):
        torch.manual_seed(0)
        model, guide = model_class(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
        learner = AEVB(model, guide, pixels, batch=10, optimizer="adam", objective=objective)
        for _ in range(20):
            learner.step()
        ends.append([p.detach() for p in (*model.parameters(), *guide.parameters())])
    assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))


def test_iwae_reaches_every_parameter(pixels):
    model, guide = BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    learner = AEVB(model, guide, pixels, batch=10, objective="iwae", particles=4)
    loss, _ = learner._loss(pixels.values)
    parameters = dict((*model.named_parameters("model"), *guide.named_parameters("guide")))
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "vimco"}, "objective vimco is unknown: choose from elbo, iwae"),
        ({"objective": "iwae", "kl": "analytic"}, "objective = iwae has no closed form within its logarithm"),
    ],
)
def test_impossible_objectives_are_refused(pixels, settings, message):
    with pytest.raises(InputError, match=message):
        AEVB(BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7), pixels, **settings)


class _CrossedModel(nn.Module):
    """p(z2) p(z1|z2), where the guide draws z1 first."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
            z1 = pyro.sample("z1", dist.Normal(z2.unsqueeze(-1).expand(*z2.shape, 2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z1.sum(-1, keepdim=True) * torch.ones(12), 1.0).to_event(1), obs=x)


def test_a_closed_form_is_refused_where_it_would_be_wrong(pixels):
    with pytest.raises(InputError, match=r"kl = analytic needs guide and model to sample in one order"):
        AEVB(_CrossedModel(), _TwoLayerGuide(), pixels, kl="analytic")
    AEVB(_CrossedModel(), _TwoLayerGuide(), pixels).step()


class _UnnamedGuide(_ConstrainedGuide):
    def __init__(self):
        PyroModule.__init__(self)
        self.scale = PyroParam(torch.ones(2), constraint=constraints.positive)


class _UnnamedModel(PyroModule):
    def __init__(self):
        super().__init__()
        self.scale = PyroParam(torch.ones(12), constraint=constraints.positive)

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = z.sum(-1, keepdim=True) * torch.ones(12)
            return pyro.sample("x", dist.Normal(loc, self.scale.sum()).to_event(1), obs=x)


def test_parameters_that_would_merge_in_pyros_store_are_refused(pixels):
    with pytest.raises(InputError, match="share the name of a PyroParam"):
        AEVB(_UnnamedModel(), _UnnamedGuide(), pixels)


class _NormedGuide(GaussianGuide):
    def __init__(self):
        super().__init__(12, 2, hidden=5)
        self.norm = nn.BatchNorm1d(12)

    def posterior(self, x):
        return super().posterior(self.norm(x))


def test_looking_at_a_model_changes_nothing_in_it(pixels):
    model, guide = BernoulliModel(12, 2, hidden=5), _NormedGuide()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    bound(model, guide, pixels, particles=3)
    learner = AEVB(model, guide, pixels, batch=10)
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    assert guide.training
    learner.step()
    assert guide.norm.num_batches_tracked == 1
