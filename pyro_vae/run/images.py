"""Images of a run in the axes of a figure: datapoints, means of p(x | z), samples and manifolds."""

__all__ = ["Picture", "gap", "image_shape", "sampled", "show", "show_manifold", "show_samples"]

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from pyro_vae import generate
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.run.run import Run

# Images with fewer pixels to a side fill them, and stand further apart.
_FEW = 16
_ROWS = 1_000


class Picture(Figure):
    """A figure that a notebook shows, also where pyplot, which would see to that, has not been imported."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
        return buffer.getvalue()


def image_shape(run: Run) -> tuple[int, ...]:
    """Returns height, width and, of coloured images, channels of a run's datapoints.

    Raises:
        InputError: If they are no images.
    """
    shape = run.dataset.image_shape
    if shape is None:
        raise InputError(
            f"a picture needs images, and {run.dataset.name} is a table: draw curve, encode, or analyze it"
        )
    return shape


def gap(run: Run) -> int:
    """Returns how many pixels the images of a run stand apart."""
    return 2 if min(image_shape(run)[:2]) < _FEW else 1


def show(axes: Axes, images: Tensor | Sequence[Tensor], run: Run, columns: int) -> tuple[int, int]:
    """Shows images side by side, ink on paper where the data are ink.

    Arguments:
        axes: Where to show them.
        images: Values with shape `(size, features)`, of which [0, 1] is shown, and more where the data go further, as
            counts do; what is missing is grey.
        run: The run.
        columns: The number of images in a row.

    Returns:
        Height and width of the whole in pixels.
    """
    picture = _tiled(images, run, columns)
    axes.imshow(picture, extent=(0.0, picture.shape[1], picture.shape[0], 0.0), interpolation="nearest")
    return picture.shape[0], picture.shape[1]


def sampled(run: Run, side: int = 6) -> NDArray[np.float32] | None:
    """Returns a square of means of p(x | z), z from the prior, as a picture of three channels in [0, 1].

    None where the data are no images, or the likelihood has no mean.
    """
    try:
        with seeded(run.settings.seed, run.dataset.train.device):
            return _tiled(generate.prior_means(run.model, side**2), run, side)
    except InputError:
        return None


def _tiled(images: Tensor | Sequence[Tensor], run: Run, columns: int) -> NDArray[np.float32]:
    """Images side by side."""
    height, width, *channels = image_shape(run)
    rows = torch.stack([*images]).cpu()[:, : math.prod((height, width, *channels))]
    low, high = _range(run)
    values = ((rows - low) / (high - low)).nan_to_num(0.5).clamp(0.0, 1.0)
    tiles = values.view(-1, height, width, *channels or (1,))[..., :3].numpy()
    down, right = height + gap(run), width + gap(run)
    lines = math.ceil(len(tiles) / columns)
    picture = np.ones((lines * down + gap(run), min(columns, len(tiles)) * right + gap(run), 3), dtype=np.float32)
    for n, tile in enumerate(tiles):
        top, left = gap(run) + n // columns * down, gap(run) + n % columns * right
        picture[top : top + height, left : left + width] = 1 - tile if run.dataset.ink else tile
    return picture


def _range(run: Run) -> tuple[float, float]:
    """The values that are black and white: 0 and 1, unless more than a few of the data lie beyond."""
    if not len(run.dataset.train):  # the data are no longer there
        return 0.0, 1.0
    x = run.dataset.train.first(_ROWS)[:, : run.dataset.features].nan_to_num(0.0)
    low, high = np.quantile(x.cpu().numpy(), [0.005, 0.995])
    return min(0.0, float(low)), max(1.0, float(high))


def show_samples(axes: Axes, run: Run, number: int) -> None:
    """Shows means of p(x | z) for z from the prior, as in the paper's Figure 5."""
    with seeded(run.settings.seed, run.dataset.train.device):
        images = generate.prior_means(run.model, number)
    show(axes, images, run, math.ceil(math.sqrt(number)))
    axes.set_axis_off()


def show_manifold(axes: Axes, run: Run, side: int) -> None:
    """Shows means of p(x | z) on a grid of two latent variables, the second one upwards, as in the paper's Figure 4.

    Raises:
        InputError: If the model has other latent variables, or a prior without an inverse CDF.
    """
    latents = generate.unit_square(run.model, side)
    (points,) = latents.values()
    height, width = show(axes, generate.at(run.model, latents), run, side)
    middles = (np.arange(side) + 0.5) / side
    columns, rows = points[:side, 0].cpu().numpy(), points[::side, 1].flip(0).cpu().numpy()
    for axis, values, places in ((axes.xaxis, columns, middles * width), (axes.yaxis, rows, (1 - middles) * height)):
        # Equal steps are steps of equal probability: round values stand between them.
        ticks = [
            tick
            for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(*values[[0, -1]])
            if values[0] <= tick <= values[-1]
        ]
        axis.set_ticks(np.interp(ticks, values, places), [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")
