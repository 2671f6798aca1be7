"""Images of a run in the axes of a figure: datapoints, means of p(x | z), samples and manifolds."""

__all__ = ["image_shape", "show", "show_manifold", "show_samples"]

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torchvision.utils import make_grid

from pyro_vae import generate
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.run.run import Run

# Data of ink on paper, whose larger values are the darker ones.
_INK = ("digits", "emnist", "kmnist", "mnist", "omniglot", "qmnist", "usps")


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


def show(axes: Axes, images: Tensor | Sequence[Tensor], run: Run, columns: int) -> tuple[int, int]:
    """Shows images side by side, a pixel apart, ink on paper where the data are ink.

    Arguments:
        axes: Where to show them.
        images: Values in [0, 1], with shape `(size, features)`; what is missing is grey.
        run: The run.
        columns: The number of images in a row.

    Returns:
        Height and width of the whole in pixels.
    """
    height, width, *channels = image_shape(run)
    rows = torch.stack([*images]).cpu()[:, : math.prod((height, width, *channels))]
    tiles = rows.nan_to_num(0.5).clamp(0.0, 1.0).view(-1, height, width, *channels or (1,)).movedim(-1, 1)
    if run.settings.data.lower() in _INK:
        tiles = 1 - tiles
    picture = make_grid(tiles, nrow=columns, padding=1, pad_value=1.0).movedim(0, -1).numpy()
    axes.imshow(picture, extent=(0.0, picture.shape[1], picture.shape[0], 0.0), interpolation="nearest")
    return picture.shape[0], picture.shape[1]


def show_samples(axes: Axes, run: Run, number: int) -> None:
    """Shows means of p(x | z) for z from the prior, as in the paper's Figure 5."""
    with seeded(run.settings.seed, run.dataset.train.device):
        images = generate.prior_means(run.model, number)
    show(axes, images, run, math.ceil(math.sqrt(number)))
    axes.set_axis_off()


def show_manifold(axes: Axes, run: Run, side: int) -> None:
    """Shows means of p(x | z) on a grid of two latent variables, as in the paper's Figure 4.

    Raises:
        InputError: If the model has other latent variables, or a prior without an inverse CDF.
    """
    latents = generate.unit_square(run.model, side)
    (points,) = latents.values()
    height, width = show(axes, generate.at(run.model, latents), run, side)
    shown = np.unique(np.linspace(0, side - 1, min(side, 5)).round().astype(int))
    values = [f"{v:.2f}" for v in points[:side, 0][shown.tolist()].tolist()]
    axes.set_xticks((shown + 0.5) / side * width, values)
    axes.set_yticks((shown + 0.5) / side * height, values)
    axes.set_xlabel("$z_1$")
    axes.set_ylabel("$z_2$")
