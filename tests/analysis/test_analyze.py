"""`pyro-vae analyze` as a user runs it, on pairs of the shelves and on what users write."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_vae import Run, train
from pyro_vae.analysis.analyze import analyze
from pyro_vae.errors import InputError

TINY = ("--limit", "12", "--chains", "2", "--draws", "30", "--warmup", "10")


def test_it_writes_what_it_finds(analysed):
    assert {path.name for path in (analysed / "analysis").iterdir()} == {
        "draws.nc",
        "summary.json",
        "datapoints.csv",
        "latents.csv",
    }
    summary = json.loads((analysed / "analysis/summary.json").read_text())
    about, gaps = summary["run"], summary["gaps"]
    assert (about["data"], about["datapoints"], about["chains"], about["draws"]) == ("digits", 12, 2, 30)
    assert gaps["gap"] == pytest.approx(gaps["approximation_gap"] + gaps["amortisation_gap"])
    assert gaps["gap"] == pytest.approx(gaps["log_px"] - gaps["bound"])
    rows = list(csv.DictReader((analysed / "analysis/datapoints.csv").read_text().splitlines()))
    assert len(rows) == 12
    mean = sum(float(row["log_px"]) for row in rows) / 12
    assert mean == pytest.approx(gaps["log_px"])
    worst = max(rows, key=lambda row: float(row["rhat"]))
    assert summary["sampler"]["worst_rhat"][0] == int(worst["datapoint"])
    assert float(worst["rhat"]) == pytest.approx(summary["sampler"]["rhat"]["max"])
    assert len(list(csv.DictReader((analysed / "analysis/latents.csv").read_text().splitlines()))) == 2


def test_the_draws_are_those_of_the_run(analysed):
    tree = az.from_netcdf(analysed / "analysis/draws.nc")
    assert tree["posterior"]["z"].shape == (2, 30, 12, 2)
    assert tree["observed_data"]["x"].shape == (12, 8, 8)
    assert (tree.attrs["data"], tree.attrs["split"], tree.attrs["samples"]) == ("digits", "test", 3000)


def test_a_new_run_in_the_folder_takes_the_old_analysis_away(analysed, tmp_path):
    shutil.copytree(analysed, tmp_path / "run")
    train(tmp_path / "run", data="digits", latent=2, hidden=20, samples=100, overwrite=True, progress=False)
    assert not (tmp_path / "run/analysis").exists()
    assert not (tmp_path / "run/report.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--draws", "3"), "--draws 3 is not possible: give a whole number from 4"),
        (("--chains", "1"), "--chains 1 is not possible"),
        (("--limit", "none"), "--limit none is not possible"),
        (("--marginal", "nothing"), "--marginal nothing is unknown: choose from ais"),
        (("--split", "valid"), "'valid' is not one of"),
    ],
)
def test_wrong_input_is_answered_with_one_line(analysed, cli, options, message):
    result = cli("analyze", analysed, *options)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


def test_a_folder_that_is_no_run_is_refused(cli):
    result = cli("analyze", "nowhere")
    assert (result.status, "nowhere is not a run folder" in result.err) == (2, True)


def test_a_run_without_a_guide_is_analysed(cli, few_simulations):
    train("mcem", data="digits", inference="mcem", latent=2, hidden=10, train_size=100, samples=1500, progress=False)
    result = cli("analyze", "mcem", *TINY, "--zarr", "--json")
    assert result.status == 0
    summary = json.loads(result.out)
    assert "guide" not in summary
    assert set(summary["calibration"]) == {"hmc", "at_data"}
    assert "bound" not in summary["gaps"]
    assert math.isfinite(summary["gaps"]["local_bound"])
    assert "guide_posterior" not in az.from_zarr("mcem/analysis/draws.zarr").children
    report = Path("mcem/report.html").read_text()
    assert "its algorithm walks on the posterior itself" in report


_FOREIGN = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn

__all__ = ["Foreign"]


class Foreign(nn.Module):
    def __init__(self, features, latent):
        super().__init__()
        self.latent = latent
        self.decoder = nn.Linear(latent, features)

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            total = pyro.deterministic("total", z.sum(-1))
            pyro.factor("bonus", -0.1 * total**2)
            pyro.sample("brightness", dist.Normal(total, 1.0), obs=None if x is None else x.mean(-1))
            probs = self.decoder(z).sigmoid()
            return pyro.sample("x", dist.Bernoulli(probs, validate_args=False).to_event(1), obs=x)
"""


