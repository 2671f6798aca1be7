"""The paper's claims: which numbers hold them and which do not."""

import re
from pathlib import Path

import pandas as pd
import pytest

from pyro_vae.paper import measures
from pyro_vae.paper.claims import CLAIMS
from pyro_vae.paper.evidence import Evidence
from pyro_vae.paper.judgement import judge
from pyro_vae.paper.values import paper_values

CURVES = pd.concat([paper_values("2"), paper_values("3")])


def _judged(curves, measured=()):
    measured = pd.DataFrame(measured, columns=["claim", "quantity", "value"])
    return judge(Evidence(curves, measured)).set_index("claim")


def test_the_papers_own_curves_hold_its_claims():
    found = _judged(CURVES, [("A8", "per-pixel Gaussian, train", 577.0)])
    by_curves = ["A1", "A3", "A4", "A5", "A6", "A7", "A8", "A11", "A12", "A13", "A14"]
    assert {*found.loc[by_curves, "holds"]} == {"yes"}
    by_curves.remove("A8")
    assert (found.loc[by_curves, "ours"] == found.loc[by_curves, "paper"]).all()
    ours = found["ours"]
    # -152.9 + 155.1, -138.9 + 142.2, -128.3 + 134.9, -124.2 + 130.8, -119.9 + 130.8 at 1e6 samples.
    assert ours["A1"].startswith("1e6: 2.2 / 3.3 / 6.6 / 6.6 / 10.9; 1e7: 6.8 / 3.1 / 5.0 / 3.5 / 5.2; 1e8: ")
    # -138.0 at 1e7 samples and so on: the level is compared at 1e7 alone.
    assert ours["A3"] == "1e7: -138.0 / -124.1 / -108.5 / -104.8 / -103.9"
    assert ours["A8"] == "1e8: 2.0 / 2.0 / 1.0 / 1.0"  # 579, 579, 578 and 578 minus 577
    # Wake-sleep ends with -137.5, -120.8, -106.4, -104.0 and -103.7 at 2.4e8 samples. AEVB comes to -137.5 between
    # -138.0 at 1e7 and -134.8 at 3e7: 1e7 * 3^(0.5 / 3.2) = 1.19e7, and 24 / 1.19 = 20.2. The others likewise, between
    # -121.1 at 3e7 and -119.1 at 1e8; -108.5 and -105.3, -104.8 and -101.8, -103.9 and -101.6 at 1e7 and 3e7.
    assert ours["A2"] == "factor: 20.2 / 6.7 / 11.7 / 17.9 / 21.8"
    assert found.loc["A2", "holds"] == "yes"


def test_with_the_algorithms_exchanged_they_do_not_hold():
    exchanged = CURVES["algorithm"].replace({"aevb": "wake_sleep", "wake_sleep": "aevb"})
    found = _judged(CURVES.assign(algorithm=exchanged))
    assert {*found.loc[["A1", "A2", "A3", "A7", "A11", "A12", "A14"], "holds"]} == {"no"}
    # At 1e7 samples the paper's wake-sleep is then AEVB, which is better: the level asks for no less.
    assert found.loc["A4", "holds"] == "yes"


def test_what_has_not_been_run_is_said():
    holds = _judged(CURVES[:0])["holds"]
    assert holds["A1"] == "mnist:3 by aevb has not been run"
    assert holds["A9"] == "it has not been measured"
    assert holds["A13"] == "N=50000 by aevb has not been run"
    early = CURVES[CURVES["samples"] < 1e7]
    assert _judged(early).loc["A3", "holds"] == "mnist:3 by aevb has not come to 1e7 samples"


def test_what_no_table_can_show_a_test_shows():
    for claim in CLAIMS:
        if claim.test:
            file, _, name = claim.test.partition("::")
            assert re.search(rf"^def {name}\(", (Path(__file__).parents[2] / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("claim", "right", "wrong"),
    [
        ("A9", {"20": 1.0, "200": 0.1}, {"20": 1.0, "200": 0.7}),
        ("A10", {"variance": 0.01}, {"variance": 1.5}),
        ("A15", {"2": 0.1, "3": 0.3, "5": 1.0, "10": 9.0}, {"2": 0.1, "3": 0.3, "5": 0.2, "10": 9.0}),
        ("A15", {"2": 0.7, "3": 0.3, "5": 1.0, "10": 9.0}, {"2": 0.1, "3": 0.6, "5": 1.0, "10": 9.0}),
        ("A16", {"N = 1000": 0.88}, {"N = 1000": 0.6}),
        ("A17", {"3": 1.2, "20": 3.0}, {"3": 1.2, "20": 0.9}),
        ("A18", {"1": -160.0, "5": -158.0, "10": -158.5}, {"1": -160.0, "5": -158.0, "10": -156.5}),
        ("A19", {"200": 4.0, "500": 3.0, "1000": 2.0}, {"200": 4.0, "500": -0.1, "1000": 2.0}),
    ],
)
def test_measures_are_judged(claim, right, wrong):
    for values, verdict in ((right, "yes"), (wrong, "no")):
        measured = [(claim, quantity, value) for quantity, value in values.items()]
        assert _judged(CURVES[:0], measured).loc[claim, "holds"] == verdict


def test_every_claim_has_its_number_and_what_it_is_judged_by():
    keys = [claim.key for claim in CLAIMS]
    assert keys == [f"A{n}" for n in range(1, 22)]
    assert measures._MEASURES.keys() <= set(keys)
    assert all(claim.numbers or claim.test or claim.key in measures._MEASURES for claim in CLAIMS)
