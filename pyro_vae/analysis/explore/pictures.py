"""What p(x | z) looks like: pixels of an image, or bars of a table's columns."""

__all__ = ["Bars", "Images"]

import math
from typing import Any

import numpy as np
from torch import Tensor

from pyro_vae.analysis.explore.space import INTERVAL, Array, Space
from pyro_vae.run import images
from pyro_vae.run.run import Run

# Rows of bars that a page has room for.
_ROWS, _SAMPLE = 40, 4_096


class Images:
    """Turns values of a run's images into pixels.

    Arguments:
        run: The run.
        space: Its latent variables.
    """

    def __init__(self, run: Run, space: Space) -> None:
        self.shape = images.image_shape(run)
        self.space = space
        self.ink = run.dataset.ink
        train = run.dataset.train
        seen = train.first(_SAMPLE)[:, : run.dataset.features] if len(train) else space.means(space.prior[:200])
        # Counts are shown from 0 to the largest of the data.
        self.most = max(1.0, float(seen.nan_to_num(0.0).max()))

    def pixels(self, rows: Tensor) -> Array:
        """Turns rows into colours, red, green, blue and opacity in one number, with shape `(rows, height, width)`.

        The first row of pixels is the lowest. Cells that are missing are grey.
        """
        height, width, *channels = self.shape
        values = (rows[:, : math.prod(self.shape)] / self.most).nan_to_num(0.5).clamp(0.0, 1.0).cpu().numpy()
        grey = values.reshape(-1, height, width, *(channels or [1]))[..., :3]
        if self.ink:
            grey = 1.0 - grey
        colours = np.full((*grey.shape[:3], 4), 255, np.uint8)
        colours[..., :3] = np.rint(grey * 255.0) if grey.shape[-1] != 2 else np.rint(grey[..., :1] * 255.0)
        return np.ascontiguousarray(colours[:, ::-1]).view(np.uint32)[..., 0]

    def at(self, vector: Array) -> dict[str, Any]:
        """The picture of a vector, with shape `(size,)`, as a column for the page."""
        return {"image": [*self.pixels(self.space.means(vector[None]))]}


class Bars:
    """Turns p(x | z) into bars with intervals, each between the least and the greatest value of the data.

    Arguments:
        run: The run.
        space: Its latent variables.
    """

    def __init__(self, run: Run, space: Space) -> None:
        data = run.dataset
        self.space = space
        names = data.names or [f"x_{n + 1}" for n in range(data.features)]
        kinds = data.kinds or ["real"] * data.features
        train = data.train
        seen = train.first(_SAMPLE)[:, : data.features] if len(train) else space.draws(space.prior[:20]).flatten(0, 1)
        values = seen.cpu().numpy().astype(np.float64)
        self.low, self.high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        self.high = np.where(self.high > self.low, self.high, self.low + 1.0)
        chosen = [*range(data.features)]
        self.left_out = max(0, data.features - _ROWS)
        if self.left_out:
            means = space.means(space.prior[:200]).cpu().numpy()
            changes = (means / (self.high - self.low)).std(0)
            chosen = sorted(np.argsort(-changes, kind="stable")[:_ROWS].tolist())
        # A row for each column, and one for each class of a column of categories.
        self.rows: list[tuple[str, int, int | None]] = []
        for n in chosen:
            kind, _, classes = kinds[n].partition(":")
            levels = data.levels.get(names[n], ())
            for level in range(int(classes)) if kind == "category" else [None]:
                told = names[n] if level is None else f"{names[n]}: {levels[level] if level < len(levels) else level}"
                self.rows.append((told, n, level))
        self.binary = [kinds[n] == "binary" for n in range(data.features)]

    @property
    def names(self) -> list[str]:
        """The names of the rows, each once."""
        seen: dict[str, int] = {}
        found = []
        for name, _, _ in self.rows:
            seen[name] = seen.get(name, 0) + 1
            found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
        return found

    def places(self, cells: Tensor) -> Array:
        """Where the values of a datapoint lie between the ends of their rows, with shape `(rows,)`."""
        x = cells.cpu().numpy()
        return np.array([self._place(x[n], n) if k is None else float(x[n] == k) for _, n, k in self.rows])

    def at(self, vector: Array) -> dict[str, Any]:
        """The bars of a vector, with shape `(size,)`, as columns for the page: of 200 draws from p(x | z)."""
        drawn = self.space.draws(vector[None])[:, 0].cpu().numpy().astype(np.float64)
        mean = self.space.means(vector[None])[0].cpu().numpy().astype(np.float64)
        low, high = np.quantile(drawn, INTERVAL, axis=0)
        columns: dict[str, list[Any]] = {name: [] for name in ("mean", "low", "high", "text")}
        for _, n, level in self.rows:
            if level is not None or self.binary[n]:
                share = float((drawn[:, n] == level).mean()) if level is not None else float(mean[n])
                values, text = (share, share, share), f"{share:.2f}"
            else:
                values = self._place(mean[n], n), self._place(low[n], n), self._place(high[n], n)
                text = f"{_short(mean[n])}  [{_short(low[n])}, {_short(high[n])}]"
            for name, value in zip(columns, (*values, text), strict=True):
                columns[name].append(value)
        return {"name": self.names, **columns}

    def _place(self, value: float, column: int) -> float:
        return float((value - self.low[column]) / (self.high[column] - self.low[column]))


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1_000 <= abs(value) < 1e6 else f"{value:.3g}"
