"""Export to ArviZ: exact posteriors, files that ArviZ reads without us, any Pyro pair."""

import math
import subprocess
import sys
import warnings

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae import to_arviz
from pyro_vae.analysis.export import per_datapoint, write
from pyro_vae.checks import check_pair
from pyro_vae.data import adapted, load_data
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.models.normal import NormalModel

SMALL = {"chains": 2, "draws": 30, "warmup": 20, "predictive": 60}


def test_hmc_draws_from_the_exact_posterior_and_mixes(exported):
    tree = exported.tree
    loc, covariance = exported.model.posterior(exported.x)
    ess = az.ess(tree)["z"].values
    # 4,000 draws of each of 24 quantities.
    assert ess.min() > 1000
    assert az.ess(tree, method="tail", prob=0.9)["z"].values.min() > 500
    assert az.rhat(tree)["z"].values.max() < 1.01
    z = (tree["posterior"]["z"].values - loc.numpy()) / covariance.diagonal().sqrt().numpy()
    assert (np.abs(z.mean((0, 1))) * np.sqrt(ess)).max() < 4  # standard errors
    # The variance of a Gaussian's sample variance is 2 / n, for n = 500 effective draws: 4 standard errors.
    assert np.abs(z.var((0, 1)) - 1).max() < 4 * np.sqrt(2 / 500)
    stats = tree["sample_stats"]
    assert not stats["diverging"].any()
    assert float(stats["acceptance_rate"].mean()) == pytest.approx(0.9, abs=0.05)
    # Momenta are drawn anew, and bring half of the energy's variance with them: the fraction is about 1.
    assert float(az.bfmi(tree)["energy"].min()) > 0.5


def test_statistics_are_those_of_the_draws(exported):
    model, _, x, tree = exported
    z = torch.from_numpy(tree["posterior"]["z"].values)
    likelihood = dist.Normal(z @ model.weight.T + model.bias, model.noise).log_prob(x).sum(-1)
    np.testing.assert_allclose(tree["log_likelihood"]["x"], likelihood, atol=1e-4)
    prior = dist.Normal(0, 1).log_prob(z).sum(-1)
    np.testing.assert_allclose(tree["sample_stats"]["lp"], likelihood + prior, atol=1e-4)
    # The energy is -lp and a kinetic energy, half a chi-squared with two degrees of freedom: mean and variance are 1.
    kinetic = (tree["sample_stats"]["energy"] + tree["sample_stats"]["lp"]).values
    assert kinetic.min() >= 0
    assert kinetic.mean() == pytest.approx(1, abs=4 / np.sqrt(500 * 12))


def test_log_p_less_log_q_is_log_px_where_the_guide_is_exact(exported):
    # log p(x, z) - log q(z|x) = log p(x) for every z.
    stats = exported.tree["guide_sample_stats"]
    exact = exported.model.log_px(exported.x).numpy()
    np.testing.assert_allclose((stats["log_p"] - stats["log_q"]).values[0, :10], np.tile(exact, (10, 1)), atol=1e-4)


def test_predictions_are_those_of_the_model(exported):
    model, _, x, tree = exported
    loc, covariance = model.posterior(x)
    mean = loc @ model.weight.T + model.bias
    W = model.weight
    sd = (W @ covariance @ W.T).diagonal().add(model.noise**2).sqrt().numpy()
    # 1,200 draws that are nearly independent, since the noise prevails: 5 standard errors with half of them.
    for group, error in (("posterior_predictive", 5 / np.sqrt(600)), ("posterior_predictive_mean", 5 / np.sqrt(600))):
        found = tree[group]["x"]
        found = found.mean(("chain", "draw")) if "draw" in found.dims else found
        assert (np.abs(found.values[:, 0] - mean.numpy()) / sd).max() < error, group
    marginal = (W @ W.T).diagonal().add(model.noise**2).sqrt().numpy()
    spread = tree["prior_predictive"]["x"].std(("chain", "draw")).values / marginal
    assert np.abs(spread - 1).max() < 5 / np.sqrt(2 * 1200)
    z = tree["prior"]["z"]
    assert np.abs(z.mean(("chain", "draw"))).max() < 5 / np.sqrt(1200)
    assert np.abs(z.std(("chain", "draw")) - 1).max() < 5 / np.sqrt(2 * 1200)
    np.testing.assert_array_equal(tree["observed_data"]["x"].values[:, 0], x)


