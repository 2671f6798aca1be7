"""The values of the curves in Figures 2 and 3: ours in the tables of a rerun, and the paper's."""

__all__ = ["COLUMNS", "add_values", "paper_values", "read_values"]

from importlib.resources import as_file, files
from pathlib import Path

import pandas as pd

from pyro_vae.run.tables import read_table, write_table

COLUMNS = {
    "figure": str,
    "panel": str,
    "algorithm": str,
    "split": str,
    "samples": int,
    "value": float,
    "seconds": float,
    "seed": int,
}
_RUN = ["panel", "algorithm", "seed"]


def paper_values(figure: str) -> pd.DataFrame:
    """Returns what the curves of the paper's Figure 2 or 3 reach at chosen numbers of samples.

    They were measured on the vector paths of the printed figures, to 0.1 nats for MNIST in Figure 2, to 2 nats for Frey
    Face, and to 0.03 nats in Figure 3.

    Arguments:
        figure: `2` or `3`.

    Returns:
        A table with `figure`, `panel`, `algorithm`, `split`, `samples`, and `value` in nats per datapoint.
    """
    columns = {name: kind for name, kind in COLUMNS.items() if name not in ("seconds", "seed")}
    with as_file(files("pyro_vae.paper") / "paper_values.csv") as path:
        values = read_table(path, columns)
    return values[values["figure"] == figure]


def read_values(path: Path) -> pd.DataFrame:
    """Reads `figure2.csv` or `figure3.csv`; a table without rows where there is no such file.

    Returns:
        A table with `figure`, `panel`, `algorithm`, `split`, `samples`, `value` in nats per datapoint, `seconds` of
        training, and `seed`.

    Raises:
        InputError: If it is damaged.
    """
    return read_table(path, COLUMNS)


def add_values(new: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Adds the values of runs to a table, in the place of earlier ones of the same runs.

    Arguments:
        new: The values, with the columns of `read_values`.
        path: The table.

    Returns:
        All that it holds now.
    """
    old = read_values(path)
    again = pd.MultiIndex.from_frame(old[_RUN]).isin(pd.MultiIndex.from_frame(new[_RUN]))
    table = pd.concat([old[~again], new], ignore_index=True)
    write_table(table, path)
    return table
