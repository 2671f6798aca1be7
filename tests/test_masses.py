"""Grey levels as one currency: masses of cells against distribution functions, sums and likelihoods that have both."""

import json
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy import stats
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.grey import DiscretizedLogistic
from pyro_vae.masses import Cells, InCells, in_cells
from pyro_vae.measure import in_bits, measure
from pyro_vae.models.beta import BetaModel
from pyro_vae.models.continuous_bernoulli import ContinuousBernoulliModel
from pyro_vae.run import parts
from pyro_vae.sites import isolated
from pyro_vae.split import Split


def _levels(divisor):
    return torch.arange(256.0 if divisor == 256 else divisor + 1.0)


def _edges(divisor):
    k = _levels(divisor).double().numpy()
    lower, upper = (k - 0.5) / divisor, (k + 0.5) / divisor
    lower[0], upper[-1] = -math.inf, math.inf
    return lower, upper


def _masses(density, divisor):
    """The log mass of each level, with shape `(levels, pixels)`."""
    return Cells(density, divisor).log_prob((_levels(divisor) / divisor).unsqueeze(-1))


@pytest.mark.parametrize("divisor", [16, 255, 256])
@pytest.mark.parametrize(("loc", "scale"), [(0.3, 0.05), (0.999, 0.001), (0.0, 2.0), (0.5, 1e-5), (5.0, 0.1)])
def test_a_gaussian_has_the_masses_of_scipy(divisor, loc, scale):
    found = _masses(dist.Normal(*torch.tensor([[loc], [scale]], dtype=torch.float64)), divisor)[:, 0]
    lower, upper = ((edge - loc) / scale for edge in _edges(divisor))
    # By the tail in which a difference loses nothing.
    below, above = stats.norm.cdf(upper) - stats.norm.cdf(lower), stats.norm.sf(lower) - stats.norm.sf(upper)
    expected = torch.from_numpy((below if loc < 1 else above).clip(min=0))
    torch.testing.assert_close(found.exp(), expected, rtol=1e-6, atol=1e-9)
    assert found.isfinite().all() or scale < 1e-4
    assert found.exp().sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("divisor", [16, 255, 256])
@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.0, 1.0), (0.02, 3.0), (0.02, 400.0), (400.0, 0.01), (400.0, 400.0), (1000.0, 300.0)]
)
def test_a_beta_has_the_masses_of_scipy(divisor, alpha, beta):
    model = BetaModel(1, 1)
    density = model.likelihood(torch.zeros(1)).base_dist
    density = type(density)(torch.tensor([alpha]), torch.tensor([beta]), density.low, density.scale)
    found = _masses(density, divisor)[:, 0]
    # (x + e) / s is Beta, with e = 1 / 512 and s = 1 + 1 / 256.
    cdf, sf = (
        [part((edge + 1 / 512) / (1 + 1 / 256), alpha, beta) for edge in _edges(divisor)]
        for part in (stats.beta.cdf, stats.beta.sf)
    )
    expected = torch.from_numpy(cdf[1] - cdf[0] if alpha <= beta else sf[0] - sf[1])
    torch.testing.assert_close(found.exp(), expected, rtol=1e-5, atol=1e-8)
    assert found.exp().sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("logit", [-60.0, -3.0, -1e-3, 0.0, 0.05, 8.0])
def test_a_continuous_bernoulli_has_its_closed_form(logit):
    density = ContinuousBernoulliModel(1, 1).likelihood(torch.zeros(1)).base_dist
    density = type(density)(logits=torch.tensor([logit]))
    found = _masses(density, 256)[:, 0]
    # The mass is an integral of exp(l x) over that on [0, 1].
    lower, upper = (torch.from_numpy(edge).clamp(0, 1) for edge in _edges(256))
    if logit == 0:
        expected = upper - lower
    else:
        rate = torch.tensor(logit).double()
        expected = ((rate * upper).exp() - (rate * lower).exp()) / torch.expm1(rate)
    torch.testing.assert_close(found.exp(), expected, rtol=1e-4, atol=1e-12)
    assert found.exp().sum() == pytest.approx(1, abs=1e-6)


def test_a_distribution_function_does_where_there_is_no_more():
    # A logistic of a user's: its masses in the cells of `DiscretizedLogistic` moved by half a level.
    base = dist.Uniform(torch.zeros(3), torch.ones(3))
    logistic = dist.TransformedDistribution(
        base,
        [
            dist.transforms.SigmoidTransform().inv,
            dist.transforms.AffineTransform(torch.tensor([0.1, 0.5, 0.99]), torch.tensor([0.02, 0.1, 0.3])),
        ],
    )
    found = _masses(logistic, 256)
    moved = DiscretizedLogistic(torch.tensor([0.1, 0.5, 0.99]) + 1 / 512, torch.tensor([0.02, 0.1, 0.3]))
    expected = moved.log_prob((_levels(256) / 256).unsqueeze(-1))
    torch.testing.assert_close(found.exp().float(), expected.exp(), rtol=1e-3, atol=1e-7)
    for density in (dist.Laplace(torch.tensor([0.3]), 0.05), dist.Cauchy(torch.tensor([0.3]), 0.05)):
        assert _masses(density, 256).exp().sum() == pytest.approx(1, abs=1e-5)


OF_PIXELS = ["gaussian", "isotropic", "normal", "beta", "continuous_bernoulli", "discretized_logistic", "categorical"]


