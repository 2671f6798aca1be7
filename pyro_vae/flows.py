"""Normalising flows of zuko's as Pyro distributions."""

__all__ = ["Flow"]

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.contrib.zuko import ZukoToPyro
from torch import Size, Tensor
from torch.distributions import constraints


class Flow(ZukoToPyro):
    """Wraps a flow, as Pyro's bridge does, and adds what that lacks.

    HMC asks for the support, mixtures for draws by `sample` and for densities at values of other batch shapes.

    Arguments:
        dist: What a flow of `zuko.flows` returns when it is called.
    """

    support = constraints.real_vector
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}  # its parameters are the networks'

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws with shape `(*sample_shape, *batch_shape, features)`; gradients reach the networks."""
        return self(Size(sample_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        """Returns the log density, in nats; the batch shapes of x and of the flow are broadcast."""
        shape = torch.broadcast_shapes(x.shape, self.batch_shape + self.event_shape)
        return super().log_prob(x if x.shape == shape else x.expand(shape))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Flow":
        """Returns the flow with another batch shape."""
        return Flow(self.dist.expand(Size(batch_shape)))