_READER = """
import sys, types, warnings
import arviz as az
tree = getattr(az, sys.argv[1])(sys.argv[2])
assert "pyro_vae" not in sys.modules and "torch" not in sys.modules
print(az.summary(tree, ci_prob=0.9, ci_kind="eti"))
assert tree.posterior.z.dims == ("chain", "draw", "datapoint", "z_dim_0")
assert tree.observed_data.x.dims == ("datapoint", "row", "column")
assert tree.attrs["inference_library"] == "pyro" and tree.attrs["model"] == "LinearModel"
assert az.ess(tree)["z"].shape == az.rhat(tree)["z"].shape == (12, 2)
if sys.argv[1] == "from_zarr":
    sys.exit()  # what is read is the same: the plots are drawn once
one = tree.sel(datapoint=2)
az.plot_trace_dist(one)
az.plot_rank(one)
az.plot_energy(one)
az.plot_ppc_dist(tree)
az.plot_ppc_dist(tree, group="prior_predictive")
log_weight = tree.guide_sample_stats.log_p - tree.guide_sample_stats.log_q
_, khat = (-log_weight).azstats.psislw(dim=["chain", "draw"])
az.plot_khat(types.SimpleNamespace(pareto_k=khat))
"""


@pytest.mark.parametrize(("name", "reader"), [("draws.nc", "from_netcdf"), ("draws.zarr", "from_zarr")])
def test_plain_arviz_reads_the_files(exported, tmp_path, name, reader):
    tree = exported.tree
    path = write(tree, tmp_path / name)
    assert getattr(az, reader)(path).load().identical(tree)
    command = [sys.executable, "-W", "error", "-c", _READER, reader, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, env={"MPLBACKEND": "agg", "PATH": ""})
    assert result.returncode == 0, result.stderr
    assert "r_hat" in result.stdout
    write(tree, path)  # in the place of the first
    assert [p.name for p in tmp_path.iterdir()] == [name]


class _Official(nn.Module):
    """A pair as two methods, as in Pyro's own example: other names of sites, no call without data, pyro.module."""

    def __init__(self):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(3, 8), nn.Linear(8, 3)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("images", len(x)):
            z = pyro.sample("latent", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("obs", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x.reshape(-1, 8))

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("images", len(x)):
            pyro.sample("latent", dist.Normal(self.encoder(x.reshape(-1, 8)), 0.5).to_event(1))


def test_any_pyro_pair_is_exported():
    torch.manual_seed(0)
    before = [*pyro.get_param_store().keys()]
    vae = _Official()
    x = torch.bernoulli(torch.full((4, 1, 2, 4), 0.5))
    tree = to_arviz(vae.model, vae.guide, x, image_shape=(2, 4), **SMALL)
    assert tree["posterior"]["latent"].shape == (2, 30, 4, 3)
    assert tree["guide_posterior"]["latent"].shape == (1, 60, 4, 3)
    assert tree["posterior_predictive"]["obs"].dims == ("chain", "draw", "datapoint", "row", "column")
    assert tree["posterior_predictive"]["obs"].dtype == np.uint8
    assert tree["log_likelihood"]["obs"].dims == ("chain", "draw", "datapoint")
    np.testing.assert_array_equal(tree["observed_data"]["obs"], x.reshape(4, 2, 4))
    assert tree.attrs["model"] == "_Official.model"
    assert [*pyro.get_param_store().keys()] == before


def _two_layers(x):
    """Two latent sites, the second constrained; z2 given x is as its prior, LogNormal(0, 1)."""
    with pyro.plate("data", len(x), dim=-1):
        z1 = pyro.sample("z1", dist.Normal(0.0, 1.0))
        pyro.sample("z2", dist.LogNormal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z1, 1.0), obs=x)


def test_several_sites_and_constrained_ones():
    tree = to_arviz(_two_layers, None, torch.tensor([-1.0, 2.0]), chains=4, draws=200, warmup=100, predictive=8)
    posterior = tree["posterior"]
    assert posterior["z1"].dims == ("chain", "draw", "datapoint")
    assert posterior["z2"].dims == ("chain", "draw", "datapoint", "z2_dim_0")
    assert "guide_posterior" not in tree.children
    # z1 given x is N(x / 2, 1 / 2), log z2 is N(0, 1): 5 standard errors at 200 effective draws.
    np.testing.assert_allclose(posterior["z1"].mean(("chain", "draw")), [-0.5, 1.0], atol=5 * np.sqrt(0.5 / 200))
    log_z2 = np.log(posterior["z2"])
    assert np.abs(log_z2.mean(("chain", "draw"))).max() < 5 / np.sqrt(200)
    assert np.abs(log_z2.std(("chain", "draw")) - 1).max() < 5 / np.sqrt(400)


