"""Runs on mapped arrays, with labels and with missing cells go on bit by bit as if they had not been interrupted.

`tests/soak.py` kills the same cases at random moments, fifty times each.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from soak import CASES, SMALL, arguments, end_of, make_data, same

from pyro_vae.data import mapped

NEW = [case for case in CASES if any(kind in case for kind in ("mapped", "labels", "missing")) or case == "full_vb"]


@pytest.mark.parametrize("case", NEW)
def test_an_interrupted_run_ends_as_one_that_was_not(cli, tmp_path, monkeypatch, case):
    monkeypatch.setattr(mapped, "LARGE", SMALL)
    monkeypatch.setattr("pyro_vae.run.training._DRAWS", 200)
    monkeypatch.setattr("pyro_vae.run.training._FITTED", 10)
    monkeypatch.setattr("pyro_vae.local.fit_gaussian.__defaults__", (20, 0.1))  # 20 steps
    make_data(tmp_path)
    # From its first step on it moves, which the paper's optimiser does not.
    how = ("--optimizer", "adam", "--step-size", "0.01", "--no-figures")
    steps = 1500 if case.startswith("mcem") else 600
    for out, samples in (("whole", 2 * steps), ("part", steps)):
        result = cli(*arguments(case, tmp_path / out, samples), *how)
        assert result.status == 0, result.err
    result = cli(*arguments(case, tmp_path / "part", 2 * steps), *how, "--resume")
    assert result.status == 0, result.err
    whole, part = (end_of(tmp_path / out)[0] for out in ("whole", "part"))
    assert same({**whole, "metrics": []}, {**part, "metrics": []})
    assert same(whole["metrics"][-1], part["metrics"][-1])
    weights = [(tmp_path / out / "weights.safetensors").read_bytes() for out in ("whole", "part")]
    assert weights[0] == weights[1]
