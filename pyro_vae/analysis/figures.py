"""Pictures of a run: training curve, samples, reconstructions, manifold."""

__all__ = ["all_of", "curve", "manifold", "reconstruct", "sample", "show_manifold", "show_samples"]

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from pyro_vae import generate
from pyro_vae.bayesian import BayesianModel
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.run.folder import replace_file
from pyro_vae.run.train import Run


def all_of(run: Run) -> list[Path]:
    """Draws every picture that the run has into its folder; returns their paths."""
    paths = []
    for draw in (curve, sample, reconstruct, manifold):
        with suppress(InputError):  # the manifold is for two latents, and a likelihood may have no mean
            paths.append(draw(run))
    return paths


def curve(run: Run, path: Path | None = None) -> Path:
    """Draws the bound of both splits over the samples seen, with the axes of the paper's Figure 2.

    Arguments:
        run: The run.
        path: The picture, `curve.png` in the run folder if omitted.

    Returns:
        The picture's path.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    samples, _, train, test = zip(*run.metrics, strict=True)
    # The warm-up and the first steps lie hundreds of nats below the rest: the axes begin half-way to the end.
    half = (test[0] + test[-1]) / 2
    shown = [n for n, value in zip(samples, test, strict=True) if value >= half and n > 0] or samples[1:]
    low = min(value for n, *values in zip(samples, train, test, strict=True) if n in shown for value in values)
    margin = 0.05 * (max(*train, *test) - low)
    axes.plot(samples, train, "o-", ms=3, color="tab:red", label="train")
    axes.plot(samples, test, "o-", ms=3, color="tab:blue", label="test")
    axes.set_xscale("log")
    axes.set_xlim(0.9 * shown[0], 1.1 * shown[-1])
    axes.set_ylim(low - margin, max(*train, *test) + margin)
    axes.set_xlabel("training datapoints evaluated")
    axes.set_ylabel("lower bound (nats per datapoint)")
    axes.set_title(_title(run))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return _save(figure, path or run.path / "curve.png")


def sample(run: Run, number: int = 100, path: Path | None = None) -> Path:
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


def show_samples(axes: Axes, run: Run, number: int) -> None:
    """Draws what `sample` draws into given axes."""
    with seeded(run.settings.seed, run.dataset.train.device):
        images = generate.prior_means(run.model, number)
    _show(axes, images, run, math.ceil(math.sqrt(number)))
    axes.set_axis_off()


def reconstruct(run: Run, number: int = 10, path: Path | None = None) -> Path:
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
    height, _ = _show(axes, [*x, *images], run, len(x))
    axes.set_yticks([height * 0.25, height * 0.75], ["data", "model"])
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(f"{_title(run)}\ntest data and means of p(x|z), z drawn from q(z|x)")
    return _save(figure, path or run.path / "reconstructions.png")


def manifold(run: Run, side: int = 20, path: Path | None = None) -> Path:
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


def show_manifold(axes: Axes, run: Run, side: int) -> None:
    """Draws what `manifold` draws into given axes."""
    latents = generate.unit_square(run.model, side)
    (points,) = latents.values()
    height, width = _show(axes, generate.at(run.model, latents), run, side)
    shown = np.unique(np.linspace(0, side - 1, min(side, 5)).round().astype(int))
    values = [f"{v:.2f}" for v in points[:side, 0][shown.tolist()].tolist()]
    axes.set_xticks((shown + 0.5) / side * width, values)
    axes.set_yticks((shown + 0.5) / side * height, values)
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")


def _title(run: Run) -> str:
    s = run.settings
    grey = "" if s.binarize == "none" else f", {s.binarize} binarisation"
    name = Path(s.data).stem.replace("$", r"\$")  # no mathematics
    weights = ", weights at their mean" if isinstance(run.model, BayesianModel) else ""
    return f"{name}{grey}: {Path(s.model).stem} model, {Path(s.inference).stem}, {s.latent} latents{weights}"


def _canvas(columns: int, rows: int, run: Run) -> tuple[Figure, Axes]:
    """A figure whose one axes has room for so many images."""
    height, width, *_ = _image_shape(run)
    scale = min(8.0 / (columns * width), 8.0 / (rows * height))
    # An inch for the title, and half of one for the labels at the side.
    size = (max(5.0, columns * width * scale + 0.5), rows * height * scale + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _show(axes: Axes, images: Tensor | Sequence[Tensor], run: Run, columns: int) -> tuple[int, int]:
    """Shows images side by side with a thin line between them; returns the height and width of the whole."""
    shape = _image_shape(run)
    zoom = max(1, 32 // max(shape[:2]))  # so that the line is thin beside a small image too
    height, width = (zoom * side for side in shape[:2])
    colours = shape[2:]
    rows = math.ceil(len(images) / columns)
    tiles: NDArray[np.float32] = np.ones((rows, columns, height + 1, width + 1, *colours), dtype=np.float32)
    for n, image in enumerate(images):
        pixels = image[: math.prod(shape)].cpu().numpy().reshape(shape)  # a row may have a label beside them
        tiles[n // columns, n % columns, :height, :width] = pixels.repeat(zoom, 0).repeat(zoom, 1)
    picture = tiles.swapaxes(1, 2).reshape(rows * (height + 1), columns * (width + 1), *colours)[:-1, :-1]
    picture = picture.clip(0.0, 1.0) if colours else picture
    extent = (0.0, picture.shape[1], picture.shape[0], 0.0)
    axes.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, extent=extent, interpolation="nearest")
    return picture.shape[0], picture.shape[1]


def _image_shape(run: Run) -> tuple[int, ...]:
    shape = run.dataset.image_shape
    if shape is None:
        raise InputError(
            f"a picture needs images, and {run.dataset.name} is a table: draw curve, encode, or analyze it"
        )
    return shape


def _save(figure: Figure, path: Path) -> Path:
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        raise InputError(f"--out {path} is not possible: give the name of a .png file in a folder that exists")
    replace_file(path, lambda beside: figure.savefig(beside, dpi=150, bbox_inches="tight", format="png"))
    return path
