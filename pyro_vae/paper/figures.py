"""The paper's figures, drawn from reruns, with the paper's own values beside ours, as wide as a page of a journal."""

__all__ = ["figure2", "figure3", "figure4", "figure5"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from pyro_vae.paper.protocol import find_algorithm
from pyro_vae.run.folder import replace_file
from pyro_vae.run.images import show_manifold, show_samples
from pyro_vae.run.run import Run

# The text width of two columns, in inches, and one size of letters, which stays text in an SVG or PDF.
_WIDTH = 7.2
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "figure.titlesize": 8,
    "figure.labelsize": 8,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}
# Those of Okabe and Ito, told apart by the colour-blind, that the paper's algorithms leave free.
_FREE_COLORS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_STYLES = {"train": (0, (3, 1.5)), "test": "-"}
_MARKERS = {"train": "x", "test": "o"}
_DATA = {"mnist": "MNIST", "frey": "Frey Face"}
# Where the axes of the printed figures begin; below, little has been learnt yet. A panel shows so many nats at least.
_FLOORS = {"mnist": -150.0, "frey": 0.0}
_MARGINAL_FLOOR = -160.0
_SHOWN = 25.0


@rc_context(_STYLE)
def figure2(ours: pd.DataFrame, paper: pd.DataFrame, out: Path) -> list[Path]:
    """Draws the bound over samples, with the paper's values as faint markers, and over training time.

    Arguments:
        ours: Our values, with `panel`, `algorithm`, `split`, `samples`, `value`, `seconds` and `seed`.
        paper: The paper's.
        out: The folder of the pictures.

    Returns:
        The paths of `figure2.png`, `.svg` and `.pdf`, and of `figure2-time.png`.
    """
    over_samples = _bounds(ours, paper, "samples", "training samples evaluated")
    over_time = _bounds(ours, paper[:0], "seconds", "training time (s)")
    return [*_saved(over_samples, out / "figure2"), _save(over_time, out / "figure2-time.png")]


@rc_context(_STYLE)
def figure3(ours: pd.DataFrame, paper: pd.DataFrame, out: Path) -> list[Path]:
    """Draws the marginal likelihood over samples, with the paper's values as faint markers, and over training time.

    Arguments are those of `figure2`; the pictures are `figure3.png`, `.svg`, `.pdf` and `figure3-time.png`.
    """
    over_samples = _marginals(ours, paper, "samples", "training samples evaluated (millions)")
    over_time = _marginals(ours, paper[:0], "seconds", "training time (s)")
    return [*_saved(over_samples, out / "figure3"), _save(over_time, out / "figure3-time.png")]


def _bounds(ours: pd.DataFrame, paper: pd.DataFrame, x: str, label: str) -> Figure:
    sizes = {data: _numbers(ours["panel"], f"{data}:") for data in _DATA}
    sizes = {data: found for data, found in sizes.items() if found}
    columns = max(map(len, sizes.values()))
    figure = Figure(figsize=(min(_WIDTH, 2.0 + 1.8 * columns), 0.9 + 1.7 * len(sizes)), layout="constrained")
    grid = figure.subplots(len(sizes), columns, squeeze=False, sharey="row", sharex="row")
    free = None
    for axes_row, (data, latents) in zip(grid, sizes.items(), strict=True):
        for axes, latent in zip(axes_row, latents, strict=False):
            _panel(axes, ours, paper, f"{data}:{latent}", x)
            axes.set_title(f"{_DATA[data]}, $N_z={latent}$")
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(numticks=4))
            axes.xaxis.set_minor_formatter(NullFormatter())
        for axes in axes_row[len(latents) :]:
            axes.set_axis_off()
            free = axes
        shown = ours[ours["panel"].str.startswith(f"{data}:")]
        # The panel that reaches least is shown as well, on the axis of its row.
        least = shown.groupby("panel")["value"].max().min() - _SHOWN
        low, high = _limits(shown["value"], min(_FLOORS[data], least))
        axes_row[0].set_ylim(low, high)
        axes_row[0].set_xlim(left=0.8 * shown.loc[shown["value"] >= low, x].min())
    figure.supxlabel(label)
    figure.supylabel("lower bound (nats per datapoint)")
    _legend(figure, ours, paper, free)
    return figure


