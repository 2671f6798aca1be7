"""The paper's figures, drawn from reruns, with the paper's own values beside ours."""

__all__ = ["figure2", "figure3", "figure4", "figure5"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_vae.run.folder import replace_file
from pyro_vae.run.images import show_manifold, show_samples
from pyro_vae.run.train import Run

Rows = Sequence[Mapping[str, Any]]

_COLORS = {"aevb": "tab:red", "wake_sleep": "tab:green", "mcem": "tab:blue"}
_NAMES = {"aevb": "AEVB", "wake_sleep": "Wake-Sleep", "mcem": "MCEM"}
_STYLES = {"train": "--", "test": "-"}
_MARKERS = {"train": "x", "test": "o"}
_DATA = {"mnist": "MNIST", "frey": "Frey Face"}
# Where the axes of the printed figures begin; below, little has been learnt yet.
_FLOORS = {"mnist": -150.0, "frey": 0.0}
_MARGINAL_FLOOR = -160.0


def figure2(rows: Rows, paper: Rows, out: Path) -> list[Path]:
    """Draws the bound over samples, with the paper's values as faint markers, and over training time.

    Arguments:
        rows: Our values, with `panel`, `algorithm`, `split`, `samples`, `value`, `seconds` and `seed`.
        paper: The paper's.
        out: The folder of the pictures.

    Returns:
        The paths of `figure2.png`, `figure2.svg` and `figure2-time.png`.
    """
    over_samples = _bounds(rows, paper, "samples", "training samples evaluated")
    over_time = _bounds(rows, (), "seconds", "training time (s)")
    return [
        _save(over_samples, out / "figure2.png"),
        _save(over_samples, out / "figure2.svg"),
        _save(over_time, out / "figure2-time.png"),
    ]


def figure3(rows: Rows, paper: Rows, out: Path) -> list[Path]:
    """Draws the marginal likelihood over samples, with the paper's values as faint markers, and over training time.

    Arguments are those of `figure2`; the pictures are `figure3.png`, `figure3.svg` and `figure3-time.png`.
    """
    over_samples = _marginals(rows, paper, "samples", "training samples evaluated (millions)")
    over_time = _marginals(rows, (), "seconds", "training time (s)")
    return [
        _save(over_samples, out / "figure3.png"),
        _save(over_samples, out / "figure3.svg"),
        _save(over_time, out / "figure3-time.png"),
    ]


def _marginals(rows: Rows, paper: Rows, x: str, label: str) -> Figure:
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    figure = Figure(figsize=(1 + 4.2 * len(panels), 4.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, [row for row in rows if row["panel"] == panel], x)
        _marks(axes, [row for row in paper if row["panel"] == panel], rows)
        if x == "samples":
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
        axes.set_ylim(_limits([row["value"] for row in rows if row["panel"] == panel], _MARGINAL_FLOOR))
        axes.set_title(f"$N_{{train}}$ = {panel.partition('=')[2]}", fontsize=10)
        axes.set_xlabel(label, fontsize=8)
        axes.set_ylabel("marginal log-likelihood (nats)")
    _legend(figure, axes, 3)
    return figure


def _bounds(rows: Rows, paper: Rows, x: str, label: str) -> Figure:
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    by_data = {data: [p for p in panels if p.startswith(f"{data}:")] for data in _DATA}
    by_data = {data: found for data, found in by_data.items() if found}
    columns = max(map(len, by_data.values()))
    figure = Figure(figsize=(1.2 + max(4.4, 2.5 * columns), 1.2 + 2.7 * len(by_data)), layout="constrained")
    grid = figure.subplots(len(by_data), columns, squeeze=False, sharey="row")
    for axes_row, (data, found) in zip(grid, by_data.items(), strict=True):
        for axes, panel in zip(axes_row, found, strict=False):
            _panel(axes, [row for row in rows if row["panel"] == panel], x)
            _marks(axes, [row for row in paper if row["panel"] == panel], rows)
            axes.set_title(f"{_DATA[data]}, $N_z={panel.partition(':')[2]}$", fontsize=10)
            axes.set_xlabel(label, fontsize=8)
        for axes in axes_row[len(found) :]:
            axes.set_visible(False)
        shown = [row for row in rows if row["panel"] in found]
        limits = _limits([row["value"] for row in shown], _FLOORS[data])
        begin = min(row[x] for row in shown if row["value"] >= limits[0])
        for axes in axes_row:
            axes.set_xlim(left=0.8 * begin)
        axes_row[0].set_ylim(limits)
        axes_row[0].set_ylabel("lower bound (nats)")
        for axes in axes_row[: len(found)]:
            axes.set_xscale("log")
    _legend(figure, grid[0][0], 2 + columns // 2)
    return figure


def _limits(values: Sequence[float], floor: float) -> tuple[float, float]:
    """The ends of an axis of nats; a short run may not have come as far as the floor."""
    highest = max(values)
    floor = min(floor, highest - 20)
    return floor, highest + 0.08 * (highest - floor)


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def _panel(axes: Axes, rows: Rows, x: str) -> None:
    for algorithm in dict.fromkeys(row["algorithm"] for row in rows):
        for split, style in _STYLES.items():
            chosen = [row for row in rows if (row["algorithm"], row["split"]) == (algorithm, split)]
            # Seeds meet at the same numbers of samples; their times differ a little, and are averaged.
            points = sorted({row["samples"] for row in chosen})
            at = [[row for row in chosen if row["samples"] == point] for point in points]
            positions = [sum(row[x] for row in each) / len(each) for each in at]
            values = [[row["value"] for row in each] for each in at]
            middle = [sum(each) / len(each) for each in values]
            color = _COLORS[algorithm]
            axes.plot(positions, middle, style, color=color, lw=1.3, label=f"{_NAMES[algorithm]} ({split})")
            if max(map(len, values)) > 1:
                low, high = zip(*((min(each), max(each)) for each in values), strict=True)
                axes.fill_between(positions, low, high, color=color, alpha=0.15, lw=0)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _marks(axes: Axes, paper: Rows, ours: Rows) -> None:
    """The paper's values, as far as our curves go."""
    end = max(row["samples"] for row in ours)
    algorithms = {row["algorithm"] for row in ours}
    for algorithm, color in _COLORS.items():
        for split, marker in _MARKERS.items():
            chosen = [row for row in paper if (row["algorithm"], row["split"]) == (algorithm, split)]
            chosen = [row for row in chosen if row["samples"] <= end and algorithm in algorithms]
            if chosen:
                x, y = ([row[key] for row in chosen] for key in ("samples", "value"))
                label = f"paper: {_NAMES[algorithm]} ({split})"
                axes.plot(x, y, marker, color=color, ms=5, mfc="none", alpha=0.45, label=label)


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
