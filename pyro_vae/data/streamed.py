"""A split that stays on the host, mapped from its file: minibatches are drawn there and copied to the device ahead."""

__all__ = ["Ahead", "Streamed", "copies_ahead"]

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pyro_vae import ranks
from pyro_vae.data.mapped import scratch
from pyro_vae.split import Split

# Rows that are put beside their label and covariates at once.
_ROWS = 4_096


def copies_ahead(device: torch.device) -> bool:
    """Whether minibatches are copied to a device: what works on the host reads them where they are."""
    return device.type != "cpu"


class Ahead:
    """The minibatch that is on its way to the device while a step works on the one before.

    Its rows are a function of the seed, the rank and the number of minibatches before it, so that a run that goes on
    draws what it would have drawn, though one was drawn that no step has seen.

    Attributes:
        count: How many minibatches have been handed out.
    """

    def __init__(self) -> None:
        self.count, self.seed = 0, torch.initial_seed()
        self._sent: Tensor | None = None
        self._stream: torch.cuda.Stream | None = None

    def go_on(self, count: int) -> None:
        """Goes on after so many minibatches."""
        self.count, self._sent = count, None

    def next(self, values: Tensor, size: int, device: torch.device) -> Tensor:
        """Returns the next minibatch on the device, and sends the one after it."""
        if self._sent is None or len(self._sent) != size:
            self._sent = self._send(values, size, device)
        batch = self._sent
        if self._stream is not None:
            now = torch.cuda.current_stream(device)
            now.wait_stream(self._stream)
            batch.record_stream(now)
        self.count += 1
        self._sent = self._send(values, size, device)
        return batch

    def _send(self, values: Tensor, size: int, device: torch.device) -> Tensor:
        draw = np.random.default_rng((self.seed, ranks.rank(), self.count))
        rows = torch.from_numpy(draw.integers(len(values), size=size))
        if device.type != "cuda":
            return values[rows].to(device)
        self._stream = self._stream or torch.cuda.Stream(device)
        with torch.cuda.stream(self._stream):
            # Pinned, so that the copy is the device's work; torch keeps the memory until the copy is done.
            pinned = torch.empty((size, *values.shape[1:]), dtype=values.dtype, pin_memory=True)
            return torch.index_select(values, 0, rows, out=pinned).to(device, non_blocking=True)


@dataclass(frozen=True)
class Streamed(Split):
    """A split whose values are mapped.

    Arguments:
        target: The device that minibatches go to.
    """

    target: torch.device | str = "cpu"
    ahead: Ahead = field(default_factory=Ahead, init=False, compare=False)

    resident: ClassVar[bool] = False

    @property
    def device(self) -> torch.device:
        """The device that what is read lies on."""
        return torch.device(self.target)

    @property
    def fed(self) -> int:
        """How many minibatches have been copied and handed out."""
        return self.ahead.count

    def go_on(self, fed: int) -> None:
        """Goes on after so many minibatches."""
        self.ahead.go_on(fed)

    def feed(self, size: int) -> Tensor:
        """Draws stored values of a minibatch, on the device."""
        if copies_ahead(self.device):
            return self.ahead.next(self.values, size, self.device)
        return self.values[torch.randint(len(self), (size,))]

    def minibatch(self, size: int, values: Tensor | None = None) -> Tensor:
        """Reads a minibatch of stored values, a new one if omitted."""
        return self.read(self.feed(size) if values is None else values)

    def read(self, values: Tensor) -> Tensor:
        """Converts stored values to float32 on the device."""
        return super().read(values.to(self.target))

    def with_columns(self, label: bool, covariates: bool) -> Split:
        """Returns the split with columns beside its cells, in a file of its own."""
        if not (beside := self._part(0, 1).with_columns(label, covariates).beside):
            return self
        parts = (
            self._part(start, start + _ROWS).with_columns(label, covariates).values.numpy()
            for start in range(0, len(self), _ROWS)
        )
        return replace(self, values=torch.from_numpy(scratch(parts, self.features + beside)), beside=beside)

    def _part(self, start: int, end: int) -> Split:
        """Some datapoints in memory, on the host."""
        host = self.values.device
        labels, covariates = (p if p is None else p[start:end].to(host) for p in (self.labels, self.covariates))
        return Split(self.values[start:end], self.divisor, labels=labels, covariates=covariates)

    def to(self, device: torch.device | str) -> "Streamed":
        """Returns the split for a device; its values stay where they are."""
        labels, covariates = (None if part is None else part.to(device) for part in (self.labels, self.covariates))
        return replace(self, labels=labels, covariates=covariates, target=device)