def test_a_foreign_model_is_analysed_site_by_site(cli, few_simulations):
    Path("foreign.py").write_text(_FOREIGN)
    train("run", data="digits", model="foreign.py", latent=2, samples=1000, progress=False)
    result = cli("analyze", "run", *TINY, "--trust", "--json")
    assert result.status == 0, result.err
    summary = json.loads(result.out)
    assert {row["site"] for row in summary["fit"]["checks"]} == {"x", "brightness"}
    assert set(summary["fit"]["calibration_error"]) == {"x", "brightness"}
    # Simulations draw without the factor, and so would be of another model; at the data it counts once.
    assert set(summary["calibration"]) == {"at_data"}
    assert set(summary["left_out"]) == {"simulation-based calibration"}
    tree = az.from_netcdf("run/analysis/draws.nc")
    np.testing.assert_allclose(tree["posterior"]["total"], tree["posterior"]["z"].sum("z_dim_0"), atol=1e-5)
    # No part is known by name: that grey pixels are none of a Bernoulli's values, the likelihood says.
    assert summary["run"]["measure"] == "relaxed"
    report = Path("run/report.html").read_text()
    assert "Grey values under a likelihood of 0 and 1" in report
    assert "simulation-based calibration: site &#39;bonus&#39; is a pyro.factor" in report
    assert "Posterior predictive of &#39;brightness&#39;" in report


def test_a_link_is_not_written_through(cli, analysed):
    Path("elsewhere").mkdir()
    shutil.copytree(analysed, "run", ignore=shutil.ignore_patterns("analysis"))
    Path("run", "analysis").symlink_to(Path("elsewhere").absolute())
    result = cli("analyze", "run", *TINY, "--quick")
    assert (result.status, result.err) == (
        2,
        "pyro-vae: run/analysis is a link, which may lead out of the folder: remove it\n",
    )
    assert not [*Path("elsewhere").iterdir()]


def test_a_quick_analysis_leaves_out_what_takes_longest(cli, analysed):
    shutil.copytree(analysed, "run")
    result = cli("analyze", "run", *TINY, "--quick")
    assert result.status == 0
    assert "calibrating" not in result.err
    summary = json.loads(Path("run/analysis/summary.json").read_text())
    assert not {"gaps", "calibration"} & summary.keys()
    assert set(summary["left_out"].values()) == {"asked for by --quick"}
    assert "left out: simulation-based calibration (asked for by --quick)" in result.out
    assert "--quick" in summary["run"]["command"]


class _Linear(nn.Module):
    def __init__(self, fault=None):
        super().__init__()
        self.fault, self.weight = fault, nn.Parameter(torch.ones(64))

    def forward(self, x=None, size=None):
        n = size if x is None else len(x)
        with pyro.plate("data", n, dim=-1):
            prior = dist.Categorical(torch.ones(3)) if self.fault == "discrete" else dist.Normal(0.0, 1.0)
            z = pyro.sample("z", prior)
            if self.fault == "gradient" and torch.is_grad_enabled():
                raise ZeroDivisionError("no gradients,\nplease")
            if self.fault == "few" and n < 3:
                raise IndexError("too few")
            pyro.sample("x", dist.Normal(z.unsqueeze(-1) * self.weight, 1.0).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("discrete", r"^HMC cannot move site 'z' of _Linear: no bijection .* evaluate .* and sample remain$"),
        (
            "gradient",
            r"^the analysis of _Linear failed: ZeroDivisionError: no gradients, please \(test_analyze.py:\d+\)$",
        ),
        ("few", r"^_Linear cannot be run on data of shape \(2, 64\): IndexError: too few \(test_analyze.py:\d+\)$"),
    ],
)
def test_what_makes_an_analysis_impossible_is_said_at_once_and_in_one_line(analysed, capsys, fault, message):
    with pytest.raises(InputError, match=message):
        analyze(replace(Run.open(analysed), model=_Linear(fault), guide=None), limit=12)
    assert "drawing from the posterior" not in capsys.readouterr().err


class _Point(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Delta(x.mean(-1)))


def test_a_guide_that_is_a_point_is_not_judged(analysed, tmp_path, few_simulations):
    shutil.copytree(analysed, tmp_path / "run")
    run = replace(Run.open(tmp_path / "run"), model=_Linear(), guide=_Point())
    summary = analyze(run, limit=6, chains=2, draws=30, warmup=10, progress=False).summary
    assert "_Point is a point at 'z'" in summary["left_out"]["the guide against the posterior"]
    assert "guide" not in summary
    assert set(summary["calibration"]) == {"hmc", "at_data"}
    assert math.isfinite(summary["gaps"]["log_px"])


def test_a_part_that_fails_late_costs_no_more_than_itself(analysed, tmp_path, monkeypatch, few_simulations):
    shutil.copytree(analysed, tmp_path / "run")

    class Declining:
        def estimate(self, model, guide, split):
            raise InputError("it declines")

    monkeypatch.setattr("pyro_vae.analysis.analyze.estimators", lambda names, **options: {names[0]: Declining()})
    found = analyze(Run.open(tmp_path / "run"), limit=6, chains=2, draws=30, warmup=10, progress=False)
    assert found.summary["left_out"] == {"log p(x) and what separates the bound from it": "it declines"}
    assert "gaps" not in found.summary
    assert set(found.pit) == {"hmc", "guide", "at_data"}
