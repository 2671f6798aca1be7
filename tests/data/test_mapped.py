"""Files larger than memory: mapped, trained on as if they were not, and never resident as a whole."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_vae.data import load_data, mapped, row_groups, streamed
from pyro_vae.data.streamed import Streamed
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
    bounds = [[row[0], *row[2:]] for row in run.rows]
    assert bounds == [[row[0], *row[2:]] for row in whole.rows]
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
        (X, {"binarize": "static"}, "--binarize static does not apply to x.npy, which is large"),
        (X, {"channels": "last"}, "--channels does not apply to x.npy, which is large"),
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


FRAME = pd.DataFrame(X, columns=[*"abcdef"]).assign(
    kind=[*"xyz", None] * 50, house=np.arange(200) // 8, part=["train"] * 150 + ["test"] * 50
)
FRAME.loc[::9, "c"] = np.nan


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "options",
    [
        {"drop": "kind,house,part", "train_size": 70},
        {"drop": "house,part", "kinds": "kind:category"},
        {"columns": "e,a,c", "label": "kind", "stratify": True},
        {"columns": "a,b", "covariates": "part,house", "group": "house"},
        {"columns": "a,b", "label": "kind", "split_column": "part", "scale": "standard"},
    ],
)
def test_parquet_by_row_groups_is_what_it_is_as_a_whole(monkeypatch, options):
    FRAME.to_parquet("x.parquet", row_group_size=33)
    mapping = load_data("x.parquet", **options)
    monkeypatch.setattr(mapped, "LARGE", 2**31)
    whole = load_data("x.parquet", **options)
    assert isinstance(mapping.train, Streamed)
    assert (mapping.names, mapping.kinds, mapping.classes, mapping.levels, mapping.missing) == (
        whole.names,
        whole.kinds,
        whole.classes,
        whole.levels,
        whole.missing,
    )
    for n, split in enumerate(("train", "test")):
        rows = mapping.rows[n].tolist()
        assert rows == sorted(rows)
        if "train_size" not in options or split == "test":
            assert rows == sorted(whole.rows[n])
        full = {row: place for place, row in enumerate(whole.rows[n])}
        some = [row for row in rows if row in full]
        at, there = [full[row] for row in some], [rows.index(row) for row in some]
        ours, theirs = getattr(mapping, split), getattr(whole, split)
        for name in ("labels", "covariates"):
            one, other = getattr(ours, name), getattr(theirs, name)
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one[there], other[at])
        np.testing.assert_array_equal(ours.first()[there].numpy(), theirs.first()[at].numpy())
    if mapping.scaled:
        torch.testing.assert_close(mapping.scaled, whole.scaled)


@pytest.mark.usefixtures("small")
def test_what_is_wrong_in_a_large_parquet_is_named(monkeypatch):
    FRAME.to_parquet("x.parquet", row_group_size=33)
    for options, message in (
        ({"label": "knd"}, "has no column knd: did you mean kind?"),
        ({"drop": "house,part"}, "has text in column kind, x in row 1"),
        ({"columns": "a", "resize": "3x3"}, "--resize does not apply to"),
        ({"columns": "a", "binarize": "static"}, "--binarize static does not apply to x.parquet"),
    ):
        with pytest.raises(InputError, match=message):
            load_data("x.parquet", **options)
    monkeypatch.setattr(row_groups, "_CELLS", 10)
    pd.DataFrame({"a": np.where(np.arange(400) == 123, np.inf, 1.0)}).to_parquet("y.parquet", row_group_size=33)
    with pytest.raises(InputError, match=r"y.parquet, from row \d+ on, has the value inf in row"):
        load_data("y.parquet")
    content = bytearray(Path("y.parquet").read_bytes())
    content[30:200] = bytes(170)  # its first values; what it holds is said at its end
    Path("y.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"y\.parquet cannot be read as a table: "):
        load_data("y.parquet")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mapped.tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match=r"no room for large data in .* \(No space left on device\): name a folder"):
        load_data("x.parquet", columns="a,b")


LABELLED = """
import pyro
import pyro.distributions as dist
import torch
from torch import nn


class Labelled(nn.Module):
    def __init__(self, features, latent, classes):
        super().__init__()
        self.table, self.decoder = nn.Embedding(classes + 1, features), nn.Linear(latent, features)

    def forward(self, x=None, size=None, label=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.decoder(z) + self.table(label + 1), 1.0).to_event(1), obs=x)
"""


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("ahead", [False, True])
def test_a_run_with_labels_goes_on_bitwise_where_minibatches_are_copied_ahead(monkeypatch, ahead):
    # A stand-in for a GPU: minibatches are drawn and copied one ahead, from one part of memory to another.
    monkeypatch.setattr(streamed, "copies_ahead", lambda device: ahead)
    FRAME.to_parquet("x.parquet", row_group_size=33)
    Path("labelled.py").write_text(LABELLED, encoding="utf-8")
    options = {"data": "x.parquet", "label": "kind", "drop": "house,part", "model": "labelled.py", "batch": 20}
    options |= {"scale": "unit", "progress": False, "seed": 3}
    run = train("whole", samples=2000, **options)
    assert run.dataset.train.beside == 1
    assert run.dataset.train.fed == (100 if ahead else 0)
    train("half", samples=1000, **options)
    resumed = train("half", resume=True, trust=True, samples=2000, progress=False)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    other = train("other", samples=1000, **{**options, "seed": 4})
    assert not torch.equal(other.model.table.weight, resumed.model.table.weight)


def test_minibatches_that_are_copied_ahead_are_uniform_draws_with_replacement(monkeypatch):
    monkeypatch.setattr(streamed, "copies_ahead", lambda device: True)
    torch.manual_seed(0)
    split = Streamed(torch.arange(10.0).view(10, 1))
    drawn = torch.stack([split.minibatch(50).flatten() for _ in range(200)])
    # Each of 10 values has 1,000 of 10,000 draws, with a standard deviation of 30.
    assert (drawn.flatten().long().bincount() - 1000).abs().max() < 4 * 30
    # No two minibatches are alike, and a run that goes on after 150 of them draws the rest.
    assert len({tuple(row.tolist()) for row in drawn}) == 200
    split.go_on(150)
    assert torch.equal(torch.stack([split.minibatch(50).flatten() for _ in range(50)]), drawn[150:])
    # Another rank and another seed draw others.
    torch.manual_seed(1)
    assert not torch.equal(Streamed(split.values).minibatch(50).flatten(), drawn[0])
    # What a compiled step is given is what is read.
    split.go_on(7)
    assert torch.equal(split.minibatch(50, split.feed(50)).flatten(), drawn[7])


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
