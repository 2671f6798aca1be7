"""The paper's estimator of log p(x) (Appendix D) against log p(x) that is known."""

import math

import pytest
import torch
from scipy.stats import gaussian_kde, multivariate_normal

from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.inference.reciprocal import Reciprocal, _gaussian, _kernels
from pyro_vae.marginal import Estimates
from pyro_vae.split import Split


def _linear(oracle, features, latent, size):
    """A linear-Gaussian model whose W has columns at any angle, and datapoints from it."""
    torch.manual_seed(latent)
    model = type(oracle.model)(0.7 * torch.randn(features, latent), torch.randn(features), noise=0.5)
    with torch.no_grad():
        return model, Split(model(None, size=size))


@pytest.mark.parametrize(("latent", "density"), [(2, "kde"), (3, "kde"), (3, "gaussian")])
def test_lies_within_a_tenth_of_a_nat_of_log_px(oracle, latent, density):
    model, split = _linear(oracle, 2 * latent, latent, size=25)
    with seeded(0, split.device):
        log_px, se, details, _ = Reciprocal(warmup=60, leapfrogs=5, density=density).estimate(model, None, split)
    exact = model.log_px(split.values)
    mean, error = Estimates(log_px, se).mean()
    assert log_px.shape == se.shape == (25,)
    assert abs(mean - exact.mean().item()) < 0.1
    assert 0 < error < 0.03
    # Over its standard error from four chains, an error is Student's t with 3 degrees of freedom: a median square of
    # 0.585, but for the bias of a KDE. (The mean, 3, is of heavy tails.)
    assert 0.2 < ((log_px - exact) / se).square().median() < 2
    assert details["acceptance"].mean() == pytest.approx(0.9, abs=0.03)


def test_the_guide_only_starts_the_chains(oracle):
    oracle.guide.set_exact(oracle.model)
    exact = oracle.model.log_px(oracle.x[:40])
    with seeded(0, exact.device):
        log_px, *_ = Reciprocal(draws=100, warmup=30, leapfrogs=5).estimate(
            oracle.model, oracle.guide, oracle.split.head(40)
        )
    assert abs(log_px.mean() - exact.mean()) < 0.1


def test_above_four_latents_it_declines_unless_forced(oracle):
    model, split = _linear(oracle, 8, 5, size=3)
    with pytest.raises(InputError) as refusal:
        Reciprocal().estimate(model, None, split)
    message = str(refusal.value)
    assert "\n" not in message
    assert "5" in message
    assert "importance" in message
    assert "ais" in message
    assert "force" in message
    forced = Reciprocal(draws=40, warmup=40, leapfrogs=5, force=True).estimate(model, None, split)
    assert forced.log_px.isfinite().all()


@pytest.mark.parametrize(
    "settings", [{"density": "box"}, {"draws": 3}, {"chains": 1}, {"warmup": -1}, {"leapfrogs": 0}]
)
def test_impossible_settings_are_refused(settings):
    ((name, value),) = settings.items()
    with pytest.raises(InputError, match=f"^{name} {value} is "):
        Reciprocal(**settings)


def test_its_densities_are_those_of_scipy():
    # scipy's gaussian_kde with a scalar factor h: kernels with covariance h^2 S around each draw.
    torch.manual_seed(0)
    fit, at = torch.randn(2, 30, 3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.1]), torch.randn(2, 7, 3).double()
    factor = torch.tensor([0.3, 0.8], dtype=torch.float64)
    kde, gaussian = _kernels(fit, at, factor), _gaussian(fit, at)
    for n in range(2):
        expected = torch.from_numpy(gaussian_kde(fit[n].T.numpy(), bw_method=factor[n].item()).logpdf(at[n].T.numpy()))
        torch.testing.assert_close(kde[n], expected)
        normal = multivariate_normal(fit[n].mean(0).numpy(), torch.cov(fit[n].T).numpy())
        torch.testing.assert_close(gaussian[n], torch.from_numpy(normal.logpdf(at[n].numpy())))


def test_chunks_change_nothing_but_memory(oracle, monkeypatch):
    monkeypatch.setattr("pyro_vae.inference.reciprocal._ROWS", 4 * 15)
    with seeded(0, oracle.x.device):
        log_px, se, *_ = Reciprocal(draws=100, warmup=30, leapfrogs=5).estimate(
            oracle.model, None, oracle.split.head(40)
        )
    assert log_px.shape == se.shape == (40,)
    assert (log_px - oracle.model.log_px(oracle.x[:40])).mean().abs() < 0.1


def test_chains_that_disagree_are_seen_in_the_error(oracle):
    # Without a warm-up and with few draws, the chains are still where they began.
    with seeded(0, oracle.x.device):
        short, long = (
            Reciprocal(draws=draws, warmup=warmup, leapfrogs=3).estimate(oracle.model, None, oracle.split.head(40)).se
            for draws, warmup in ((8, 0), (200, 50))
        )
    assert short.median() > 3 * long.median()
    assert math.isfinite(short.sum().item())
