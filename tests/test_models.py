"""One contract for every model: a new file is covered by being on the shelf."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli

from pyro_vae.analysis.check import densities, programs
from pyro_vae.checks import check_pair
from pyro_vae.errors import InputError
from pyro_vae.grey import DiscretizedLogistic, GreyCategorical
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.measure import measure
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.beta import BetaModel
from pyro_vae.models.continuous_bernoulli import ContinuousBernoulliModel
from pyro_vae.models.gaussian import GaussianModel
from pyro_vae.models.isotropic import IsotropicModel
from pyro_vae.run import parts
from pyro_vae.sites import isolated
from pyro_vae.split import Split


@pytest.fixture(params=parts.names("model"))
def model_class(request):
    return parts.find("model", request.param)


@pytest.fixture
def model(model_class):
    torch.manual_seed(0)
    return model_class(12, 3, hidden=7, depth=2, activation="elu")


@pytest.fixture
def data(model, pixels):
    """Grey pixels, or counts where a likelihood wants whole numbers from 0 on."""
    return Split(pixels.values % 5) if _counts(model) else pixels


def _counts(model):
    likelihood = model.likelihood(torch.zeros(3))
    return not isinstance(likelihood.base_dist, Bernoulli) and not likelihood.support.check(torch.full((12,), 0.3))


def _stir(module):
    # Much more makes a Beta whose mass lies nearer to an end of its support than numbers reach.
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    return module.double()


def test_scores_data_per_datapoint(model, data):
    with isolated(validate=True):
        trace = poutine.trace(model).get_trace(data.first(5))
    trace.compute_log_prob()
    for name, event in (("z", (3,)), ("x", (12,))):
        assert trace.nodes[name]["fn"].event_shape == event
        assert trace.nodes[name]["log_prob"].shape == (5,)
        assert trace.nodes[name]["log_prob"].isfinite().all()


@pytest.mark.parametrize("x", [0.0, 255 / 256, 1.0])
def test_the_ends_of_the_grey_scale_have_finite_values_and_gradients(model, x):
    x = math.floor(16 * x) if _counts(model) else x
    score = model.likelihood(torch.randn(4, 3)).log_prob(torch.full((4, 12), x)).sum()
    assert score.isfinite()
    score.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) > 1  # those of a prior have none
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_generates_datapoints(model):
    with isolated():
        trace = poutine.trace(model).get_trace(None, size=4)
    x = trace.nodes["x"]["value"]
    assert x.shape == (4, 12)
    assert trace.nodes["x"]["fn"].support.check(x).all()
    assert trace.nodes["x"]["fn"].mean.shape == (4, 12)


def test_takes_any_leading_dimensions(model, data):
    z = torch.randn(2, 4, 3)
    stacked = model.likelihood(z)
    assert stacked.batch_shape == (2, 4)
    x = data.first(4)
    torch.testing.assert_close(stacked.log_prob(x)[1], model.likelihood(z[1]).log_prob(x))


def test_every_parameter_gets_a_gradient_from_a_finite_bound(model, data):
    guide = GaussianGuide(12, 3, hidden=7)
    check_pair(model, guide, data.first(5))
    programs.finite_bound(model, guide, data.first(5))
    programs.gradients(model, guide, data.first(5))


def test_a_datapoint_is_worth_the_same_in_any_batch(model, data):
    x = data.first().repeat(2, 1)[:101]
    programs.repeatable(model, None, x)
    programs.batch_sizes(model, None, x)
    programs.leading_dimensions(model, GaussianGuide(12, 3, hidden=7), data.first(5))


def test_saves_and_loads(model, model_class, data):
    other = model_class(12, 3, hidden=7, depth=2, activation="elu")
    programs.saved((model, None), (other, None), data.first(5))


def test_hmcs_log_joint_is_the_traces(model, data):
    programs.log_joint(model, data.first(4))


@pytest.mark.parametrize("seed", range(3))
def test_normalises_and_has_its_mean_and_its_draws(model_class, seed):
    torch.manual_seed(seed)
    model = _stir(model_class(1, 2, hidden=5))
    with torch.no_grad():
        likelihood = model.likelihood(torch.randn(2).double())
    (cell,) = densities.cells(likelihood)
    sums = densities.add_up(cell, seed)
    assert densities.normalised(sums) == pytest.approx(1, abs=1e-4)
    assert densities.match(sums) < 1
    torch.testing.assert_close(likelihood.mean, sums.mean, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("model", "grey", "binary"),
    [
        (BernoulliModel, "relaxed", "mass"),
        (ContinuousBernoulliModel, "density", "density"),
        (GaussianModel, "density", "density"),
        (IsotropicModel, "density", "density"),
        (BetaModel, "density", "density"),
        (lambda *sizes: parts.find("model", "discretized_logistic")(*sizes), "mass", "mass"),
        (
            lambda *sizes: parts.find("model", "categorical")(*sizes, levels=16),
            "mass of 16 levels",
            "mass of 16 levels",
        ),
    ],
)
def test_a_model_knows_what_it_scores(pixels, model, grey, binary):
    model = model(12, 2, 3)
    assert measure(model, pixels) == grey
    assert measure(model, Split((pixels.first() > 0.5).to(torch.uint8))) == binary
    assert measure(model, Split(pixels.values, 256, dynamic=True)) == binary


@pytest.mark.parametrize("logit", [-60.0, -0.05, 0.0, 0.05, 30.0])
def test_the_continuous_bernoulli_holds_far_from_one_half(logit):
    # The density exp(l x) / integral of exp(l x) has the log l x - log((exp(l) - 1) / l), and is 1 at l = 0.
    model = ContinuousBernoulliModel(1, 1, hidden=1)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(model.decoder[1].bias, logit)
    x = 0.25
    log_normaliser = math.log(math.expm1(logit) / logit) if logit else 0.0
    found = model.likelihood(torch.zeros(1)).log_prob(torch.tensor([x])).item()
    assert found == pytest.approx(logit * x - log_normaliser, abs=1e-5)


def test_a_byte_is_its_own_grey_level():
    levels = torch.arange(256)
    one_hot = 1000 * torch.eye(256)
    for values in (levels / 256, levels / 255, levels.to(torch.float32) / 256):
        # Logits that give level k to the k-th value have a probability of 1 where that value lies in cell k.
        assert GreyCategorical(one_hot).log_prob(values).abs().max() == 0
    digits = torch.arange(17) / 16  # and digits keep their 17 levels apart
    assert len(DiscretizedLogistic(torch.zeros(17), torch.ones(17)).cell(digits).unique()) == 17


def test_a_discretised_logistic_far_from_its_mean_keeps_its_digits():
    # Far below the mean P(k) = exp(-(mu - b) / s) (1 - exp(-1 / (K s))), but for factors next to 1; k = 0 has
    # sigma((1 / K - mu) / s) = exp(-(mu - 1 / K) / s). Here mu = 1, s = 1/256: exponents are whole grey levels.
    likelihood = DiscretizedLogistic(torch.tensor(1.0), torch.tensor(1 / 256))
    log_p = likelihood.log_prob(torch.tensor([0.0, 56 / 256]))
    torch.testing.assert_close(log_p, torch.tensor([-255.0, -199 + math.log1p(-math.exp(-1))]))


def test_bernoulli_is_equation_11():
    # With zero weights y = sigmoid(b), whatever z is: log p(x|z) = sum_i x_i log y_i + (1 - x_i) log(1 - y_i).
    model = BernoulliModel(12, 2, hidden=3)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    x, z = torch.rand(4, 12), torch.randn(4, 2)
    # At b = 0 every y is 1/2, and twelve pixels have the log 12 log(1/2), grey or not.
    torch.testing.assert_close(model.likelihood(z).log_prob(x), torch.full((4,), -12 * math.log(2)))
    y = torch.linspace(0.1, 0.9, 12)
    with torch.no_grad():
        model.decoder[1].bias.copy_((y / (1 - y)).log())
    expected = (x * y.log() + (1 - x) * (1 - y).log()).sum(-1)
    torch.testing.assert_close(model.likelihood(z).log_prob(x), expected)


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


def test_networks_are_as_deep_and_wide_as_they_are_told():
    model = BernoulliModel(12, 3, hidden=7, depth=3, activation="relu")
    shapes = [tuple(p.shape) for p in model.decoder.parameters() if p.ndim == 2]
    assert shapes == [(7, 3), (7, 7), (7, 7), (12, 7)]
    assert [type(m).__name__ for m in model.decoder[0]] == ["Linear", "ReLU"] * 3
    # Weights from N(0, 1 / 200): 40,000 squares, times 200, have a mean of 1 within 5 sqrt(2 / 40,000) = 0.035.
    torch.manual_seed(0)
    layer = GaussianGuide(12, 3, hidden=200, depth=2).hidden[2]
    assert layer.weight.square().mean().item() * 200 == pytest.approx(1, abs=0.035)
    for options, message in (({"depth": 0}, "depth 0"), ({"activation": "sine"}, "choose from tanh, relu")):
        with pytest.raises(InputError, match=message):
            BernoulliModel(12, 3, **options)


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
