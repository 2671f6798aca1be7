"""Columns of several kinds: each cell is normalised, and told apart from the others."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_vae.data import adapted, load_data
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.measure import measure
from pyro_vae.models.mixed import MixedModel
from pyro_vae.split import Split
from pyro_vae.support import first_offence

KINDS = ("real", "category:3", "count", "positive", "binary", "category:2", "real")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = MixedModel(len(KINDS), 2, hidden=5, kinds=KINDS).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_every_column_is_normalised_and_has_its_moments(model):
    likelihood = model.likelihood(torch.randn(2).double()).base_dist
    grids = {"real": torch.linspace(-40, 40, 40_001), "positive": torch.linspace(1e-6, 400, 400_001)}
    for n, kind in enumerate(KINDS):
        if kind in grids:
            x = grids[kind].double()
            weight = float(x[1] - x[0])
        else:
            x = torch.arange({"count": 200, "binary": 2}.get(kind) or int(kind[-1])).double()
            weight = 1.0
        rows = torch.zeros(len(x), len(KINDS)).double()
        rows[:, 3] = 1.0
        rows[:, n] = x
        p = likelihood.log_prob(rows)[:, n].exp() * weight
        assert p.sum().item() == pytest.approx(1, abs=2e-3), kind
        mean = (p * x).sum()
        assert mean.item() == pytest.approx(likelihood.mean[n].item(), rel=1e-2, abs=1e-3), kind
        variance = (p * (x - mean) ** 2).sum().item()
        assert variance == pytest.approx(likelihood.variance[n].item(), rel=0.1, abs=1e-3), kind


def test_draws_are_what_their_columns_allow(model):
    likelihood = model.likelihood(torch.randn(500, 2).double())
    draws = likelihood.sample()
    assert draws.shape == (500, len(KINDS))
    assert likelihood.support.check(draws).all()
    assert set(draws[:, 1].tolist()) == {0.0, 1.0, 2.0}
    assert set(draws[:, 5].tolist()) == {0.0, 1.0}
    assert likelihood.log_prob(draws).isfinite().all()


def test_a_value_that_a_column_does_not_allow_is_named(model):
    good = torch.tensor([[-3.0, 2.0, 5.0, 0.1, 1.0, 1.0, 7.0]])
    model = model.float()
    assert first_offence(model, Split(good)) is None
    for column, value in ((1, 3.0), (2, 0.5), (3, 0.0), (4, 2.0), (5, 2.0)):
        bad = good.clone()
        bad[0, column] = value
        found = first_offence(model, Split(torch.cat([good, bad])))
        assert (found.row, found.column) == (1, column)
        assert found.value == pytest.approx(value)


def test_a_table_of_all_kinds_trains():
    generator = np.random.default_rng(0)
    x = np.column_stack(
        [
            generator.normal(50, 20, 60),
            generator.integers(0, 3, 60),
            generator.poisson(4, 60),
            generator.lognormal(size=60),
            generator.integers(0, 2, 60),
            generator.integers(0, 2, 60),
            generator.normal(size=60),
        ]
    )
    x[generator.random(x.shape) < 0.2] = np.nan
    names = [*"abcdefg"]
    told = ",".join(f"{name}:{kind.partition(':')[0]}" for name, kind in zip(names, KINDS, strict=True))
    data = load_data(pd.DataFrame(x, columns=names), kinds=told, scale="standard")
    assert data.kinds == KINDS
    # Only real cells are scaled.
    assert data.scaled[1].ne(1).tolist() == [True, False, False, False, False, False, True]
    torch.manual_seed(0)
    model, guide, data = adapted(MixedModel(7, 2, hidden=5, kinds=data.kinds), GaussianGuide(7, 2, hidden=5), data)
    assert first_offence(model, data.train) is None
    assert measure(model, data.train) == "density"
    learner = AEVB(model, guide, data.train, batch=20, optimizer="Adam", step_size=0.05)
    learner.step()
    before = learner.loss.item()
    for _ in range(60):
        learner.step()
    assert learner.loss.item() < before
    assert math.isfinite(learner.loss.item())


def test_what_are_no_kinds_is_refused():
    with pytest.raises(InputError, match="kinds are 1 of 2 columns: give one for each"):
        MixedModel(2, 2, kinds=["real"])
    with pytest.raises(
        InputError, match="kind colour is unknown: choose from real, positive, count, binary, category:K"
    ):
        MixedModel(1, 2, kinds=["colour"])
