"""Metrics of claims: how much sooner a value is reached."""

import math

import pandas as pd
import pytest

from pyro_vae.paper.metrics import _samples_to_reach, side_by_side


def test_a_value_is_reached_between_two_points_on_a_line_over_log_samples():
    curve = pd.Series({100: -3.0, 1_000: -2.0, 10_000: -2.5, 100_000: 0.0})
    assert _samples_to_reach(-3.5, curve) == pytest.approx(100)  # its first point is above
    assert _samples_to_reach(-2.25, curve) == pytest.approx(100 * 10**0.75)  # first on the way up, not after the fall
    assert _samples_to_reach(-1.25, curve) == pytest.approx(10_000 * 10**0.5)
    assert _samples_to_reach(0.1, curve) == math.inf


def test_tables_stand_side_by_side_under_their_names():
    tables = {"a": pd.DataFrame({"1e6": [1.0]}), "b": pd.DataFrame({"1e6": [2.0], "1e7": [3.0]})}
    assert side_by_side(**tables).to_dict("records") == [{"a 1e6": 1.0, "b 1e6": 2.0, "b 1e7": 3.0}]
