"""Run folders of earlier versions, made by the code of their time, are opened, evaluated and resumed.

Those of 0.1 are digits with three hidden units: `aevb`, `mcem` of twenty datapoints, and `own`, a user's model.
"""

import shutil
from pathlib import Path

import pytest

from pyro_vae.errors import InputError
from pyro_vae.run.folder import read_metrics, read_record
from pyro_vae.run.run import Run

OLD = Path(__file__).parent / "old" / "0.1"


@pytest.fixture(params=["aevb", "mcem", "own"])
def old(request, tmp_path):
    return Path(shutil.copytree(OLD / request.param, tmp_path / request.param))


def test_an_old_run_is_opened_and_evaluated(old):
    run = Run.open(old, trust=True)
    result = run.evaluate(particles=20)
    # Its own last row is the same mean from other draws. Weights that were not read give -44.4 (sigmoid of nearly 0 for
    # all of 64 pixels: 64 log 2), ten nats and more below.
    assert result["bound"] == pytest.approx(run.rows[-1][3], abs=0.3)
    assert result["bound"] > -36


def test_an_old_run_goes_on(cli, old):
    before = read_metrics(old)
    more = before[-1][0] + 2000
    result = cli("train", "--resume", "--out", old, "--samples", more, "--trust", "--no-figures")
    assert result.status == 0, result.err
    after = read_metrics(old)
    assert after[: len(before)] == before
    assert after[-1][0] >= more
    assert after[-1][3] > before[-1][3] - 0.5  # it goes on from where it was
    assert read_record(old)["settings"]["samples"] == more


def test_a_user_who_does_not_trust_an_old_run_is_asked(old):
    if old.name == "own":
        with pytest.raises(InputError, match="give --trust"):
            Run.open(old)


def test_a_run_of_another_format_names_the_version_that_reads_it(old):
    path = old / "run.toml"
    path.write_text(path.read_text().replace("format = 1", "format = 2").replace('"0.1.0"', '"7.0"'))
    with pytest.raises(InputError, match=r"format 2, not 1: use pyro-vae 7.0, which wrote it, or train the run anew"):
        read_record(old)
