"""One contract for every guide: a new file is covered by being on the shelf."""

import copy
from pathlib import Path

import pytest
import torch
from pyro import poutine

from pyro_vae.analysis.check import densities, programs
from pyro_vae.checks import check_pair
from pyro_vae.guides.full_rank import FullRankGuide
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.run import parts
from pyro_vae.run.prepared import prepare
from pyro_vae.run.settings import Settings
from pyro_vae.sites import isolated


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


def partner(name):
    """The model that a guide is for: the one of its name, where it has one."""
    return name if name in parts.names("model") else "bernoulli"


def test_every_parameter_gets_a_gradient_from_a_finite_bound(request, guide, pixels):
    model = parts.find("model", partner(request.node.callspec.params["guide_class"]))(12, 3, hidden=7)
    check_pair(model, guide, pixels.first(5))
    # The log variance starts at zero weights: a gradient passes to the layer below it all the same, by the mean.
    programs.finite_bound(model, guide, pixels.first(5))
    programs.gradients(model, guide, pixels.first(5))


@pytest.mark.parametrize("latent", [1, 2])
def test_normalises_and_has_its_draws(guide_class, latent):
    torch.manual_seed(0)
    guide = guide_class(12, latent, hidden=5)
    for parameter in guide.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        (cell,) = densities.cells(guide.double().posterior(torch.rand(12).double()))
        sums = densities.add_up(cell)
    assert densities.normalised(sums) == pytest.approx(1, abs=1e-4)
    assert densities.match(sums) < 1


def test_draws_lie_in_the_support_and_have_its_density(guide, pixels):
    for parameter in guide.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = pixels.first(5)
    posterior = guide.posterior(x)
    z = posterior.rsample()
    assert z.shape == (5, 3)
    assert posterior.support.check(z).all()
    # What a guide remembers of its own draws must be true of the same values from elsewhere.
    torch.testing.assert_close(posterior.log_prob(z), guide.posterior(x).log_prob(z.clone()), atol=1e-4, rtol=1e-4)


GUIDED = [name for name in parts.names("inference") if getattr(parts.find("inference", name), "uses_guide", True)]


def test_all_but_mcem_have_a_guide():
    assert set(parts.names("inference")) - set(GUIDED) == {"mcem"}


@pytest.mark.parametrize("inference", GUIDED)
def test_learns_with_every_algorithm_that_has_a_guide(request, guide_class, inference):
    name = request.node.callspec.params["guide_class"]
    own = {"model": partner(name), "guide": name, "inference": inference}
    settings = Settings.of({**own, "hidden": 5, "optimizer": "adam", "train_size": 100})
    prepared = prepare(settings, torch.device("cpu"), Path("a new run"), {})
    guide = prepared.guide
    before = copy.deepcopy(dict(guide.named_parameters()))
    learner = prepared.learner()
    learner.step()
    assert learner.loss.isfinite()
    for key, parameter in guide.named_parameters():
        assert not torch.equal(parameter, before[key]), key  # Adam moves whatever has a gradient


def test_full_rank_is_a_gaussian_with_its_covariance(pixels):
    guide = FullRankGuide(12, 2, hidden=3)
    torch.nn.init.constant_(guide.scale.bias, 0.5)
    # A is 1/2 everywhere: L = [[e^(1/2), 0], [1/2, e^(1/2)]].
    root, x, z = torch.tensor(0.5).exp(), pixels.first(1), torch.randn(7, 2)
    scale = torch.tensor([[root, 0.0], [0.5, root]])
    expected = torch.distributions.MultivariateNormal(guide.mean(guide.hidden(x))[0], scale_tril=scale)
    torch.testing.assert_close(guide.posterior(x).log_prob(z), expected.log_prob(z))


def test_full_rank_knows_the_density_of_its_draws_where_the_covariance_is_nearly_singular(pixels):
    # A is -5 everywhere: with 0.007 on the diagonal and -5 beside it, L cannot be inverted in float32. The density of a
    # draw from noise e is that of e over det L = exp(-5 * 20).
    guide = FullRankGuide(12, 20, hidden=3)
    torch.nn.init.constant_(guide.scale.bias, -5.0)
    with isolated():
        trace = poutine.trace(guide).get_trace(pixels.first(50))
    trace.compute_log_prob()
    # -20/2 log(2 pi) + 100 - |e|^2 / 2, where the last has a mean of 10 and, over 50 draws, an error of sqrt(10 / 50).
    expected = -10 * torch.log(torch.tensor(2 * torch.pi)) + 100 - 10
    assert abs(trace.nodes["z"]["log_prob"].mean() - expected) < 4 * (10 / 50) ** 0.5


def test_saves_and_loads(guide, guide_class, pixels):
    other = guide_class(12, 3, hidden=7)
    other.load_state_dict(guide.state_dict())
    x, z = pixels.first(5), torch.randn(5, 3)
    assert torch.equal(guide.posterior(x).log_prob(z), other.posterior(x).log_prob(z))


def test_gaussian_starts_with_unit_variance(pixels):
    posterior = GaussianGuide(12, 3, hidden=7).posterior(pixels.first(5))
    assert torch.equal(posterior.base_dist.scale, torch.ones(5, 3))
