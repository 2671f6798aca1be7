"""Pictures of a run: each is a matplotlib figure, which a notebook shows, and which is saved where that is asked."""

__all__ = [
    "all_of",
    "analogies",
    "curve",
    "drawn",
    "interpolate",
    "latent",
    "manifold",
    "reconstruct",
    "sample",
    "save",
    "traverse",
    "without_glyphs",
]

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pyro_vae import generate
from pyro_vae.analysis.curves import show_curve
from pyro_vae.analysis.drawn import draw
from pyro_vae.analysis.marginals import show_marginals
from pyro_vae.analysis.scatter import means, show_latent, symbol
from pyro_vae.bayesian import has_random_weights
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.run.folder import replace_file
from pyro_vae.run.images import Picture, gap, image_shape, show, show_manifold, show_samples
from pyro_vae.run.run import Run
from pyro_vae.split import Split

_KINDS = (".png", ".svg", ".pdf")
# Datapoints in a scatter plot; without a guide each of them needs a Gaussian of its own.
_SHOWN, _FITTED = 5_000, 500
# Datapoints that tell which latent variables are used, and the share of the prior between the ends of a traversal.
_LOOKED_AT, _ENDS = 500, (0.025, 0.975)
# Of the prior's variance; a latent variable whose posterior means vary less is idle (Burda et al., 2016).
_USED = 0.01

# An image has no more inches to a side.
_LARGEST = 1.5

Place = str | Path | None


def all_of(run: Run) -> list[Path]:
    """Draws every picture that the run has into its folder; returns their paths."""
    pictures: dict[str, Callable[..., Figure]] = {
        "curve": curve,
        "samples": sample,
        "reconstructions": reconstruct,
        "manifold": manifold,
        "latent": latent,
    }
    paths = []
    for name, draws in pictures.items():
        with suppress(InputError):  # the manifold is for two latents, and a likelihood may have no mean
            draws(run, path=(path := run.path / f"{name}.png"))
            paths.append(path)
    return paths


