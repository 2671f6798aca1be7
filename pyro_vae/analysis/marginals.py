"""The columns of a table that a model draws beside those of the data."""

__all__ = ["show_marginals"]

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_vae.data.dataset import Dataset

# Panels of a figure, and values that are shown one by one.
_PANELS = 24
_SINGLE = 30
_NAMES = 8
_DATA: dict[str, Any] = {"color": "0.75", "label": "training data"}
_MODEL: dict[str, Any] = {"color": "#1f5fa8", "label": "drawn from the model"}


def show_marginals(figure: Figure, data: Dataset, drawn: pd.DataFrame) -> int:
    """Shows the distribution of each column in the training data and among drawn datapoints.

    Arguments:
        figure: Where to show them.
        data: The data.
        drawn: Drawn datapoints, one in each row.

    Returns:
        The number of columns that are shown, the first ones.
    """
    count = min(len(drawn.columns), _PANELS)
    columns = min(count, 4)
    rows = math.ceil(count / columns)
    figure.set_size_inches(2.6 * columns + 0.4, 2.0 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    own = data.train.first(20_000)[:, : data.features].cpu().numpy()
    for n, axes in enumerate(grid):
        if n >= count:
            axes.set_axis_off()
            continue
        name, kind = str(drawn.columns[n]), (data.kinds or [""] * data.features)[n]
        values = own[:, n][~np.isnan(own[:, n])]
        _panel(axes, values, drawn.iloc[:, n].to_numpy(), kind, data.levels.get(name, ()))
        axes.set_title(name if len(name) <= 24 else f"{name[:23]}…", size=10)
        axes.tick_params(labelsize=8)
        axes.set_yticks([])
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return count


def _panel(axes: Axes, data: Any, drawn: Any, kind: str, levels: tuple[str, ...]) -> None:
    """Shares of single values where these are few, else densities over bins that the data lay out."""
    every = np.unique(data)
    if len(every) <= _SINGLE and np.array_equal(every, every.round()) and np.array_equal(drawn, drawn.round()):
        low, high = every.min(), every.max()
        values = np.arange(low, high + 1) if high - low < _SINGLE else every
        for found, offset, look in ((data, -0.2, _DATA), (drawn, 0.2, _MODEL)):
            axes.bar(values + offset, [(found == value).mean() for value in values], width=0.4, **look)
        if levels and len(levels) <= _NAMES:
            axes.set_xticks(range(len(levels)), [str(level)[:10] for level in levels], rotation=30, ha="right")
        return
    low, high = np.quantile(data, [0.005, 0.995])
    # Counts have bins of as many values each, from a half to a half.
    whole = kind == "count" or np.array_equal(data[:1000], data[:1000].round())
    width = max(1, math.ceil((high - low) / _SINGLE))
    bins = (
        np.arange(low - 0.5, high + width + 0.5, width)
        if whole
        else np.linspace(low, high if high > low else low + 1, _SINGLE + 1)
    ).tolist()
    axes.hist(data, bins=bins, density=True, **_DATA)
    axes.hist(drawn[np.isfinite(drawn)], bins=bins, density=True, histtype="step", lw=1.6, **_MODEL)
