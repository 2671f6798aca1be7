"""Pictures of a run: training curve, samples, reconstructions, manifold."""

__all__ = ["all_of", "curve", "manifold", "reconstruct", "sample", "without_glyphs"]

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from pyro_vae import generate
from pyro_vae.bayesian import has_random_weights
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.run.folder import replace_file
from pyro_vae.run.images import image_shape, show, show_manifold, show_samples
from pyro_vae.run.run import Run

_logger = logging.getLogger("pyro_vae")


def all_of(run: Run) -> list[Path]:
    """Draws every picture that the run has into its folder; returns their paths."""
    if run.dataset.image_shape is None:
        _logger.warning("%s is a table and has no images: the training curve alone is drawn", run.dataset.name)
        return [curve(run)]
    paths = []
    for draw in (curve, sample, reconstruct, manifold):
        with suppress(InputError):  # the manifold is for two latents, and a likelihood may have no mean
            paths.append(draw(run))
    return paths


def curve(run: Run, path: str | Path | None = None) -> Path:
    """Draws the bound of both splits over the samples seen, all of it, and its last tenfold larger where that is flat.

    Arguments:
        run: The run.
        path: The picture, `curve.png` in the run folder if omitted.

    Returns:
        The picture's path.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    first = next((row[0] for row in run.metrics if row[0] > 0), 1)
    axes.set_xscale("symlog", linthresh=first, linscale=0.3)  # so that 0 samples have a place
    _bounds(axes, run.metrics)
    decades = range(math.ceil(math.log10(first)), math.floor(math.log10(max(run.metrics[-1][0], first))) + 1)
    axes.set_xticks([0, *(10**n for n in decades)])
    for samples, *values in run.metrics:
        if not np.isfinite(values).all():
            axes.axvline(samples, color="0.5", ls=":")
            axes.annotate("not finite", (samples, 0.5), xycoords=("data", "axes fraction"), rotation=90, ha="right")
    axes.set_xlabel("training datapoints evaluated")
    axes.set_ylabel("lower bound (nats per datapoint)")
    axes.set_title(_title(run))
    figure.legend(loc="outside lower center", ncols=2)
    late = [row for row in run.metrics if 10 * row[0] >= run.metrics[-1][0] > 0]
    if len(late) > 2 and np.isfinite(late).all() and _spread(late) < _spread(run.metrics) / 4:
        inset = axes.inset_axes((0.45, 0.12, 0.52, 0.55))
        inset.set_xscale("log")
        _bounds(inset, late)
        inset.xaxis.set_minor_formatter(NullFormatter())
        inset.tick_params(labelsize="small")
    return _save(figure, path or run.path / "curve.png")


def _bounds(axes: Axes, rows: Sequence[Sequence[float]]) -> None:
    samples, _, train, test = zip(*rows, strict=True)
    axes.plot(samples, train, "o-", ms=3, color="tab:orange", label="train")
    axes.plot(samples, test, "o-", ms=3, color="tab:blue", label="test")
    axes.grid(alpha=0.3)


def _spread(rows: Sequence[Sequence[float]]) -> float:
    """The distance of the highest from the lowest bound."""
    values = [value for _, _, *bounds in rows for value in bounds if np.isfinite(value)]
    return max(values) - min(values) if values else 0.0


def sample(run: Run, number: int = 100, path: str | Path | None = None) -> Path:
    """Draws means of p(x | z) for z from the prior, as in the paper's Figure 5.

    Arguments:
        run: The run.
        number: The number of images.
        path: The picture, `samples.png` in the run folder if omitted.

    Returns:
        The picture's path.
    """
    columns = math.ceil(math.sqrt(number))
    figure, axes = _canvas(columns, math.ceil(number / columns), run)
    show_samples(axes, run, number)
    axes.set_title(f"{_title(run)}\nmeans of p(x|z), z drawn from the prior")
    return _save(figure, path or run.path / "samples.png")


def reconstruct(run: Run, number: int = 10, path: str | Path | None = None) -> Path:
    """Draws test datapoints above their reconstructions, means of p(x | z) for z from q(z | x).

    Arguments:
        run: The run.
        number: The number of datapoints, the first ones of the test split.
        path: The picture, `reconstructions.png` in the run folder if omitted.

    Returns:
        The picture's path.
    """
    with seeded(run.settings.seed, run.dataset.test.device):
        x = run.dataset.test.first(number)
        images = generate.reconstructions(run.model, run.guide, x)
    figure, axes = _canvas(len(x), 2, run)
    cells = x[:, : run.dataset.features]  # a row may have a label beside them
    height, _ = show(axes, [*cells, *images], run, len(x))
    axes.set_yticks([height * 0.25, height * 0.75], ["data", "model"])
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(f"{_title(run)}\ntest data and means of p(x|z), z drawn from q(z|x)")
    return _save(figure, path or run.path / "reconstructions.png")


def manifold(run: Run, side: int = 20, path: str | Path | None = None) -> Path:
    """Draws means of p(x | z) on a grid of two latent variables, as in the paper's Figure 4.

    Arguments:
        run: The run.
        side: The number of images along each side.
        path: The picture, `manifold.png` in the run folder if omitted.

    Returns:
        The picture's path.

    Raises:
        InputError: If the model has other latent variables, or a prior without an inverse CDF.
    """
    figure, axes = _canvas(side, side, run)
    show_manifold(axes, run, side)
    axes.set_title(f"{_title(run)}\nmeans of p(x|z) over the prior's quantiles")
    return _save(figure, path or run.path / "manifold.png")


def _title(run: Run) -> str:
    s = run.settings
    grey = "" if s.binarize == "none" else f", {s.binarize} binarisation"
    name = Path(s.data).stem.replace("$", r"\$")  # no mathematics
    weights = ", weights at their mean" if has_random_weights(run.model) else ""
    return f"{name}{grey}: {Path(s.model).stem} model, {Path(s.inference).stem}, {s.latent} latents{weights}"


def _canvas(columns: int, rows: int, run: Run) -> tuple[Figure, Axes]:
    """A figure whose one axes has room for so many images."""
    height, width, *_ = (side + 1 for side in image_shape(run))
    scale = min(8.0 / (columns * width), 8.0 / (rows * height))
    # An inch for the title, and half of one for the labels at the side.
    size = (max(5.0, columns * width * scale + 0.5), rows * height * scale + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        raise InputError(f"--out {path} is not possible: give the name of a .png file in a folder that exists")
    with without_glyphs():
        replace_file(path, lambda beside: figure.savefig(beside, dpi=150, bbox_inches="tight", format="png"))
    return path


@contextmanager
def without_glyphs() -> Iterator[None]:
    """Draws a box for what the font lacks, of the name of a file or a column, and says nothing of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        yield
