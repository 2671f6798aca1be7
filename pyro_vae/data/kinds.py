"""Kinds of cells: what the numbers of a column of a table are."""

__all__ = ["KINDS", "kinds_of", "parsed"]

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_vae.errors import InputError
from pyro_vae.split import Split

KINDS = ("real", "positive", "count", "binary", "category")


def parsed(text: str | None) -> dict[str, str]:
    """Reads `age:real,sex:category` into kinds by name.

    Raises:
        InputError: If it is not so.
    """
    kinds = {}
    for pair in filter(None, (text or "").split(",")):
        name, colon, kind = pair.rpartition(":")
        if not colon or kind not in KINDS:
            raise InputError(f"--kinds {pair} is not possible: give COLUMN:KIND, the kinds being {', '.join(KINDS)}")
        kinds[name] = kind
    return kinds


def kinds_of(
    splits: Sequence[Split], names: Sequence[str] | None, told: Mapping[str, str], scaled: bool, where: str
) -> tuple[str, ...]:
    """Tells the kind of each cell: what the user says, else `binary`, `count` or `real` by its values.

    Arguments:
        splits: The training and the test split.
        names: The names of the cells; their numbers from 1 if omitted.
        told: Kinds by name.
        scaled: Whether cells that nothing is said of are scaled, and so are `real`.
        where: What the data are, for the message.

    Returns:
        The kinds; that of categories says how many there are, `category:3`.

    Raises:
        InputError: If there is no cell of a name, or its values are not of the kind.
    """
    names = names or [str(n + 1) for n in range(splits[0].features)]
    for name in told:
        if name not in names:
            raise InputError(f"--kinds {name} is not a column of cells of {where}: it has {', '.join(names[:20])}")
    whole, low, high = _whole(splits)
    kinds = []
    for name, is_whole, least, most in zip(names, whole.tolist(), low.tolist(), high.tolist(), strict=True):
        counted = is_whole and least >= 0
        kind = told.get(name) or ("real" if scaled or not counted else "binary" if most <= 1 else "count")
        fits = {"count": counted, "category": counted, "binary": counted and most <= 1, "positive": least > 0}
        if not fits.get(kind, True):
            raise InputError(f"--kinds {name}:{kind} does not fit its values, {least:g} to {most:g}: choose another")
        kinds.append(f"category:{int(most) + 1}" if kind == "category" else kind)
    return tuple(kinds)


def _whole(splits: Sequence[Split]) -> tuple[Tensor, Tensor, Tensor]:
    """Whether all values of a cell are whole, the least of them, and the largest."""
    found = []
    for split in splits:
        x = split.read(split.values)[:, : split.features]
        there = ~x.isnan()
        found.append(
            (
                (~there | (x == x.round())).all(0),
                torch.where(there, x, torch.inf).amin(0),
                torch.where(there, x, -torch.inf).amax(0),
            )
        )
    whole, low, high = (torch.stack(part) for part in zip(*found, strict=True))
    return whole.all(0), low.amin(0), high.amax(0)
