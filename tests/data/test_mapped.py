"""Files larger than memory: mapped, trained on as if they were not, and never resident as a whole."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pyro_vae.data import load_data, mapped
from pyro_vae.errors import InputError
from pyro_vae.run.train import train


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Files above a kilobyte are mapped."""
    monkeypatch.setattr(mapped, "LARGE", 1000)
    monkeypatch.chdir(tmp_path)


X = np.random.default_rng(0).normal(size=(200, 6))
OPTIONS = {"model": "normal", "hidden": 4, "batch": 20, "progress": False, "checkpoint_every": 1e6}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
def test_values_are_those_of_the_file_in_its_order(dtype):
    x = (10 * X).astype(dtype) if dtype != np.uint8 else (200 * np.abs(X) % 256).astype(dtype)
    np.save("x.npy", x)
    data = load_data("x.npy", test_share=0.25)
    divisor = 256 if dtype == np.uint8 else 1
    np.testing.assert_array_equal(data.train.first().numpy(), x[:150].astype(np.float32) / np.float32(divisor))
    np.testing.assert_array_equal(data.test.first().numpy(), x[150:].astype(np.float32) / np.float32(divisor))
    assert data.rows[1].tolist() == [*range(150, 200)]
    assert not data.missing


@pytest.mark.usefixtures("small")
def test_a_run_is_bitwise_that_of_data_in_memory_and_resumes(monkeypatch):
    x = X.astype(np.float32)
    x[::9, 2] = np.nan
    np.save("x.npy", x)
    run = train("mapped", data="x.npy", samples=3000, scale="standard", **OPTIONS)
    assert run.dataset.missing
    monkeypatch.setattr(mapped, "LARGE", 2**31)
    np.savez("x.npz", train=x[:160], test=x[160:])
    whole = train("whole", data="x.npz", samples=3000, scale="standard", **OPTIONS)
    bounds = [[row[0], *row[2:]] for row in run.metrics]
    assert bounds == [[row[0], *row[2:]] for row in whole.metrics]
    monkeypatch.setattr(mapped, "LARGE", 1000)
    train("half", data="x.npy", samples=1500, scale="standard", **OPTIONS)
    resumed = train("half", resume=True, samples=3000, progress=False)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.asfortranarray(X), {}, "is large and so it is mapped: give"),
        (X.astype(">f8"), {}, "in native byte order"),
        (X.astype(complex), {}, "whole or real numbers"),
        (np.where(X > 2, np.inf, X), {}, "has infinite values"),
        (X, {"binarize": "static"}, "give --device cpu and --binarize none"),
        (X, {"channels": "last"}, "--channels means nothing to x.npy, which is large"),
        (np.where(np.arange(6) == 1, np.nan, X), {}, "has no value in column 2"),
    ],
)
def test_what_cannot_be_used_where_it_is_is_refused(x, options, message):
    np.save("x.npy", x)
    with pytest.raises(InputError, match=message):
        load_data("x.npy", **options)


@pytest.mark.usefixtures("small")
def test_a_change_anywhere_in_a_small_file_changes_its_checksum():
    np.save("x.npy", X)
    before = load_data("x.npy").checksum
    np.save("x.npy", np.where(np.arange(200)[:, None] == 117, 0.0, X))
    assert load_data("x.npy").checksum != before


MEASURE = """
import sys, time, numpy as np, torch
from pyro_vae.data import load_data, mapped
mapped.LARGE = 2**20
def resident():
    return int(next(line for line in open("/proc/self/status") if "VmRSS" in line).split()[1]) >> 10
small = load_data(np.zeros((100, 512), np.float32))
before = resident()
data = load_data(sys.argv[1])
most = resident()
started = time.monotonic()
while time.monotonic() - started < 1.5:
    for _ in range(20):
        data.train.minibatch(100)
    most = max(most, resident())
print(most - before)
"""


def test_what_is_resident_stays_below_a_bound(tmp_path):
    # 1.5 GiB of zeros that take no room on the disk.
    path = tmp_path / "x.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(3 * 2**18, 512)).flush()
    found = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 1024  # MiB, the bound that is stated
