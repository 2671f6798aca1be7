"""Scaling: what is taken off each cell and what it is divided by, from the training split alone."""

__all__ = ["scaling", "span"]

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pyro_vae.errors import InputError
from pyro_vae.split import Split

_ROWS = 4_096
# So many datapoints tell the span of the cells.
_SOME = 10_000


def scaling(train: Split, how: str, image: bool, kept: Sequence[int] = ()) -> tuple[Tensor, Tensor] | None:
    """Returns offsets and factors of the cells, of those that are there.

    Arguments:
        train: The training split.
        how: `none`; `unit` brings each cell to [0, 1], `standard` to mean 0 and standard deviation 1.
        image: Whether the cells are pixels, which are scaled alike, and not each by itself.
        kept: The numbers of cells that stay as they are.

    Returns:
        Two tensors with shape `(features,)`, or None. A cell that never changes has a factor of 1.

    Raises:
        InputError: If data are drawn anew.
    """
    if how == "none":
        return None
    if train.dynamic:
        raise InputError(f"--scale {how} does not apply to binary pixels: give --binarize none, or leave it out")
    counts, lows, highs, sums = [], [], [], []
    for x, there in _observed(train, image):
        counts.append(there.sum(0))
        lows.append(torch.where(there, x, torch.inf).amin(0))
        highs.append(torch.where(there, x, -torch.inf).amax(0))
        sums.append(x.nan_to_num().sum(0))
    count = torch.stack(counts).sum(0).clamp(min=1)
    low, high = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
    if how == "unit":
        loc, scale = low, high - low
    else:
        loc = torch.stack(sums).sum(0) / count
        squares = [torch.where(there, x - loc, 0.0).square().sum(0) for x, there in _observed(train, image)]
        scale = (torch.stack(squares).sum(0) / count).sqrt()
    still = ~(scale > 0) | ~scale.isfinite()
    loc = torch.where(loc.isfinite(), loc, 0.0)
    scale = torch.where(still, 1.0, scale)
    loc, scale = (part.to(torch.float32).expand(train.features).clone() for part in (loc, scale))
    loc[[*kept]], scale[[*kept]] = 0.0, 1.0
    return loc, scale


def span(train: Split, scaled: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """Returns the least and the largest value of each cell as networks see it, in some of the training split.

    Arguments:
        train: The training split.
        scaled: Offsets and factors of the cells.

    Returns:
        Two tensors with shape `(features,)`; None where all values are from 0 to 1.
    """
    if train.divisor > 1 and scaled is None:
        return None
    lows, highs = [], []
    for x, there in _observed(train.some(_SOME), image=False):
        lows.append(torch.where(there, x, torch.inf).amin(0))
        highs.append(torch.where(there, x, -torch.inf).amax(0))
    low, high = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
    low, high = torch.where(low <= high, low, 0.0), torch.where(low <= high, high, 0.0)
    if scaled is not None:
        low, high = ((end - scaled[0]) / scaled[1] for end in (low, high))
    rounding = 1e-6
    return None if bool((low >= -rounding).all() and (high <= 1 + rounding).all()) else (low.float(), high.float())


def _observed(split: Split, image: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The cells of a split in chunks of float64, and which of them are there; pixels in one column."""
    for values in split.values.split(_ROWS):
        x = split.read(values)[..., : split.features].double()
        x = x.reshape(-1, 1) if image else x
        yield x, ~x.isnan()
