"""Bidirectional Monte Carlo against log p(x) that is known."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.inference.bdmc import BDMC, _by_weight, _simulated
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import Estimates
from pyro_vae.run.score import estimators
from pyro_vae.sites import isolated
from pyro_vae.split import Split


def _linear(oracle, latent, size):
    """A linear-Gaussian model whose W has columns at any angle, and datapoints from it."""
    torch.manual_seed(latent)
    model = type(oracle.model)(0.7 * torch.randn(2 * latent, latent), torch.randn(2 * latent), noise=0.5)
    with torch.no_grad():
        return model, Split(model(None, size=size))


def _estimate(model, split, **settings):
    with seeded(1, split.device):
        return BDMC(**settings).estimate(model, None, split)


@pytest.mark.parametrize(("latent", "temperatures"), [(2, 60), (5, 200)])
def test_log_px_lies_between_its_bounds_and_these_are_close(oracle, latent, temperatures):
    model, split = _linear(oracle, latent, size=30)
    settings = {"temperatures": temperatures, "most": temperatures, "chains": 64, "simulated": 60}
    lower, se, details, _ = _estimate(model, split, **settings)
    exact, upper = model.log_px(split.values), details["upper"]
    assert details["simulated_gap"] < 0.1
    assert details["gap"].mean() < 0.1
    # Beyond Monte Carlo error for every datapoint: 4 standard errors of the lower value, exceeded by chance with a
    # probability of 60 * 8e-5 in all, and as much for the upper one, whose weights spread alike.
    assert (lower - exact < 4 * se).all()
    assert (exact - upper < 4 * se).all()
    assert ((upper - lower) == details["gap"]).all()


def test_what_is_certified_is_the_gap_of_simulated_data_alone(oracle):
    # With few temperatures the chains do not reach the posterior. Those of real data, drawn from the same model here,
    # then start their walk down from where they are, and the gap is too small; the certified one is not.
    model, split = _linear(oracle, 5, size=200)
    lower, _, details, _ = _estimate(model, split, temperatures=20, most=20, chains=4, simulated=200)
    gap, se = details["simulated_gap"], details["simulated_gap_se"]
    assert 1 < (model.log_px(split.values) - lower).mean() < gap
    assert details["gap"].mean() < gap - 3 * se


def test_the_walk_down_is_unbiased_for_the_reciprocal(oracle):
    # E[p(x) mean(1 / w)] = 1 with any number of chains, although they all start from one draw, and E[mean(w) / p(x)]
    # = 1: each mean over 3,000 datapoints is 1 within four of its standard errors.
    model, split = _linear(oracle, 2, size=2)
    part = BDMC(chains=2)
    with seeded(2, split.device), isolated(), torch.no_grad():
        x = split.values[torch.arange(3000) % 2]
        log_joint, z = _simulated(model, LogJoint(model, split.values), x)
        found = part._sandwich(log_joint, z, temperatures=40)
    ratios = (model.log_px(log_joint.x) - found.upper).exp()
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / math.sqrt(3000)
    ratios = (found.lower - model.log_px(log_joint.x)).exp()
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / math.sqrt(3000)


def test_more_temperatures_are_tried_until_the_gap_is_small(oracle, caplog):
    model, split = _linear(oracle, 5, size=100)
    details = _estimate(model, split, gap=1.0, temperatures=5).details
    assert 5 < details["simulated_temperatures"] <= details["temperatures"] < 500
    assert details["simulated_gap"] + 2 * details["simulated_gap_se"] < 1
    assert not caplog.messages
    _estimate(model, split, gap=1.0, temperatures=5, most=6)
    (warning,) = caplog.messages
    assert "at 6 temperatures" in warning
    assert "raise most" in warning


class _TwoObserved(nn.Module):
    """z a number, x and y given z: x is N(0, I + 1 1^T) where y is not looked at."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(z.squeeze(-1), 1.0), obs=None if x is None else torch.ones(len(x)))
            return pyro.sample("x", dist.Normal(z.expand(*z.shape[:-1], 3), 1.0).to_event(1), obs=x)


def test_a_model_with_two_observed_sites():
    # With y = 1 observed as well: (x, y) is N(0, I + 1 1^T) in four dimensions.
    torch.manual_seed(0)
    x = torch.randn(20, 3)
    lower, se, details, _ = _estimate(_TwoObserved(), Split(x), temperatures=60, most=60, simulated=50)
    four = torch.cat([x, torch.ones(20, 1)], dim=1)
    exact = dist.MultivariateNormal(torch.zeros(4), torch.eye(4) + torch.ones(4, 4)).log_prob(four)
    mean, error = Estimates(lower, se).mean()
    assert abs(mean - exact.mean()) < 3 * error + 0.05
    assert abs(details["simulated_gap"]) < 0.1


def test_chunks_change_nothing_but_memory(oracle, monkeypatch):
    monkeypatch.setattr("pyro_vae.inference.bdmc.ROWS", 16 * 10)
    lower, _, details, _ = _estimate(oracle.model, oracle.split.head(20), temperatures=30, most=30, simulated=5)
    assert lower.shape == details["upper"].shape == (20,)
    exact = oracle.model.log_px(oracle.x[:20])
    assert abs((lower - exact).mean()) < 0.3
    assert abs((details["upper"] - exact).mean()) < 0.3


def test_chains_are_drawn_by_their_weights():
    # Weights of 3 to 1: 4,000 chains of which half begin at 0 and half at 1; 0 has 3 in 4 of the draws.
    position = (torch.arange(4000) % 2).float().view(-1, 1, 1)
    log_w = torch.where(position[..., 0] == 0, math.log(3.0), 0.0).double()
    with seeded(0, position.device):
        drawn = _by_weight(position, log_w)
    assert drawn.shape == position.shape
    assert abs(drawn.mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("settings", [{"gap": 0.0}, {"chains": 1}, {"simulated": 1}, {"most": 100}])
def test_impossible_numbers_are_refused(settings):
    ((name, value),) = settings.items()
    with pytest.raises(InputError, match=f"{name} {value} is "):
        estimators(["bdmc"], {"bdmc": settings})


def test_a_run_is_bounded_by_the_command_line(cli):
    assert cli("train", "--latent", 2, "--samples", 500, "--no-figures", "--hidden", 8, "--out", "run").status == 0
    small = ("--set", "bdmc.temperatures=20", "--set", "bdmc.most=20", "--set", "bdmc.simulated=5")
    done = cli("evaluate", "run", "--marginal", "bdmc", *small, "--limit", 5, "--compile", "off")
    assert done.status == 0, done.err
    assert "log p(x), bdmc" in done.out
    assert "simulated_gap" in done.out
