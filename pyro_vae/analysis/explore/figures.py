"""The explorer's figures: the plane with the data, the picture of a point, and a strip of pictures."""

__all__ = ["Colouring", "Plot", "picture_figure", "plane_figure", "strip", "strip_figure"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColorBar,
    ColumnDataSource,
    FactorRange,
    FixedTicker,
    LinearColorMapper,
    Range1d,
)
from bokeh.palettes import TolRainbow, Viridis256
from bokeh.plotting import figure
from torch import Tensor

from pyro_vae.analysis.explore.explorer import Explorer
from pyro_vae.analysis.explore.pictures import Bars, Images
from pyro_vae.analysis.explore.space import Array

Plot = Any  # Bokeh's figure is a function to its users and a class to a type checker

_GREY, _INK, _MARK = "#b0b0b0", "#222222", "#d6006d"
_ACROSS = 9  # pictures in a strip
# More classes than this have no colours that can be told apart.
_CLASSES = 23


def plane_figure(explorer: Explorer, sources: dict[str, ColumnDataSource], colouring: "Colouring") -> Plot:
    """Draws the plane: the data, and above them what moves, which is painted without them.

    Arguments:
        explorer: What is explored.
        sources: What lies on the plane, by name, each with columns `x` and `y`.
        colouring: The colours of the data.
    """
    plane = explorer.plane
    plot = figure(
        x_range=Range1d(plane.low[0], plane.high[0]),
        y_range=Range1d(plane.low[1], plane.high[1]),
        x_axis_label=plane.labels[0],
        y_axis_label=plane.labels[1],
        aspect_ratio=1.08,
        sizing_mode="scale_width",
        tools="pan,wheel_zoom,box_zoom,reset,save",
        active_drag=None,
        active_scroll=None,
        output_backend="webgl",
        html_attributes={"tabindex": "0", "aria-label": "the plane of latent variables: arrow keys move the point"},
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    count = len(sources["points"].data["x"])
    size = 7 if count <= 1_000 else 4 if count <= 10_000 else 3
    fill = {"field": "c", "transform": colouring.mapper}
    plot.scatter("x", "y", source=sources["points"], size=size, fill_color=fill, line_color=None, fill_alpha=0.75)
    plot.scatter(
        "x", "y", source=sources["cloud"], size=4, fill_color=_INK, fill_alpha=0.5, line_color=None, level="overlay"
    )
    plot.line("x", "y", source=sources["ellipse"], color=_MARK, line_width=2, level="overlay")
    plot.line("x", "y", source=sources["path"], color=_INK, line_width=2, line_dash="dashed", level="overlay")
    plot.scatter("x", "y", source=sources["path"], size=9, marker="square", color=_INK, level="overlay")
    plot.scatter(
        "x", "y", source=sources["near"], size=10, fill_alpha=0.0, line_color=_INK, line_width=1.5, level="overlay"
    )
    plot.scatter(
        "x", "y", source=sources["marker"], size=16, marker="circle_cross", color=_MARK, line_width=2.5,
        fill_alpha=0.0, level="overlay",
    )  # fmt: skip
    if count:
        plot.add_layout(colouring.bar, "right")
    return plot


class Colouring:
    """Colours points by a column: classes by colours that differ, numbers from dark to light."""

    def __init__(self) -> None:
        self.mapper = LinearColorMapper(palette=[_GREY], low=0.0, high=1.0, nan_color=_GREY)
        self.bar = ColorBar(color_mapper=self.mapper, width=12, label_standoff=6, title="")

    def of(self, values: Array, classes: Sequence[str]) -> Array:
        """Chooses the colours of a column, and returns it as numbers for them.

        Arguments:
            values: The column: numbers, or texts of classes, None where there is none.
            classes: The classes in their order; in that of the alphabet if omitted.
        """
        numbers = values.dtype.kind in "iu"
        if values.dtype.kind == "O" or (numbers and len(np.unique(values)) <= _CLASSES):
            known = [*classes] or sorted({value for value in values.tolist() if value not in (None, -1)})
            at = {name: float(n) for n, name in enumerate(known)}
            codes = np.array([at.get(value, np.nan) for value in values.tolist()], dtype=np.float32)
            if len(known) <= _CLASSES:
                palette = TolRainbow[max(3, len(known))][: len(known)]
                ticks = {n: str(name) for n, name in enumerate(known)}
                self._set(palette, -0.5, len(known) - 0.5, ticks)
                return codes
        else:
            codes = values.astype(np.float32)
        there = codes[np.isfinite(codes)]
        low, high = np.quantile(there, [0.01, 0.99]).tolist() if len(there) else (0.0, 1.0)
        self._set(Viridis256, low, high if high > low else low + 1.0, None)
        return codes

    def _set(self, palette: Sequence[str], low: float, high: float, ticks: dict[int, str] | None) -> None:
        self.mapper.update(palette=[*palette], low=low, high=high)
        self.bar.ticker = BasicTicker() if ticks is None else FixedTicker(ticks=[*ticks])
        self.bar.major_label_overrides = {} if ticks is None else {n: name[:20] for n, name in ticks.items()}


def picture_figure(picture: Images | Bars, source: ColumnDataSource, datapoint: ColumnDataSource) -> Plot:
    """Draws the picture of a point.

    Arguments:
        picture: Images or bars.
        source: What `picture.at` returns.
        datapoint: For bars, columns `name` and `place` of the datapoint beside them.
    """
    if isinstance(picture, Images):
        height, width = picture.shape[:2]
        plot = figure(
            x_range=Range1d(0, width),
            y_range=Range1d(0, height),
            aspect_ratio=width / height,
            sizing_mode="scale_width",
            max_width=300,
            toolbar_location=None,
            min_border=0,
            outline_line_color=None,
        )
        plot.image_rgba("image", source=source, x=0, y=0, dw=width, dh=height)
        plot.axis.visible = plot.grid.visible = False
        return plot
    names = picture.names
    left_out = f"; {picture.left_out:,} columns that move less left out" if picture.left_out else ""
    plot = figure(
        x_range=Range1d(-0.25, 2.7),
        y_range=FactorRange(*reversed(names)),
        height=60 + 24 * len(names),
        sizing_mode="stretch_width",
        toolbar_location=None,
        x_axis_label="share of the data's range" + left_out,
    )
    plot.hbar("name", left=0.0, right="mean", height=0.6, source=source, color="#7fb2d9")
    plot.segment("low", "name", "high", "name", source=source, color=_INK, line_width=2)
    plot.scatter("place", "name", source=datapoint, size=9, marker="diamond", color=_MARK)
    plot.text(
        1.25,
        "name",
        "text",
        source=source,
        text_font_size="10px",
        text_baseline="middle",
        background_fill_color="white",
    )
    plot.xaxis.ticker = FixedTicker(ticks=[0.0, 0.5, 1.0])
    plot.grid.visible = False
    return plot


def strip_figure(picture: Images, source: ColumnDataSource, what: str) -> Plot:
    """Draws a row of pictures with a word below each.

    Arguments:
        picture: The images.
        source: What `strip` returns.
        what: What is seen, for those who do not see it.
    """
    height, width = picture.shape[:2]
    gap, foot = 0.15 * width, 0.5 * height
    plot = figure(
        x_range=Range1d(-gap, _ACROSS * (width + gap)),
        y_range=Range1d(-foot, height),
        aspect_ratio=_ACROSS * (width + gap) / (height + foot),
        sizing_mode="scale_width",
        max_width=700,
        toolbar_location=None,
        min_border=0,
        outline_line_color=None,
        html_attributes={"aria-label": what},
    )
    plot.image_rgba("image", source=source, x="x", y=0, dw=width, dh=height)
    plot.text(
        "middle", 0, "text", source=source, text_align="center", text_baseline="top", text_font_size="11px", y_offset=2
    )
    plot.axis.visible = plot.grid.visible = False
    return plot


def strip(picture: Images, rows: Tensor, texts: Sequence[str]) -> dict[str, Any]:
    """Returns the columns of a strip of pictures.

    Arguments:
        picture: The images.
        rows: Their values, with shape `(some, features)`.
        texts: The word below each.
    """
    width = picture.shape[1]
    x = [n * 1.15 * width for n in range(len(rows))]
    return {"image": [*picture.pixels(rows)], "x": x, "middle": [left + width / 2 for left in x], "text": [*texts]}