@pytest.mark.parametrize("name", OF_PIXELS)
@pytest.mark.parametrize("divisor", [16, 255, 256])
def test_seven_likelihoods_give_probabilities_that_sum_to_one(name, divisor):
    torch.manual_seed(0)
    size = len(_levels(divisor))
    own = {"levels": size} if name in OF_PIXELS[-2:] else {}
    model = parts.find("model", name)(2, 2, hidden=4, **own)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20)  # far from where models begin: sharp, and at the ends
    data = Split(torch.stack([torch.arange(size), torch.arange(size).flip(0)], dim=1).to(torch.uint8), divisor)
    counting = in_cells(model, data)
    assert measure(counting, data) == ("mass" if size == 256 else "mass of 17 levels")
    assert (counting is model) == bool(own)
    likelihood = model.likelihood(torch.randn(3, 2))
    pixels = likelihood.base_dist if own else Cells(likelihood.base_dist, divisor)
    values = data.read(data.values)[:, :1].unsqueeze(-1).expand(size, 1, 1)
    with torch.no_grad():
        total = pixels.log_prob(values).double().exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)


def test_a_narrow_gaussian_has_a_gradient_in_every_cell():
    loc = torch.tensor([0.2, 0.8], requires_grad=True)
    scale = torch.tensor([1e-3, 3.0], requires_grad=True)
    values = torch.tensor([[0.0, 0.0], [0.5, 0.5], [255 / 256, 255 / 256]])
    found = Cells(dist.Normal(loc, scale)).log_prob(values)
    assert found.isfinite().all()
    for gradient in torch.autograd.grad(found.sum(), (loc, scale)):
        assert gradient.isfinite().all()


def test_draws_are_of_levels():
    torch.manual_seed(0)
    drawn = Cells(dist.Normal(torch.full((2000,), 0.999), 0.02), 255).sample()
    assert torch.equal(drawn * 255, (drawn * 255).round())
    # The last level takes what lies above 254.5 / 255: a Gaussian's Phi((0.999 - 0.99804) / 0.02) = Phi(0.048) = 0.519.
    assert (drawn == 1).double().mean() == pytest.approx(0.519, abs=5 * 0.5 / math.sqrt(2000))


def test_masked_cells_count_nothing():
    density = dist.Normal(torch.zeros(2, 3), 1.0).mask(torch.tensor([[True, False, True]] * 2)).to_event(1)

    class Masked(nn.Module):
        def forward(self, x=None, size=None):
            with pyro.plate("data", 2, dim=-1):
                return pyro.sample("x", density, obs=x)

    with isolated():
        site = poutine.trace(InCells(Masked(), 256)).get_trace(torch.zeros(2, 3)).nodes["x"]
    # The first cell of a standard Gaussian: all below 1 / 512.
    expected = 2 * stats.norm.logcdf(1 / 512)
    torch.testing.assert_close(site["fn"].log_prob(site["value"]).double(), torch.full((2,), expected).double())


class _Wrong(dist.Normal):
    def log_mass(self, lower, upper):
        return torch.full_like(lower, -5.0)  # 256 e^-5 = 1.72


class _Pixels(nn.Module):
    def __init__(self, density):
        super().__init__()
        self.density = density

    def forward(self, x=None, size=None):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("x", self.density.expand([len(x), 12]).to_event(1), obs=x)


def test_what_cannot_be_converted_says_so(pixels):
    with pytest.raises(InputError, match=r"StudentT has no cumulative .* log_mass\(lower, upper\)"):
        in_cells(_Pixels(dist.StudentT(3.0)), pixels)
    with pytest.raises(InputError, match=r"masses of _Wrong sum to 1\.72"):
        in_cells(_Pixels(_Wrong(0.0, 1.0)), pixels)
    relaxed = parts.find("model", "bernoulli")(12, 2, hidden=4)
    with pytest.raises(InputError, match="neither a probability nor a density"):
        in_cells(relaxed, pixels)
    gaussian = parts.find("model", "gaussian")(12, 2, hidden=4)
    with pytest.raises(InputError, match="needs grey levels"):
        in_cells(gaussian, Split(pixels.first()))


def test_evaluation_in_bits(cli, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (130, 6)).astype(np.uint8)
    np.save(tmp_path / "x.npy", values)
    for model in ("gaussian", "categorical"):
        trained = ("--data", "x.npy", "--model", model, "--samples", 2000, "--hidden", 8, "--no-figures")
        done = cli("train", *trained, "--out", model)
        assert done.status == 0, done.err
    told = cli("compare", "gaussian", "categorical", "--cells", "--particles", 20, "--json")
    assert told.status == 0, told.err
    first, second = json.loads(told.out)["runs"]
    for row in (first, second):
        assert row["bits_per_dim"] == pytest.approx(in_bits("mass", row["bound"], 6)["bits_per_dim"])
        assert 7 < row["bits_per_dim"] < 12  # uniform bytes have 8 bits
    assert "measure" in cli("compare", "gaussian", "categorical").err
    ais = ("--marginal", "ais", "--set", "ais.temperatures=5")
    one = json.loads(cli("evaluate", "gaussian", "--cells", *ais, "--limit", 5, "--json").out)
    assert one["measure"] == "mass"
    assert "bits_per_dim" in one["ais"]
