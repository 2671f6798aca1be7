r"""KL annealing: the weight of the terms of latent variables rises from 0 to 1 (Bowman et al., 2016, Section 3.1).

.. math:: \mathcal{L}_w(x) = E_{q(z | x)} [\log p(x | z) + w (\log p(z) - \log q(z | x))], \quad w = \min(1, n / W)

after n of W datapoint evaluations. It is a weight of training's: what is evaluated is the bound.
"""

__all__ = ["KLWarmup"]

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn


class KLWarmup(nn.Module):
    """Counts datapoint evaluations, and weighs the terms of latent sites by them.

    Arguments:
        samples: The datapoint evaluations after which the weight is 1; with None or 0 of them it always is.
        device: The device of the counter.
    """

    seen: Tensor

    def __init__(self, samples: float | None, device: torch.device) -> None:
        super().__init__()
        self.samples = samples or 0
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64, device=device))

    @contextmanager
    def during(self, evaluations: int) -> Iterator[None]:
        """Weighs the terms of a step inside the block, and counts its datapoint evaluations."""
        if not self.samples:
            yield
            return
        with _Weighing((self.seen / self.samples).clamp(max=1.0)):
            yield
        self.seen.add_(evaluations)


class _Weighing(Messenger):
    """Weighs what is drawn, in a guide and in its model; what is observed, and factors, keep their weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"]:
            scale = msg["scale"]
            # Enumeration wants one scale of all sites: without another, it is the same tensor.
            msg["scale"] = self.weight if isinstance(scale, int | float) and scale == 1 else scale * self.weight
