"""Which values are possible, the likelihood says: its support is held against the data."""

__all__ = ["Offence", "first_offence", "likelihood"]

from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae.device import seeded
from pyro_vae.sites import evaluation_mode, innermost, isolated, sample_sites
from pyro_vae.split import Split

# Cells that are looked at at once, 16 MB of them.
_CELLS = 2**22


class Offence(NamedTuple):
    """A value that a likelihood does not allow.

    Arguments:
        support: What the likelihood allows, in words.
        row: The number of the datapoint in its split, from 0.
        column: The number of the cell, None where cells cannot be told apart.
        value: The value.
    """

    support: str
    row: int
    column: int | None
    value: float


@torch.no_grad()
def likelihood(model: nn.Module, split: Split) -> Any:
    """Returns the distribution of the observed site `"x"` for one datapoint, which broadcasts over others.

    None of a model that cannot be run, or has no such site: for these, `check_pair` has the words.
    """
    try:
        with seeded(0, split.device), isolated(), evaluation_mode(model):
            return sample_sites(poutine.trace(model).get_trace(split.first(1)))["x"]["fn"]
    except Exception:
        return None


@torch.no_grad()
def first_offence(model: nn.Module, split: Split) -> Offence | None:
    """Looks for a value that the observed site `"x"` of a model does not allow.

    Grey values from 0 to 1 pass under a Bernoulli, as in the paper, though they are no values of it.

    Arguments:
        model: The generative model, called with what the split reads.
        split: The datapoints, all of which are looked at.

    Returns:
        The first such value, or None.
    """
    distribution = likelihood(model, split)
    if distribution is None:
        return None
    support = distribution.support
    grey = isinstance(innermost(distribution), dist.Bernoulli)
    rows = max(1, _CELLS // split.values.shape[1])
    with seeded(0, split.device):  # what is drawn anew at every reading is drawn aside
        for start, values in enumerate(split.values.split(rows)):
            x = split.read(values)[..., : split.features]
            allowed = (x >= 0) & (x <= 1) if grey else _by_cell(support, x)
            allowed = allowed | (x.isnan() if allowed.dim() == x.dim() else x.isnan().any(-1))
            if not allowed.all():
                first = (~allowed).nonzero()[0].tolist()
                row, column = first[0], first[1] if len(first) > 1 else None
                value = x[row, column].item() if column is not None else float("nan")
                words = "numbers from 0 to 1" if grey else _in_words(support)
                return Offence(words, start * rows + row, column, value)
        return None


def _by_cell(support: Any, x: Tensor) -> Tensor:
    """Which cells are allowed, or which datapoints, where a support does not tell its cells apart."""
    base = getattr(support, "base_constraint", None)
    if base is not None and base.event_dim == 0:
        return base.check(x)
    return support.check(x)


def _in_words(support: Any) -> str:
    base = getattr(support, "base_constraint", support)
    if hasattr(base, "scaled"):
        return f"{_in_words(base.scaled)}, once scaled"
    known: dict[Any, str] = {
        constraints.real: "real numbers",
        constraints.boolean: "0 and 1",
        constraints.nonnegative_integer: "whole numbers from 0 on",
        constraints.unit_interval: "numbers from 0 to 1",
        constraints.positive: "numbers above 0",
        constraints.nonnegative: "numbers from 0 on",
    }
    if base in known:
        return known[base]
    bounds = [getattr(base, name, None) for name in ("lower_bound", "upper_bound")]
    if all(bound is not None for bound in bounds):
        low, high = (torch.as_tensor(bound).float().flatten()[0].item() for bound in bounds)
        return f"{'whole numbers' if base.is_discrete else 'numbers'} from {low:g} to {high:g}"
    return str(base).strip("<>()").replace("_", " ").lstrip()
