"""Global latent variables against a linear Gaussian model, whose posterior and predictive density are exact.

.. math:: w \\sim N(0, 4), \\quad z_i \\sim N(0, 1), \\quad x_i | z_i, w \\sim N(w + z_i, 0.25)

Given N data, with s^2 = 1 + 0.25 the variance of x_i given w: w is N(m, v), 1 / v = 1 / 4 + N / s^2,
m = v sum(x) / s^2; x_new is N(m, v + s^2); z_i given x_i and w is N((x_i - w) / s^2, 0.25 / s^2).
"""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch import nn

from pyro_vae.analysis.encode import encode
from pyro_vae.checks import check_pair
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.generate import prior_means
from pyro_vae.global_latents import with_globals
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.ais import AIS
from pyro_vae.inference.bdmc import BDMC
from pyro_vae.inference.full_vb import FullVB
from pyro_vae.inference.mcem import MCEM
from pyro_vae.inference.reciprocal import Reciprocal
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.marginal import bound, weights_cost
from pyro_vae.run.score import evaluate
from pyro_vae.split import Split

N, S2 = 30, 1.25
TRAIN, TEST = (torch.randn(n, 1, generator=torch.Generator().manual_seed(n)) * S2**0.5 + 1.5 for n in (N, 12))
V = 1 / (1 / 4 + N / S2)
M = V * TRAIN.sum().item() / S2
KL = (V + M**2) / 8 - 0.5 + math.log(2) - 0.5 * math.log(V)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x=None, size=None):
        w = pyro.sample("w", dist.Normal(0.0, 2.0))
        n = size if x is None else len(x)
        with pyro.plate("data", N, subsample_size=n):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            loc = (w + z + 0 * self.nothing).unsqueeze(-1)
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)


class Guide(nn.Module):
    """The exact posterior."""

    def forward(self, x):
        w = pyro.sample("w", dist.Normal(M, V**0.5))
        with pyro.plate("data", N, subsample_size=len(x)):
            pyro.sample("z", dist.Normal((x[:, 0] - w) / S2, (0.25 / S2) ** 0.5))


@pytest.fixture
def dataset():
    return Dataset("toy", Split(TRAIN), Split(TEST), (1, 1), "", "none")


def test_bound_and_importance_are_those_of_the_predictive_density(dataset):
    predictive = dist.Normal(M, (V + S2) ** 0.5).log_prob(TEST).mean().item()
    found = evaluate(Model(), Guide(), dataset, particles=2000)
    assert abs(found["importance"]["log_px"] - predictive) < 3 * found["importance"]["se"]
    assert 0 < found["importance"]["se"] < 0.01
    # With z exact given w, the bound is E_q(w) log p(x | w): N(x; w, S2) is lower by V / (2 S2) at w from N(M, V).
    expected = dist.Normal(M, S2**0.5).log_prob(TEST).mean().item() - V / (2 * S2)
    assert abs(found["bound"] - expected) < 3 * found["bound_se"]
    assert found["weights_kl"] == pytest.approx(KL / N, rel=1e-6)


def test_the_bound_of_the_training_data_is_their_evidence(dataset):
    # With the exact posterior the bound of all data is log p(x_1 ... x_N), of which each pays a share.
    covariance = S2 * torch.eye(N) + 4.0
    evidence = dist.MultivariateNormal(torch.zeros(N), covariance).log_prob(TRAIN[:, 0]).item()
    found = evaluate(Model(), Guide(), dataset, split="train", particles=100)
    assert abs(found["bound"] - evidence / N) < 3 * found["bound_se"]
    assert found["bound_se"] < 0.02


def test_a_divergence_without_a_closed_form_is_an_average(dataset):
    class Student(Guide):
        def forward(self, x):
            w = pyro.sample("w", dist.StudentT(1e6, M, V**0.5))  # a Gaussian by another name
            with pyro.plate("data", N, subsample_size=len(x)):
                pyro.sample("z", dist.Normal((x[:, 0] - w) / S2, (0.25 / S2) ** 0.5))

    # log q - log p of a draw has a deviation near 0.7, of 100 draws 0.07.
    assert with_globals(Model(), Student(), dataset.train).divergence().item() == pytest.approx(KL, abs=0.3)