def _marginals(ours: pd.DataFrame, paper: pd.DataFrame, x: str, label: str) -> Figure:
    sizes = _numbers(ours["panel"], "N=")
    figure = Figure(figsize=(min(_WIDTH, 0.4 + 3.4 * len(sizes)), 3.2), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        _panel(axes, ours, paper, f"N={size}", x)
        if x == "samples":
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
        axes.set_ylim(_limits(ours.loc[ours["panel"] == f"N={size}", "value"], _MARGINAL_FLOOR))
        axes.set_title(f"{size:,} training datapoints")
    figure.supxlabel(label)
    figure.supylabel("log p(x) (nats per datapoint)")
    _legend(figure, ours, paper, None)
    return figure


def _numbers(panels: pd.Series, prefix: str) -> list[int]:
    """The numbers of panels such as `mnist:20` or `N=1000`, in order."""
    return sorted({int(panel.removeprefix(prefix)) for panel in panels if panel.startswith(prefix)})


def _limits(values: pd.Series, floor: float) -> tuple[float, float]:
    """The ends of an axis of nats; a short run may not have come as far as the floor."""
    highest = values.max()
    floor = min(floor, highest - 20)
    return floor, highest + 0.08 * (highest - floor)


def _panel(axes: Axes, ours: pd.DataFrame, paper: pd.DataFrame, panel: str, x: str) -> None:
    """Draws our curves, the means over seeds with their range, and the paper's values as far as ours go."""
    colors = _colors(ours["algorithm"])
    ours, paper = ours[ours["panel"] == panel], paper[paper["panel"] == panel]
    for (algorithm, split), curve in ours.groupby(["algorithm", "split"], sort=False):
        color = colors[algorithm]
        # Seeds meet at the same numbers of samples; their times differ a little, and are averaged.
        points = curve.groupby("samples")
        positions, values = points[x].mean(), points["value"]
        axes.plot(positions, values.mean(), ls=_STYLES[split], color=color)
        if values.size().max() > 1:
            axes.fill_between(positions, values.min(), values.max(), color=color, alpha=0.2, lw=0)
    within = _within(paper, ours)
    for (algorithm, split), marks in within.groupby(["algorithm", "split"], sort=False):
        x_y, color = (marks["samples"], marks["value"]), colors[algorithm]
        axes.plot(*x_y, _MARKERS[split], color=color, ms=4, mew=0.8, mfc="none", alpha=0.6)
    axes.grid(alpha=0.3, lw=0.5)


def _within(paper: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """The paper's values of our algorithms, as far as ours go."""
    return paper[paper["algorithm"].isin(ours["algorithm"]) & (paper["samples"] <= ours["samples"].max())]


def _colors(algorithms: pd.Series) -> dict[str, str]:
    """The paper's algorithms have colours of their own, the others those that are free."""
    found = {algorithm: find_algorithm(algorithm).color for algorithm in algorithms.unique()}
    others = [algorithm for algorithm, color in found.items() if color is None]
    return found | {algorithm: _FREE_COLORS[n % len(_FREE_COLORS)] for n, algorithm in enumerate(others)}


def _legend(figure: Figure, ours: pd.DataFrame, paper: pd.DataFrame, free: Axes | None) -> None:
    """A colour is an algorithm, a line ours and a marker the paper's; in the place of a panel that is none."""
    entries = {find_algorithm(name).name: Line2D([], [], color=c) for name, c in _colors(ours["algorithm"]).items()}
    entries |= {split: Line2D([], [], color="0.3", ls=_STYLES[split]) for split in ("train", "test")}
    for split in ("train", "test") if len(_within(paper, ours)) else ():
        entries[f"paper, {split}"] = Line2D([], [], color="0.3", ls="", marker=_MARKERS[split], ms=4, mfc="none")
    handles, names = list(entries.values()), list(entries)
    if free is None:
        figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, columnspacing=1.2)
    else:
        free.legend(handles, names, loc="center", frameon=False).set_in_layout(False)  # columns stay of one width


@rc_context(_STYLE)
def figure4(runs: Mapping[int, Run], path: Path) -> list[Path]:
    """Draws manifolds side by side.

    Arguments:
        runs: Runs with two latent variables, by the number of images along each side.
        path: The picture, without its ending.

    Returns:
        The paths of the pictures.
    """
    figure = Figure(figsize=(_WIDTH, 0.6 + _WIDTH / len(runs)), layout="constrained")
    for axes, (side, run) in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs.items(), strict=True):
        show_manifold(axes, run, side)
        axes.set_title(_DATA.get(run.settings.data, run.dataset.name))
    return _saved(figure, path)


@rc_context(_STYLE)
def figure5(runs: Sequence[Run], path: Path) -> list[Path]:
    """Draws 10 x 10 samples of each run, side by side.

    Arguments:
        runs: The runs.
        path: The picture, without its ending.

    Returns:
        The paths of the pictures.
    """
    figure = Figure(figsize=(_WIDTH, 0.3 + _WIDTH / len(runs)), layout="constrained")
    for axes, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        show_samples(axes, run, 100)
        axes.set_title(f"{run.settings.latent}-D latent space")
    return _saved(figure, path)


def _saved(figure: Figure, path: Path) -> list[Path]:
    """Saves a figure for the screen, for the web and for print."""
    return [_save(figure, path.with_name(f"{path.name}.{kind}")) for kind in ("png", "svg", "pdf")]


def _save(figure: Figure, path: Path) -> Path:
    # Without dates, so that the same values make the same file.
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:], {})
    replace_file(path, lambda beside: figure.savefig(beside, dpi=250, format=path.suffix[1:], metadata=dated))
    return path
