"""What claims are judged by: values of curves, means over seeds, at the numbers of samples that were reached."""

import pandas as pd
import pytest

from pyro_vae.paper.evidence import Evidence, NotRun


def _evidence(curves=(), measures=()):
    columns = ["panel", "algorithm", "split", "samples", "value"]
    return Evidence(
        pd.DataFrame(curves, columns=columns), pd.DataFrame(measures, columns=["claim", "quantity", "value"])
    )


def _curve(panel, algorithm, values):
    return [(panel, algorithm, "test", samples, value) for samples, value in values.items()]


def test_a_curve_is_the_mean_over_seeds():
    evidence = _evidence(_curve("p", "a", {200: 4.0, 100: 1.0}) + _curve("p", "a", {100: 2.0, 200: 5.0}))
    assert evidence.curve("p", "a", "test").to_dict() == {100: 1.5, 200: 4.5}
    with pytest.raises(NotRun, match="p by b has not been run"):
        evidence.curve("p", "b", "test")


def test_values_are_those_within_a_tenth_that_all_curves_have_come_to():
    near, far = {950_000: 1.0, 1_040_000: 2.0, 10_000_000: 3.0}, {1_100_000: 4.0, 8_900_000: 5.0}
    evidence = _evidence(_curve("p", "a", near) + _curve("q", "a", far))
    found = evidence.at(["p", "q"], "a", "test", (1e6, 1e7))
    assert found.to_dict() == {"1e6": {"p": 2.0, "q": 4.0}}  # 8.9e6 is farther from 1e7 than a tenth
    with pytest.raises(NotRun, match="q by a has not come to 1e7 samples"):
        evidence.at(["p", "q"], "a", "test", (1e7,))


def test_a_lead_is_the_difference_where_both_have_come_to():
    evidence = _evidence(_curve("p", "a", {10**6: 3.0, 10**7: 4.0}) + _curve("p", "b", {10**6: 1.0}))
    assert evidence.lead(["p"], "a", "b", "test", (1e6, 1e7)).to_dict() == {"1e6": {"p": 2.0}}


def test_measures_are_those_of_the_claim():
    evidence = _evidence(measures=[("A1", "one", 1.0), ("A2", "two", 2.0), ("A2", "three", 3.0)])
    assert evidence.measured("A2").to_dict("records") == [{"two": 2.0, "three": 3.0}]
    with pytest.raises(NotRun, match="it has not been measured"):
        evidence.measured("A3")
