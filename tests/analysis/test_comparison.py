"""Runs side by side: paired differences, and what must not meet in one table."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_vae import Run, compare, train
from pyro_vae.analysis.comparison import Comparison
from pyro_vae.data import load_data
from pyro_vae.errors import InputError
from pyro_vae.marginal import Estimates, Marginal
from pyro_vae.run.score import Score


def _train(out, **settings):
    train(out, progress=False, samples=300, hidden=5, **settings)


@pytest.fixture
def runs(cli):
    _train("a")
    _train("b", prior="mixture", optimizer="adam")


def test_differences_are_paired(cli, runs):
    # a = (1, 2, 3, 6) and b = (2, 2, 4, 6): differences (1, 0, 1, 0) with mean 1/2 and variance 1/3, whose mean has a
    # standard error of sqrt(1/3) / 2, far below that of unpaired means.
    opened = [Run.open(name) for name in "ab"]
    values = [torch.tensor(v, dtype=torch.float64) for v in ([1, 2, 3, 6], [2, 2, 4, 6])]
    scores = [Score(Estimates(v, 0 * v), {"ais": Marginal(2 * v, 0 * v, {})}, "relaxed", None, []) for v in values]
    comparison = Comparison(opened, "test", 4, scores)
    assert comparison.difference(0) == (0, 0)
    assert comparison.difference(1) == pytest.approx((0.5, math.sqrt(1 / 3) / 2))
    assert comparison.difference(1, "ais") == pytest.approx((1, math.sqrt(1 / 3)))
    row = comparison.table()["runs"][1]
    assert (row["bound"], row["difference"], row["ais"]["log_px"], row["ais"]["difference"]) == (3.5, 0.5, 7, 1)
    # A notebook shows the same numbers.
    frame = comparison.frame()
    assert frame.loc["b"].tolist() == pytest.approx([3.5, 0.5, math.sqrt(1 / 3) / 2, 7, 1, math.sqrt(1 / 3)])
    assert frame.loc["a"].isna().tolist() == [False, True, True] * 2
    assert "3.50" in comparison._repr_html_()
    assert repr(comparison).splitlines()[-2].split() == ["b", "3.50", "0.50", "0.29", "7.00", "1.00", "0.58"]
    assert repr(scores[1]) == "Score (relaxed, nats per datapoint): bound 3.50 ± 0.00; log p(x), ais 7.00 ± 0.00"
    assert "<td>7.000</td>" in scores[1]._repr_html_()
    told = "b: digits, bernoulli model, gaussian guide, aevb, 2 latents, 300 samples, test bound "
    assert repr(opened[1]).startswith(f"Run {told}")
    assert list(opened[1].metrics) == ["samples", "seconds", "train_bound", "test_bound"]


def test_compares_what_evaluate_says(cli, runs):
    options = ("--limit", "20", "--particles", "30")
    result = cli("compare", "a", "b", *options, "--json")
    assert result.status == 0, result.err
    table = json.loads(result.out)
    assert (table["data"], table["measure"], table["datapoints"]) == ("digits", "relaxed", 20)
    for row, name in zip(table["runs"], "ab", strict=True):
        single = json.loads(cli("evaluate", name, *options, "--json").out)
        assert (row["run"], row["bound"], row["bound_se"]) == (name, single["bound"], single["bound_se"])
        for key, value in single["importance"].items():
            assert row["importance"][key] == value
    first, second = table["runs"]
    assert second["prior"] == "mixture"
    assert second["difference"] == pytest.approx(second["bound"] - first["bound"])
    assert second["importance"]["difference_se"] > 0
    (flat, other) = csv.DictReader(io.StringIO(cli("compare", "a", "b", *options, "--csv").out))
    assert float(other["importance.log_px"]) == second["importance"]["log_px"]
    assert flat["data"] == "digits"
    shown = cli("compare", "a", "b", *options).out
    assert "digits test, 20 datapoints, grey pixels, relaxed" in shown
    assert f"{second['difference']:+.2f} ± {second['difference_se']:.2f}" in shown


def test_the_values_of_each_datapoint_are_there_in_python(cli, runs):
    comparison = compare([Run.open("a"), Run.open("b")], particles=30, limit=10)
    bound, log_px = (comparison.scores[1].bound.values, comparison.scores[1].marginals["importance"].log_px)
    assert bound.shape == log_px.shape == (10,)
    assert comparison.difference(1, "importance").mean == pytest.approx(
        (log_px - comparison.scores[0].marginals["importance"].log_px).mean().item()
    )
    single = compare([Run.open("a"), Run.open("b")], particles=1, limit=1).table()["runs"][1]
    assert (single["bound_se"], single["difference_se"]) == (None, None)


def test_dynamic_pixels_are_drawn_once_for_all(cli):
    # The same run twice: were the pixels drawn anew for each, its values would differ.
    _train("a", binarize="dynamic")
    comparison = compare([Run.open("a"), Run.open("a")], particles=5, limit=10)
    assert torch.equal(*(score.bound.values for score in comparison.scores))
    assert comparison.scores[0].measure == "mass"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"binarize": "threshold"}, "b has another binarisation than a, threshold and not none"),
        ({"model": "discretized_logistic"}, "b has another measure than a, a mass and not a relaxed Bernoulli"),
        ({"model": "beta"}, "b has another measure than a, a density and not a relaxed Bernoulli"),
    ],
)
def test_what_cannot_be_compared_is_refused(cli, options, message):
    _train("a")
    _train("b", **options)
    result = cli("compare", "a", "b")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert f"{message}: compare them in separate tables" in result.err


def test_other_data_are_refused(cli, tmp_path):
    import numpy as np

    _train("a")
    np.save("x.npy", np.random.default_rng(0).random((500, 64)))
    _train("b", data="x.npy")
    result = cli("compare", "a", "b")
    assert result.status == 2
    assert "b has another data set than a, " in result.err
    assert "compare needs two runs or more" in cli("compare", "a").err
    assert "--json and --csv exclude each other" in cli("compare", "a", "b", "--json", "--csv").err


def test_a_mass_is_told_in_bits_per_dimension(cli):
    _train("a", model="discretized_logistic")
    values = json.loads(cli("evaluate", "a", "--limit", "5", "--particles", "30", "--json").out)
    assert values["measure"] == "mass"
    # bits = -nats / (64 pixels * log 2)
    assert values["bits_per_dim"] == pytest.approx(-values["bound"] / (64 * math.log(2)))
    assert values["importance"]["bits_per_dim"] == pytest.approx(-values["importance"]["log_px"] / (64 * math.log(2)))
    assert "bits_per_dim" in cli("evaluate", "a", "--limit", "5", "--particles", "30").out
    _train("b", model="continuous_bernoulli")
    assert "bits_per_dim" not in json.loads(cli("evaluate", "b", "--limit", "5", "--particles", "30", "--json").out)


LABELLED = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Labelled(nn.Module):
    def __init__(self, features, latent, classes):
        super().__init__()
        self.table, self.decoder = nn.Embedding(classes + 1, features), nn.Linear(latent, features)

    def forward(self, x=None, size=None, label=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = self.decoder(z) + self.table(label + 1)
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)
"""


