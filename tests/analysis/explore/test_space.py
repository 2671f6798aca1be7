"""The latent variables of any model as one vector."""

import math
from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.analysis.explore.space import Space
from pyro_vae.data.adapt import adapted
from pyro_vae.errors import InputError


def test_the_mean_is_the_decoders_own(linear):
    space = Space(linear)
    assert space.names == ["z_1", "z_2"]
    z = np.array([[0.3, -1.2], [2.0, 0.5]])
    model = linear.model
    expected = torch.tensor(z).float() @ model.weight.T + model.bias
    torch.testing.assert_close(space.means(z), expected)
    # 200 draws of N(mean, 0.6^2), the same ones each time: their mean is off by more than 5 * 0.6 / sqrt(200) = 0.21
    # once in 10^6, and their s.d. by more than 5 * 0.6 / sqrt(400) = 0.15.
    draws = space.draws(z)
    assert draws.shape == (200, 2, 5)
    assert (draws.mean(0) - expected).abs().max() < 0.21
    assert (draws.std(0) - 0.6).abs().max() < 0.15
    assert torch.equal(draws, space.draws(z))


def test_sliders_end_at_the_priors_quantiles(linear):
    space = Space(linear)
    # The quantile of N(0, 1) at 0.995 is 2.576, with density 0.0145 there: that of 4,000 draws has the standard error
    # sqrt(0.995 * 0.005 / 4000) / 0.0145 = 0.077. Four of them.
    np.testing.assert_allclose(space.high, 2.576, atol=0.31)
    np.testing.assert_allclose(space.low, -2.576, atol=0.31)
    assert (space.least == -math.inf).all()
    assert (space.most == math.inf).all()


def test_looking_changes_neither_generators_nor_training_mode(linear):
    linear.model.train()
    before = torch.get_rng_state()
    space = Space(linear)
    space.draws(np.zeros((1, 2)))
    assert torch.equal(torch.get_rng_state(), before)
    assert linear.model.training


class Sites(nn.Module):
    """Latent sites of every kind; x is all of their values, so that the mean tells what was decoded."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            scalar = pyro.sample("scalar", dist.Gamma(2.0, 1.0))
            matrix = pyro.sample("matrix", dist.Normal(torch.zeros(2, 2), 1.0).to_event(2))
            simplex = pyro.sample("simplex", dist.Dirichlet(torch.ones(3)))
            count = pyro.sample("count", dist.Categorical(torch.ones(4)))
            hot = pyro.sample("hot", dist.OneHotCategorical(torch.ones(3)))
            parts = [scalar.unsqueeze(-1), matrix.flatten(-2), simplex, count.unsqueeze(-1), hot]
            assert count.dtype == torch.int64
            return pyro.sample("x", dist.Normal(torch.cat([*parts], -1), 1.0).to_event(1), obs=x)


def test_every_kind_of_site_has_coordinates(made):
    space = Space(made(Sites(), None, np.zeros((9, 12), np.float32)))
    assert space.names == [
        "scalar_1", "matrix_1", "matrix_2", "matrix_3", "matrix_4", "simplex_1", "simplex_2", "count_1", "hot_1",
    ]  # fmt: skip
    assert space.whole.tolist() == [False] * 7 + [True] * 2
    assert space.least[0] > 0
    # Stick-breaking at (0, 0): the first part is sigmoid(0 - log 2) = 1/3, the second half of the rest, so thirds.
    vector = np.array([[1.5, 0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 2.2, 0.9]])
    expected = [1.5, 0.1, 0.2, 0.3, 0.4, 1 / 3, 1 / 3, 1 / 3, 2.0, 0.0, 1.0, 0.0]
    np.testing.assert_allclose(space.means(vector)[0], expected, rtol=1e-5)
    # From values to coordinates and back; what is below the least draw of a Gamma comes inside.
    values = space.latents(vector)
    np.testing.assert_allclose(space.vector(values)[0], [*vector[0, :7], 2.0, 1.0], atol=1e-5)
    assert space.latents(-vector)["scalar"].item() == pytest.approx(space.least[0])


def test_a_site_that_the_guide_lacks_is_at_its_median(made):
    space = Space(made(Sites(), None, np.zeros((9, 12), np.float32)))
    vector = space.vector({"matrix": torch.ones(1, 2, 2)})
    np.testing.assert_allclose(vector[0, 1:5], 1.0)
    assert vector[0, 0] == np.median(space.prior[:, 0])


class Asks(nn.Module):
    """x is the label that the model is given, and the latent variable."""

    def forward(self, x=None, size=None, label=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            mean = torch.cat([z, label.float().expand(z.shape[:-1]).unsqueeze(-1)], -1)
            return pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


def test_a_model_that_asks_for_a_label_gets_the_chosen_datapoints(made):
    run = made(Asks(), None, np.zeros((20, 2), np.float32), labels=np.arange(20) % 3)
    model, _, dataset = adapted(run.model, None, run.dataset)
    run = replace(run, model=model, dataset=dataset)
    space = Space(run)
    for number in range(3):
        row = dataset.test.read(dataset.test.values[number : number + 1])
        space.at_row(row)
        for _ in range(3):  # and keeps it
            assert space.means(np.array([[0.7]])).tolist() == [[pytest.approx(0.7), row[0, 2].item()]]


def test_a_failing_model_is_told_in_one_line(made):
    # Nobody has told the model a label: None has no .float().
    with pytest.raises(InputError, match="drawing from Asks failed: AttributeError") as told:
        Space(made(Asks(), None, np.zeros((20, 2), np.float32)))
    assert "\n" not in str(told.value)


class Odd(dist.Normal):
    @property
    def support(self):
        raise NotImplementedError


class Strange(nn.Module):
    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", Odd(0.0, 1.0))
            return pyro.sample("x", dist.Normal(z.unsqueeze(-1).expand(*z.shape, 2), 1.0).to_event(1), obs=x)


def test_a_site_without_a_support_is_named(made):
    with pytest.raises(InputError, match="no slider moves site 'z' of "):
        Space(made(Strange(), None, np.zeros((20, 2), np.float32)))
