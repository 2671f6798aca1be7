"""A part of a data set on its device, from which minibatches are drawn."""

__all__ = ["Split"]

from dataclasses import dataclass, replace
from typing import ClassVar

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
        values: The values, with shape `(datapoints, features)`, as bytes, as counts or as float32. A cell that is
            missing is not-a-number.
        divisor: What the values are divided by when they are read.
        dynamic: Whether each reading draws new binary pixels with the values as probabilities.
        whole: The number of datapoints on all ranks, where this is one rank's part (see `pyro_vae.ranks`).
        labels: The number of the class of each datapoint, -1 where it is not known, with shape `(datapoints,)`.
        covariates: What else is known of each datapoint, float32 with shape `(datapoints, covariates)`.
        beside: How many of the last columns of the values are no cells, but what `with_columns` put there: a label and
            covariates, which are read as they are.

    Example:
        >>> import torch
        >>> from pyro_vae.split import Split
        >>> split = Split(torch.randint(256, (100, 6), dtype=torch.uint8), divisor=256)
        >>> split.minibatch(10).shape
        torch.Size([10, 6])
    """

    values: Tensor
    divisor: int = 1
    dynamic: bool = False
    whole: int | None = None
    labels: Tensor | None = None
    covariates: Tensor | None = None
    beside: int = 0

    resident: ClassVar[bool] = True
    """Whether the values lie on the device, so that a step draws from them there."""

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

    @property
    def features(self) -> int:
        """The number of cells of a datapoint."""
        return self.values.shape[1] - self.beside

    def read(self, values: Tensor) -> Tensor:
        """Converts stored values to float32, with the divisor taken out of them."""
        rows = values.to(torch.float32)
        cells = rows[..., : self.features] if self.beside else rows
        x = cells / self.divisor
        x = torch.bernoulli(x) if self.dynamic else x
        return torch.cat((x, rows[..., self.features :]), dim=-1) if self.beside else x

    def with_columns(self, label: bool, covariates: bool) -> "Split":
        """Returns the split with the label and the covariates, as asked for, in columns beside its cells."""
        columns = [part for part, wanted in ((self.labels, label), (self.covariates, covariates)) if wanted]
        given = [part.unsqueeze(1) if part.dim() == 1 else part for part in columns if part is not None]
        if not given:
            return self
        # Bytes cannot say -1, which an unknown label is.
        small = all(not part.is_floating_point() and bool((part < 2**15).all()) for part in given)
        kind = torch.promote_types(self.values.dtype, torch.int16) if small else torch.float32
        values = torch.cat([part.to(kind) for part in (self.values, *given)], dim=1)
        return replace(self, values=values, beside=values.shape[1] - self.features)

    @property
    def fed(self) -> int:
        """How many minibatches have been drawn ahead of the steps; see `pyro_vae.data.streamed`."""
        return 0

    def go_on(self, fed: int) -> None:
        """Goes on after so many of them."""

    def feed(self, size: int) -> Tensor:
        """Returns stored values for `minibatch`, which a traced function has as an input: all, to draw from them."""
        return self.values

    def minibatch(self, size: int, values: Tensor | None = None) -> Tensor:
        """Draws datapoints with replacement, as the author's code does, with shape `(size, features)`.

        Arguments:
            size: The number of datapoints.
            values: What `feed` returned for this size, anew if omitted.
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
        return self._taken(chosen.sort().values, size)

    def divided(self) -> "Split":
        """Returns this rank's part; the split itself where there is one rank."""
        if ranks.count() == 1:
            return self
        own = self.rows(slice(ranks.rank(), None, ranks.count()))
        values = own.values.clone() if self.resident else own.values  # so that the rest of them is given up
        return replace(own, values=values, whole=_divisible(len(self)))

    def _own(self, size: int) -> int:
        """How many of the first datapoints are here."""
        return size if self.whole is None else len(ranks.mine(size))

    def _taken(self, rows: slice | Tensor, size: int) -> "Split":
        return replace(self.rows(rows), whole=None if self.whole is None else _divisible(size))

    def rows(self, rows: slice | Tensor) -> "Split":
        """Returns the split of some of the datapoints, by number."""

        def taken(part: Tensor) -> Tensor:
            return part[rows.to(part.device) if isinstance(rows, Tensor) else rows]

        labels, covariates = (None if part is None else taken(part) for part in (self.labels, self.covariates))
        return replace(self, values=taken(self.values), labels=labels, covariates=covariates)

    def to(self, device: torch.device | str) -> "Split":
        """Returns the split on a device."""
        labels, covariates = (None if part is None else part.to(device) for part in (self.labels, self.covariates))
        return replace(self, values=self.values.to(device), labels=labels, covariates=covariates)


def _divisible(size: int) -> int:
    if size < ranks.count():
        raise InputError(f"{size} datapoints do not divide among {ranks.count()} ranks: start fewer")
    return size
