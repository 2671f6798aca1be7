"""Pixels and bars."""

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_vae
from pyro_vae.analysis.explore.pictures import Bars, Images
from pyro_vae.analysis.explore.space import Space


def test_pixels_are_the_means(pictures):
    images = Images(pictures, Space(pictures))
    z = np.array([0.2, -0.4])
    mean = torch.tensor(z).float() @ pictures.model.weight.T + pictures.model.bias
    (picture,) = images.at(z)["image"]
    grey = np.rint(mean.clamp(0, 1).numpy() * 255)
    red, green, blue, opacity = picture.view(np.uint8).reshape(5, 4).T
    for part in (red, green, blue):
        np.testing.assert_array_equal(part, grey)
    assert (opacity == 255).all()


def test_the_first_row_is_on_top_and_what_is_missing_grey(pictures):
    images = Images(pictures, Space(pictures))
    images.shape = (2, 2)
    (picture,) = images.pixels(torch.tensor([[0.0, 1.0, torch.nan, 0.5]]))
    assert (picture.view(np.uint8).reshape(2, 2, 4)[..., 0] == [[128, 128], [0, 255]]).all()  # from the lowest


def test_ink_is_black_and_colours_are_theirs(tmp_path):
    run = pyro_vae.train(tmp_path / "run", data="digits", samples=100, hidden=5, progress=False)
    images = Images(run, Space(run))
    assert images.pixels(torch.zeros(1, 64)).view(np.uint8).min() == 255  # paper
    images.shape, images.ink = (1, 1, 3), False
    assert images.pixels(torch.tensor([[1.0, 0.0, 0.6]])).view(np.uint8).tolist() == [[[255, 0, 153, 255]]]


def test_bars_lie_between_the_ends_of_the_data(linear):
    bars = Bars(linear, Space(linear))
    z = np.array([0.2, -0.4])
    found = bars.at(z)
    data = linear.dataset.train.first().numpy()
    low, high = data.min(0), data.max(0)
    mean = (torch.tensor(z).float() @ linear.model.weight.T + linear.model.bias).detach().numpy()
    np.testing.assert_allclose(found["mean"], (mean - low) / (high - low), atol=1e-5)
    # The interval of N(mean, 0.6^2) is +- 1.645 * 0.6; a quantile of 200 draws at 0.05, with density 0.103 / 0.6
    # there, has the standard error sqrt(0.05 * 0.95 / 200) * 0.6 / 0.103 = 0.09.
    np.testing.assert_allclose(np.array(found["high"]) * (high - low) + low, mean + 0.987, atol=0.45)
    np.testing.assert_allclose(np.array(found["low"]) * (high - low) + low, mean - 0.987, atol=0.45)
    np.testing.assert_allclose(bars.places(linear.dataset.train.first(1)[0]), (data[0] - low) / (high - low), atol=1e-6)


def test_classes_have_a_bar_each(tmp_path):
    table = pd.DataFrame({"sex": ["f", "m"] * 40, "smoker": [0, 0, 1, 0] * 20, "age": np.linspace(20, 60, 80)})
    run = pyro_vae.train(
        tmp_path / "run",
        data=table,
        kinds="sex:category",
        model="mixed",
        batch=20,
        samples=100,
        hidden=5,
        progress=False,
    )
    bars = Bars(run, Space(run))
    assert bars.names == ["sex: f", "sex: m", "smoker", "age"]
    found = bars.at(np.zeros(2))
    assert sum(found["mean"][:2]) == pytest.approx(1)  # shares of draws
    assert found["low"][2] == found["high"][2] == found["mean"][2]
    assert bars.places(torch.tensor([1.0, 0.0, 20.0])).tolist() == pytest.approx(
        [0, 1, 0, (20 - bars.low[2]) / (bars.high[2] - bars.low[2])]
    )


def test_of_many_columns_those_are_seen_that_z_moves(made, oracle):
    oracle.model.weight = torch.nn.Parameter(torch.cat([torch.zeros(3, 2), torch.ones(42, 2)]))
    oracle.model.bias = torch.nn.Parameter(torch.zeros(45))
    run = made(oracle.model, None, np.random.default_rng(0).normal(size=(50, 45)).astype(np.float32))
    bars = Bars(run, Space(run))
    assert len(bars.names) == 40
    assert bars.left_out == 5
    assert not {"x_1", "x_2", "x_3"} & set(bars.names)
