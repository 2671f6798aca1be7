"""Evaluation: what is not known, guides that are points, and users' parts that fail."""

import json
import re
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae import ranks
from pyro_vae.bayesian import BayesianModel
from pyro_vae.cli.tables import print_evaluation
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.inference.importance import Importance
from pyro_vae.local import fit_gaussian
from pyro_vae.marginal import Marginal
from pyro_vae.run.score import evaluate, score
from pyro_vae.split import Split


def _dataset(x):
    return Dataset("toy", Split(x), Split(x), (1, x.shape[1]), "", "none")


def test_evaluate_says_what_it_does_not_know(oracle):
    dataset = _dataset(oracle.x)
    result = evaluate(oracle.model, oracle.guide, dataset, particles=1, limit=10)
    assert result["datapoints"] == 10
    assert result["bound_se"] is None
    assert result["importance"]["khat_over_0_7"] is None
    with_error = evaluate(oracle.model, oracle.guide, dataset, particles=50)
    assert with_error["bound"] < oracle.model.log_px(oracle.x).mean()
    assert with_error["bound_se"] > 0


class _Details:
    """An estimator whose details are a setting, a value of each datapoint, and one that is not known of two of them."""

    def estimate(self, model, guide, split):
        x = torch.arange(float(len(split)))
        return Marginal(x, 0 * x, {"setting": 7, "each": x, "some": x.where(x > 1, torch.nan), "none": x / 0 - x / 0})


def test_details_are_means_over_the_datapoints_where_they_are_known(oracle):
    row = score(oracle.model, oracle.guide, oracle.split.head(5), {"own": _Details()}).row(5)
    # 0 to 4 have the mean 2, 2 to 4 the mean 3.
    expected = {"log_px": 2, "se": 0, "setting": 7, "each": 2, "some": 3, "some_unknown": 2, "none": None}
    assert row["own"] == expected


def test_ranks_put_their_datapoints_together(oracle, monkeypatch):
    own = score(oracle.model, oracle.guide, oracle.split.head(4), {"own": _Details()})
    monkeypatch.setattr(ranks, "all_rows", lambda part: torch.cat([part, part + 1]))
    whole = own.gathered()
    assert torch.equal(whole.bound.values, torch.cat([own.bound.values, own.bound.values + 1]))
    assert whole.marginals["own"].log_px.tolist() == [0, 1, 2, 3, 1, 2, 3, 4]
    assert whole.row(5)["own"]["each"] == 2
    assert whole.row(5)["own"]["setting"] == 7


def test_what_is_not_a_number_is_shown_as_unknown(oracle, capsys):
    with torch.no_grad():
        oracle.guide.mean.bias.fill_(torch.nan)
    result = evaluate(oracle.model, oracle.guide, _dataset(oracle.x), particles=30)
    assert result["bound"] is result["importance"]["log_px"] is result["importance"]["khat_over_0_7"] is None
    print_evaluation(result)
    assert "-" in capsys.readouterr().out


_POINT = """
import pyro, torch
import pyro.distributions as dist
from torch import nn

__all__ = ["Linear", "Point"]

class Linear(nn.Module):
    def __init__(self, features, latent, hidden=500):
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.W, self.b = nn.Parameter(torch.randn(features, latent, generator=g)), nn.Parameter(torch.zeros(features))
    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.W.shape[1]), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z @ self.W.T + self.b, 0.5).to_event(1), obs=x)

class Point(nn.Module):
    def __init__(self, features, latent, hidden=500):
        super().__init__()
        self.net = nn.Linear(features, latent)
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Delta(self.net(x), event_dim=1))
"""


def test_a_run_whose_guide_is_a_point(cli, monkeypatch):
    Path("own.py").write_text(_POINT)
    parts = ("--model", "own.py:Linear", "--guide", "own.py:Point")
    with monkeypatch.context() as hurry:
        hurry.setattr("pyro_vae.marginal.fit_gaussian", partial(fit_gaussian, steps=20))
        trained = cli("train", *parts, "--samples", 100, "--out", "run", "--no-figures")
    assert trained.status == 0, trained.err
    run = ("run", "--trust", "--limit", 12)
    for refused in (
        cli("evaluate", *run),
        cli("compare", "run", *run),
        cli("evaluate", *run, "--marginal", "ais", "--marginal", "importance"),
    ):
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert "Point is a point at site 'z', which has no density" in refused.err
        assert "give --local for a Gaussian fitted to each datapoint, or --marginal ais alone" in refused.err

    ais = ("--marginal", "ais", "--set", "ais.temperatures=60", "--set", "ais.chains=30")
    alone = json.loads(cli("evaluate", *run, *ais, "--json").out)
    assert alone["bound"] is alone["bound_se"] is None
    quick = ("--marginal", "ais", "--set", "ais.temperatures=2", "--set", "ais.chains=2")
    shown = cli("evaluate", *run, *quick)
    assert re.search(r"bound +│ +- │", shown.out), shown.out
    compared = cli("compare", "run", *run, *quick)
    assert (compared.status, compared.out.count(" - │") > 2) == (0, True)
    row = json.loads(cli("compare", "run", *run, *quick, "--json").out)["runs"][1]
    assert row["bound"] is row["difference"] is row["difference_se"] is None
    assert row["ais"]["difference"] == 0

    both = json.loads(cli("evaluate", *run, *ais, "--marginal", "importance", "--local", "--json").out)
    assert both["bound"] < both["importance"]["log_px"]
    error = (both["importance"]["se"] ** 2 + both["ais"]["se"] ** 2) ** 0.5
    assert abs(both["importance"]["log_px"] - both["ais"]["log_px"]) < 3 * error + 0.01
    assert both["ais"] == alone["ais"]


