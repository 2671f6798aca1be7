"""A Gaussian over a model's weights: its closed forms, and that a model runs with what is drawn from it."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.distributions import constraints

from pyro_vae.bayesian import BayesianModel
from pyro_vae.data.dataset import Dataset
from pyro_vae.elbo import elbo
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import bound, weights_cost
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.run import parts
from pyro_vae.run.score import evaluate
from pyro_vae.sites import isolated
from pyro_vae.split import Split


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = BayesianModel(BernoulliModel(12, 2, hidden=7))
    for mean, log_scale in zip(model.mean.parameters(), model.log_scale.values(), strict=True):
        nn.init.normal_(mean, std=0.7)
        nn.init.normal_(log_scale, -0.5, 0.5)
    return model


def test_the_divergence_is_the_closed_form_and_the_mean_of_the_draws(model):
    # KL(N(m, s^2) || N(0, 1)) = (s^2 + m^2 - 1) / 2 - log s, summed over the 7 x 2 + 7 + 12 x 7 + 12 = 117 weights.
    with torch.no_grad():
        m = torch.cat([p.flatten() for p in model.mean.parameters()])
        log_s = torch.cat([p.flatten() for p in model.log_scale.values()])
        assert len(m) == len(log_s) == 117
        expected = ((log_s.exp() ** 2 + m**2 - 1) / 2 - log_s).sum()
        torch.testing.assert_close(model.divergence(), expected)
        sampled = -torch.stack([model.log_ratio(model.draw()) for _ in range(500)])
    assert abs(sampled.mean() - expected) < 4 * sampled.std() / math.sqrt(500)


def test_draws_have_the_means_and_scales_of_the_posterior(model):
    # Of 1,000 draws the mean errs by s / 32 and the scale by s / 45: beyond 5 of these among 117, 1e-4 by chance.
    with torch.no_grad():
        draws = [model.draw() for _ in range(1000)]
        for name, q in model.posterior().items():
            values = torch.stack([draw[name] for draw in draws])
            assert ((values.mean(0) - q.loc).abs() < 5 * q.scale / math.sqrt(1000)).all()
            assert ((values.std(0) / q.scale - 1).abs() < 5 / math.sqrt(2000)).all()


def test_it_is_the_model_at_the_mean_and_another_one_with_each_draw(model, pixels):
    def logits(run):
        with isolated(), poutine.seed(rng_seed=1), torch.no_grad():
            return poutine.trace(run).get_trace(pixels.first(5)).nodes["x"]["fn"].base_dist.logits

    assert torch.equal(logits(model), logits(model.mean))
    weights = dict(model.mean.named_parameters())
    assert torch.equal(logits(lambda x: model.with_weights(weights, x)), logits(model.mean))
    assert not torch.allclose(logits(model.drawn), logits(model.mean), atol=0.1)
    with isolated(), torch.no_grad():
        assert model.drawn(None, size=4).shape == (4, 12)


class _Constrained(PyroModule):
    def __init__(self):
        super().__init__("model")
        self.scale = PyroParam(torch.ones(3), constraint=constraints.positive)

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(torch.zeros(3), self.scale).to_event(1), obs=x)


def test_constrained_weights_are_drawn_unconstrained():
    model = BayesianModel(_Constrained(), scale=0.5)
    x = torch.zeros(4, 3)
    with isolated():
        for _ in range(2):  # Pyro's store keeps the first value of a name
            weights = model.draw()
            trace = poutine.trace(lambda x, weights=weights: model.with_weights(weights, x)).get_trace(x)
            scale = trace.nodes["x"]["fn"].base_dist.scale
            torch.testing.assert_close(scale[0], weights["scale_unconstrained"].exp())
            (gradient,) = torch.autograd.grad(scale.sum(), [*model.log_scale.values()])
            assert (gradient != 0).all()


def test_frozen_weights_are_fixed():
    plain = BernoulliModel(12, 2, hidden=7)
    plain.decoder[1].bias.requires_grad_(False)
    model = BayesianModel(plain)
    assert list(model.draw()) == ["decoder.0.0.weight", "decoder.0.0.bias", "decoder.1.weight"]


@pytest.mark.parametrize("name", parts.names("model"))
def test_any_model_may_have_random_weights(name, pixels):
    torch.manual_seed(0)
    part = parts.find("model", name)
    model = BayesianModel(part(12, 2, **({"hidden": 7} if parts.takes(part, "hidden") else {})))
    with isolated():
        bounds = elbo(model.drawn, GaussianGuide(12, 2, hidden=7), pixels.first(9))
    assert bounds.isfinite().all()
    parameters = dict(model.named_parameters())
    assert len(parameters) == 2 * len(model.log_scale)
    for key, gradient in zip(parameters, torch.autograd.grad(bounds.sum(), [*parameters.values()]), strict=True):
        assert gradient.abs().max() > 0, key


def test_the_bound_is_a_mean_over_draws_of_the_weights(oracle):
    # x ~ N(b, I) with b ~ q = N(m, s^2): E log N(x; b, 1) = log N(x; m, 1) - s^2 / 2 in each of 3 dimensions. All the
    # datapoints of a draw share b: the mean of 50 of them errs as sum_d (x_d - m_d) s e_d does, far from a 50th.
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.tensor([0.5, 0.0, -0.5]))

        def forward(self, x=None, size=None):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(self.shift, 1.0).to_event(1), obs=x)

    class Prior(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    torch.manual_seed(0)
    model, guide, x = BayesianModel(Shift(), scale=0.3), Prior(), torch.randn(50, 3)
    mean, se = bound(model, guide, Split(x), particles=200)
    m, s = model.mean.shift.detach(), 0.3
    expected = (dist.Normal(m, 1.0).log_prob(x).sum(1) - 3 * s**2 / 2).mean().item()
    assert abs(mean - expected) < 4 * se
    # Of a draw, the mean over x is s e . (x mean - m) - s^2 e^2 / 2, with variance s^2 |x mean - m|^2 + 3 s^4 / 2.
    spread = math.sqrt(s**2 * (x.mean(0) - m).square().sum() + 1.5 * s**4)
    assert se == pytest.approx(spread / math.sqrt(200), rel=0.25)  # 200 draws know it to 1 / 20, 5 of these

    # The predictive density is N(m, 1 + s^2); what the weights cost is paid by the 50 training data alone.
    dataset = Dataset("x", Split(x), Split(x), (1, 3), "", "none")
    train = evaluate(model, guide, dataset, split="train", particles=100, marginal=())
    test = evaluate(model, guide, dataset, split="test", particles=100)
    cost = 3 * ((s**2 - 1) / 2 - math.log(s)) + 0.25
    assert weights_cost(model, dataset.train.total) == pytest.approx(cost / 50, rel=1e-5)
    assert test["weights_kl"] == train["weights_kl"] == weights_cost(model, dataset.train.total)
    assert test["bound"] - train["bound"] == pytest.approx(cost / 50, rel=1e-5)
    predictive = dist.Normal(m, math.sqrt(1 + s**2)).log_prob(x).sum(1).mean()
    assert abs(test["importance"]["log_px"] - predictive) < 3 * test["importance"]["se"]
    assert "weights_kl" not in evaluate(model.mean, guide, dataset, particles=30, marginal=())


def test_hmc_declines_random_weights(model, pixels):
    with pytest.raises(InputError, match="the weights are random: use importance"):
        LogJoint(model, pixels.first(1))
