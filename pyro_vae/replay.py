"""On a GPU, many cycles of updates from one CUDA graph: the host launches them all at once."""

__all__ = ["Cycled", "Replay", "capture"]

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

_logger = logging.getLogger("pyro_vae")


class Cycled(Protocol):
    """What can be recorded of a learner."""

    loss: Tensor

    def step(self) -> int:
        """Performs one cycle of updates and returns its cost in datapoint evaluations."""


class Replay:
    """Repeats recorded cycles of a learner.

    Arguments:
        learner: The learner. Its `loss` is where the record leaves it.
        launch: Runs the record.
        cycles: The number of cycles in it.
        cost: What they cost in datapoint evaluations.
        losses: Where the record leaves the sum of their losses.
    """

    def __init__(self, learner: Cycled, launch: Callable[[], object], cycles: int, cost: int, losses: Tensor) -> None:
        self.learner, self.launch, self.cycles, self.cost, self.losses = learner, launch, cycles, cost, losses
        self.loss = learner.loss

    def __call__(self) -> int:
        """Runs the cycles and returns their cost."""
        self.launch()
        self.learner.loss = self.loss
        return self.cost


def capture(learner: Cycled, cycles: int) -> Replay | None:
    """Records cycles of a learner whose steps are compiled, without performing them.

    Arguments:
        learner: The learner.
        cycles: The number of cycles.

    Returns:
        The record; None where a step does what cannot be recorded, with a line of log.
    """
    graph = torch.cuda.CUDAGraph()
    cost, losses = 0, torch.zeros_like(learner.loss)
    try:
        with torch.cuda.graph(graph):
            for _ in range(cycles):
                cost += learner.step()
                losses = losses + learner.loss
    except RuntimeError as error:
        _logger.warning("steps are launched one by one: %s", " ".join(str(error).split())[:200])
        return None
    return Replay(learner, graph.replay, cycles, cost, losses)
