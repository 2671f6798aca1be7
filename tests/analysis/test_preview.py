"""A swapped prior without training, against the exact answer of linear-Gaussian models and against AIS."""

import json
import math
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import pyro_vae
from pyro_vae import Run
from pyro_vae.analysis.preview import bridged, from_ratios, preview, with_prior
from pyro_vae.cli.tables import print_preview
from pyro_vae.errors import InputError
from pyro_vae.models.base import Model
from pyro_vae.run import parts
from pyro_vae.run.settings import Settings

SHORT = {"draws": 120, "warmup": 60}

OTHER = """
import pyro.distributions as dist
import torch
from torch import nn


class Moved(nn.Module):
    def __init__(self, latent, mean=0.0, scale=1.0):
        super().__init__()
        self.latent, self.mean, self.scale = latent, mean, scale

    def forward(self):
        return dist.Normal(self.mean, self.scale).expand([self.latent]).to_event(1)


class Half(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.latent = latent

    def forward(self):
        return dist.HalfNormal(1.0).expand([self.latent]).to_event(1)
"""


class Linear(Model):
    """x = W z + b + noise, under any prior."""

    def __init__(self, weight, bias, noise, prior=None):
        super().__init__(weight.shape[1], prior)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.noise = noise

    def likelihood(self, z):
        return dist.Normal(z @ self.weight.T + self.bias, self.noise).to_event(1)

    def log_px(self, x, mean=0.0, scale=1.0):
        """Under z ~ N(mean, scale^2 I), x is N(W mean + b, scale^2 W W^T + noise^2 I)."""
        weight, eye = self.weight.double(), torch.eye(len(self.bias), dtype=torch.float64)
        center = self.bias.double() + weight.sum(1) * mean
        return dist.MultivariateNormal(center, scale**2 * weight @ weight.T + self.noise**2 * eye).log_prob(x.double())


def _run(latent=2, features=5, prior="normal", module=None, model=None):
    """A run that was never trained: thirty datapoints of a model that is known."""
    torch.manual_seed(1)
    built = model or Linear(torch.randn(features, latent), torch.randn(features), 0.7, module)
    x = torch.randn(30, latent) @ torch.randn(features, latent).T + 0.7 * torch.randn(30, features)
    data = pyro_vae.data(x.numpy())
    settings = Settings.of({"latent": latent, "prior": prior, "data": "(memory)"})
    return Run(Path("run"), settings, data, built, None, [])


@pytest.fixture(autouse=True)
def other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("other.py").write_text(OTHER)


def _differences(run, name, own=None, **options):
    told = preview(run, [name], set={name: own or {}}, progress=False, **{**SHORT, **options})
    return told["priors"][0], told


@pytest.mark.parametrize(("mean", "scale", "compile"), [(0.0, 0.8, "off"), (0.4, 1.0, "on"), (0.0, 1.0, "off")])
def test_another_normal_prior_has_its_exact_answer(mean, scale, compile):
    run, name = _run(), "other.py:Moved"
    row, told = _differences(run, name, {"mean": mean, "scale": scale}, compile=compile)
    x = run.dataset.test.first()
    exact = (run.model.log_px(x, mean, scale) - run.model.log_px(x)).mean().item()
    # The chains' error alone, for the data are the same; 1e-4 is rounding in float32.
    assert abs(row["difference"] - exact) < 4 * row["draws_se"] + 1e-4
    assert row["draws_se"] < 0.05
    assert row["khat_over_0_7"] == 0
    assert told["datapoints"] == len(x)
    assert told["measure"] == "density"


def test_half_a_prior_has_twice_the_mass_of_its_half():
    # p(z | z > 0) = 2 p(z): log p(x) changes by log 2 + log P(z > 0 | x), and z given x is Gaussian.
    weight, noise = torch.tensor([[1.0], [0.5]]), 1.5
    run = _run(1, 2, model=Linear(weight, torch.zeros(2), noise))
    row, _ = _differences(run, "other.py:Half")
    x = run.dataset.test.first()
    variance = 1 / (1 + (weight**2).sum() / noise**2)
    mean = variance * (x @ weight / noise**2)[:, 0]
    exact = (math.log(2) + torch.special.log_ndtr(mean / variance.sqrt())).mean().item()
    assert abs(row["difference"] - exact) < 4 * row["draws_se"] + 1e-4
    assert row["draws_se"] < 0.05


