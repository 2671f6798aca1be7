"""Verdicts follow the numbers."""

import json

import pytest

from pyro_vae.analysis.verdicts import findings


@pytest.fixture
def summary(analysed):
    return json.loads((analysed / "analysis/summary.json").read_text())


def _verdicts(summary, question, part, **changes):
    changed = {**summary, part: {**summary[part], **changes}}
    return [found.verdict for found in findings(changed) if found.question == question]


def test_verdicts_follow_the_numbers(summary):
    assert _verdicts(summary, "guide", "guide", khat_over_0_7=0.01)[0] == "good"
    assert _verdicts(summary, "guide", "guide", khat_over_0_7=0.9)[0] == "poor"
    good, poor, unknown = ({"q95": value, "max": value} for value in (1.005, 1.2, None))
    assert _verdicts(summary, "sampler", "sampler", rhat=good)[0] == "good"
    assert _verdicts(summary, "sampler", "sampler", rhat=poor)[0] == "poor"
    assert _verdicts(summary, "sampler", "sampler", rhat=unknown)[0] == "poor"
    assert "poor" in _verdicts(summary, "sampler", "sampler", divergences=3, rhat=good)
    assert "fair" in _verdicts(summary, "guide", "guide", scale={"median": None})


def _check(group, p, site="x"):
    return {"site": site, "group": f"{group}_predictive", "statistic": "mean", "p": p}


@pytest.mark.parametrize(
    ("checks", "verdict", "words"),
    [
        ([_check("prior", 0.5), _check("posterior", 0.5)], "good", "1 of 1 statistics are what the prior predicts."),
        (
            [_check("prior", 1.0), _check("posterior", 0.5)],
            "fair",
            "0 of 1 statistics are what the prior predicts (not",
        ),
        ([_check("prior", 0.5), _check("posterior", 0.0)], "fair", "0 of 1 statistics are what the posterior predicts"),
        (
            [_check("prior", 0.5), _check("posterior", 0.5), _check("prior", 0.0, "y"), _check("posterior", 0.5, "y")],
            "fair",
            "(not so: mean of 'y')",
        ),
    ],
)
def test_prior_and_posterior_checks_both_count(summary, checks, verdict, words):
    fit = {**summary["fit"], "checks": checks}
    first = next(f for f in findings({**summary, "fit": fit}) if f.question == "fit")
    assert first.verdict == verdict
    assert words in first.text


def test_what_was_left_out_has_no_verdict(summary):
    quick = {name: value for name, value in summary.items() if name not in ("gaps", "calibration", "guide")}
    assert {found.question for found in findings(quick)} == {"sampler", "fit"}
