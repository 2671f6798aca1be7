"""One contract for every guide: a new file is covered by being on the shelf."""

import pytest
import torch
from pyro import poutine

from pyro_vae import parts
from pyro_vae.elbo import elbo, isolated
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.models.bernoulli import BernoulliModel


@pytest.fixture(params=parts.names("guide"))
def guide_class(request):
    return parts.find("guide", request.param)


@pytest.fixture
def guide(guide_class):
    torch.manual_seed(0)
    return guide_class(12, 3, hidden=7)


def test_samples_per_datapoint(guide, pixels):
    with isolated():
        trace = poutine.trace(guide).get_trace(pixels.first(5))
    trace.compute_log_prob()
    assert trace.nodes["z"]["value"].shape == (5, 3)
    assert trace.nodes["z"]["log_prob"].shape == (5,)


def test_takes_any_leading_dimensions(guide, pixels):
    x = torch.stack([pixels.first(4), 1 - pixels.first(4)])
    posterior = guide.posterior(x)
    assert posterior.batch_shape == (2, 4)
    assert posterior.event_shape == (3,)
    z = torch.randn(4, 3)
    torch.testing.assert_close(posterior.log_prob(z)[1], guide.posterior(x[1]).log_prob(z))


@pytest.mark.parametrize("analytic_kl", [False, True])
def test_every_parameter_gets_a_gradient_from_the_bound(guide, pixels, analytic_kl):
    model = BernoulliModel(12, 3, hidden=7)
    # The log variance starts at zero weights: a gradient passes to the layer below it all the same, by the mean.
    with isolated():
        elbo(model, guide, pixels.first(5), particles=2, analytic_kl=analytic_kl).sum().backward()
    for module in (model, guide):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_saves_and_loads(guide, guide_class, pixels):
    other = guide_class(12, 3, hidden=7)
    other.load_state_dict(guide.state_dict())
    x, z = pixels.first(5), torch.randn(5, 3)
    assert torch.equal(guide.posterior(x).log_prob(z), other.posterior(x).log_prob(z))


def test_gaussian_starts_with_unit_variance(pixels):
    posterior = GaussianGuide(12, 3, hidden=7).posterior(pixels.first(5))
    assert torch.equal(posterior.base_dist.scale, torch.ones(5, 3))
