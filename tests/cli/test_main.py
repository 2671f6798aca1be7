"""The door: wrong input is answered in one line, and help by all commands."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyro_vae


def _array(name, array):
    np.save(name, array)
    return name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--model", "nope"), "--model nope is unknown: choose from bernoulli, beta, "),
        (("train", "--guide", "nope"), "--guide nope is unknown: choose from conditional, flow, full_rank, gaussian"),
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
        (("train", "--device", "cuda:7"), "--device cuda:7 is not available"),
        (("train", "--device", "gpu"), "--device gpu is unknown: choose from auto, cpu, cuda"),
        (("train", "--set", "latent=3"), "--set latent=3 is not PART.KEY=VALUE"),
        (
            ("train", "--set", "model.layers=3"),
            "--set model.layers is unknown: BernoulliModel takes hidden, prior, depth, activation",
        ),
        (("train", "--epochs", "3"), "no option --epochs: give --samples, the number of epochs times that of training"),
        (("train", "--lr", "1e-3"), "no option --lr: give --step-size"),
        (("train", "--batch-size", "64"), "no option --batch-size: give --batch"),
        (("train", "--set", "inference.L=3"), "--set inference.L is unknown: AEVB takes batch, step_size"),
        (
            ("train", "--set", "model.hidden=-3"),
            "--set model.hidden -3 is not possible: give a whole number of at least 1",
        ),
        (("train", "--set", "inference.kl=analytic"), "--set inference.kl is a setting of every run: give --kl"),
        (("train", "--set", "inference.weight_prior=0"), "weight_prior 0"),
        (("train", "--set", "inference.weight_prior=nan"), "weight_prior nan is not possible"),
        (("train", "--set", "inference.weight_prior=abc"), "weight_prior abc is not possible"),
        (("train", "--set", "model.hidden=0"), "--set model.hidden 0 is not possible"),
        (("train", "--inference", "wake_sleep", "--kl", "analytic"), "--kl analytic does not apply to WakeSleep"),
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
        (("data", "bad.npy"), "--data bad.npy has no value in column 1 of its training split: leave the column out"),
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


def test_help_and_version(cli):
    assert "Commands:" in cli("--help").out
    assert cli("--version").out.strip().endswith(pyro_vae.__version__)
    assert "[default: 500]" in cli("train", "--help").out
    assert "Commands:" in cli().out


def test_the_checkout_is_used_from_another_folder(tmp_path):
    """The editable install, from a folder that knows nothing of the checkout."""
    command = [sys.executable, "-m", "pyro_vae", "parts"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "bernoulli" in result.stdout


_FREED = """
import ctypes, resource, sys
from pyro_vae.cli import main

def faults():
    # Ten blocks of 12 MB, every page of which is written to: 30,000 pages of 4 kB.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [ctypes.create_string_buffer(b"x" * 12_000_000) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

try:
    main(["--version"])
except SystemExit:
    pass
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, whose heap it is")
def test_memory_that_was_freed_is_used_again():
    # Pages that are there already cost no fault; of those that the system took back, each costs one.
    run = subprocess.run([sys.executable, "-c", _FREED], capture_output=True, text=True, check=True)
    assert int(run.stdout.splitlines()[-1]) < 3_000
