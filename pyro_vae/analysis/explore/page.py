"""The explorer's page, of Bokeh's models: what is seen."""

__all__ = ["TEMPLATE", "Hand", "Page", "tell"]

from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.core.properties import Float, Int, List, String
from bokeh.document import Document
from bokeh.events import DocumentReady, MouseLeave, MouseMove, Pan, Tap
from bokeh.layouts import column, row
from bokeh.model import DataModel
from bokeh.models import Button, ColumnDataSource, CustomJS, Div, InlineStyleSheet, Select, Slider, Toggle, UIElement

from pyro_vae.analysis.explore.explorer import Explorer
from pyro_vae.analysis.explore.figures import Colouring, picture_figure, plane_figure, strip_figure
from pyro_vae.analysis.explore.pictures import Images
from pyro_vae.bayesian import has_random_weights

# Sliders that are seen at once, and how many there are at most.
_SEEN, _MOST = 20, 120
# What Bokeh's page lacks: a width for telephones; and nobody is told the page's address.
TEMPLATE = """{% block preamble %}
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="referrer" content="no-referrer">
    <link rel="icon" href="data:,">
{% endblock %}"""
_CAPTIONS = {"nearest": "nearest in the data", "path": "from A to B"}
_EMPTY: dict[str, Any] = {"x": [], "y": []}


class Hand(DataModel):
    """What browser and server say to each other."""

    wanted = List(Float, help="The browser wants the picture of a point: a growing number, then the vector.")
    answered = Int(default=0, help="How many points were answered.")
    held = List(Float, help="The server moves the held point: a growing number, then the vector.")
    said = String(default="", help="What else the browser asks for, in JSON.")


