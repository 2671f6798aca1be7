"""The command line, run as a user would."""

import itertools
import json
import py_compile
import signal
import subprocess
import sys
import time
import tomllib
from importlib.util import cache_from_source, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pyro_vae
from pyro_vae import Run, train
from pyro_vae.errors import InputError
from pyro_vae.run.folder import read_checkpoint

TINY = ("--samples", "2000", "--hidden", "20", "--no-figures")
ROOT = Path(__file__).parent.parent

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
    return load_file(Path(folder) / "weights.safetensors")


def _same(a, b):
    return a.keys() == b.keys() and all(bool((a[name] == b[name]).all()) for name in a)


def test_train_leaves_everything_that_a_run_is(cli):
    result = cli("train", *TINY[:-1])  # with its figures
    assert result.status == 0
    run = Path("runs/digits-bernoulli-aevb-2")
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock",
        "checkpoint.pt",
        "curve.png",
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
    assert result.out.count(".png") == 4
    record = tomllib.loads((run / "run.toml").read_text())
    assert record["settings"]["hidden"] == 20
    assert record["settings"]["kl"] == "sampled"
    assert record["data"]["binarize"] == "none"
    assert record["device"] == "cpu"
    assert set(record["versions"]) >= {"pyro-vae", "torch", "pyro-ppl", "python"}
    for picture in run.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_run_alone_is_enough_for_every_later_command(cli, tmp_path, monkeypatch):
    assert cli("train", *TINY, "--out", "a/run").status == 0
    moved = tmp_path / "elsewhere"
    (tmp_path / "a" / "run").rename(moved)
    monkeypatch.chdir("/")
    result = cli("evaluate", moved, "--particles", "50", "--json")
    assert result.status == 0
    values = json.loads(result.out)
    assert list(values) == ["data", "binarize", "measure", "split", "datapoints", "bound", "bound_se", "importance"]
    assert (values["data"], values["split"], values["datapoints"]) == ("digits", "test", 359)
    assert set(values["importance"]) == {"log_px", "se", "particles", "khat_over_0_7"}
    assert values["bound"] < values["importance"]["log_px"] < 0
    assert values["importance"]["particles"] == 50
    for command, picture in (("sample", "s.png"), ("reconstruct", "r.png"), ("manifold", "m.png")):
        result = cli(command, moved, "--out", tmp_path / picture)
        assert (result.status, result.out.strip()) == (0, str(tmp_path / picture))
        assert (tmp_path / picture).stat().st_size > 2000


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


def test_a_seed_fixes_everything(cli):
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        cli("train", *TINY, "--out", out, "--seed", seed)
    a, b, c = (_weights(out) for out in "abc")
    assert _same(a, b)
    assert not _same(a, c)
    without_seconds = [
        [row.split(",")[0::2] for row in Path(out, "metrics.csv").read_text().splitlines()] for out in "ab"
    ]
    assert without_seconds[0] == without_seconds[1]


def test_resume_extends_a_run_as_if_it_had_never_ended(cli):
    for out, samples in (("long", 30_000), ("short", 21_000)):
        assert cli("train", "--hidden", 20, "--out", out, "--samples", samples).status == 0
    assert cli("train", "--resume", "--out", "short", "--samples", "3e4").status == 0
    assert _same(_weights("long"), _weights("short"))
    rows = [
        [row.split(",")[0::2] for row in Path(out, "metrics.csv").read_text().splitlines()] for out in ("long", "short")
    ]
    assert [row for row in rows[1] if row[0] != "21000"] == rows[0]
    assert tomllib.loads(Path("short/run.toml").read_text())["settings"]["samples"] == 30_000


def test_resume_of_a_finished_run_changes_nothing(cli):
    cli("train", *TINY, "--out", "run")
    before = _weights("run"), Path("run/metrics.csv").read_text()
    assert cli("train", "--resume", "--out", "run").status == 0
    assert _same(_weights("run"), before[0])
    assert Path("run/metrics.csv").read_text() == before[1]


def test_a_finished_run_whose_last_step_led_beyond_its_budget_is_resumed(cli):
    # Minibatches of 70: 29 of them are 2,030 samples.
    cli("train", *TINY, "--batch", "70", "--out", "run")
    assert _last_samples("run") == "2030"
    before = _weights("run")
    assert cli("train", "--resume", "--out", "run").status == 0
    assert _same(_weights("run"), before)
    assert cli("train", "--resume", "--out", "run", "--samples", "1999").status == 2
    assert cli("train", "--resume", "--out", "run", "--samples", "2100").status == 0
    assert _last_samples("run") == "2100"


