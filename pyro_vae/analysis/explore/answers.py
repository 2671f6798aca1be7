"""What the explorer's server answers to its page.

The page may ask for anything that JSON has words for: what is no point and no datapoint is refused.
"""

__all__ = ["Answers"]

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from bokeh.document import Document
from torch import Tensor

from pyro_vae.analysis.explore.figures import strip
from pyro_vae.analysis.explore.page import Page, tell
from pyro_vae.analysis.explore.pictures import Bars, Images
from pyro_vae.analysis.explore.plane import ellipse
from pyro_vae.analysis.explore.points import CHANGING
from pyro_vae.analysis.explore.space import Array
from pyro_vae.errors import InputError

_REFUSED = "The page asked for what is not there: load it again."
_STEPS = 9  # pictures on a path
# Steps of bound and k-hat after which the points are coloured anew, and the pause between steps, in milliseconds.
_SHOWN, _PAUSE = 20, 60
# Before it ends, the server tells the page, in milliseconds.
_LAST = 300


class Answers:
    """Creates what listens to a page.

    Arguments:
        page: The page.
        document: The document that it is in.
        end: Ends the explorer.
    """

    def __init__(self, page: Page, document: Document, end: Callable[[], None]) -> None:
        self.page, self.document, self.end = page, document, end
        self.explorer = page.explorer
        self.picked: int | None = None
        self.serial = 0
        self.steps: Any = None
        page.hand.on_change("wanted", lambda name, old, new: self._decode(new))
        page.hand.on_change("said", lambda name, old, new: self._hear(new))
        page.colour.on_change("value", lambda name, old, new: self._colour())

    def _decode(self, wanted: Sequence[float]) -> None:
        try:
            self.page.shown.data = self.explorer.picture.at(self._vector(wanted[1:]))
        except InputError as error:
            tell(self.page, str(error))
        except (ValueError, TypeError, OverflowError):
            tell(self.page, _REFUSED)
        # The browser waits for this before it asks for another picture.
        self.page.hand.answered += 1

    def _hear(self, said: str) -> None:
        answers = {"pick": self._pick, "settled": self._settled, "path": self._path, "posterior": self._posterior}
        answers["end"] = self._ended
        try:
            words = json.loads(said)
            answers[words["do"]](words)
        except InputError as error:
            tell(self.page, str(error))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            tell(self.page, _REFUSED)

    def _pick(self, words: dict[str, Any]) -> None:
        """Holds a datapoint: it, what the guide makes of it, and those that are like it."""
        points, index = self.explorer.points, words["index"]
        if points is None or type(index) is not int or not 0 <= index < len(points.rows):
            raise ValueError(f"there is no datapoint {index}")
        self.picked = index
        self.explorer.space.at_row(row := points.row(index))
        cells = row[0, : points.split.features]
        for name in ("cloud", "ellipse"):
            self.page.sources[name].data = {"x": [], "y": []}
        if isinstance(self.explorer.picture, Bars):
            bars = self.explorer.picture
            self.page.datapoint.data = {"name": bars.names, "place": bars.places(cells)}
        self._nearest(cells, index)
        self.serial += 1
        self.page.hand.held = [float(self.serial), *points.vectors[index].astype(float).tolist()]

    def _settled(self, words: dict[str, Any]) -> None:
        """The held point has come to rest: which data is its picture like?"""
        vector = self._vector(words["z"])
        if self.explorer.points is not None:
            self._nearest(self.explorer.space.means(vector[None])[0], None)

    def _path(self, words: dict[str, Any]) -> None:
        """Pictures between two points."""
        one, other = self._vector(words["from"]), self._vector(words["to"])
        if isinstance(self.explorer.picture, Images):
            rows = self.explorer.space.means(one + np.linspace(0.0, 1.0, _STEPS)[:, None] * (other - one))
            texts = ["A", *[""] * (_STEPS - 2), "B"]
            self.page.strips["path"].data = strip(self.explorer.picture, rows, texts)

    def _posterior(self, words: dict[str, Any]) -> None:
        """Draws from the posterior of the datapoint that was picked last, beside the guide's Gaussian."""
        if self.picked is None or self.explorer.points is None:
            raise InputError("choose a datapoint first: click on one")
        picked, row = self.picked, self.explorer.points.rows[self.picked]
        tell(self.page, f"row {row}: drawing from its posterior by HMC ...")
        self.document.add_next_tick_callback(lambda: self._drawn(picked))  # so that this is read meanwhile

    def _drawn(self, picked: int) -> None:
        points, plane = self.explorer.points, self.explorer.plane
        assert points is not None
        try:
            kept, guide, acceptance = points.posterior(picked)
        except InputError as error:
            tell(self.page, str(error))
            return
        for name, places in (("cloud", plane.on(kept)), ("ellipse", ellipse(plane.on(guide)))):
            self.page.sources[name].data = {"x": places[:, 0], "y": places[:, 1]}
        ratio = float(np.median(kept.std(0) / np.maximum(guide.std(0), 1e-12)))
        whose = "the guide" if self.explorer.run.guide is not None else "a Gaussian fitted to it"
        tell(
            self.page,
            f"row {points.rows[picked]}: {len(kept)} draws of its posterior by HMC (dots; acceptance {acceptance:.2f}) "
            f"and where {whose} has 90 % (ellipse). HMC's standard deviations are {ratio:.2f} of its, at the median.",
        )

    def _nearest(self, cells: Tensor, index: int | None) -> None:
        points = self.explorer.points
        assert points is not None
        near = points.nearest(cells, index)
        places = self.explorer.places()[near]
        self.page.sources["near"].data = {"x": places[:, 0], "y": places[:, 1]}
        names = [self._named(n) for n in near]
        if isinstance(self.explorer.picture, Images):
            rows = [cells, *(points.row(n)[0, : len(cells)] for n in near)]
            texts = ["picture" if index is None else "chosen", *map(self._label, near)]
            self.page.strips["nearest"].data = strip(self.explorer.picture, torch.stack(rows), texts)
        if index is not None:
            tell(self.page, f"{self._of(index)}. Nearest in the data (circles): {', '.join(names)}")

    def _label(self, index: int) -> str:
        """A datapoint's label, its row in its file where it has none."""
        points = self.explorer.points
        assert points is not None
        label = points.table["label"][index] if "label" in points.table else None
        return str(points.rows[index] if label in (None, -1) else label)

    def _named(self, index: int) -> str:
        """A datapoint's row in its file, and its label."""
        points = self.explorer.points
        assert points is not None
        row, label = str(points.rows[index]), self._label(index)
        return row if label == row else f"{row} ({label})"

    def _of(self, index: int) -> str:
        points = self.explorer.points
        assert points is not None
        values = {name: float(points.table[name][index]) for name in CHANGING}
        known = [f"{name} {value:.2f}" for name, value in values.items() if np.isfinite(value)]
        return ", ".join([f"row {self._named(index)}", *known])

    def _colour(self) -> None:
        points = self.explorer.points
        if points is None or self.page.colour.value not in points.columns:
            return
        self.page.recolour()
        if self.page.colour.value in CHANGING and points.advance() and self.steps is None:
            self.steps = self.document.add_periodic_callback(self._step, _PAUSE)

    def _step(self) -> None:
        """Finds bound and k-hat of some more datapoints, as long as they are looked at."""
        points = self.explorer.points
        assert points is not None
        looked_at = self.page.colour.value in CHANGING
        more = looked_at and points.advance()
        if looked_at and (not more or points.done // points.together % _SHOWN == 0):
            self.page.recolour()
            tell(self.page, f"{self.page.colour.value} of {points.done:,} of {len(points.rows):,} datapoints")
        if not more:
            self.document.remove_periodic_callback(self.steps)
            self.steps = None

    def _ended(self, words: dict[str, Any]) -> None:
        tell(self.page, "The explorer has ended: close this page.")
        self.document.add_timeout_callback(self.end, _LAST)

    def _vector(self, values: Any) -> Array:
        vector = np.asarray(values, dtype=np.float64)
        if vector.shape != (self.explorer.space.size,) or not np.isfinite(vector).all() or abs(vector).max() > 1e6:
            raise ValueError("that is no point of the latent space")
        return vector
