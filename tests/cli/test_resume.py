"""`pyro-vae train --resume`: a run goes on as if it had never ended."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from pyro_vae.run.folder import read_checkpoint

TINY = ("--samples", "2000", "--hidden", "20", "--no-figures")


def _weights(folder):
    return Path(folder, "weights.safetensors").read_bytes()


def _last_samples(run):
    return Path(run, "metrics.csv").read_text().splitlines()[-1].split(",")[0]


def test_resume_extends_a_run_as_if_it_had_never_ended(cli):
    for out, samples in (("long", 30_000), ("short", 21_000)):
        assert cli("train", "--hidden", 20, "--out", out, "--samples", samples).status == 0
    assert cli("train", "--resume", "--out", "short", "--samples", "3e4").status == 0
    assert _weights("long") == _weights("short")
    rows = [
        [row.split(",")[0::2] for row in Path(out, "metrics.csv").read_text().splitlines()] for out in ("long", "short")
    ]
    assert [row for row in rows[1] if row[0] != "21000"] == rows[0]
    assert tomllib.loads(Path("short/run.toml").read_text())["settings"]["samples"] == 30_000


def test_resume_of_a_finished_run_changes_nothing(cli):
    cli("train", *TINY, "--out", "run")
    before = _weights("run"), Path("run/metrics.csv").read_text()
    assert cli("train", "--resume", "--out", "run").status == 0
    assert _weights("run") == before[0]
    assert Path("run/metrics.csv").read_text() == before[1]


def test_a_finished_run_whose_last_step_led_beyond_its_budget_is_resumed(cli):
    # Minibatches of 70: 29 of them are 2,030 samples.
    cli("train", *TINY, "--batch", "70", "--out", "run")
    assert _last_samples("run") == "2030"
    before = _weights("run")
    assert cli("train", "--resume", "--out", "run").status == 0
    assert _weights("run") == before
    assert cli("train", "--resume", "--out", "run", "--samples", "1999").status == 2
    assert cli("train", "--resume", "--out", "run", "--samples", "2100").status == 0
    assert _last_samples("run") == "2100"


def test_resume_takes_another_step_size_but_no_other_model(cli):
    cli("train", *TINY, "--out", "run")
    result = cli("train", "--resume", "--out", "run", "--latent", "3")
    assert result.status == 2
    assert "--latent 3 cannot be given to a resumed run, which has 2" in result.err
    assert cli("train", "--resume", "--out", "run", "--samples", "3000", "--step-size", "0.01").status == 0


def test_a_resumed_run_keeps_its_command_and_refuses_a_smaller_budget(cli):
    cli("train", *TINY, "--out", "run")
    command = tomllib.loads(Path("run/run.toml").read_text())["command"]
    cli("train", "--resume", "--out", "run", "--samples", "3000")
    assert tomllib.loads(Path("run/run.toml").read_text())["command"] == command
    result = cli("train", "--resume", "--out", "run", "--samples", "1000")
    assert result.status == 2
    assert "--samples 1000 is less than the 3000 that the run has seen" in result.err


def test_a_run_that_is_killed_loses_no_more_than_its_interval(cli):
    options = ["train", "--hidden", "20", "--samples", "40000", "--optimizer", "adam", "--step-size", "1e-3"]
    command = [sys.executable, "-m", "pyro_vae", *options, "--checkpoint-every", "0", "--out", "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "3,200 samples" in line:
                break
        process.kill()
    # The line is printed between a step and its checkpoint: with no interval, the step before is there.
    clock = read_checkpoint(Path("run"), torch.device("cpu"))["clock"]
    assert 3_100 <= clock["samples"] < 40_000
    assert cli("train", "--resume", "--checkpoint-every", "60", "--out", "run").status == 0
    assert cli(*options, "--out", "whole").status == 0
    assert _weights("run") == _weights("whole")
    rows = [
        [row.split(",")[0::2] for row in Path(out, "metrics.csv").read_text().splitlines()] for out in ("run", "whole")
    ]
    assert rows[0] == rows[1]


def test_all_generators_are_resumed(cli):
    """A part of the user's may draw from Python's and NumPy's generators, too."""
    Path("noisy.py").write_text(
        "import random\nimport numpy as np\nfrom pyro_vae.models.bernoulli import BernoulliModel\n"
        "class Noisy(BernoulliModel):\n    def likelihood(self, z):\n"
        "        return super().likelihood(z + 0.1 * random.random() + 0.1 * np.random.rand())\n"
    )
    options = ("--hidden", "20", "--model", "noisy.py")
    for out, samples in (("whole", 20_000), ("part", 14_000)):
        assert cli("train", *options, "--samples", samples, "--out", out).status == 0
    assert cli("train", "--resume", "--out", "part", "--samples", "2e4", "--trust").status == 0
    assert _weights("whole") == _weights("part")


@pytest.mark.parametrize(
    ("inference", "data", "samples", "marginals"),
    [
        ("wake_sleep", "digits", 24_000, ["importance"]),
        ("wake_sleep", "frey", 24_000, ["importance", "reciprocal"]),
        ("mcem", "digits", 6_000, ["importance", "ais"]),
        ("mcem", "mnist", 6_000, ["importance"]),
    ],
)
def test_the_baselines_train_evaluate_and_resume(cli, request, monkeypatch, inference, data, samples, marginals):
    # Evaluations on the way take most of the time, and are not what this is about.
    monkeypatch.setattr("pyro_vae.run.training._DRAWS", 200)
    monkeypatch.setattr("pyro_vae.run.training._FITTED", 10)
    monkeypatch.setattr("pyro_vae.local.fit_gaussian.__defaults__", (20, 0.1))  # 20 steps
    monkeypatch.setattr("pyro_vae.inference.ais.AIS.__init__.__defaults__", (20, 8, 3, False))  # 20 temperatures
    options = ["--data", data, "--hidden", "10", "--train-size", "100", "--inference", inference, "--no-figures"]
    if data != "digits":
        options += ["--data-dir", request.getfixturevalue("real_data")]
    if data == "frey":
        options += ["--model", "gaussian"]
    for out, budget in (("whole", samples), ("part", samples // 2)):
        result = cli("train", *options, "--out", out, "--samples", budget)
        assert result.status == 0, result.err
    assert cli("train", "--resume", "--out", "part", "--samples", samples).status == 0
    assert _weights("whole") == _weights("part")
    asked = [word for name in marginals for word in ("--marginal", name)]
    result = cli("evaluate", "whole", "--limit", "2", "--particles", "30", *asked, "--json")
    assert result.status == 0, result.err
    values = json.loads(result.out)
    assert values["bound"] < 0 or data == "frey"
    detail = {"importance": "particles", "reciprocal": "acceptance", "ais": "temperatures"}
    for name in marginals:
        assert set(values[name]) >= {"log_px", "se", detail[name]}


def test_a_checkpoint_with_code_in_it_is_refused(cli):
    import pickle

    cli("train", *TINY, "--out", "run")
    Path("run/checkpoint.pt").write_bytes(pickle.dumps(Path))  # names a class to be looked up
    result = cli("train", "--resume", "--out", "run", "--samples", "3000")
    assert result.status == 2
    assert "run/checkpoint.pt cannot be read" in result.err
    assert result.err.count("\n") == 1