def test_a_prior_that_reaches_further_is_refused():
    Path("run/parts").mkdir(parents=True)
    Path("run/parts/prior.py").write_text(OTHER)  # where a run keeps it
    run = _run(prior="other.py:Half", module=parts.find("prior", "run/parts/prior.py:Half")(2))
    with pytest.raises(InputError, match="--prior laplace reaches where the run's prior has no mass"):
        preview(run, ["laplace"], progress=False)


@pytest.mark.parametrize("name", ["laplace", "student_t"])
def test_it_is_what_ais_finds_with_the_decoder_fixed(name):
    own = {"ais": {"temperatures": 100, "chains": 60}}
    (row,) = preview(_run(), [name], set=own, progress=False, marginal=["ais"], limit=20, **SHORT)["priors"]
    error = math.hypot(row["draws_se"], row["ais"]["draws_se"])
    # The log mean of K weights is low by their relative variance over 2 K, the square of its error over 2.
    assert abs(row["difference"] - row["ais"]["difference"]) < 4 * error + 0.002
    assert error < 0.06
    assert row["learns"] == (name != "laplace")


def test_draws_under_both_priors_know_heavy_tails():
    # From N(0, 0.3^2) to N(0, 1): p_new / p_old grows as exp(5.06 z^2), and its mean has no variance.
    Path("run/parts").mkdir(parents=True)
    Path("run/parts/prior.py").write_text(OTHER)
    kept = parts.find("prior", "run/parts/prior.py:Moved")(2, 0.0, 0.3)
    run = _run(prior="other.py:Moved", module=kept)
    row, _ = _differences(run, "other.py:Moved", {"scale": 1.0}, bridge=True, limit=5)
    x = run.dataset.test.first()[:5]
    exact = (run.model.log_px(x) - run.model.log_px(x, 0.0, 0.3)).mean().item()
    assert row["khat_over_0_7"] > 0.5
    assert row["apart"] == 0
    assert abs(row["difference"] - exact) < 4 * row["draws_se"] + 1e-4
    assert row["draws_se"] < 0.3


def test_a_bridge_between_gaussians_has_its_exact_answer():
    # Of p = N(0, 1) and exp(c) N(m, 1): r = c + m z - m^2 / 2, at draws of each. Their log masses differ by c.
    rng, c, m = np.random.default_rng(0), 1.7, 1.5
    old, new = rng.normal(size=(4, 500, 40)), m + rng.normal(size=(4, 500, 40))
    (values, se, _), overlap = bridged(*(c + m * z - m**2 / 2 for z in (old, new)))
    apart = (values - c) / se
    assert abs(apart.mean().item()) < 4 / math.sqrt(40)
    assert apart.std().item() == pytest.approx(1, abs=4 / math.sqrt(80))
    # By quadrature over z ~ N(0, 1), the mean of 1 / (1 + exp(m^2 / 2 - m z)); draws of a share in [0, 1] vary by 1/2.
    z = np.linspace(-10, 10, 20_001)
    exact = np.sum(np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) / (1 + np.exp(m**2 / 2 - m * z))) * 0.001
    np.testing.assert_allclose(overlap, exact, atol=5 * 0.5 / math.sqrt(2000))


def test_posteriors_that_are_apart_tell_no_difference():
    # N(0, 1) and N(12, 1): no draw of one is where the other has its mass, and r = 12 z - 72 is -72 at the one, 72 at
    # the other: any D between would do.
    rng = np.random.default_rng(0)
    _, overlap = bridged(*(12 * z - 72 for z in (rng.normal(size=(4, 500, 3)), 12 + rng.normal(size=(4, 500, 3)))))
    assert (overlap < 1e-6).all()


