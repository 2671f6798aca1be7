"""`pyro-vae evaluate`, run as a user would."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyro_vae import Run, train
from pyro_vae.errors import InputError

TINY = ("--samples", "2000", "--hidden", "20", "--no-figures")


def test_a_run_alone_is_enough(cli, tmp_path, monkeypatch):
    assert cli("train", *TINY, "--out", "a/run").status == 0
    moved = tmp_path / "elsewhere"
    (tmp_path / "a" / "run").rename(moved)
    monkeypatch.chdir("/")
    result = cli("evaluate", moved, "--particles", "50", "--json")
    assert result.status == 0
    values = json.loads(result.out)
    names = ["data", "binarize", "cells", "measure", "split", "datapoints", "bound", "bound_se", "importance"]
    assert list(values) == names
    assert values["cells"] == "grey pixels"
    assert (values["data"], values["split"], values["datapoints"]) == ("digits", "test", 359)
    assert set(values["importance"]) == {"log_px", "se", "particles", "khat_over_0_7"}
    assert values["bound"] < values["importance"]["log_px"] < 0
    assert values["importance"]["particles"] == 50


def test_evaluate_prints_a_table_and_takes_a_limit(cli):
    cli("train", *TINY, "--out", "run", "--binarize", "static")
    result = cli("evaluate", "run", "--limit", "10", "--particles", "30", "--split", "train")
    assert result.status == 0
    assert "digits train, 10 datapoints, static pixels" in result.out
    assert "log p(x), importance" in result.out


def test_an_estimator_takes_its_own_arguments(cli):
    cli("train", *TINY, "--out", "run")
    Path("my.own.py").write_text(
        "from pyro_vae.inference.importance import Importance\n\n\nclass Own(Importance):\n    pass\n"
    )
    marginals = ("--marginal", "my.own.py", "--marginal", "reciprocal")
    own = ("--set", "my.own.py.particles=7", "--set", "reciprocal.density=gaussian", "--set", "reciprocal.draws=4")
    result = cli("evaluate", "run", "--limit", "3", *marginals, *own, "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["my.own.py"]["particles"] == 7
    result = cli("evaluate", "run", "--marginal", "reciprocal", "--set", "reciprocal.draw=4")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "--set reciprocal.draw is unknown: Reciprocal takes draws, chains, warmup" in result.err
    result = cli("compare", "run", "run", "--set", "importance.particles=0")
    assert result.status == 2
    assert "particles 0" in result.err
    with pytest.raises(InputError, match="arguments of ais, which is not asked for: give marginal='ais'"):
        Run.open("run").evaluate(set={"ais": {"chains": 2}})


@pytest.mark.parametrize("data", ["mnist", "frey"])
def test_real_data_train_and_evaluate(cli, real_data, data):
    model = ("--model", "gaussian") if data == "frey" else ()
    options = ("--data", data, "--data-dir", real_data, "--latent", "3", "--kl", "analytic", *model)
    assert cli("train", *TINY, *options, "--out", "run").status == 0
    values = json.loads(cli("evaluate", "run", "--limit", "20", "--particles", "30", "--json").out)
    assert values["datapoints"] == 20
    assert values["bound"] < values["importance"]["log_px"]


def test_a_runs_data_are_found_from_elsewhere(cli, tmp_path, monkeypatch):
    np.save("x.npy", np.random.default_rng(0).random((200, 9)))
    cli("train", *TINY, "--data", "x.npy", "--out", "run")
    assert cli("train", "--resume", "--data", "x.npy", "--out", "run").status == 0
    monkeypatch.chdir("/")
    assert cli("evaluate", tmp_path / "run", "--limit", "3").status == 0


def test_data_that_changed_since_are_refused(cli):
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.random((200, 9)))
    assert cli("train", *TINY, "--data", "x.npy", "--out", "run").status == 0
    np.save("x.npy", rng.random((200, 9)))
    result = cli("evaluate", "run")
    assert result.status == 2
    assert "x.npy has changed since" in result.err


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("run.toml", "missing", "run is not a run folder: it has no readable run.toml"),
        ("run.toml", "cut", "run/run.toml is damaged: "),
        ("run.toml", "other", "run/run.toml is damaged: "),
        ("metrics.csv", "missing", "run/metrics.csv cannot be read: "),
        ("metrics.csv", "cut", "run/metrics.csv cannot be read: its rows must have 4 columns"),
        ("metrics.csv", "other", "run/metrics.csv cannot be read: "),
        ("weights.safetensors", "missing", "run/weights.safetensors cannot be read: "),
        ("weights.safetensors", "cut", "run/weights.safetensors cannot be read: "),
        ("weights.safetensors", "other", "run/weights.safetensors cannot be read: "),
    ],
)
def test_damaged_run_folders_are_refused(cli, file, damage, message):
    cli("train", *TINY, "--out", "run")
    path = Path("run", file)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: content.rindex(b",") if file == "metrics.csv" else len(content) // 2])
    else:
        path.write_bytes(b"\xffnonsense\n\x00\n")
    result = cli("evaluate", "run", "--limit", "3")
    assert result.status == 2
    assert result.err.startswith(f"pyro-vae: {message}")
    assert result.err.count("\n") == 1


def test_the_same_from_python(tmp_path):
    run = train(tmp_path / "run", samples=2000, hidden=20, progress=False)
    result = run.evaluate(particles=30, limit=10)
    again = Run.open(tmp_path / "run").evaluate(particles=30, limit=10)
    assert result == again
