"""Signals end a run between two steps, after a checkpoint."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TINY = ("--samples", "2000", "--hidden", "20", "--no-figures")


def _weights(folder):
    return Path(folder, "weights.safetensors").read_bytes()


def _last_samples(run):
    return Path(run, "metrics.csv").read_text().splitlines()[-1].split(",")[0]


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
    assert last == "pyro-vae: interrupted: continue with --resume\n"
    assert json.loads(cli("evaluate", "run", "--limit", "5", "--json").out)["datapoints"] == 5
    # Where it ended, it goes on: bitwise what one uninterrupted run is.
    samples = 60_000
    while cli("train", "--resume", "--out", "run", "--samples", samples).status != 0:
        samples *= 2
    cli("train", *options, "--out", "whole", "--samples", _last_samples("run"))
    assert _weights("run") == _weights("whole")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_before_anything_is_written_ends_at_once(cli, number, status):
    Path("slow.py").write_text(
        "import time\nfrom pathlib import Path\nfrom pyro_vae.models.bernoulli import BernoulliModel\n"
        "class Slow(BernoulliModel):\n    def __init__(self, features, latent):\n        Path('asleep').touch()\n"
        "        time.sleep(3600)\n"
    )
    command = [sys.executable, "-m", "pyro_vae", "train", "--samples", "2000", "--model", "slow.py", "--out", "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not Path("asleep").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == status
    assert said.strip() == ("pyro-vae: interrupted" if number == signal.SIGINT else "")
    assert not Path("run").exists()


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
