"""The values of curves: the paper's, and tables to which runs are added."""

import pandas as pd

from pyro_vae.paper.protocol import PANELS
from pyro_vae.paper.values import COLUMNS, add_values, paper_values, read_values


def _found(figure):
    values = paper_values(figure)
    return values.set_index(["panel", "algorithm", "split", "samples"])["value"]


def test_the_papers_values_are_those_of_its_figures():
    # Facts read off the figures: the last AEVB test value of 20 latents, MCEM's at N = 1000, wake-sleep's on Frey.
    bounds = _found("2")
    assert bounds["mnist:20", "aevb", "test", 240_000_000] == -99.4
    assert bounds["frey:10", "aevb", "test", 1_000_000] == 792
    assert bounds["frey:2", "wake_sleep", "train", 10_000_000] == 579
    assert {*bounds.index.levels[0]} == {f"{data}:{size}" for data, sizes in PANELS.items() for size in sizes}
    marginals = _found("3")
    assert marginals["N=1000", "mcem", "test", 60_000_000] == -141.6
    assert marginals["N=50000", "aevb", "train", 10_000_000] == -135.5


def _values(*runs):
    """Two values a run: panel, algorithm, seed, and the first value."""
    rows = [
        ("2", panel, algorithm, "test", samples, value + samples, 1.0, seed)
        for panel, algorithm, seed, value in runs
        for samples in (1, 2)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def test_runs_are_added_and_those_that_are_there_replaced(tmp_path):
    path = tmp_path / "figure2.csv"
    first = _values(("mnist:3", "aevb", 0, 0.0), ("mnist:3", "aevb", 1, 10.0), ("mnist:5", "aevb", 0, 20.0))
    assert add_values(first, path).equals(first)
    more = _values(("mnist:3", "aevb", 1, 30.0), ("mnist:3", "wake_sleep", 0, 40.0))
    table = add_values(more, path)
    kept = _values(("mnist:3", "aevb", 0, 0.0), ("mnist:5", "aevb", 0, 20.0))
    assert table.equals(pd.concat([kept, more], ignore_index=True))
    assert read_values(path).equals(table)
