"""What the pictures show."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.generate import at, by_site, prior_means, prior_quantiles, reconstructions, unit_square
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.models.bernoulli import BernoulliModel


def test_the_grid_goes_through_the_inverse_cdf():
    # Midpoints of 2 cells are 1/4 and 3/4: quantiles -0.67449 and 0.67449. z_1 runs along a row, z_2 up the rows.
    points = unit_square(BernoulliModel(12, 2, hidden=3), 2)["z"]
    q = 0.67449
    torch.testing.assert_close(points, torch.tensor([[-q, q], [q, q], [-q, -q], [q, -q]]), atol=1e-5, rtol=0)


def test_means_at_given_latents_are_the_likelihoods():
    model = BernoulliModel(12, 2, hidden=3)
    z = torch.randn(5, 2)
    torch.testing.assert_close(at(model, {"z": z}), model.likelihood(z).mean)


def test_reconstructions_and_prior_means_have_the_shape_of_data(pixels):
    model, guide = BernoulliModel(12, 2, hidden=3), GaussianGuide(12, 2, hidden=3)
    assert reconstructions(model, guide, pixels.first(4)).shape == (4, 12)
    images = prior_means(model, 6)
    assert images.shape == (6, 12)
    assert ((images > 0) & (images < 1)).all()


def test_a_manifold_needs_two_latents():
    with pytest.raises(InputError, match=r"one latent site of 2 dimensions, not \{'z': \(3,\)\}"):
        unit_square(BernoulliModel(12, 3, hidden=3), 2)


def test_a_manifold_needs_an_inverse_cdf():
    class Prior(nn.Module):
        def forward(self):
            components = dist.Normal(torch.zeros(3, 2), 1.0).to_event(1)
            return dist.MixtureSameFamily(dist.Categorical(torch.ones(3)), components)

    with pytest.raises(InputError, match="MixtureSameFamily has none"):
        unit_square(BernoulliModel(12, 2, hidden=3, prior=Prior()), 2)


def test_any_site_name_will_do():
    class Model(nn.Module):
        def forward(self, x=None, size=None):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                u = pyro.sample("u", dist.Laplace(torch.zeros(2), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(u, 1.0).to_event(1), obs=x)

    points = unit_square(Model(), 3)
    # The Laplace quantile of 5/6 is -log(2 (1 - 5/6)) = log 3.
    log3 = torch.tensor(3.0).log()
    torch.testing.assert_close(points["u"][[0, -1]], torch.stack([-log3, log3, log3, -log3]).view(2, 2))
    torch.testing.assert_close(at(Model(), points), points["u"])


class Positive(nn.Module):
    """Two sites: a scale above 0, and two real numbers that depend on it."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            scale = pyro.sample("scale", dist.Exponential(1.0))
            z = pyro.sample("z", dist.Normal(torch.zeros(2), scale.unsqueeze(-1)).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def test_numbers_go_to_the_sites_in_their_order():
    found = by_site(Positive(), torch.tensor([[0.5, 1.0, 2.0], [3.0, -1.0, -2.0]]))
    assert {name: value.tolist() for name, value in found.items()} == {
        "scale": [0.5, 3.0],
        "z": [[1.0, 2.0], [-1.0, -2.0]],
    }
    with pytest.raises(InputError, match="2 latent variables are given, and the model has 3"):
        by_site(Positive(), torch.zeros(1, 2))
    with pytest.raises(InputError, match="latent variables of scale are outside of their support"):
        by_site(Positive(), torch.tensor([[-1.0, 0.0, 0.0]]))


def test_quantiles_of_the_prior_are_those_of_its_marginals():
    torch.manual_seed(0)
    found = prior_quantiles(Positive(), torch.tensor([0.1, 0.5, 0.9]))
    # Exponential: -log(1 - u), with standard errors sqrt(u (1 - u) / n) / density, at most 0.03 for 10,000 draws.
    # The marginal of z is symmetric: its median is 0, its outer quantiles are mirror images.
    torch.testing.assert_close(found[:, 0], -(1 - torch.tensor([0.1, 0.5, 0.9])).log(), atol=0.1, rtol=0)
    torch.testing.assert_close(found[1, 1:], torch.zeros(2), atol=0.05, rtol=0)
    torch.testing.assert_close(found[0, 1:], -found[2, 1:], atol=0.1, rtol=0)