def test_a_seed_is_all_that_the_draws_depend_on(oracle):
    states = torch.get_rng_state()
    first, again, other = (
        to_arviz(oracle.model, oracle.guide, oracle.x[:3], seed=seed, **SMALL)["posterior"]["z"].values
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert torch.equal(torch.get_rng_state(), states)


def _draws_on_the_store(x):
    loc = pyro.param("loc", torch.zeros(()))
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _without_a_plate(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _without_data(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def _categorical(x):
    with pyro.plate("data", len(x), dim=-1):
        k = pyro.sample("k", dist.Categorical(torch.ones(3)))
        pyro.sample("x", dist.Normal(k.float(), 1.0), obs=x)


def _on_a_sphere(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.ProjectedNormal(torch.zeros(2)))
        pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)


class _Unsupported(dist.Normal):
    support = property(lambda self: None.nothing)


def _without_support(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", _Unsupported(torch.zeros(len(x)), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _failing(x):
    raise KeyError("nothing")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (_two_layers, {"draws": 3}, "draws 3 is not possible: give a whole number from 4 on"),
        (_two_layers, {"chains": 0}, "chains 0 is not possible"),
        (_two_layers, {"predictive": 1}, "predictive 1 is not possible: give a number from 4 to 2000"),
        (_draws_on_the_store, {}, "values that belong to no module: make them nn.Parameters"),
        (_without_a_plate, {}, "_without_a_plate needs latent and observed sites: it has"),
        (_without_data, {}, "needs latent and observed sites"),
        (_failing, {}, r"_failing cannot be run on data of shape .* KeyError: 'nothing' \(test_export.py:\d+\)"),
        (_categorical, {}, r"HMC cannot move site 'k' of _categorical: .* to its support IntegerInterval"),
        (_on_a_sphere, {}, r"HMC cannot move site 'z' of _on_a_sphere: .* to its support Sphere"),
        (_without_support, {}, r"HMC cannot move site 'z' of _without_support: .* compare and sample remain"),
    ],
)
def test_what_cannot_be_exported_is_refused(model, options, message):
    with pyro.get_param_store().scope():
        pyro.param("loc", torch.ones(()))
        with pytest.raises(InputError, match=message):
            to_arviz(model, None, torch.zeros(2), **options)


def test_a_guide_of_other_sites_is_refused():
    with pytest.raises(InputError, match="samples \\['z'\\]: give them the same names"):
        to_arviz(_two_layers, lambda x: _without_data(x), torch.zeros(2))


def _rich(x):
    """z ~ N(0, 1), x ~ N(z, 1) and y ~ N(2 z, 1) where y = x^2, a factor exp(-z^2 / 2), and functions of all sorts."""
    pyro.deterministic("level", torch.tensor([3.0, 4.0]))
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        double = pyro.deterministic("double", 2 * z)
        pyro.deterministic("both", torch.stack([z, z + x], -1), event_dim=1)
        pyro.factor("bonus", -0.5 * z**2)
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.sample("y", dist.Normal(double, 1.0), obs=x**2)


def test_functions_of_draws_are_exported_and_factors_count():
    x = torch.tensor([-1.0, 0.5, 2.0])
    tree = to_arviz(_rich, None, x, draws=250, warmup=100, predictive=200)
    posterior = tree["posterior"]
    z = posterior["z"].values
    np.testing.assert_array_equal(posterior["double"], 2 * z)
    np.testing.assert_allclose(posterior["both"], np.stack([z, z + x.numpy()], -1), rtol=1e-6)
    np.testing.assert_array_equal(posterior["level"], np.broadcast_to([3.0, 4.0], (4, 250, 3, 2)))
    np.testing.assert_array_equal(tree["prior"]["double"], 2 * tree["prior"]["z"])
    np.testing.assert_allclose(tree["prior"]["both"][..., 1], tree["prior"]["z"] + x.numpy(), rtol=1e-5, atol=1e-6)
    assert {name for name, values in posterior.data_vars.items() if "deterministic" in values.attrs} == {
        "double",
        "both",
        "level",
    }
    for group in ("observed_data", "log_likelihood", "posterior_predictive", "prior_predictive"):
        assert set(tree[group].data_vars) == {"x", "y"}, group
    # The precisions are 1 of the prior, 1 of the factor, 1 of x and 4 of y: z given both is N((x + 2 x^2) / 7, 1 / 7).
    # 5 standard errors at 250 effective draws.
    mean = (x + 2 * x**2).numpy() / 7
    np.testing.assert_allclose(z.mean((0, 1)), mean, atol=5 * math.sqrt(1 / 7 / 250))
    assert np.abs(z.var((0, 1)) * 7 - 1).max() < 5 * math.sqrt(2 / 250)
    zt, normal = torch.from_numpy(z).double(), dist.Normal(0.0, 1.0)
    lp = normal.log_prob(zt) - zt**2 / 2 + normal.log_prob(x - zt) + normal.log_prob(x**2 - 2 * zt)
    np.testing.assert_allclose(tree["sample_stats"]["lp"], lp, atol=1e-4)
    # y is predicted with mean 2 E z and variance 1 + 4 / 7.
    predicted = tree["posterior_predictive"]["y"].mean(("chain", "draw"))
    np.testing.assert_allclose(predicted, 2 * mean, atol=5 * math.sqrt((1 + 4 / 7) / 200))
    with warnings.catch_warnings(action="ignore"):  # k-hat, of which docs/arviz.md tells
        assert math.isfinite(az.loo(tree, var_name="x").elpd)


def _log_normal(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _by_auxiliary(x):
    """log z is drawn at an auxiliary site, and z is a function of it."""
    with pyro.plate("data", len(x), dim=-1):
        u = pyro.sample("u", dist.Normal(0.3 * x, 0.5), infer={"is_auxiliary": True})
        pyro.deterministic("twice", 2 * u)
        pyro.sample("z", dist.Delta(u.exp(), log_density=-u))


def test_auxiliary_sites_of_a_guide_count_and_are_no_latent_variables():
    x = torch.tensor([0.5, 1.5])
    tree = to_arviz(_log_normal, _by_auxiliary, x, **SMALL)
    for group in ("posterior", "guide_posterior", "prior"):
        assert list(tree[group].data_vars) == ["z"], group
    z = torch.from_numpy(tree["guide_posterior"]["z"].values)
    exact = dist.LogNormal(0.3 * x, 0.5).log_prob(z)
    np.testing.assert_allclose(tree["guide_sample_stats"]["log_q"], exact, atol=1e-5)


def _one_layer(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _point(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Delta(x / 2))


def test_a_guide_that_is_a_point_has_no_groups_and_stops_no_chain():
    tree = to_arviz(_one_layer, _point, torch.tensor([-1.0, 2.0]), draws=300, warmup=100)
    assert not {"guide_posterior", "guide_sample_stats"} & set(tree.children)
    assert "_point is a point at 'z'" in tree.attrs["guide_left_out"]
    z = tree["posterior"]["z"]
    # z given x is N(x / 2, 1 / 2): 5 standard errors at 300 effective draws.
    np.testing.assert_allclose(z.mean(("chain", "draw")), [-0.5, 1.0], atol=5 * math.sqrt(0.5 / 300))
    np.testing.assert_allclose(z.var(("chain", "draw")), 0.5, rtol=5 * math.sqrt(2 / 300))


def _in_another_order(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z2", dist.LogNormal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("z1", dist.Normal(x / 2, 0.7))


def test_guide_and_posterior_have_their_sites_in_one_order():
    tree = to_arviz(_two_layers, _in_another_order, torch.zeros(2), **SMALL)
    assert list(tree["guide_posterior"].data_vars) == list(tree["posterior"].data_vars) == ["z1", "z2"]


def test_variables_name_their_units(exported):
    tree = exported.tree
    assert tree["log_likelihood"]["x"].attrs["units"] == "nats"
    for group, names in (("sample_stats", ("lp", "energy")), ("guide_sample_stats", ("log_p", "log_q"))):
        assert {tree[group][name].attrs["units"] for name in names} == {"nats"}


def _points(plot):
    return plot.viz["ecdf_lines"]["x"].item().get_xydata()


def test_the_documented_pit_plots_show_what_is_exact(exported, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    model, _, x, tree = exported
    one = per_datapoint(tree)
    assert one["posterior_predictive"]["x"].dims == ("chain", "draw", "datapoint")
    assert one["log_likelihood"].sizes == one["posterior_predictive"].sizes
    # The mean of a replication given x is Gaussian: w' m + b, with variance w' S w + s^2 / 5, w the mean of W's rows.
    loc, covariance = model.posterior(x)
    weight = model.weight.mean(0)
    sd = (weight @ covariance @ weight + model.noise**2 / 5).sqrt()
    exact = dist.Normal(loc @ weight + model.bias.mean(), sd).cdf(x.mean(-1)).sort().values.numpy()
    # The plot shows the distribution of the 12 values less the uniform one, at 12 points.
    drawn = _points(az.plot_ppc_pit(one))
    steps = (exact[None] <= drawn[:, :1] + 1e-9).mean(1) - drawn[:, 0]
    assert len(drawn) == 12
    # 1,200 draws give a PIT value to 0.015 at most; one that near to a point of the plot may fall on its other side.
    near = (np.abs(exact[None] - drawn[:, :1]) < 5 * 0.015).sum(1) / 12
    assert (np.abs(drawn[:, 1] - steps) <= near + 1e-6).all()
    left_out = _points(az.plot_loo_pit(one))
    assert len(left_out) == 12
    assert np.abs(left_out[:, 1]).max() <= 1
    # Left out, a datapoint is farther from its predictions than within: its PIT values move to the ends.
    assert not np.allclose(left_out[:, 1], drawn[:, 1])
    pixels = _points(az.plot_ppc_pit(tree, method="prit_c"))
    assert len(pixels) == 60
    band = az.plot_ppc_dist(tree.sel(datapoint=slice(0, 5)))
    assert "predictive_dist" in band.viz.children


def test_missing_cells_of_coloured_images_stay_missing(oracle):
    # Of twelve cells, two rows of two pixels of three colours.
    x = torch.rand(6, 12)
    x[torch.rand(6, 12) < 0.3] = math.nan
    data = load_data(x.view(6, 2, 2, 3).numpy(), test_share=0.5, scale="standard")
    model, guide, data = adapted(NormalModel(12, 2, hidden=3), GaussianGuide(12, 2, hidden=3), data)
    rows = data.train.first()
    tree = to_arviz(model, guide, rows, image_shape=data.image_shape, **SMALL)
    observed = tree["observed_data"]["x"]
    assert observed.dims == ("datapoint", "row", "column", "channel")
    np.testing.assert_array_equal(observed.values.reshape(3, 12), rows.numpy())
    assert tree["posterior_predictive"]["x"].shape == (2, 30, 3, 2, 2, 3)
    assert not tree["posterior_predictive"]["x"].isnull().any()


def test_a_users_bernoulli_that_validates_is_told_of_grey_values():
    class Validating(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                logits = z.sum(-1, keepdim=True).expand(*z.shape[:-1], 3)
                pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=True).to_event(1), obs=x)

    grey = torch.full((4, 3), 0.5)
    with pytest.raises(InputError, match=r"within the support .*: grey values are no 0 and 1: give --binarize thresh"):
        check_pair(Validating(), None, grey)
    with pytest.raises(InputError, match=r"Validating cannot be run on data of shape \(4, 3\): .* within the support"):
        to_arviz(Validating(), None, grey, **SMALL)
    assert to_arviz(Validating(), None, grey.round(), **SMALL)["posterior"]["z"].shape == (2, 30, 4, 2)


def test_priors_are_exported_for_power_scaling(exported):
    tree = exported.tree
    z = tree["posterior"]["z"].values
    # N(0, I) in two dimensions.
    expected = -0.5 * (z**2).sum(-1) - math.log(2 * math.pi)
    np.testing.assert_allclose(tree["log_prior"]["z"], expected, atol=1e-4)
    assert tree["log_prior"]["z"].attrs["units"] == "nats"
    # With the prior to the power a and the likelihood to the power b, the precision of a latent variable is a + b l, l
    # being (1.5 / 0.6)^2 = 6.25 for one of them and (0.7 / 0.6)^2 = 1.36 for the other, and its mean is in proportion
    # to b l / (a + b l). At a = b = 1, both powers move the mean by as much, and the likelihood's moves the variance by
    # l times as much.
    found = az.psense_summary(tree.sel(datapoint=0))
    assert found["likelihood"].iloc[0] > found["prior"].iloc[0] > 0
    assert found["likelihood"].iloc[1] >= found["prior"].iloc[1] > 0