def test_datapoints_whose_posteriors_are_apart_are_left_out(capsys):
    row, told = _differences(_run(), "other.py:Moved", {"mean": 6.0, "scale": 0.3}, limit=10, bridge=True)
    assert (row["apart"], row["difference"], row["draws_se"]) == (1.0, None, None)
    print_preview(told)
    assert "apart 1" in capsys.readouterr().out


def test_a_prior_far_away_is_not_to_be_trusted():
    row, _ = _differences(_run(), "other.py:Moved", {"mean": 6.0, "scale": 0.3}, limit=10)
    assert row["khat_over_0_7"] > 0.5


def test_ratios_that_are_all_alike_are_known_exactly():
    found = from_ratios(np.full((4, 50, 3), -1.25))
    assert found.estimates.values.tolist() == pytest.approx([-1.25] * 3)
    assert found.estimates.se.tolist() == [0, 0, 0]


def test_the_error_counts_draws_that_follow_each_other():
    # An autoregression with coefficient 0.9 has (1 + 0.9) / (1 - 0.9) = 19 times the variance of independent draws.
    rng = np.random.default_rng(0)
    noise, chains = rng.normal(size=(4, 4000, 8)), np.zeros((4, 4000, 8))
    for t in range(1, 4000):
        chains[:, t] = 0.9 * chains[:, t - 1] + math.sqrt(1 - 0.81) * noise[:, t]
    # Small ratios: exp(0.01 z) is linear in z.
    slow, quick = from_ratios(0.01 * chains).estimates.se, from_ratios(0.01 * noise).estimates.se
    # The effective size of 842 draws is itself known to a tenth.
    assert ((slow / quick).numpy() / math.sqrt(19)).tolist() == pytest.approx([1.0] * 8, rel=0.25)


def test_the_run_itself_stays_as_it_is():
    run = _run()
    before = run.model.p_z
    swapped = with_prior(run, "laplace")
    assert run.model.p_z is before
    assert swapped.model.p_z is swapped.prior
    assert torch.equal(swapped.model.weight, run.model.weight)


def test_a_model_without_a_prior_of_its_own_is_refused(oracle):
    with pytest.raises(InputError, match="LinearModel has no module NormalPrior that --prior laplace could take"):
        with_prior(_run(model=oracle.model), "laplace")


def test_from_the_command_line(cli):
    assert cli("train", "--samples", "2000", "--hidden", "20", "--no-figures", "--out", "run").status == 0
    short = ("--limit", "5", "--chains", "2", "--draws", "20", "--warmup", "10")
    asked = ("--prior", "laplace", "--prior", "vamp", "--set", "laplace.scale=0.7")
    result = cli("preview", "run", *short, *asked, "--marginal", "importance", "--json")
    assert result.status == 0, result.err
    told = json.loads(result.out)
    assert (told["prior"], told["datapoints"]) == ("normal", 5)
    assert [row["prior"] for row in told["priors"]] == ["laplace", "vamp"]
    assert set(told["priors"][0]["importance"]) == {"difference", "difference_se", "draws_se"}
    result = cli("preview", "run", *short, *asked)
    assert result.status == 0, result.err
    assert "digits test, 5 datapoints, grey pixels, relaxed" in result.out
    assert "vamp" in result.out
    assert "as it begins to learn" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing option '--prior'"),
        (("--prior", "nope"), "--prior nope is unknown: choose from flow, laplace, mixture, normal"),
        (("--prior", "laplace", "--prior", "laplace"), "--prior laplace is given twice: leave one out"),
        (("--prior", "laplace", "--set", "laplace.scale=-1"), "laplace.scale -1 is not possible"),
        (("--prior", "laplace", "--set", "normal.scale=1"), "PART being one of laplace"),
        (("--prior", "laplace", "--draws", "3"), "draws 3 is not possible"),
        (("--prior", "laplace", "--marginal", "aevb"), "--marginal aevb is unknown"),
    ],
)
def test_mistakes_are_one_line(cli, arguments, message):
    cli("train", "--samples", "1000", "--hidden", "5", "--no-figures", "--out", "run")
    result = cli("preview", "run", *arguments)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert message in result.err
