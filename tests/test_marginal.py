"""Errors of means over datapoints, also where these share draws, and what a guide that is a point is answered."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch import nn

from pyro_vae.bayesian import BayesianModel, has_random_weights
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.importance import Importance
from pyro_vae.local import LocalGaussian
from pyro_vae.marginal import Estimates, batched, bound, points, proposal
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.run.score import score
from pyro_vae.split import Split


def test_the_error_of_a_mean_is_that_of_its_draws():
    values, se = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.1, 0.2, 0.2])
    # Independent: sqrt(0.01 + 0.04 + 0.04) / 3 = 0.1.
    assert Estimates(values, se).mean() == pytest.approx((3, 0.1))
    # Two batches of draws move all of them by +-0.3: a mean of two with deviations +-0.3 errs by 0.3 sqrt(2 / 2).
    shared = torch.tensor([[0.3], [-0.3]]).expand(2, 3)
    assert Estimates(values, se, shared).mean() == pytest.approx((3, 0.3))
    alone = Estimates(values[:1], torch.tensor([math.nan]))
    assert math.isnan(alone.mean().se)
    assert math.isnan(alone.minus(alone).se)


def test_batches_of_draws_have_the_mean_of_the_draws():
    deviations = torch.randn(1000, 3, dtype=torch.float64)
    few = batched(deviations)
    assert few.shape == (200, 3)
    torch.testing.assert_close(few.mean(0), deviations.mean(0))
    torch.testing.assert_close(few[1], deviations[5:10].mean(0))
    assert torch.equal(batched(deviations[:7]), deviations[:7])


@pytest.mark.parametrize("shared", [(1.0, 1.0), (1.0, 0.0), (0.1, 0.1), (0.0, 0.0)])
def test_the_error_of_a_difference_holds_the_choice_of_datapoints_and_shared_draws(shared):
    # Datapoint i has a difference of N(0, 0.5^2); each model's estimate has K = 50 draws, which move it by a share s of
    # a number that all datapoints have in common, plus one of its own. The other model sees the shared number with the
    # opposite sign, so that its part in the difference is s_1 + s_2. Variance of the mean difference over N = 20
    # datapoints: 0.25 / N + (s_1 + s_2)^2 / K + 2 / (K N). 2,000 repetitions know its root to 1.6 %: five of these.
    torch.manual_seed(0)
    N, K = 20, 50
    found, errors = [], []
    for _ in range(2000):
        common, truth = torch.randn(K, 1), 0.5 * torch.randn(N)
        pair = []
        for sign, s, base in ((1, shared[0], truth), (-1, shared[1], 0 * truth)):
            draws = sign * s * common + torch.randn(K, N)
            values = base + draws.mean(0)
            moved = draws - draws.mean(0) if s else None
            pair.append(Estimates(values, draws.std(0) / math.sqrt(K), moved))
        mean, se = pair[0].minus(pair[1])
        found.append(mean)
        errors.append(se)
    expected = math.sqrt(0.25 / N + sum(shared) ** 2 / K + 2 / (K * N))
    assert torch.tensor(found).std() == pytest.approx(expected, rel=0.08)
    assert torch.tensor(errors).square().mean().sqrt() == pytest.approx(expected, rel=0.08)


class _Shift(nn.Module):
    """x = sign * shift + noise, whatever z is; with a Gaussian over the shift, all datapoints of a draw move alike."""

    def __init__(self, sign):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))
        self.sign = sign

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.sign * self.shift, 1.0).to_event(1), obs=x)


class _Prior(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))


def test_standard_errors_of_random_weights_agree_with_repeated_draws():
    # With the same seed both models draw the same numbers, and their shifts are opposite: the difference of two has
    # twice the error of one. Counted as independent, thirty datapoints would make it sqrt(30) too small.
    torch.manual_seed(0)
    models = [BayesianModel(_Shift(sign), scale=0.2) for sign in (1, -1)]
    data = Split(1.0 + 0.1 * torch.randn(30, 3))
    means, errors = [], []
    for seed in range(60):
        scores = [score(m, _Prior(), data, {"importance": Importance(15)}, particles=15, seed=seed) for m in models]
        pairs = [each.bound for each in scores], [each.marginals["importance"].estimates for each in scores]
        told = [each for first, other in pairs for each in (first.mean(), other.mean(), other.minus(first))]
        means.append([estimate.mean for estimate in told])
        errors.append([estimate.se for estimate in told])
    # The spread of 60 is known to 1 / sqrt(2 * 59) = 9 %, and the error that 15 draws tell, over 60 of them, to 2 %.
    spread, reported = torch.tensor(means).std(0), torch.tensor(errors).square().mean(0).sqrt()
    assert ((reported / spread - 1).abs() < 0.25).all(), reported / spread
    assert spread[2] > 1.5 * spread[0]


class _Points(nn.Module):
    """A guide of a density at z and a point at w."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("w", dist.Delta(torch.zeros(len(x), 1), event_dim=1))


def test_points_are_told_from_densities(pixels):
    model, x = BernoulliModel(12, 2, hidden=7), pixels.first(4)
    assert points(_Points(), x) == ["w"]
    assert points(AutoDelta(model), x) == ["z"]
    # Their site z is a Delta, of auxiliary draws that have a density.
    for guide in (AutoNormal(model), LocalGaussian(model, x), GaussianGuide(12, 2, hidden=7)):
        assert points(guide, x) == []
        assert proposal(guide, x) is guide
    assert proposal(_Points(), x) is None
    assert proposal(None, x) is None


def test_a_point_has_no_bound(pixels):
    model = BernoulliModel(12, 2, hidden=7)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    for call in (
        lambda: bound(model, _Points(), pixels),
        lambda: Importance(30).estimate(model, _Points(), pixels),
    ):
        with pytest.raises(InputError, match="_Points is a point at site 'w', which has no density") as refusal:
            call()
        assert "\n" not in str(refusal.value)
        assert "--local" in str(refusal.value)
        assert "--marginal ais" in str(refusal.value)
    assert torch.equal(torch.rand(3), expected)  # looking took no draw


def test_random_weights_are_what_says_so():
    class Own(nn.Module):
        random_weights = True

    model = BernoulliModel(12, 2, hidden=7)
    assert has_random_weights(BayesianModel(model))
    assert has_random_weights(Own())
    assert not has_random_weights(model)
    assert not has_random_weights(lambda x: x)
    assert BayesianModel(model).at_mean is model


def test_evaluating_leaves_the_generators_alone(oracle):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = bound(oracle.model, oracle.guide, oracle.split, particles=2, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert bound(oracle.model, oracle.guide, oracle.split, particles=2, seed=1) == first
