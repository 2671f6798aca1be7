"""One contract for every model, with every prior: a new file is covered by being on the shelf."""

import pyro
import pytest
import torch
from pyro import poutine

from pyro_vae import parts
from pyro_vae.elbo import isolated
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.gaussian import GaussianModel


@pytest.fixture(params=parts.names("model"))
def model_class(request):
    return parts.find("model", request.param)


@pytest.fixture(params=parts.names("prior"))
def prior_class(request):
    return parts.find("prior", request.param)


@pytest.fixture
def model(model_class, prior_class):
    torch.manual_seed(0)
    return model_class(12, 3, hidden=7, prior=prior_class(3))


def test_scores_data_per_datapoint(model, pixels):
    with isolated():
        trace = poutine.trace(model).get_trace(pixels.first(5))
    trace.compute_log_prob()
    for name, event in (("z", (3,)), ("x", (12,))):
        assert trace.nodes[name]["fn"].event_shape == event
        assert trace.nodes[name]["log_prob"].shape == (5,)
        assert trace.nodes[name]["log_prob"].isfinite().all()


def test_generates_datapoints(model):
    with isolated():
        trace = poutine.trace(model).get_trace(None, size=4)
    x = trace.nodes["x"]["value"]
    assert x.shape == (4, 12)
    assert trace.nodes["x"]["fn"].support.check(x).all()


def test_takes_any_leading_dimensions(model, pixels):
    z = torch.randn(2, 4, 3)
    stacked = model.likelihood(z)
    assert stacked.batch_shape == (2, 4)
    x = pixels.first(4)
    torch.testing.assert_close(stacked.log_prob(x)[1], model.likelihood(z[1]).log_prob(x))


def test_every_parameter_gets_a_gradient(model, pixels):
    with isolated():
        trace = poutine.trace(model).get_trace(pixels.first(5))
    trace.log_prob_sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_saves_and_loads(model, model_class, prior_class, pixels):
    other = model_class(12, 3, hidden=7, prior=prior_class(3))
    other.load_state_dict(model.state_dict())
    z, x = torch.randn(5, 3), pixels.first(5)
    assert torch.equal(model.likelihood(z).log_prob(x), other.likelihood(z).log_prob(x))


def test_bernoulli_is_equation_11():
    # With zero weights y = 1/2 for every pixel: log p(x|z) = D log 1/2, grey or not.
    model = BernoulliModel(12, 2, hidden=3)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.rand(4, 12)
    torch.testing.assert_close(
        model.likelihood(torch.zeros(4, 2)).log_prob(x),
        torch.full((4,), 12 * 0.5).log() * 0 - 12 * torch.log(torch.tensor(2.0)),
    )


def test_gaussian_is_equation_12():
    # With zero weights mu = sigmoid(0) = 1/2 and log sigma^2 = 0: x = 1/2 has density (2 pi)^(-1/2) per pixel.
    model = GaussianModel(12, 2, hidden=3)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    log_prob = model.likelihood(torch.zeros(1, 2)).log_prob(torch.full((1, 12), 0.5))
    assert log_prob.item() == pytest.approx(-6 * torch.log(torch.tensor(2 * torch.pi)).item(), rel=1e-6)


def test_the_floor_holds_the_variance():
    model = GaussianModel(12, 2, hidden=3, min_log_variance=-10.0)
    torch.nn.init.constant_(model.log_variance.bias, -50.0)
    scale = model.likelihood(torch.zeros(1, 2)).base_dist.scale
    torch.testing.assert_close(scale, torch.full((1, 12), torch.e**-5))


def test_initialisation_is_the_papers():
    # 400,000 weights: their standard deviation is 0.01 within 0.01 / sqrt(800,000) = 1.1e-5.
    torch.manual_seed(0)
    model = BernoulliModel(784, 20)
    first, last = model.decoder[0][0], model.decoder[1]
    assert last.weight.std().item() == pytest.approx(0.01, abs=6e-5)
    assert first.bias.abs().sum() > 0
    assert last.bias.abs().sum() == 0


def test_validation_stays_on_for_everyone_else():
    with pytest.raises(ValueError, match="support"):
        pyro.distributions.Bernoulli(0.5).log_prob(torch.tensor(0.3))
    assert BernoulliModel(12, 2, hidden=3).likelihood(torch.zeros(1, 2)).log_prob(torch.full((1, 12), 0.3)).isfinite()