@pytest.mark.parametrize("binarize", ["threshold", "dynamic"])
def test_runs_that_ask_for_labels_stand_beside_runs_that_do_not(cli, binarize):
    Path("labelled.py").write_text(LABELLED, encoding="utf-8")
    train("a", progress=False, samples=300, binarize=binarize, hidden=5)
    train("b", progress=False, samples=300, binarize=binarize, model="labelled.py")
    opened = [Run.open(name, trust=True) for name in "ab"]
    one, other = (compare(order, particles=20, limit=15) for order in (opened, opened[::-1]))
    for n, run in enumerate(opened):
        # Whichever comes first, each scores the same pixels, with its own labels beside them.
        assert torch.equal(one.scores[n].bound.values, other.scores[1 - n].bound.values)
        assert len(one.scores[n].bound.values) == 15
        if binarize != "dynamic":  # which draws them anew
            alone = run.evaluate(particles=20, limit=15)
            row = one.table()["runs"][n]
            assert (row["bound"], row["importance"]["log_px"]) == (alone["bound"], alone["importance"]["log_px"])


SCALED = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class LinearModel(nn.Module):
    # x = W z + b + s e in the data's own units, told to the engine in those that networks see: (x - loc) / scale.
    def __init__(self, features, latent, weight: list, bias: list, noise: float, loc: list, scale: list):
        super().__init__()
        for name, value in dict(weight=weight, bias=bias, loc=loc, scale=scale).items():
            self.register_buffer(name, torch.tensor(value))
        self.noise, self.nothing = noise, nn.Parameter(torch.zeros(()))

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = (z @ self.weight.T + self.bias - self.loc) / self.scale + 0 * self.nothing
            return pyro.sample("x", dist.Normal(mean, self.noise / self.scale).to_event(1), obs=x)
"""


def test_differently_scaled_runs_have_the_exact_log_p_of_unscaled_data_in_one_table(cli, oracle):
    Path("scaled.py").write_text(SCALED, encoding="utf-8")
    # The data's units: x = 100 y + 3, with y from the oracle, so that W and s are 100 times the oracle's.
    x = (100 * oracle.x + 3).numpy()
    np.save("x.npy", x)
    fixed = {
        "weight": (100 * oracle.model.weight).tolist(),
        "bias": (100 * oracle.model.bias + 3).tolist(),
        "noise": 100 * oracle.model.noise,
    }
    for scale in ("none", "unit", "standard"):
        data = load_data("x.npy", scale=scale)
        loc, by = data.scaled or (torch.zeros(5), torch.ones(5))
        own = {**fixed, "loc": loc.tolist(), "scale": by.tolist()}
        train(
            scale,
            data="x.npy",
            scale=scale,
            model="scaled.py",
            set={"model": own},
            samples=100,
            batch=20,
            progress=False,
        )
    comparison = compare(
        [Run.open(name, trust=True) for name in ("standard", "unit", "none")], particles=2000, local=True
    )
    # log p(x) = log p(y) - 5 log 100
    exact = oracle.model.log_px((data.test.first() - 3) / 100).double() - 5 * math.log(100)
    for score in comparison.scores:
        found = score.marginals["importance"]
        mean, error = found.estimates.mean()
        assert abs(mean - exact.mean().item()) < 3 * error + 0.002  # float32, and half the variance of a log mean
    assert [score.measure for score in comparison.scores] == ["density"] * 3


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"stratify": True}, "choice of test datapoints"),
        ({"label": "b", "stratify": True}, "choice of test datapoints|choice of columns"),
        ({"columns": "c,a,b"}, "choice of columns"),
        ({"drop": "a"}, "choice of columns"),
    ],
)
def test_other_rows_or_columns_of_one_file_are_refused(cli, settings, what):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=[*"abc"]).assign(kind=[0, 1, 2] * 20)
    frame["b"] = [0, 1] * 30
    frame.to_csv("x.csv", index=False)
    common = {"data": "x.csv", "model": "normal", "samples": 40, "batch": 20, "hidden": 3, "progress": False}
    train("a", label="kind", **common)
    train("b", **({"label": "kind"} | settings), **common)
    with pytest.raises(InputError, match=f"b has another ({what}) than a"):
        compare([Run.open("a"), Run.open("b")])
