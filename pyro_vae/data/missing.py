"""Cells that are missing, which are not-a-number."""

__all__ = ["any_missing", "first_values"]

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyro_vae.data.mapped import chunks
from pyro_vae.data.source import Part
from pyro_vae.errors import InputError
from pyro_vae.split import Split

# Datapoints that are looked at at once.
_ROWS = 4_096


def any_missing(parts: Sequence[Part], names: tuple[str, ...] | None, where: str) -> bool:
    """Whether cells are missing.

    Arguments:
        parts: The training split, and the test split.
        names: The names of the cells, for the message.
        where: What the data are, for the message.

    Raises:
        InputError: If one is missing in all of the training split: it can be learnt by nobody.
    """
    found = False
    for n, part in enumerate(parts):
        if part.values.dtype.kind != "f":
            continue
        never = np.ones(part.values.shape[1], dtype=bool)
        for x in chunks(part.values):
            absent = np.isnan(x)
            never &= absent.all(0)
            found = found or bool(absent.any())
        if n == 0 and never.any():
            column = names[never.argmax()] if names else never.argmax() + 1
            raise InputError(f"{where} has no value in column {column} of its training split: leave the column out")
    return found


def first_values(train: Split) -> Tensor:
    """Returns the first value of each cell that is there in the training split, with shape `(features,)`."""
    found = train.values.new_full((train.features,), math.nan, dtype=torch.float32)
    for values in train.values.split(_ROWS):
        x = train.read(values)
        first = x.gather(0, (~x.isnan()).int().argmax(0).unsqueeze(0))[0]
        found = torch.where(found.isnan(), first, found)
        if not found.isnan().any():
            break
    return found
