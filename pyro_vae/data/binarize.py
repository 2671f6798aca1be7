"""Binary pixels of grey ones. Those that are drawn once belong to the data: they do not change with a run's seed."""

__all__ = ["binarized"]

import math
from dataclasses import replace

import torch

from pyro_vae.errors import InputError
from pyro_vae.split import Split

_SEED = 0


def binarized(split: Split, binarize: str, where: str) -> Split:
    """Returns a split with binary pixels.

    Arguments:
        split: The split.
        binarize: `none` leaves it as it is; see `pyro_vae.load_data` for the others.
        where: What the data are, for the message.

    Raises:
        InputError: If values are no grey ones, or new ones were to be drawn of cells that are missing.
    """
    if binarize == "none":
        return split
    grey = split.first()
    missing = bool(grey.isnan().any())
    if missing and binarize == "dynamic":
        raise InputError(f"--binarize dynamic is not possible where cells are missing, as in {where}: give static")
    if bool(((grey < 0) | (grey > 1)).any()):
        raise InputError(f"--binarize {binarize} needs values from 0 to 1, and {where} has others: leave it out")
    if binarize == "dynamic":
        return replace(split, dynamic=True)
    if binarize == "threshold":
        binary = (grey >= 0.5).to(torch.uint8)
    else:
        generator = torch.Generator().manual_seed(_SEED)
        binary = torch.bernoulli(grey.nan_to_num(), generator=generator).to(torch.uint8)
    return Split(torch.where(grey.isnan(), math.nan, binary) if missing else binary)
