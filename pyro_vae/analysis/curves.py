"""The bounds of a run over the samples it has seen, in the axes of a figure."""

__all__ = ["show_curve"]

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

# Blue and orange, which all readers tell apart.
_COLOURS = {"train": "#e66100", "test": "#1f5fa8"}


def show_curve(axes: Axes, metrics: pd.DataFrame) -> None:
    """Shows the bound of both splits, all of it, and its last tenfold larger where that is flat.

    Arguments:
        axes: Where to show it.
        metrics: The metrics of a run, see `Run.metrics`.
    """
    seen = metrics["samples"].to_numpy()
    first = next((n for n in seen if n > 0), 1)
    axes.set_xscale("symlog", linthresh=first, linscale=0.3)  # so that 0 samples have a place
    _bounds(axes, metrics)
    decades = range(math.ceil(math.log10(first)), math.floor(math.log10(max(seen[-1], first))) + 1)
    axes.set_xticks([0, *(10**n for n in decades)])
    for samples in seen[~np.isfinite(_values(metrics)).all(1)]:
        axes.axvline(samples, color="0.5", ls=":")
        axes.annotate("not finite", (samples, 0.5), xycoords=("data", "axes fraction"), rotation=90, ha="right")
    axes.set_xlabel("training datapoints evaluated")
    axes.set_ylabel("lower bound (nats per datapoint)")
    late = metrics[(10 * seen >= seen[-1]) & (seen[-1] > 0)]
    if len(late) > 2 and np.isfinite(_values(late)).all() and _spread(late) < _spread(metrics) / 4:
        inset = axes.inset_axes((0.45, 0.14, 0.52, 0.53))
        inset.set_xscale("log")
        _bounds(inset, late)
        inset.xaxis.set_minor_formatter(NullFormatter())
        inset.tick_params(labelsize="small")


def _bounds(axes: Axes, metrics: pd.DataFrame) -> None:
    for (split, colour), style in zip(_COLOURS.items(), ("s--", "o-"), strict=True):
        axes.plot(metrics["samples"], metrics[f"{split}_bound"], style, ms=3, color=colour, label=split)
    axes.grid(alpha=0.3)


def _values(metrics: pd.DataFrame) -> np.ndarray:
    return metrics[["train_bound", "test_bound"]].to_numpy()


def _spread(metrics: pd.DataFrame) -> float:
    """The distance of the highest from the lowest bound."""
    values = _values(metrics)
    values = values[np.isfinite(values)]
    return float(np.ptp(values)) if values.size else 0.0
