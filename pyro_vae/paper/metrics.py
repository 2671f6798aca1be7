"""Metrics of claims that are more than values of curves or measures."""

__all__ = ["FREY", "MNIST", "above_baseline", "last", "overfitting", "side_by_side", "speed"]

import math

import numpy as np
import pandas as pd

from pyro_vae.paper.evidence import Evidence
from pyro_vae.paper.protocol import PANELS

MNIST, FREY = ([f"{data}:{latent}" for latent in PANELS[data]] for data in ("mnist", "frey"))


def speed(tables: Evidence) -> pd.DataFrame:
    """By what factor AEVB needs fewer samples for wake-sleep's last test bound."""
    factors = {}
    for panel in MNIST:
        wake_sleep = tables.curve(panel, "wake_sleep", "test")
        needed = _samples_to_reach(wake_sleep.iloc[-1], tables.curve(panel, "aevb", "test"))
        factors[panel] = wake_sleep.index[-1] / needed
    return pd.DataFrame({"factor": factors})


def _samples_to_reach(aim: float, curve: pd.Series) -> float:
    """After how many samples a curve first comes to a value; between its points it is straight over log samples."""
    reached = curve.index[curve >= aim]
    if reached.empty:
        return math.inf
    step = curve.loc[: reached[0]].iloc[-2:]
    return math.exp(np.interp(aim, step, np.log(step.index)))


def overfitting(tables: Evidence) -> pd.DataFrame:
    """How far 200 latents are above 20 on test data, and how far training is above test data with 20 and with 200."""
    panels = ("mnist:20", "mnist:200")
    train, test = (last(tables.at(panels, "aevb", split, (1e7, 3e7, 1e8, 2.4e8))) for split in ("train", "test"))
    return pd.concat([test.diff().iloc[1:], train - test])


def above_baseline(tables: Evidence) -> pd.DataFrame:
    """How far wake-sleep's last training bound on Frey Face is above a Gaussian per pixel."""
    baseline = tables.measured("A8")["per-pixel Gaussian, train"].item()
    return last(tables.at(FREY, "wake_sleep", "train", (1e6, 1e7, 1e8))) - baseline


def side_by_side(**tables: pd.DataFrame) -> pd.DataFrame:
    """Puts tables beside each other; the names of their columns begin with theirs."""
    return pd.concat([table.add_prefix(f"{name} ") for name, table in tables.items()], axis=1)


def last(numbers: pd.DataFrame) -> pd.DataFrame:
    """The last number of samples that was reached."""
    return numbers.iloc[:, [-1]]
