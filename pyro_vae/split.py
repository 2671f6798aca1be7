"""A part of a data set on its device, from which minibatches are drawn."""

__all__ = ["Split"]

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_vae import ranks
from pyro_vae.errors import InputError

# The choice of `some` belongs to the data: it must not change with the seed of a run.
_SEED = 0


@dataclass(frozen=True)
class Split:
    """A part of a data set on its device.

    Arguments:
        values: The values, with shape `(datapoints, features)`, as bytes or as float32 in [0, 1].
        divisor: What the values are divided by when they are read.
        dynamic: Whether each reading draws new binary pixels with the values as probabilities.
        whole: The number of datapoints on all ranks, where this is one rank's part (see `pyro_vae.ranks`).
    """

    values: Tensor
    divisor: int = 1
    dynamic: bool = False
    whole: int | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def total(self) -> int:
        """The number of datapoints, those of other ranks among them."""
        return len(self) if self.whole is None else self.whole

    @property
    def weight(self) -> float:
        """How much a draw counts in a sum over ranks, which draw alike from parts that may differ by a datapoint."""
        return 1.0 if self.whole is None else len(self) * ranks.count() / self.whole

    @property
    def device(self) -> torch.device:
        """The device that holds the values."""
        return self.values.device

    def read(self, values: Tensor) -> Tensor:
        """Converts stored values, float32 in [0, 1] afterwards."""
        x = values.to(torch.float32) / self.divisor
        return torch.bernoulli(x) if self.dynamic else x

    def minibatch(self, size: int, values: Tensor | None = None) -> Tensor:
        """Draws datapoints with replacement, as the author's code does, with shape `(size, features)`.

        Arguments:
            size: The number of datapoints.
            values: What to draw from, the split's own values if omitted. A traced function has them as an input.
        """
        values = self.values if values is None else values
        return self.read(values[torch.randint(len(self), (size,), device=self.device)])

    def first(self, size: int | None = None) -> Tensor:
        """Reads the first datapoints, all of them by default, with shape `(size, features)`."""
        return self.read(self.values[:size])

    def head(self, size: int | None) -> "Split":
        """Returns the split of the first datapoints."""
        return self if size is None or size >= self.total else self._taken(slice(self._own(size)), size)

    def some(self, size: int) -> "Split":
        """Returns the split of a fixed random choice of datapoints, all where there are no more than size."""
        if self.total <= size:
            return self
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(_SEED))[: self._own(size)]
        return self._taken(chosen.sort().values.to(self.device), size)

    def divided(self) -> "Split":
        """Returns this rank's part; the split itself where there is one rank."""
        if ranks.count() == 1:
            return self
        own = slice(ranks.rank(), None, ranks.count())
        return replace(self, values=self.values[own].clone(), whole=_divisible(len(self)))

    def _own(self, size: int) -> int:
        """How many of the first datapoints are here."""
        return size if self.whole is None else len(ranks.mine(size))

    def _taken(self, rows: slice | Tensor, size: int) -> "Split":
        return replace(self, values=self.values[rows], whole=None if self.whole is None else _divisible(size))


def _divisible(size: int) -> int:
    if size < ranks.count():
        raise InputError(f"{size} datapoints do not divide among {ranks.count()} ranks: start fewer")
    return size