def test_a_fitted_gaussian_takes_the_place_of_any_guide(oracle):
    dataset = _dataset(oracle.x[:20])
    exact = oracle.model.log_px(oracle.x[:20]).mean().item()
    own, fitted = (evaluate(oracle.model, oracle.guide, dataset, particles=100, local=local) for local in (False, True))
    assert own["bound"] < exact - 0.5
    assert abs(fitted["bound"] - exact) < 0.02 + 3 * fitted["bound_se"]  # the posterior is in the family


class _Fixed(nn.Module):
    """A model, or its guide, that takes a hundred datapoints one draw at a time."""

    def __init__(self, guide):
        super().__init__()
        self.guide = guide

    def forward(self, x=None, size=None):
        n = size if x is None else len(x)
        with pyro.plate("data", n, dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            if self.guide:
                return z
            return pyro.sample("x", dist.Normal(z.view(100, 1).expand(100, 3), 1.0).to_event(1), obs=x)


def test_a_part_that_fails_is_told_in_one_line():
    model, guide = _Fixed(False), _Fixed(True)
    assert evaluate(model, guide, _dataset(torch.zeros(100, 3)), particles=1)["bound"] < 0
    for datapoints, particles, what in ((40, 1, "looking at _Fixed"), (100, 3, "estimating the bound")):
        with pytest.raises(InputError) as told:
            evaluate(model, guide, _dataset(torch.zeros(datapoints, 3)), particles=particles)
        message = str(told.value)
        assert message.startswith(f"{what} failed: RuntimeError: shape '[100, 1]' is invalid for input of size")
        assert "(test_score.py:" in message
        assert "\n" not in message


class _Broken:
    def estimate(self, model, guide, split):
        raise KeyError("one\ntwo")


def test_an_estimator_that_fails_is_named(oracle):
    with pytest.raises(InputError, match=r"estimating log p\(x\) by own failed: KeyError: .* \(test_score.py:\d+\)$"):
        score(oracle.model, oracle.guide, oracle.split, {"own": _Broken()})


class _Prior(nn.Module):
    """A model of one pixel, or a guide, whose latent variables have any distribution."""

    def __init__(self, latent, guide=False):
        super().__init__()
        self.latent, self.guide = latent, guide

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", self.latent)
            if not self.guide:
                z = z.unsqueeze(-1) if z.dim() == 1 or z.shape[-1] != 3 else z[..., :1]
                return pyro.sample("x", dist.Normal(z.float(), 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("latent", "said"),
    [
        (dist.Categorical(torch.ones(4) / 4), "_Prior has no latent variable but discrete ones"),
        (dist.ProjectedNormal(torch.tensor([0.0, 0.0, 1.0])), "site 'z' has the support Sphere"),
    ],
)
@pytest.mark.parametrize("name", ["ais", "reciprocal"])
def test_latent_variables_that_hmc_cannot_move_are_told(latent, said, name):
    model, guide, dataset = _Prior(latent), _Prior(latent, guide=True), _dataset(torch.zeros(4, 1))
    with pytest.raises(InputError) as told:
        evaluate(model, guide, dataset, particles=30, marginal=(name,))
    message = str(told.value)
    assert message.startswith(said)
    assert "use importance" in message
    assert "\n" not in message
    assert evaluate(model, guide, dataset, particles=30)["importance"]["log_px"] < 0


def test_a_sphere_has_no_gaussian():
    sphere = dist.ProjectedNormal(torch.tensor([0.0, 0.0, 1.0]))
    model, guide, dataset = _Prior(sphere), _Prior(sphere, guide=True), _dataset(torch.zeros(4, 1))
    with pytest.raises(InputError, match="site 'z' has the support Sphere"):
        evaluate(model, guide, dataset, particles=30, local=True)


def test_random_weights_are_scored_by_one_process(oracle, monkeypatch):
    class Own(nn.Linear):
        random_weights = True

    monkeypatch.setattr(ranks, "count", lambda: 2)
    for model in (Own(1, 1), BayesianModel(oracle.model)):
        with pytest.raises(InputError, match="share the draws of random weights: evaluate them without torchrun"):
            score(model, oracle.guide, oracle.split, {"importance": Importance(30)})