def test_resume_takes_another_step_size_but_no_other_model(cli):
    cli("train", *TINY, "--out", "run")
    result = cli("train", "--resume", "--out", "run", "--latent", "3")
    assert result.status == 2
    assert "--latent 3 cannot be given to a resumed run, which has 2" in result.err
    assert cli("train", "--resume", "--out", "run", "--samples", "3000", "--step-size", "0.01").status == 0


@pytest.mark.parametrize(("number", "status", "compile"), [(signal.SIGINT, 130, "off"), (signal.SIGTERM, 143, "on")])
def test_a_signal_ends_a_run_after_a_checkpoint(cli, number, status, compile):
    options = ["--hidden", "20", "--compile", compile]
    command = [sys.executable, "-m", "pyro_vae", "train", *options, "--out", "run", "--samples", "1e8"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:  # wait until it trains
            if "21,600 samples" in line:
                break
        process.send_signal(number)
        *_, last = process.stderr
        assert process.wait() == status
    assert last == "pyro-vae: interrupted: go on by --resume\n"
    assert json.loads(cli("evaluate", "run", "--limit", "5", "--json").out)["datapoints"] == 5
    # Where it ended, it goes on: bitwise what one uninterrupted run is.
    samples = 60_000
    while cli("train", "--resume", "--out", "run", "--samples", samples).status != 0:
        samples *= 2
    cli("train", *options, "--out", "whole", "--samples", _last_samples("run"))
    assert _same(_weights("run"), _weights("whole"))


def test_a_second_signal_ends_a_run_at_once(cli):
    Path("slow.py").write_text(
        "import time\nfrom pathlib import Path\nfrom pyro_vae.models.bernoulli import BernoulliModel\n"
        "class Slow(BernoulliModel):\n    calls = 0\n    def likelihood(self, z):\n        Slow.calls += 1\n"
        "        if Slow.calls == 40:\n            Path('asleep').touch()\n            time.sleep(3600)\n"
        "        return super().likelihood(z)\n"
    )
    command = [sys.executable, "-m", "pyro_vae", "train", *TINY, "--model", "slow.py", "--out", "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not Path("asleep").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the step, which does not end
            process.wait(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == -signal.SIGTERM
    # The checkpoint from before the first step is there.
    assert cli("evaluate", "run", "--trust", "--limit", "3", "--particles", "30").status == 0


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
    assert _same(_weights("run"), _weights("whole"))
    rows = [
        [row.split(",")[0::2] for row in Path(out, "metrics.csv").read_text().splitlines()] for out in ("run", "whole")
    ]
    assert rows[0] == rows[1]


def test_checkpoints_come_at_their_interval(cli, monkeypatch):
    # A clock that moves one second each time that it is read: once before training, in every step and at every write.
    ticks, written = itertools.count(), []
    monkeypatch.setattr("pyro_vae.run.train.monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(
        "pyro_vae.run.folder.write_checkpoint", lambda _, state: written.append(state["clock"]["samples"])
    )
    assert cli("train", *TINY, "--checkpoint-every", "5", "--out", "run").status == 0
    # Twenty steps of 100: before them, every fifth, and at the end.
    assert written == [0, 500, 1000, 1500, 2000, 2000]
    result = cli("train", "--checkpoint-every", "-1")
    assert result.status == 2
    assert "--checkpoint-every -1 is not possible: give seconds, 0 or more" in result.err


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
    assert _same(_weights("whole"), _weights("part"))


def _last_samples(run):
    return Path(run, "metrics.csv").read_text().splitlines()[-1].split(",")[0]


def test_a_configuration_file_and_options_before_it(cli):
    Path("my.toml").write_text('latent = 3\nsamples = "2e3"\nhidden = 20\n[set.inference]\nweight_prior = inf\n')
    assert cli("train", "--config", "my.toml", "--hidden", "15", "--set", "guide.hidden=10", "--out", "run").status == 0
    settings = tomllib.loads(Path("run/run.toml").read_text())["settings"]
    assert (settings["latent"], settings["samples"], settings["hidden"]) == (3, 2000, 15)
    assert settings["set"] == {"inference": {"weight_prior": float("inf")}, "guide": {"hidden": 10}}
    assert _weights("run")["guide.hidden.0.weight"].shape == (10, 64)
    assert cli("train", "--config", "run/run.toml", "--out", "again").status == 0
    assert _same(_weights("run"), _weights("again"))


def test_a_users_file_is_copied_and_trusted_only_when_told(cli):
    Path("own.py").write_text(OWN_MODEL)
    assert cli("train", *TINY, "--model", "own.py:SharpModel", "--set", "model.width=0.5", "--out", "run").status == 0
    assert Path("run/parts/model.py").read_text() == OWN_MODEL
    resume = ("train", "--resume", "--out", "run", "--samples", "3000")
    for command in (("evaluate", "run"), ("sample", "run"), ("manifold", "run"), resume):
        result = cli(*command)
        assert result.status == 2
        assert "run holds a user's Python code" in result.err
        assert "--trust" in result.err
    assert cli("evaluate", "run", "--trust", "--limit", "5", "--json").status == 0
    # Whoever names files that equal the copies has read them.
    assert cli(*resume, "--model", "own.py:SharpModel").status == 0
    Path("own.py").unlink()
    assert cli("train", "--resume", "--out", "run", "--samples", "4000", "--trust").status == 0


def test_a_changed_copy_is_not_trusted(cli):
    Path("own.py").write_text(OWN_MODEL)
    cli("train", *TINY, "--model", "own.py", "--out", "run")
    with Path("run/parts/model.py").open("a") as file:
        file.write("\nraise SystemExit('this ran')\n")
    assert cli("train", "--resume", "--out", "run", "--model", "own.py").status == 2


def test_a_compiled_file_beside_a_copy_does_not_run(cli):
    """Python's own import would take it for the copy, which is what the user has read."""
    Path("own.py").write_text(OWN_MODEL)
    Path("evil.py").write_text("from pathlib import Path\nPath('executed').touch()\n" + OWN_MODEL)
    assert cli("train", *TINY, "--model", "own.py", "--out", "run").status == 0
    compiled = cache_from_source("run/parts/model.py")
    py_compile.compile("evil.py", compiled, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    for command in (("train", "--resume", "--out", "run", "--model", "own.py"), ("evaluate", "run", "--trust")):
        assert cli(*command).status == 0
    assert not Path("executed").exists()
    spec = spec_from_file_location("model", "run/parts/model.py")
    spec.loader.exec_module(module_from_spec(spec))
    assert Path("executed").exists()


def test_a_run_folder_cannot_name_code_that_it_does_not_hold(cli, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('this ran')")
    for kind in ("model", "prior", "guide", "inference"):
        cli("train", *TINY, "--out", kind)
        record = Path(kind, "run.toml")
        lines = record.read_text().splitlines()
        changed = [f'{kind} = "{tmp_path}/evil.py"' if line.startswith(f"{kind} =") else line for line in lines]
        record.write_text("\n".join(changed))
        for trust in ((), ("--trust",)):  # with it, there is no copy to be run
            for command in (("evaluate", kind), ("train", "--resume", "--out", kind)):
                result = cli(*command, *trust)
                assert result.status == 2
                assert "this ran" not in result.err


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


def test_a_runs_data_are_found_from_elsewhere(cli, tmp_path, monkeypatch):
    np.save("x.npy", np.random.default_rng(0).random((200, 9)))
    cli("train", *TINY, "--data", "x.npy", "--out", "run")
    assert cli("train", "--resume", "--data", "x.npy", "--out", "run").status == 0
    monkeypatch.chdir("/")
    assert cli("evaluate", tmp_path / "run", "--limit", "3").status == 0


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


def test_a_resumed_run_keeps_its_command_and_refuses_a_smaller_budget(cli):
    cli("train", *TINY, "--out", "run")
    command = tomllib.loads(Path("run/run.toml").read_text())["command"]
    cli("train", "--resume", "--out", "run", "--samples", "3000")
    assert tomllib.loads(Path("run/run.toml").read_text())["command"] == command
    result = cli("train", "--resume", "--out", "run", "--samples", "1000")
    assert result.status == 2
    assert "--samples 1000 is less than the 3000 that the run has seen" in result.err


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
    monkeypatch.setattr("pyro_vae.run.train._DRAWS", 200)
    monkeypatch.setattr("pyro_vae.run.train._FITTED", 10)
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
    assert _same(_weights("whole"), _weights("part"))
    asked = [word for name in marginals for word in ("--marginal", name)]
    result = cli("evaluate", "whole", "--limit", "2", "--particles", "30", *asked, "--json")
    assert result.status == 0, result.err
    values = json.loads(result.out)
    assert values["bound"] < 0 or data == "frey"
    detail = {"importance": "particles", "reciprocal": "acceptance", "ais": "temperatures"}
    for name in marginals:
        assert set(values[name]) >= {"log_px", "se", detail[name]}


def test_data_describes_and_verifies(cli, real_data):
    result = cli("data", "frey", "--data-dir", real_data)
    assert result.status == 0
    for text in ("1,600", "365", "28 x 20 pixels", "uint8, divided by 256", "265a83a23adb"):
        assert text in result.out


def test_parts_lists_the_shelves(cli):
    result = cli("parts")
    assert result.status == 0
    for text in ("--model      bernoulli", "--prior      normal", "--guide      gaussian", "--inference  aevb"):
        assert text in result.out


def _array(name, array):
    np.save(name, array)
    return name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--model", "nope"), "--model nope is unknown: choose from bernoulli, beta, binomial"),
        (("train", "--guide", "nope"), "--guide nope is unknown: choose from flow, full_rank, gaussian"),
        (("train", "--prior", "nope"), "--prior nope is unknown: choose from flow, laplace"),
        (("train", "--inference", "nope"), "--inference nope is unknown: choose from aevb, full_vb, mcem, wake_sleep"),
        (("train", "--model", "nope.py"), "--model nope.py cannot be read: No such file"),
        (("train", "--data", "nope"), "--data nope is unknown: choose from digits, mnist, frey"),
        (("train", "--data", "nope.npy"), "nope.npy cannot be read"),
        (("train", "--latent", "0"), "--latent 0 is not possible"),
        (("train", "--batch", "2000"), "--batch 2000 is more than the 1438 training datapoints"),
        (("train", "--samples", "-5"), "--samples -5 is not possible"),
        (("train", "--step-size", "0"), "--step-size 0 is not possible"),
        (("train", "--kl", "exact"), "--kl exact is unknown"),
        (("train", "--optimizer", "adma"), "--optimizer adma is unknown: choose from adagrad"),
        (("train", "--device", "cuda:7"), "--device cuda:7 is not there"),
        (("train", "--device", "gpu"), "--device gpu is unknown: choose from auto, cpu, cuda"),
        (("train", "--set", "latent=3"), "--set latent=3 is not PART.KEY=VALUE"),
        (
            ("train", "--set", "model.layers=3"),
            "--set model.layers is unknown: BernoulliModel takes hidden, prior, depth, activation",
        ),
        (("train", "--set", "inference.L=3"), "--set inference.L is unknown: AEVB takes batch, step_size"),
        (("train", "--set", "model.hidden=-3"), "BernoulliModel cannot be built"),
        (("train", "--set", "inference.kl=analytic"), "--set inference.kl is a setting of every run: give --kl"),
        (("train", "--set", "inference.weight_prior=0"), "weight_prior 0 is not possible: give a standard deviation"),
        (("train", "--set", "inference.weight_prior=nan"), "weight_prior nan is not possible"),
        (("train", "--set", "inference.weight_prior=abc"), "weight_prior abc is not possible"),
        (("train", "--set", "model.hidden=0"), "has no weights: give at least 1 of each"),
        (("train", "--inference", "wake_sleep", "--kl", "analytic"), "--kl analytic means nothing to WakeSleep"),
        (("train", "--inference", "mcem", "--binarize", "dynamic"), "mcem needs data that stay as they are"),
        (("train", "--divisor", "255"), "--divisor 255 is not possible: bytes are divided"),
        (("train", "--optimizer", "ADAGRAD"), "--optimizer ADAGRAD is unknown"),
        (("train", "--device", "hpu"), "--device hpu is unknown"),
        (("train", "--config", "odd.toml", "--set", "model.a=3"), "set.model is not possible"),
        (("train", "--config", "none.toml"), "none.toml cannot be read"),
        (("train", "--config", "bad.toml"), "setting latnet of bad.toml is unknown: did you mean latent?"),
        (("train", "--resume"), "--resume needs the run folder"),
        (("train", "--resume", "--out", "none"), "none is not a run folder"),
        (("train", "--resume", "--overwrite", "--out", "none"), "exclude each other"),
        (("train", "--out", "full"), "full is not empty and not a run folder"),
        (("train", "--out", "bad.toml"), "bad.toml is not empty and not a run folder"),
        (("train", "--overwrite", "--out", "full"), "full is not empty and not a run folder"),
        (("train", "--out", "bad.toml/run"), "--out bad.toml/run cannot be written"),
        (
            (
                "train",
                "--nope",
            ),
            "No such option",
        ),
        (("nope",), "No such command"),
        (("evaluate",), "Missing argument"),
        (("evaluate", "none"), "none is not a run folder"),
        (("evaluate", "none", "--particles", "0"), "--particles 0 is not possible"),
        (("evaluate", "none", "--split", "validation"), "'validation' is not one of"),
        (("evaluate", "none", "--set", "ais.chains=2"), "is not PART.KEY=VALUE, PART being one of importance"),
        (("evaluate", "none", "--set", "importance=2"), "is not PART.KEY=VALUE"),
        (("sample", "none", "--number", "x"), "--number x is not possible"),
        (("manifold", "none", "--grid", "1e6"), "--grid 1e6 is not possible: give a whole number from 1 to 100"),
        (("data", "nope"), "--data nope is unknown"),
        (("data", "bad.npy"), "bad.npy has no value in column 1"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(cli, arguments, message):
    Path("bad.toml").write_text("latnet = 3\n")
    Path("odd.toml").write_text("[set]\nmodel = 3\n")
    Path("full").mkdir()
    Path("full/precious").write_text("")
    _array("bad.npy", np.full((9, 4), np.nan))
    result = cli(*arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.startswith("pyro-vae: ")
    assert result.err.count("\n") == 1
    assert result.out == ""
    assert Path("full/precious").exists()
    assert not Path("runs").exists()  # nothing was begun


def test_an_existing_run_wants_resume_or_overwrite(cli):
    cli("train", *TINY, "--out", "run")
    result = cli("train", *TINY, "--out", "run")
    assert result.status == 2
    assert "go on with it by --resume, replace it by --overwrite" in result.err
    assert cli("train", *TINY, "--out", "run", "--overwrite", "--seed", "1").status == 0
    assert cli("evaluate", "run", "--marginal", "nope").err.startswith("pyro-vae: --marginal nope is unknown: choose")
    # What is wrong is said before the old run is gone.
    assert cli("train", "--out", "run", "--overwrite", "--batch", "9999").status == 2
    assert Path("run/weights.safetensors").exists()


@pytest.mark.parametrize("file", ["run.toml", "metrics.csv", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_damaged_run_folders_are_refused(cli, file, damage):
    cli("train", *TINY, "--out", "run")
    path = Path("run", file)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            content[: content.rindex(b",") if file == "metrics.csv" else len(content) // 2]
            if damage == "cut"
            else b"\xffnonsense\n\x00\n"
        )
    result = cli("evaluate", "run", "--limit", "3")
    assert result.status == 2
    assert "run" in result.err
    assert result.err.count("\n") == 1


def test_a_checkpoint_with_code_in_it_is_refused(cli):
    import pickle

    cli("train", *TINY, "--out", "run")
    Path("run/checkpoint.pt").write_bytes(pickle.dumps(Path))  # names a class to be looked up
    result = cli("train", "--resume", "--out", "run", "--samples", "3000")
    assert result.status == 2
    assert "run/checkpoint.pt cannot be read" in result.err
    assert result.err.count("\n") == 1


def test_data_that_changed_since_are_refused(cli):
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.random((200, 9)))
    assert cli("train", *TINY, "--data", "x.npy", "--out", "run").status == 0
    np.save("x.npy", rng.random((200, 9)))
    result = cli("evaluate", "run")
    assert result.status == 2
    assert "x.npy has changed since" in result.err


def test_a_run_that_fails_ends_with_1(cli):
    options = ("--model", "gaussian", "--optimizer", "sgd", "--step-size", "1e6", "--samples", "1e5")
    result = cli("train", *options, "--hidden", "20", "--out", "run")
    assert result.status == 1
    assert "pyro-vae: the loss is not finite after" in result.err


def test_help_and_version(cli):
    assert "Commands:" in cli("--help").out
    assert cli("--version").out.strip().endswith(pyro_vae.__version__)
    assert "[default: 0.02]" in cli("train", "--help").out
    assert "Commands:" in cli().out


def test_the_same_from_python(tmp_path):
    run = train(tmp_path / "run", samples=2000, hidden=20, progress=False)
    result = run.evaluate(particles=30, limit=10)
    again = Run.open(tmp_path / "run").evaluate(particles=30, limit=10)
    assert result == again


def test_the_checkout_is_used_from_another_folder(tmp_path):
    """The editable install, from a folder that knows nothing of the checkout."""
    command = [sys.executable, "-m", "pyro_vae", "parts"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "bernoulli" in result.stdout
