"""The figure of a sweep: what each value of the grid makes of the data, with the spread of seeds."""

__all__ = ["sweep_figure"]

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyro_vae.run.folder import replace_file


def sweep_figure(table: pd.DataFrame, keys: Sequence[str], estimator: str, path: Path) -> Path:
    """Draws log p(x) over the first key of a grid, and below it how many latent variables are active.

    Each combination of the other keys has a line.

    Likelihoods of different measures have panels of their own: their values are not of one kind.

    Arguments:
        table: What `pyro_vae.run.sweep.Sweep.table` returned, perhaps with a column `active_latents`.
        keys: The keys of the grid.
        estimator: The column that is drawn, in nats per datapoint.
        path: The picture.

    Returns:
        The picture's path.
    """
    measures = list(dict.fromkeys(table["measure"]))
    active = bool("active_latents" in table and table["active_latents"].notna().any())
    figure = Figure(figsize=(6.4, 3.2 * len(measures) + 1 + 2.2 * active), layout="constrained")
    heights = [3.2] * len(measures) + [2.2] * active
    panels = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    for axes, measure in zip(panels, measures, strict=False):
        _panel(axes, table[table["measure"] == measure], keys, estimator)
        axes.set_title(measure, fontsize="medium")
        axes.set_ylabel("bound (nats)" if estimator == "bound" else f"log p(x), {estimator} (nats)")
    if active:
        _panel(panels[-1], table, keys, "active_latents")
        panels[-1].set_ylabel("active latent variables")
        panels[-1].yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel(keys[0], fontsize="medium")
    replace_file(path, lambda beside: figure.savefig(beside, format="png", dpi=150))
    return path


def _panel(axes: Axes, table: pd.DataFrame, keys: Sequence[str], estimator: str) -> None:
    first, *others = keys
    places = {value: n for n, value in enumerate(dict.fromkeys(table[first]))}
    lines = table.groupby(list(others), sort=False) if others else [((), table)]
    for values, rows in lines:
        label = ", ".join(f"{key}={value}" for key, value in zip(others, values, strict=True))
        x = rows[first].map(places)
        of_seeds = rows.groupby(x)[estimator]
        mean, error = of_seeds.mean(), of_seeds.sem().fillna(0.0)
        line = axes.errorbar(mean.index, mean, error, marker="o", ms=4, capsize=3, label=label)
        axes.plot(x, rows[estimator], ".", ms=3, alpha=0.5, color=line.lines[0].get_color())
    axes.set_xticks([*places.values()], [*places])
    axes.grid(alpha=0.3)
    if others:
        axes.legend(fontsize="small")
