"""The tables on standard output."""

from pyro_vae.cli.tables import print_comparison, print_evaluation

ABOUT = {"data": "[red]odd.npy", "cells": "13 columns", "measure": "density", "split": "test", "datapoints": 1234}
IMPORTANCE = {"log_px": -1.5, "se": 0.25, "particles": 100, "khat_over_0_7": None}


def _cells(out):
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]


def test_an_evaluation_is_a_row_an_estimate(capsys):
    print_evaluation({**ABOUT, "bound": -2.0, "bound_se": None, "bits_per_dim": 1.25, "importance": IMPORTANCE})
    out = capsys.readouterr().out
    assert "[red]odd.npy test, 1,234 datapoints, 13 columns, density" in " ".join(out.split())  # no markup
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in out.splitlines()
        if "│" in line
    }
    assert rows["bound"] == ["-2.000", "", "bits_per_dim 1.25"]
    assert rows["log p(x), importance"] == ["-1.500", "0.250", "particles 100"]


def test_a_comparison_is_a_row_a_run_with_differences_and_their_errors(capsys):
    first = {"run": "[b]a", "bound": -2.0, "difference": 0.0, "difference_se": 0.0}
    first["importance"] = {"log_px": -1.5, "difference": 0.0, "difference_se": 0.0, "khat_over_0_7": 0.125}
    second = {"run": "b", "bound": -1.0, "difference": 1.0, "difference_se": 0.5}
    second["importance"] = {"log_px": -1.25, "difference": 0.25, "difference_se": None}
    print_comparison({**ABOUT, "runs": [first, second]})
    cells = _cells(capsys.readouterr().out)
    assert ["[b]a", "-2.00", "", "-1.50", "", "khat_over_0_7 0.125"] in cells
    assert ["b", "-1.00", "+1.00 ± 0.50", "-1.25", "+0.25", ""] in cells
