"""Sums of densities with known values, and draws that are, or are not, those of a density."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from pyro_vae.analysis.check.densities import add_up, cells, match, normalised
from pyro_vae.analysis.check.verdict import Fault, Skipped
from pyro_vae.columns import Columns

KNOWN = {
    "a Gaussian far from 0": dist.Normal(torch.tensor([1000.0, -3e4]), torch.tensor([0.01, 5.0])).to_event(1),
    "heavy tails": dist.StudentT(2.1, torch.zeros(2), 1.0).to_event(1),
    "a wide log-normal": dist.LogNormal(torch.zeros(1), 3.0).to_event(1),
    "infinite at both ends": dist.Beta(torch.tensor([0.3]), torch.tensor([0.3])).to_event(1),
    "on a circle": dist.VonMises(torch.zeros(2), 1.0).to_event(1),
    "counts": dist.Poisson(torch.tensor([0.1, 30.0])).to_event(1),
    "categories": dist.Categorical(logits=torch.tensor([[0.0, 1.0, -2.0]])).to_event(1),
    "a plane": dist.MultivariateNormal(torch.ones(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]])),
    "a simplex": dist.Dirichlet(torch.tensor([2.0, 3.0, 4.0])),
    "seven dimensions": dist.MultivariateNormal(torch.ones(7), torch.eye(7) + 0.5),
    "heavy tails in four": dist.MultivariateStudentT(torch.tensor(4.0), torch.zeros(4), torch.eye(4)),
    "columns": Columns(
        [(torch.tensor([1]), dist.Normal(torch.zeros(1), 1.0)), (torch.tensor([0]), dist.Poisson(torch.ones(1)))],
        torch.tensor([1, 0]),
    ).to_event(1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_sound_distributions_pass(name):
    for one in cells(KNOWN[name]):
        sums = add_up(one)
        # Quadrature is exact to 1e-3 here, and an estimate says its error.
        assert abs(normalised(sums) - 1) < 1e-3 + 6 * sums.error.max()
        assert match(sums) < 1


def test_the_mean_is_that_of_the_density():
    # A Gamma(3, 2) has the mean 3 / 2, a Poisson its rate.
    (gamma,), (poisson,) = (cells(d) for d in (dist.Gamma(torch.tensor([3.0]), 2.0), dist.Poisson(torch.tensor([4.0]))))
    assert add_up(gamma).mean.item() == pytest.approx(1.5, abs=1e-4)
    assert add_up(poisson).mean.item() == pytest.approx(4.0, abs=1e-4)


class Scaled(dist.MultivariateNormal):
    """A density that is e times one."""

    def log_prob(self, value):
        return super().log_prob(value) + 1.0


class Elsewhere(dist.MultivariateNormal):
    """Draws a whole standard deviation beside the density."""

    def rsample(self, sample_shape=()):
        return super().rsample(sample_shape) + 1.0


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_factor_and_a_shift_are_told_apart(size):
    wrong = add_up(Scaled(torch.zeros(size), torch.eye(size)))
    with pytest.raises(Fault, match=r"adds up to 2\.[67]"):  # e = 2.718
        normalised(wrong)
    assert match(wrong) < 1
    beside = Elsewhere(torch.zeros(size), torch.eye(size))
    with pytest.raises(Fault, match="not those of its density"):
        match(add_up(beside))


def test_draws_are_held_to_a_bound_that_one_in_a_million_exceeds():
    # 2 exp(-2 n e^2) = 1e-6 at n = 10,000 gives e = 0.0269.
    sums = add_up(dist.Normal(torch.zeros(1), 1.0))
    assert sums.limit.item() == pytest.approx(math.sqrt(math.log(2e6) / 2e4))
    assert sums.distance.item() < sums.limit.item()


class Wide(dist.Normal):
    support = constraints.positive


def test_draws_outside_of_the_support_are_named():
    with pytest.raises(Fault, match="of its draws lie outside of its support"):
        add_up(Wide(torch.zeros(1), 1.0, validate_args=False))


def test_a_point_and_many_dimensions_are_skipped():
    with pytest.raises(Skipped, match="a point has no density"):
        add_up(dist.Delta(torch.zeros(2)))
    with pytest.raises(Skipped, match="too many values"):
        add_up(dist.Multinomial(3, torch.ones(3) / 3))