class Page:
    """Creates the models of one page.

    Arguments:
        explorer: What is explored.
        side: For a page without a server, how many pictures are along each side of the grid that it has in its place.
    """

    def __init__(self, explorer: Explorer, side: int | None = None) -> None:
        self.explorer, self.alone = explorer, side is not None
        self.hand = Hand(name="hand")
        places = explorer.places().astype(np.float32)
        points = {"x": places[:, 0], "y": places[:, 1], "c": np.full(len(places), np.nan, np.float32)}
        self.sources = {name: ColumnDataSource(dict(_EMPTY), name=name) for name in ("cloud", "ellipse", "near")}
        self.sources |= {name: ColumnDataSource(dict(_EMPTY), syncable=False) for name in ("path", "marker")}
        self.sources["points"] = ColumnDataSource(points)
        self.shown = ColumnDataSource(explorer.picture.at(explorer.start), name="shown", syncable=False)
        self.datapoint = ColumnDataSource({"name": [], "place": []})
        images = isinstance(explorer.picture, Images) and not self.alone
        self.strips = {
            name: ColumnDataSource({key: [] for key in ("image", "x", "middle", "text")})
            for name in _CAPTIONS
            if images
        }
        self.colouring = Colouring()
        columns = [] if explorer.points is None else explorer.points.columns
        self.colour = Select(
            title="colour by", name="colour", options=columns, value=next(iter(columns), ""), width=220
        )
        self.posterior = Button(label="Posterior of the datapoint", name="posterior", width=220)
        self.end = Button(label="End the explorer", name="end", width=150)
        self.told = Div(text="", disable_math=True, name="told", sizing_mode="stretch_width", min_height=38)
        self.readout = Div(text="", disable_math=True, name="readout", sizing_mode="stretch_width", syncable=False)
        self.grid = None if side is None else self._grid(side)
        if columns:
            self.recolour()

    def recolour(self) -> None:
        """Colours the data by the column that is chosen."""
        points = self.explorer.points
        if points is not None:
            codes = self.colouring.of(points.column(self.colour.value), self._classes())
            self.sources["points"].patch({"c": [(slice(0, len(codes)), codes)]})

    def fill(self, document: Document) -> None:
        """Puts the page into a document."""
        document.template = TEMPLATE
        document.title = f"{self.explorer.run.path.name}: latent space"
        space, plane = self.explorer.space, self.explorer.plane
        order = self.explorer.order if space.size > _SEEN else [*range(space.size)]
        latents = [] if self.alone else order[:_MOST]
        sliders = [self._slider(n) for n in latents]
        along = Slider(
            title="from A to B",
            start=0.0,
            end=1.0,
            step=0.01,
            value=0.0,
            disabled=True,
            syncable=False,
            name="along",
            sizing_mode="stretch_width",
        )
        arguments = {
            "plane": self._plane_figure(),
            "hand": self.hand,
            **{name: self.sources[name] for name in ("points", "marker", "path")},
            "picture": self.shown,
            "readout": self.readout,
            "along": along,
            "sliders": sliders,
            "latents": latents,
            "grid": self.grid,
            "space": {
                "names": space.names,
                "basis": plane.basis.tolist(),
                "center": plane.center.tolist(),
                "start": self.explorer.start.tolist(),
                "least": _finite(space.least),
                "most": _finite(space.most),
            },
        }
        code = files("pyro_vae.analysis.explore").joinpath("page.js").read_text(encoding="utf-8")
        document.js_on_event(DocumentReady, CustomJS(args=arguments, code=code))
        for button, what in ((self.posterior, "posterior"), (self.end, "end")):
            button.js_on_click(_calls(f"say({{do: '{what}'}})"))
        document.add_root(self._layout(arguments["plane"], sliders, along))

    def _plane_figure(self) -> Any:
        figure = plane_figure(self.explorer, self.sources, self.colouring)
        figure.name = "plane"
        moved = _calls("pointer(cb_obj)")
        moved.args = {"hand": self.hand}  # what no model refers to is in no document, and nobody hears of its changes
        for event in (MouseMove, MouseLeave, Pan, Tap):
            figure.js_on_event(event, moved)
        return figure

    def _slider(self, latent: int) -> Slider:
        space = self.explorer.space
        low, high = (float(end[latent]) for end in (space.low, space.high))
        whole = bool(space.whole[latent])
        return Slider(
            title=space.names[latent],
            start=np.floor(low) if whole else np.floor(low * 10) / 10,
            end=max(np.ceil(high), np.floor(low) + 1) if whole else np.ceil(high * 10) / 10,
            step=1 if whole else float(10.0 ** np.floor(np.log10(max(high - low, 1e-6)) - 2)),
            value=float(self.explorer.start[latent]),
            syncable=False,
            name=f"slider {space.names[latent]}",
            sizing_mode="stretch_width",
        )

    def _layout(self, plane: Any, sliders: list[Slider], along: Slider) -> UIElement:
        picture = picture_figure(self.explorer.picture, self.shown, self.datapoint)
        picture.name = "picture"
        marks = [Button(label=f"{name} is here", name=f"mark {name}", width=100) for name in "AB"]
        for n, mark in enumerate(marks):
            mark.js_on_click(_calls(f"mark({n})"))
        strips: list[UIElement] = []
        for name, source in self.strips.items():
            drawn = strip_figure(self.explorer.picture, source, _CAPTIONS[name])  # type: ignore[arg-type]
            drawn.name = f"strip {name}"
            strips += [Div(text=_CAPTIONS[name]), drawn]
        stretched: dict[str, Any] = {"sizing_mode": "stretch_width"}
        asked = [] if self.alone or self.explorer.points is None else [_wrapped([self.colour, self.posterior])]
        left = column(*asked, plane, self.readout, *([] if self.alone else [self.told]), **stretched)
        right = column(picture, _wrapped([*marks]), along, *strips, **stretched)
        heading = Div(text=self._heading(), disable_math=True, **stretched)
        parts = _wrapped([left, right], 380)
        last = [] if self.alone else [self.end]
        whole = column(heading, parts, *self._folded(sliders), *last, **stretched)
        whole.styles = {"padding": "0 10px", "box-sizing": "border-box", "max-width": "1400px"}
        return whole

    def _folded(self, sliders: list[Slider]) -> list[UIElement]:
        seen, rest = sliders[:_SEEN], sliders[_SEEN:]
        found: list[UIElement] = []
        if seen:
            found.append(_wrapped([*seen], 160))
        if rest:
            fold = _wrapped([*rest], 160)
            fold.visible = False
            toggle = Toggle(label=f"{len(rest)} more latent variables", name="more", width=220)
            toggle.js_link("active", fold, "visible")
            found += [toggle, fold]
        left_out = self.explorer.space.size - len(sliders)
        if sliders and left_out:
            found.append(Div(text=f"{left_out:,} more move with the plane alone."))
        return found

    def _heading(self) -> str:
        run, s = self.explorer.run, self.explorer.run.settings
        weights = f", {getattr(run.model, 'told', 'weights at their mean')}" if has_random_weights(run.model) else ""
        count = 0 if self.explorer.points is None else len(self.explorer.points.rows)
        data = f"{count:,} datapoints ({self.explorer.split})" if count else "the data are not here"
        names = [Path(name).stem for name in (s.data, s.model, s.inference)]
        told = f"{names[0]}: {names[1]} model, {names[2]}, {self.explorer.space.size} latents{weights}; {data}"
        side = 0 if self.grid is None else self.grid["side"]
        use = (
            f"Move the pointer over the plane: the picture is that of the nearest of {side} x {side} places that were "
            "decoded beforehand. Where the run is, pyro-vae explore moves all latent variables."
            if self.grid is not None
            else "Move the pointer over the plane: the picture follows. Click on a datapoint to choose it; click "
            "elsewhere, drag, press arrow keys or move a slider to hold a point."
        )
        return f"<h1 style='font-size:1.3em;margin:.2em 0'>{escape(run.path.name)}</h1>{escape(told)}<br>{use}"

    def _classes(self) -> tuple[str, ...]:
        return self.explorer.run.dataset.classes if self.colour.value == "label" else ()

    def _grid(self, side: int) -> dict[str, Any]:
        plane = self.explorer.plane
        found = self.explorer.grid(side)
        pixels = None
        if isinstance(self.explorer.picture, Images):
            pixels = np.stack([each["image"][0] for each in found]).reshape(-1)
        return {
            "low": plane.low.tolist(),
            "high": plane.high.tolist(),
            "side": side,
            "pixels": pixels,
            "bars": [] if pixels is not None else found,
        }


def tell(page: Page, text: str) -> None:
    """Says something to the person at a page."""
    page.told.text = escape(text)


def _finite(ends: Any) -> list[float | None]:
    """Numbers for JSON, which has no infinity."""
    return [float(end) if np.isfinite(end) else None for end in ends]


def _calls(what: str) -> CustomJS:
    """A callback in the browser; before the page is ready there is nobody to call."""
    return CustomJS(code=f"globalThis.explorer?.{what}")


def _wrapped(parts: list[UIElement], least: int | None = None) -> Any:
    """A row that breaks where the page is narrow; of columns of one width where a least one is given, in pixels."""
    made = row(*parts, sizing_mode="stretch_width")
    made.styles = {"flex-wrap": "wrap", "gap": "8px 20px"}
    if least is not None:
        columns = f"repeat(auto-fit, minmax(min(100%, {least}px), 1fr))"
        made.stylesheets = [InlineStyleSheet(css=f":host {{ display: grid; grid-template-columns: {columns}; }}")]
    return made
