"""Who watches an estimate is told all of it, in shares."""

from collections import Counter
from contextlib import contextmanager

import pytest

from pyro_vae.inference.ais import AIS
from pyro_vae.inference.bdmc import BDMC
from pyro_vae.inference.importance import Importance
from pyro_vae.inference.reciprocal import Reciprocal
from pyro_vae.marginal import bound
from pyro_vae.watched import watched


@pytest.mark.parametrize(
    ("name", "estimate"),
    [
        ("bound", lambda model, guide, split: bound(model, guide, split, particles=100)),
        ("log p(x)", Importance(particles=100).estimate),
        ("ais", AIS(temperatures=5, chains=64).estimate),
        ("reciprocal", Reciprocal(warmup=5).estimate),
        ("bdmc, 30 temperatures", BDMC(gap=100.0, temperatures=30, chains=64, simulated=10).estimate),
    ],
)
def test_the_shares_of_an_estimate_add_up_to_one(oracle, name, estimate):
    shares = Counter()

    @contextmanager
    def watcher(what):
        def advance(share):
            shares[what] += share

        yield advance

    with watched(watcher):
        estimate(oracle.model, oracle.guide, oracle.split)
    done = 2 if name.startswith("bdmc") else 1  # of simulated data, and of the data
    assert shares == {name: pytest.approx(done)}
    told = dict(shares)
    estimate(oracle.model, oracle.guide, oracle.split)  # nobody watches
    assert shares == told


def test_a_command_shows_a_bar_on_a_terminal_alone(cli, tmp_path, monkeypatch):
    options = ["--samples", "500", "--hidden", "8", "--no-figures", "--out", str(tmp_path / "run")]
    assert cli("train", *options)[0] == 0
    assert cli("evaluate", str(tmp_path / "run"), "--limit", "5", "--particles", "5")[2] == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as rich takes a terminal to be there
    assert "log p(x)" in cli("evaluate", str(tmp_path / "run"), "--limit", "5", "--particles", "5")[2]
