"""Runs on data in memory, and runs whose data have gone."""

import numpy as np
import pandas as pd
import pytest

import pyro_vae
from pyro_vae.errors import InputError

TINY = {"model": "normal", "hidden": 4, "batch": 10, "samples": 200, "progress": False}


def _frame(size=40):
    generator = np.random.default_rng(size)
    frame = pd.DataFrame(generator.normal(size=(size, 3)) * [1, 10, 100], columns=["a", "b", "c"])
    frame.loc[::7, "b"] = np.nan
    return frame


@pytest.mark.parametrize("given", ["array", "frame", "data set"])
def test_data_in_memory_train_and_resume(tmp_path, given):
    frame = _frame()
    data = {
        "array": frame.to_numpy(),
        "frame": frame,
        "data set": pyro_vae.data(frame, scale="standard"),
    }[given]
    options = {} if given == "data set" else {"scale": "standard"}
    run = pyro_vae.train(tmp_path / "run", data=data, **options, **TINY)
    assert run.dataset.scaled is not None
    resumed = pyro_vae.train(tmp_path / "run", resume=True, data=data, samples=400, progress=False)
    assert resumed.rows[-1][0] == 400
    with pytest.raises(InputError, match="give them again, data="):
        pyro_vae.train(tmp_path / "run", resume=True, samples=600, progress=False)
    # Opened without them, it scores others, and says what it needs for its own.
    opened = pyro_vae.Run.open(tmp_path / "run")
    with pytest.raises(InputError, match="the run was trained on data in memory"):
        opened.evaluate(particles=3)
    new = _frame(12) if given != "array" else _frame(12).to_numpy()
    expected = resumed.on(new).evaluate(particles=30)
    found = opened.on(new).evaluate(particles=30)
    assert found == expected
    assert found["datapoints"] == 12


def test_a_run_outlives_its_file(cli, tmp_path):
    _frame().to_csv("x.csv", index=False)
    _frame(15).to_csv("y.csv", index=False)
    tiny = ("--hidden", 4, "--batch", 10, "--samples", 200)
    assert cli("train", "--data", "x.csv", "--model", "normal", "--scale", "unit", *tiny, "--out", "run").status == 0
    before = cli("evaluate", "run", "--data", "y.csv", "--particles", 5, "--json")
    (tmp_path / "x.csv").unlink()
    result = cli("evaluate", "run", "--particles", 5)
    assert result.status == 2
    assert "x.csv cannot be read as a table: No such file" in result.err
    assert cli("evaluate", "run", "--data", "y.csv", "--particles", 5, "--json").out == before.out
    assert cli("sample", "run", "--number", 5, "--out", "s.csv").status == 0
    assert cli("encode", "run", "--data", "y.csv", "--out", "z.csv").status == 0
    assert cli("impute", "run", "--data", "y.csv", "--out", "m.csv", "--particles", 20).status == 0
    assert cli("encode", "run", "--out", "z.csv").status == 2
    assert cli("train", "--resume", "--out", "run", "--samples", 400).status == 2
    result = cli("evaluate", "run", "--data", "y.csv", "--split", "train")
    assert result.status == 2
    assert "--data y.csv is scored as a whole: leave --split out" in result.err
