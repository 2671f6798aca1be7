"""Predictive checks, calibration of pixels and activity of latents against known answers."""

import numpy as np
import pytest
import xarray as xr

from pyro_vae.analysis.predictive import activity, calibration, calibration_error, checks


def test_a_model_is_not_found_wrong_about_data_of_its_own(exported):
    rows = checks(exported.tree)
    assert {row["group"] for row in rows} == {"prior_predictive", "posterior_predictive"}
    # Ten statistics, none of which is beyond the replications' extremes but by a chance of 2 in 1,200 each.
    assert all(0 < row["p"] < 1 for row in rows)


def test_a_model_is_found_wrong_about_other_data(exported):
    tree = exported.tree.copy()
    tree["observed_data"] = xr.DataTree(3 * tree["observed_data"].to_dataset() + 5)
    prior = {row["statistic"]: row for row in checks(tree) if row["group"] == "prior_predictive"}
    # Values 5 above what has a standard deviation of at most 1.6, and three times as far apart.
    assert prior["mean"]["p"] == 0
    assert prior["spread between datapoints"]["p"] == 0
    assert prior["mean"]["observed"] == pytest.approx(float(tree["observed_data"]["x"].mean()), rel=1e-4)


def test_calibration_is_the_mean_of_the_data_in_each_bin():
    predicted = np.array([[0.0, 0.04, 0.5], [0.55, 1.0, 0.99]])
    observed = np.array([[0.0, 1.0, 0.0], [0.5, 1.0, 1.0]])
    tree = xr.DataTree.from_dict(
        {
            "observed_data": xr.Dataset({"x": (("datapoint", "x_dim_0"), observed)}),
            "posterior_predictive_mean": xr.Dataset({"x": (("datapoint", "x_dim_0"), predicted)}),
        }
    )
    curve = calibration(tree)["x"]
    assert curve["count"].values.tolist() == [2, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    np.testing.assert_allclose(curve["predicted"][[0, 5, 9]], [0.02, 0.525, 0.995])
    np.testing.assert_allclose(curve["observed"][[0, 5, 9]], [0.5, 0.25, 1.0])
    # The first bin holds 0.0 and 0.04, off by 0 and 0.96.
    assert float(curve["sd"][0]) == pytest.approx(0.96 / 2**0.5)
    # Two values a bin: (|0.02 - 0.5| + |0.525 - 0.25| + |0.995 - 1|) / 3.
    assert calibration_error(curve) == pytest.approx((0.48 + 0.275 + 0.005) / 3)
    del tree["posterior_predictive_mean"]
    assert calibration(tree) == {}


def test_every_observed_site_is_checked_by_what_it_has():
    draws = np.array([[[[0.0, 1.0], [1.0, 1.0]]], [[[0.0, 0.0], [1.0, 0.0]]]])  # (chain, draw, datapoint, feature)
    x = xr.Dataset(
        {"x": (("chain", "draw", "datapoint", "x_dim_0"), draws), "y": (("chain", "draw", "datapoint"), draws[..., 0])}
    )
    data = xr.Dataset({"x": (("datapoint", "x_dim_0"), draws[0, 0]), "y": (("datapoint",), draws[0, 0, :, 0])})
    rows = checks(xr.DataTree.from_dict({"observed_data": data, "prior_predictive": x, "posterior_predictive": x}))
    by_site = {site: [row["statistic"] for row in rows if row["site"] == site] for site in ("x", "y")}
    assert len(by_site["x"]) == 10
    # One value has no spread within its datapoint.
    assert set(by_site["y"]) == {"mean", "spread between datapoints", "share of values above 1/2"}
    p = {row["statistic"]: row["p"] for row in rows if row["site"] == "x"}
    # The means of the replications are 3/4 and 1/4, that of the data is 3/4: none above, one of two equal.
    assert p["mean"] == 0.25
    # Both replications of y are the data: no check finds a difference.
    assert {row["p"] for row in rows if row["site"] == "y"} == {0.5}


def test_activity_is_the_closed_form(exported):
    found = activity(exported.tree)
    loc, covariance = exported.model.posterior(exported.x)
    loc, variance = loc.double().numpy(), covariance.diagonal().double().numpy()
    # KL of N(m, v) from N(0, 1) is (v + m^2 - 1 - log v) / 2. The prior's moments are known from 1,200 x 12 draws,
    # which costs 1 % of a variance; the chains' means err by 3 % of a standard deviation.
    kl = 0.5 * (variance + loc**2 - 1 - np.log(variance)).mean(0)
    for prefix in ("", "guide_"):
        np.testing.assert_allclose(found[f"{prefix}variance_of_mean"], loc.var(0), rtol=0.1)
        np.testing.assert_allclose(found[f"{prefix}kl"], kl, atol=0.08)


def test_missing_cells_are_compared_with_nothing():
    # Of the data (1, -, 3) and (-, 5, 7) four cells are there, whose mean is 4; of the replications the same ones.
    observed = np.array([[1.0, np.nan, 3.0], [np.nan, 5.0, 7.0]])
    replicated = np.array([[[[1.0, 90.0, 3.0], [90.0, 5.0, 11.0]], [[2.0, -90.0, 3.0], [-90.0, 5.0, 7.0]]]])
    x = xr.Dataset({"x": (("chain", "draw", "datapoint", "x_dim_0"), replicated)})
    groups = {"observed_data": xr.Dataset({"x": (("datapoint", "x_dim_0"), observed)})}
    groups |= {"prior_predictive": x, "posterior_predictive": x}
    groups["posterior_predictive_mean"] = xr.Dataset({"x": (("datapoint", "x_dim_0"), replicated[0, 0])})
    tree = xr.DataTree.from_dict(groups)
    (mean,) = (row for row in checks(tree) if row["statistic"] == "mean" and row["group"] == "prior_predictive")
    assert (mean["observed"], mean["mean"]) == (4.0, (5.0 + 4.25) / 2)
    assert mean["p"] == 1.0
    assert int(calibration(tree)["x"]["count"].sum()) == 4
