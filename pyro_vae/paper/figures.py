"""The paper's figures, drawn from reruns, with the paper's own values beside ours."""

__all__ = ["figure2", "figure3", "figure4", "figure5"]

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_vae.paper.protocol import find_algorithm
from pyro_vae.run.folder import replace_file
from pyro_vae.run.images import show_manifold, show_samples
from pyro_vae.run.run import Run

_FREE_COLORS = ("tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:gray", "tab:olive", "tab:cyan")
_STYLES = {"train": "--", "test": "-"}
_MARKERS = {"train": "x", "test": "o"}
_DATA = {"mnist": "MNIST", "frey": "Frey Face"}
# Where the axes of the printed figures begin; below, little has been learnt yet.
_FLOORS = {"mnist": -150.0, "frey": 0.0}
_MARGINAL_FLOOR = -160.0


def figure2(ours: pd.DataFrame, paper: pd.DataFrame, out: Path) -> list[Path]:
    """Draws the bound over samples, with the paper's values as faint markers, and over training time.

    Arguments:
        ours: Our values, with `panel`, `algorithm`, `split`, `samples`, `value`, `seconds` and `seed`.
        paper: The paper's.
        out: The folder of the pictures.

    Returns:
        The paths of `figure2.png`, `figure2.svg` and `figure2-time.png`.
    """
    over_samples = _bounds(ours, paper, "samples", "training samples evaluated")
    over_time = _bounds(ours, paper[:0], "seconds", "training time (s)")
    return [
        _save(over_samples, out / "figure2.png"),
        _save(over_samples, out / "figure2.svg"),
        _save(over_time, out / "figure2-time.png"),
    ]


def figure3(ours: pd.DataFrame, paper: pd.DataFrame, out: Path) -> list[Path]:
    """Draws the marginal likelihood over samples, with the paper's values as faint markers, and over training time.

    Arguments are those of `figure2`; the pictures are `figure3.png`, `figure3.svg` and `figure3-time.png`.
    """
    over_samples = _marginals(ours, paper, "samples", "training samples evaluated (millions)")
    over_time = _marginals(ours, paper[:0], "seconds", "training time (s)")
    return [
        _save(over_samples, out / "figure3.png"),
        _save(over_samples, out / "figure3.svg"),
        _save(over_time, out / "figure3-time.png"),
    ]


def _bounds(ours: pd.DataFrame, paper: pd.DataFrame, x: str, label: str) -> Figure:
    sizes = {data: _numbers(ours["panel"], f"{data}:") for data in _DATA}
    sizes = {data: found for data, found in sizes.items() if found}
    columns = max(map(len, sizes.values()))
    figure = Figure(figsize=(1.2 + max(4.4, 2.5 * columns), 1.2 + 2.7 * len(sizes)), layout="constrained")
    grid = figure.subplots(len(sizes), columns, squeeze=False, sharey="row")
    for axes_row, (data, latents) in zip(grid, sizes.items(), strict=True):
        for axes, latent in zip(axes_row, latents, strict=False):
            _panel(axes, ours, paper, f"{data}:{latent}", x)
            axes.set_title(f"{_DATA[data]}, $N_z={latent}$", fontsize=10)
            axes.set_xlabel(label, fontsize=8)
        for axes in axes_row[len(latents) :]:
            axes.set_visible(False)
        shown = ours[ours["panel"].str.startswith(f"{data}:")]
        low, high = _limits(shown["value"], _FLOORS[data])
        axes_row[0].set_ylim(low, high)
        axes_row[0].set_ylabel("lower bound (nats)")
        for axes in axes_row:
            axes.set_xlim(left=0.8 * shown.loc[shown["value"] >= low, x].min())
        for axes in axes_row[: len(latents)]:
            axes.set_xscale("log")
    _legend(figure, 2 + columns // 2)
    return figure


def _marginals(ours: pd.DataFrame, paper: pd.DataFrame, x: str, label: str) -> Figure:
    sizes = _numbers(ours["panel"], "N=")
    figure = Figure(figsize=(1 + 4.2 * len(sizes), 4.4), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        _panel(axes, ours, paper, f"N={size}", x)
        if x == "samples":
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
        axes.set_ylim(_limits(ours.loc[ours["panel"] == f"N={size}", "value"], _MARGINAL_FLOOR))
        axes.set_title(f"$N_{{train}}$ = {size}", fontsize=10)
        axes.set_xlabel(label, fontsize=8)
        axes.set_ylabel("marginal log-likelihood (nats)")
    _legend(figure, 3)
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
        color, label = colors[algorithm], f"{find_algorithm(algorithm).name} ({split})"
        # Seeds meet at the same numbers of samples; their times differ a little, and are averaged.
        points = curve.groupby("samples")
        positions, values = points[x].mean(), points["value"]
        axes.plot(positions, values.mean(), _STYLES[split], color=color, lw=1.3, label=label)
        if values.size().max() > 1:
            axes.fill_between(positions, values.min(), values.max(), color=color, alpha=0.15, lw=0)
    within = paper[paper["algorithm"].isin(ours["algorithm"]) & (paper["samples"] <= ours["samples"].max())]
    for (algorithm, split), marks in within.groupby(["algorithm", "split"], sort=False):
        label = f"paper: {find_algorithm(algorithm).name} ({split})"
        x_y, color = (marks["samples"], marks["value"]), colors[algorithm]
        axes.plot(*x_y, _MARKERS[split], color=color, ms=5, mfc="none", alpha=0.45, label=label)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _colors(algorithms: pd.Series) -> dict[str, str]:
    """The paper's algorithms have colours of their own, the others those that are free."""
    found = {algorithm: find_algorithm(algorithm).color for algorithm in algorithms.unique()}
    others = [algorithm for algorithm, color in found.items() if color is None]
    return found | {algorithm: _FREE_COLORS[n % len(_FREE_COLORS)] for n, algorithm in enumerate(others)}


def _legend(figure: Figure, columns: int) -> None:
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )


def figure4(runs: Mapping[int, Run], path: Path) -> Path:
    """Draws manifolds side by side.

    Arguments:
        runs: Runs with two latent variables, by the number of images along each side.
        path: The picture.
    """
    figure = Figure(figsize=(6 * len(runs), 6.4), layout="constrained")
    for axes, (side, run) in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs.items(), strict=True):
        show_manifold(axes, run, side)
    return _save(figure, path)


def figure5(runs: Sequence[Run], path: Path) -> Path:
    """Draws 10 x 10 samples of each run, side by side.

    Arguments:
        runs: The runs.
        path: The picture.
    """
    figure = Figure(figsize=(3.2 * len(runs), 3.5), layout="constrained")
    for axes, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        show_samples(axes, run, 100)
        axes.set_title(f"{run.settings.latent}-D latent space", fontsize=10)
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    replace_file(path, lambda beside: figure.savefig(beside, dpi=130, format=path.suffix[1:]))
    return path