def test_a_point_pays_nothing(dataset):
    model = Model()

    class Mixed(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.auto = kind(poutine.block(model, expose=["w"]))

        def forward(self, x):
            self.auto(x)
            with pyro.plate("data", N, subsample_size=len(x)):
                pyro.sample("z", dist.Normal(x[:, 0], 0.5))

    guide = Mixed(AutoDelta)
    check_pair(model, guide, TRAIN)
    assert weights_cost(with_globals(model, guide, dataset.train), N) == 0.0
    assert evaluate(model, guide, dataset, particles=50)["importance"]["se"] > 0
    guide = Mixed(AutoNormal)
    check_pair(model, guide, TRAIN)
    assert weights_cost(with_globals(model, guide, dataset.train), N) > 0


def test_generation_draws_from_the_guide(dataset):
    model = with_globals(Model(), Guide(), dataset.train)
    torch.manual_seed(0)
    # One w serves a call. The mean over 400 calls of the mean of 25 draws has the variance V + 1 / 25 over 400.
    means = torch.stack([prior_means(model, 25).mean() for _ in range(400)])
    assert abs(means.mean().item() - M) < 4 * ((V + 1 / 25) / 400) ** 0.5
    assert means.std().item() == pytest.approx((V + 1 / 25) ** 0.5, rel=0.15)


def test_it_trains_with_particles_one_at_a_time_as_pyro_does(dataset):
    torch.manual_seed(0)
    learner = AEVB(Model(), Guide(), dataset.train, batch=10, particles=3)
    assert learner.elbo.vectorize_particles is False
    torch.manual_seed(1)
    x = dataset.train.minibatch(10)
    expected = Trace_ELBO(num_particles=3).loss(learner.model, learner.guide, x) / 10
    torch.manual_seed(1)
    assert learner.update.loss(dataset.train.values)[1].item() == pytest.approx(expected, rel=1e-5)


REFUSED = {
    "wake_sleep": lambda data: WakeSleep(Model(), Guide(), data),
    "full_vb": lambda data: FullVB(Model(), Guide(), data),
    "mcem": lambda data: MCEM(Model(), None, data),
    "iwae": lambda data: AEVB(Model(), Guide(), data, batch=10, objective="iwae", particles=2),
    "HMC": lambda data: AIS().estimate(with_globals(Model(), Guide(), data), Guide(), data),
    "HMC of bdmc": lambda data: BDMC().estimate(with_globals(Model(), Guide(), data), Guide(), data),
    "HMC of reciprocal": lambda data: Reciprocal().estimate(with_globals(Model(), Guide(), data), Guide(), data),
    "draws": lambda data: encode(with_globals(Model(), Guide(), data), Guide(), data),
    "no guide": lambda data: bound(Model(), None, data),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_one_line(name, dataset):
    with pytest.raises(InputError, match=r"'w' .*global|global latent variable 'w'") as caught:
        REFUSED[name](dataset.train)
    assert "\n" not in str(caught.value)


class OfRows(Guide):
    def forward(self, x):
        w = pyro.sample("w", dist.Normal(x.mean(), V**0.5))
        with pyro.plate("data", N, subsample_size=len(x)):
            pyro.sample("z", dist.Normal(x[:, 0] - w, 0.5))


class OwnDraw(Guide):
    def forward(self, x):
        pyro.sample("u", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
        super().forward(x)


class OnePlate(Guide):
    def forward(self, x):
        with pyro.plate("data", N, subsample_size=len(x)):
            pyro.sample("w", dist.Normal(x[:, 0], 1.0))
            pyro.sample("z", dist.Normal(x[:, 0], 0.5))


class Summed(nn.Module):
    def forward(self, x=None, size=None):
        w = pyro.sample("w", dist.Normal(0.0, 2.0))
        with pyro.plate("data", N, subsample_size=size if x is None else len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            y = pyro.sample("y", dist.Categorical(torch.ones(3) / 3), infer={"enumerate": "parallel"})
            return pyro.sample("x", dist.Normal((w + z + y).unsqueeze(-1), 0.5).to_event(1), obs=x)


class Crowded(Model):
    def forward(self, x=None, size=None):
        with pyro.plate("parts", 3):
            pyro.sample("u", dist.Normal(0.0, 1.0))
        return super().forward(x, size)


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (Model, OfRows, "site 'w' of .*OfRows is global, and changes with the rows"),
        (Model, OwnDraw, "OwnDraw has the auxiliary site 'u'"),
        (Model, OnePlate, "site 'w' of .*Model"),
        (Summed, Guide, "site 'y' of .*Summed is summed out, which it cannot be where site 'w' is global"),
        (Crowded, Guide, "does not sample site 'u'"),
    ],
)
def test_a_pair_that_does_not_fit_is_one_line(model, guide, message):
    with pytest.raises(InputError) as caught:
        check_pair(model(), guide(), TRAIN)
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)
