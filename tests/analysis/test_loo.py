"""Leave-one-out under random weights, against the exact answer."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from pyro_vae.analysis.loo import loo
from pyro_vae.bayesian import BayesianModel
from pyro_vae.errors import InputError

N, NOISE = 60, 0.5


class ShiftModel(PyroModule):
    """x = theta + z + noise with z ~ N(0, 1): given theta, x is N(theta, 1 + NOISE^2)."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1))

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.theta + z, NOISE).to_event(1), obs=x)


class ShiftGuide(PyroModule):
    """The posterior of z at a given theta: N((x - theta) / v, NOISE^2 / v) with v = 1 + NOISE^2."""

    def __init__(self, theta):
        super().__init__()
        self.theta = theta

    def forward(self, x):
        v = 1 + NOISE**2
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal((x - self.theta) / v, math.sqrt(NOISE**2 / v)).to_event(1))


def test_it_is_exact_where_the_posterior_of_the_weights_is():
    torch.manual_seed(0)
    v = 1 + NOISE**2
    x = 0.7 + math.sqrt(v) * torch.randn(N, 1)
    # theta has the prior N(0, 1) and N observations of variance v: precision 1 + N / v, mean (sum x / v) / precision.
    precision = 1 + N / v
    mean = (x.sum() / v / precision).item()
    model = ShiftModel()
    with torch.no_grad():
        model.theta.fill_(mean)
    found = loo(BayesianModel(model, scale=precision**-0.5), ShiftGuide(mean), x, draws=500, particles=500)
    # Without x_i: precision 1 + (N - 1) / v, and x_i is N(mean_i, v + 1 / precision_i).
    without = 1 + (N - 1) / v
    means = (x.sum() - x) / v / without
    exact = dist.Normal(means, math.sqrt(v + 1 / without)).log_prob(x).sum().item()
    within = dist.Normal(mean, math.sqrt(v + 1 / precision)).log_prob(x).sum().item()
    # One weight costs about 1 nat: p = within - exact. 500 draws give it to sqrt(2 / 500) = 6 %; the guide, exact
    # at the mean of theta alone, is off by a quarter of its deviation at others: 6 % variance of the weights over 500
    # particles, times 60 datapoints, is 0.01.
    assert found.elpd == pytest.approx(exact, abs=0.15)
    assert found.p == pytest.approx(within - exact, abs=0.15)
    assert 0.5 < found.p < 1.5
    assert (found.pareto_k < 0.7).all()


def test_draws_of_another_distribution_are_weighted_to_the_posterior():
    torch.manual_seed(0)
    v = 1 + NOISE**2
    x = 0.7 + math.sqrt(v) * torch.randn(N, 1)
    precision = 1 + N / v
    mean, sd = (x.sum() / v / precision).item(), precision**-0.5
    model = ShiftModel()
    with torch.no_grad():
        model.theta.fill_(mean + 2 * sd)  # two standard deviations off, and half as wide again
    wrong = BayesianModel(model, scale=1.5 * sd)
    without = 1 + (N - 1) / v
    means = (x.sum() - x) / v / without
    exact = dist.Normal(means, math.sqrt(v + 1 / without)).log_prob(x).sum().item()
    found = [
        loo(wrong, ShiftGuide(mean), x, draws=400, particles=200, corrected=corrected) for corrected in (True, False)
    ]
    # With E (p / q)^2 = 4 there are 100 effective draws: a weight that costs 1 nat is known to sqrt(2 / 100) = 14 %.
    assert found[0].elpd == pytest.approx(exact, abs=0.45)
    assert (found[0].pareto_k < 0.7).all()
    # Taken for the posterior, they are two standard deviations off: half of four nats, less what leaving out mends.
    assert exact - found[1].elpd > 1


def test_weights_that_are_not_random_are_refused():
    with pytest.raises(InputError, match="ShiftModel has no random weights: leave-one-out is for runs of full_vb"):
        loo(ShiftModel(), ShiftGuide(0.0), torch.zeros(3, 1))
