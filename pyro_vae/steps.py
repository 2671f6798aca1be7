"""The number of the training step, for models and guides that change with it, such as one that anneals a weight."""

__all__ = ["BEYOND", "Steps", "at_step", "step"]

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from pyro_vae.errors import InputError

BEYOND = 10**9
"""The number outside of training: what rises or falls up to some step has its last value there."""

_number: ContextVar[Tensor | str | None] = ContextVar("number", default=None)


def step() -> Tensor:
    """Returns the number of the training step, for use in a model or a guide.

    `poutine.scale(scale=(pyro_vae.step() / 1000).clamp(max=1))` anneals a weight from 0.001 to 1. Compiled code follows
    it, and a resumed run goes on with it. Where nothing trains, in checks, evaluations and pictures, it is 10^9, so
    that what is annealed has reached its end.

    Returns:
        The number, an int64 scalar, 1 in the first step.

    Raises:
        InputError: If an algorithm has no such number.

    Example:
        >>> import pyro_vae
        >>> pyro_vae.step()  # where nothing trains
        tensor(1000000000)
        >>> (pyro_vae.step() / 1000).clamp(max=1)  # a weight that rises over 1,000 steps
        tensor(1.)
    """
    number = _number.get()
    if isinstance(number, str):
        raise InputError(number)
    return torch.tensor(BEYOND) if number is None else number


@contextmanager
def at_step(number: Tensor | str) -> Iterator[None]:
    """Has `step` return a number inside the block, or raise an error that says a string."""
    token = _number.set(number)
    try:
        yield
    finally:
        _number.reset(token)


class Steps(nn.Module):
    """Counts the steps of a learner, as a tensor that compiled code writes into.

    Arguments:
        device: The device of the counter.
    """

    done: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("done", torch.zeros((), dtype=torch.int64, device=device))

    @contextmanager
    def during(self, ends: bool = True) -> Iterator[None]:
        """Makes the number of the step known inside the block.

        Arguments:
            ends: Whether the step ends with it, so that the next one has another number.
        """
        with at_step(self.done + 1):
            yield
        if ends:
            self.done.add_(1)