def curve(run: Run, path: Place = None) -> Figure:
    """Draws the bound of both splits over the samples seen, all of it, and its last tenfold larger where that is flat.

    Arguments:
        run: The run.
        path: Where to save it: a `.png`, `.svg` or `.pdf` file. The same holds for all pictures.

    Returns:
        The figure.
    """
    figure = Picture(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    show_curve(axes, run.metrics)
    axes.set_title(_title(run))
    figure.legend(loc="outside lower center", ncols=2)
    return save(figure, path)


def sample(run: Run, number: int = 100, path: Place = None, z: Sequence[Sequence[float]] = ()) -> Figure:
    """Draws what the model makes of draws from the prior: images as in the paper's Figure 5, of tables the columns.

    Arguments:
        run: The run.
        number: The number of images or rows.
        path: Where to save it.
        z: Latent variables to take in place of draws from the prior, all of them for each image. A table has `number`
            rows of each.

    Returns:
        The figure: means of p(x | z), or the columns of draws from p(x | z) beside those of the data.
    """
    told = "z drawn from the prior" if not z else "z given"
    if run.dataset.image_shape is None:
        table = drawn(run, number, z)
        columns_of = Picture(layout="constrained")
        shown = show_marginals(columns_of, run.dataset, table)
        more = "" if shown == len(table.columns) else f", the first {shown} of {len(table.columns)} columns"
        columns_of.suptitle(f"{_title(run)}\n{len(table):,} draws from p(x|z), {told}{more}", size=11)
        return save(columns_of, path)
    count = len(z) or number
    columns = math.ceil(math.sqrt(count)) if count > 10 else count
    figure, axes = _canvas(columns, math.ceil(count / columns), run)
    if z:
        show(axes, generate.at(run.model, _given(run, z)), run, columns)
        axes.set_axis_off()
    else:
        show_samples(axes, run, count)
    axes.set_title(f"{_title(run)}\nmeans of p(x|z), {told}")
    return save(figure, path)


def drawn(run: Run, number: int, z: Sequence[Sequence[float]] = ()) -> pd.DataFrame:
    """Draws datapoints from the model, `number` at each z that is given; see `pyro_vae.analysis.drawn.draw`."""
    return draw(run.model, run.dataset, number, run.settings.seed, _given(run, z) if z else None)


def reconstruct(run: Run, number: int = 10, path: Place = None, index: Sequence[int] = ()) -> Figure:
    """Draws test datapoints above their reconstructions, means of p(x | z) for z from q(z | x).

    Arguments:
        run: The run.
        number: The number of datapoints, the first ones of the test split.
        path: Where to save it.
        index: The numbers of the datapoints that are shown instead, from 0.

    Returns:
        The figure.
    """
    image_shape(run)
    with seeded(run.settings.seed, run.dataset.test.device):
        x = _picked(run, index).first() if index else run.dataset.test.first(number)
        images = generate.reconstructions(run.model, run.guide, x)
    figure, axes = _canvas(len(x), 2, run)
    cells = x[:, : run.dataset.features]  # a row may have a label beside them
    height, _ = show(axes, [*cells, *images], run, len(x))
    _named_rows(axes, ["data", "model"], height)
    axes.set_title(f"{_title(run)}\ntest data and means of p(x|z), z drawn from q(z|x)")
    return save(figure, path)


def manifold(run: Run, side: int | None = None, path: Place = None) -> Figure:
    """Draws means of p(x | z) on a grid of two latent variables, as in the paper's Figure 4.

    Arguments:
        run: The run.
        side: The number of images along each side: 20 if omitted, 12 where they are of few pixels.
        path: Where to save it.

    Returns:
        The figure.

    Raises:
        InputError: If the model has other latent variables, or a prior without an inverse CDF.
    """
    side = side or _side(run)
    figure, axes = _canvas(side, side, run)
    show_manifold(axes, run, side)
    axes.set_title(f"{_title(run)}\nmeans of p(x|z) over the prior's quantiles")
    return save(figure, path)


def latent(run: Run, split: str = "test", path: Place = None) -> Figure:
    """Draws where the data lie in the latent space, by label, and beside them the manifold, where there is one.

    Arguments:
        run: The run.
        split: `train` or `test`; of many datapoints a fixed random choice is shown.
        path: Where to save it.

    Returns:
        The figure: means of q(z | x), of more than two latent variables their first two principal components.
    """
    figure = Picture(figsize=(12.4, 6.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    try:
        show_manifold(left, run, _side(run))
        left.set_title("means of p(x|z) over the prior's quantiles", size="medium")
    except InputError:  # other than two latent variables, no images, ...
        figure.clear()
        figure.set_size_inches(6.6, 6.8)
        right = figure.subplots()
    points = getattr(run.dataset, split).some(_FITTED if run.guide is None else _SHOWN)
    right.set_title(f"{show_latent(right, run, points)}, of {len(points):,} {split} datapoints", size="medium")
    figure.suptitle(_title(run))
    return save(figure, path)


def traverse(run: Run, number: int = 10, path: Place = None, index: int | None = None, steps: int = 11) -> Figure:
    """Draws what each latent variable does: a row each, in which it alone goes through the prior's middle 95 %.

    Arguments:
        run: The run.
        number: The most latent variables that are shown: those whose posterior means vary by more than 1 % of the
            prior's variance between datapoints, the most varied first.
        path: Where to save it.
        index: The test datapoint whose posterior means the others have; the prior's medians if omitted.
        steps: The number of images in a row.

    Returns:
        The figure.
    """
    image_shape(run)
    device = run.dataset.train.device
    with seeded(run.settings.seed, device):
        shares = torch.linspace(*_ENDS, steps)
        quantiles = generate.prior_quantiles(run.model, torch.cat([shares, torch.tensor([0.5])]))
    table, _ = means(run, run.dataset.test.some(_FITTED if run.guide is None else _LOOKED_AT))
    used = torch.tensor(table.var().to_numpy(), device=quantiles.device) / quantiles.var(0)
    rows = used.argsort(descending=True)[: max(1, min(number, int((used > _USED).sum())))]
    start = quantiles[-1] if index is None else _codes(run, [index])[0]
    z = start.repeat(len(rows) * steps, 1)
    for n, row in enumerate(rows):
        z[n * steps : (n + 1) * steps, row] = quantiles[:-1, row]
    figure, axes = _canvas(steps, len(rows), run)
    height, width = show(axes, generate.at(run.model, generate.by_site(run.model, z)), run, steps)
    _named_rows(axes, [symbol(table.columns[row]) for row in rows.tolist()], height)
    axes.set_xticks([width * (n + 0.5) / steps for n in (0, steps // 2, steps - 1)], ["2.5 %", "median", "97.5 %"])
    axes.tick_params(axis="x", length=0)
    others = "the prior's medians" if index is None else f"those of test datapoint {index}"
    axes.set_title(f"{_title(run)}\none latent variable over the prior's quantiles, the others {others}")
    return save(figure, path)


def interpolate(run: Run, start: int, end: int, path: Place = None, steps: int = 11) -> Figure:
    """Draws the straight path in the latent space from one test datapoint to another.

    Arguments:
        run: The run.
        start: The number of the one in the test split, from 0.
        end: That of the other.
        path: Where to save it.
        steps: The number of images on the path.

    Returns:
        The figure: the two datapoints at its ends, and between them means of p(x | z) from the one's posterior mean to
        the other's.
    """
    image_shape(run)
    ends = _picked(run, [start, end]).first()[:, : run.dataset.features]
    codes = _codes(run, [start, end])
    z = torch.lerp(codes[:1], codes[1:], torch.linspace(0, 1, steps, device=codes.device).unsqueeze(1))
    images = generate.at(run.model, generate.by_site(run.model, z))
    figure, axes = _canvas(steps + 2, 1, run)
    _, width = show(axes, [ends[0], *images, ends[1]], run, steps + 2)
    axes.set_xticks([width * (n + 0.5) / (steps + 2) for n in (0, steps + 1)], [f"datum {start}", f"datum {end}"])
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(f"{_title(run)}\nmeans of p(x|z) between two test datapoints, z on a straight line")
    return save(figure, path)


def analogies(run: Run, number: int = 10, path: Place = None) -> Figure:
    """Draws test datapoints above means of p(x | z, label), with z from the guide and each of the classes, row by row.

    Arguments:
        run: The run, of a model that takes a label.
        number: The number of datapoints, the first ones of the test split.
        path: Where to save it.

    Returns:
        The figure.

    Raises:
        InputError: If the model takes no label.
    """
    image_shape(run)
    classes = run.dataset.classes
    if not classes:
        raise InputError(f"{run.path} has data without classes, of which there are no analogies: train with a label")
    with seeded(run.settings.seed, run.dataset.test.device):
        x = run.dataset.test.first(number)
        images = generate.analogies(run.model, run.guide, x, len(classes))
    figure, axes = _canvas(len(x), 1 + len(classes), run)
    cells = x[:, : run.dataset.features]  # a row has a label beside them
    height, _ = show(axes, [*cells, *images.flatten(0, 1)], run, len(x))
    _named_rows(axes, ["data", *classes], height)
    axes.set_title(f"{_title(run)}\ntest data, and means of p(x|z, label) with their z")
    return save(figure, path)


def _given(run: Run, z: Sequence[Sequence[float]]) -> dict[str, Tensor]:
    """Latent variables that a user gives, by site."""
    if len(set(map(len, z))) != 1:
        raise InputError("every z needs as many numbers: give all latent variables of each")
    return generate.by_site(run.model, torch.tensor(z, dtype=torch.float32, device=run.dataset.train.device))


def _picked(run: Run, index: Sequence[int]) -> Split:
    """Test datapoints by their numbers."""
    test = run.dataset.test
    for n in index:
        if not 0 <= n < len(test):
            raise InputError(f"datapoint {n} is not there: the test split has {len(test):,}, from 0 on")
    return test.rows(torch.tensor(index, device=test.device))


def _codes(run: Run, index: Sequence[int]) -> Tensor:
    """The posterior means of test datapoints, in the order of the model's sites."""
    table, _ = means(run, _picked(run, index))
    return torch.tensor(table.to_numpy(), dtype=torch.float32, device=run.dataset.train.device)


def _side(run: Run) -> int:
    return 20 if gap(run) == 1 else 12


def _named_rows(axes: Axes, names: Sequence[str], height: int) -> None:
    axes.set_yticks([height * (n + 0.5) / len(names) for n in range(len(names))], names)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)


def _title(run: Run) -> str:
    s = run.settings
    grey = "" if s.binarize == "none" else f", {s.binarize} binarisation"
    name = Path(s.data).stem.replace("$", r"\$")  # no mathematics
    weights = f", {getattr(run.model, 'told', 'weights at their mean')}" if has_random_weights(run.model) else ""
    return f"{name}{grey}: {Path(s.model).stem} model, {Path(s.inference).stem}, {s.latent} latents{weights}"


def _canvas(columns: int, rows: int, run: Run) -> tuple[Figure, Axes]:
    """A figure whose one axes has room for so many images."""
    height, width, *_ = (side + gap(run) for side in image_shape(run))
    scale = min(8.0 / (columns * width), 8.0 / (rows * height), _LARGEST / max(width, height))
    # An inch for the title, and half of one for the labels at the side.
    size = (max(5.0, columns * width * scale + 0.5), rows * height * scale + 1.0)
    figure = Picture(figsize=size, layout="constrained")
    return figure, figure.subplots()


def save(figure: Figure, path: Place) -> Figure:
    """Saves a figure where that is asked, by the ending of the name; returns the figure."""
    if path is None:
        return figure
    path = Path(path)
    if path.suffix.lower() not in _KINDS or not path.parent.is_dir():
        raise InputError(
            f"--out {path} is not possible: give the name of a .png, .svg or .pdf file in a folder that exists"
        )
    kind = path.suffix.lower()[1:]
    with without_glyphs():
        replace_file(path, lambda beside: figure.savefig(beside, dpi=150, bbox_inches="tight", format=kind))
    return figure


@contextmanager
def without_glyphs() -> Iterator[None]:
    """Draws a box for what the font lacks, of the name of a file or a column, and says nothing of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        yield
