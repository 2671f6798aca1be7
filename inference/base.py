"""What algorithms have in common that learn by one update a step."""

__all__ = ["MinibatchLearner"]

from typing import Any

from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.kl_warmup import KLWarmup
from pyro_vae.split import Split
from pyro_vae.steps import Steps
from pyro_vae.update import Update


class MinibatchLearner:
    """The steps and the state of a learner that has one update, of a loss on a minibatch.

    Attributes:
        data: The training data.
        update: The update; its loss takes what `Split.feed` returns, is a sum over this rank's share, and comes with
            `loss` below.
        batch: The number of datapoints in a minibatch.
        rows: How many of them are this rank's.
        warmup_of_kl: What weighs the terms of latent variables, None where nothing does.
        steps: What counts the steps for `pyro_vae.step`, None where nothing does.
        loss: The last minibatch's negative objective in nats per datapoint, a scalar on the device.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.inference.aevb import AEVB
        >>> from pyro_vae.inference.base import MinibatchLearner
        >>> issubclass(AEVB, MinibatchLearner)  # CONTRIBUTING shows one from start to end
        True
    """

    data: Split
    update: Update
    batch: int
    rows: int
    loss: Tensor
    steps: Steps | None = None
    warmup_of_kl: KLWarmup | None = None

    @property
    def settled(self) -> bool:
        """Whether a step is compiled by now, so that it can be recorded."""
        return self.update.settled

    @property
    def warmup(self) -> int:
        """The first datapoint evaluations, in which the optimiser moves nothing."""
        return self.update.warmup * self.batch

    def step(self) -> int:
        """Performs one update on a new minibatch.

        Returns:
            Its cost in datapoint evaluations, the size of the minibatch.
        """
        _, self.loss = self.update(self.data.feed(ranks.share(self.batch)))
        return self.batch

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the learner's next step depends on, besides its modules and data."""
        return {
            "update": self.update.state_dict(),
            "generators": ranks.generator_state(self.data.device),
            **{name: counter.state_dict() for name, counter in self._counters().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Sets what `state_dict` returned."""
        self.update.load_state_dict(state["update"])
        ranks.set_generator_state(state["generators"], self.data.device)
        for name, counter in self._counters().items():
            if name in state:  # older checkpoints have none
                counter.load_state_dict(state[name])

    def _counters(self) -> dict[str, nn.Module]:
        counters = {"steps": self.steps, "kl_warmup": self.warmup_of_kl}
        return {name: counter for name, counter in counters.items() if counter is not None}
