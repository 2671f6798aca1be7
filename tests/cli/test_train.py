"""`pyro-vae train`, run as a user would."""

import itertools
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pyro_vae.run.folder import read_checkpoint

TINY = ("--samples", "2000", "--hidden", "20", "--no-figures")

OWN_MODEL = """
import pyro.distributions as dist
from pyro_vae.models.bernoulli import BernoulliModel

class SharpModel(BernoulliModel):
    def __init__(self, features, latent, hidden=500, prior=None, width=1.0):
        super().__init__(features, latent, hidden, prior)
        self.width = width

    def prior(self):
        return dist.Laplace(self.decoder[0][0].weight.new_zeros(2), self.width).to_event(1)
"""


def _weights(folder):
    return Path(folder, "weights.safetensors").read_bytes()


def test_train_leaves_everything_that_a_run_is(cli):
    result = cli("train", *TINY[:-1])  # with its figures
    assert result.status == 0
    run = Path("runs/digits-bernoulli-aevb-2")
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock",
        "checkpoint.pt",
        "curve.png",
        "latent.png",
        "manifold.png",
        "metrics.csv",
        "reconstructions.png",
        "run.toml",
        "samples.png",
        "weights.safetensors",
    ]
    header, first, *_, last = (run / "metrics.csv").read_text().splitlines()
    assert header.startswith("samples,seconds,train_bound,test_bound")
    assert first.startswith("0,0.0,")
    assert last.startswith("2000,")
    assert f"test bound {float(last.split(',')[3]):.2f} nats per datapoint" in result.out
    assert "train bound" in result.err  # progress goes to standard error
    assert result.out.count(".png") == 5
    record = tomllib.loads((run / "run.toml").read_text())
    assert record["settings"]["hidden"] == 20
    assert record["settings"]["kl"] == "sampled"
    assert record["data"]["binarize"] == "none"
    assert record["device"] == "cpu"
    assert set(record["versions"]) >= {"pyro-vae", "torch", "pyro-ppl", "python"}
    for picture in run.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_seed_fixes_everything(cli):
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        cli("train", *TINY, "--out", out, "--seed", seed)
    a, b, c = (_weights(out) for out in "abc")
    assert a == b
    assert a != c
    without_seconds = [
        [row.split(",")[0::2] for row in Path(out, "metrics.csv").read_text().splitlines()] for out in "ab"
    ]
    assert without_seconds[0] == without_seconds[1]


def test_a_configuration_file_and_options_before_it(cli):
    Path("my.toml").write_text('latent = 3\nsamples = "2e3"\nhidden = 20\n[set.inference]\nweight_prior = inf\n')
    assert cli("train", "--config", "my.toml", "--hidden", "15", "--set", "guide.hidden=10", "--out", "run").status == 0
    settings = tomllib.loads(Path("run/run.toml").read_text())["settings"]
    assert (settings["latent"], settings["samples"], settings["hidden"]) == (3, 2000, 15)
    assert settings["set"] == {"inference": {"weight_prior": float("inf")}, "guide": {"hidden": 10}}
    assert load_file("run/weights.safetensors")["guide.hidden.0.weight"].shape == (10, 64)
    assert cli("train", "--config", "run/run.toml", "--out", "again").status == 0
    assert _weights("run") == _weights("again")


def test_checkpoints_come_at_their_interval(cli, monkeypatch):
    # A clock that moves one second each time that it is read: once before training, in every step and at every write.
    ticks, written = itertools.count(), []
    monkeypatch.setattr("pyro_vae.run.training.monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(
        "pyro_vae.run.folder.write_checkpoint", lambda _, state: written.append(state["clock"]["samples"])
    )
    assert cli("train", *TINY, "--checkpoint-every", "5", "--out", "run").status == 0
    # Twenty steps of 100: before them, every fifth, and at the end.
    assert written == [0, 500, 1000, 1500, 2000, 2000]
    result = cli("train", "--checkpoint-every", "-1")
    assert result.status == 2
    assert "--checkpoint-every -1 is not possible: give seconds, 0 or more" in result.err


def test_an_existing_run_wants_resume_or_overwrite(cli):
    cli("train", *TINY, "--out", "run")
    result = cli("train", *TINY, "--out", "run")
    assert result.status == 2
    assert "continue it with --resume, replace it with --overwrite" in result.err
    assert cli("train", *TINY, "--out", "run", "--overwrite", "--seed", "1").status == 0
    assert cli("evaluate", "run", "--marginal", "nope").err.startswith("pyro-vae: --marginal nope is unknown: choose")
    # What is wrong is said before the old run is gone.
    assert cli("train", "--out", "run", "--overwrite", "--batch", "9999").status == 2
    assert Path("run/weights.safetensors").exists()


def test_overwriting_removes_nothing_but_the_old_run(cli):
    cli("train", *TINY, "--out", "run")
    Path("run/notes.txt").write_text("mine")
    Path("own.py").write_text(OWN_MODEL)
    assert cli("train", *TINY, "--model", "own.py", "--out", "run", "--overwrite").status == 0
    assert Path("run/notes.txt").read_text() == "mine"
    result = cli("train", *TINY, "--model", "run/parts/model.py", "--out", "run", "--overwrite")
    assert result.status == 2
    assert "lies in the run that --overwrite replaces" in result.err
    assert cli("evaluate", "run", "--trust", "--limit", "3").status == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return undefined", "NameError"),
        ("assert False", "AssertionError"),
        ("return {}['key']", "KeyError"),
    ],
)
def test_a_model_that_fails_at_once_is_the_users_mistake(cli, body, message):
    Path("own.py").write_text(
        "from pyro_vae.models.bernoulli import BernoulliModel\n"
        f"class Own(BernoulliModel):\n    def likelihood(self, z):\n        {body}\n"
    )
    result = cli("train", *TINY, "--model", "own.py", "--out", "run")
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not Path("run").exists()


def test_a_model_that_fails_later_is_a_failed_run(cli):
    Path("own.py").write_text(
        "from pyro_vae.models.bernoulli import BernoulliModel\n"
        "class Own(BernoulliModel):\n    calls = 0\n    def likelihood(self, z):\n"
        "        Own.calls += 1\n        if Own.calls > 30:\n            raise IndexError('out of luck')\n"
        "        return super().likelihood(z)\n"
    )
    result = cli("train", *TINY, "--model", "own.py", "--out", "run")
    assert result.status == 1
    *_, last = result.err.splitlines()
    assert "the run failed after" in last
    assert "IndexError: out of luck (model.py" in last or "(own.py:7)" in last


def test_a_step_that_leaves_the_finite_numbers_is_a_failed_run(cli):
    options = ("--optimizer", "sgd", "--step-size", "1e30", "--samples", "100", "--hidden", "5")
    result = cli("train", *options, "--out", "run")
    assert result.status == 1
    assert "is not finite after 100 samples (sites: " in result.err
    assert "parameters: " in result.err
    assert "): lower --step-size" in result.err
    assert "min_log_variance" not in result.err  # a Bernoulli model has none
    assert read_checkpoint(Path("run"), torch.device("cpu"))["clock"]["samples"] == 0
    # The last finite checkpoint stays, and a smaller step goes on from it.
    assert cli("train", "--resume", "--out", "run", "--step-size", "1e-6").status == 0


def test_a_run_that_fails_ends_with_1(cli):
    options = ("--model", "gaussian", "--optimizer", "sgd", "--step-size", "1e6", "--samples", "1e5")
    result = cli("train", *options, "--hidden", "20", "--out", "run")
    assert result.status == 1
    assert "pyro-vae: the loss is not finite after" in result.err
