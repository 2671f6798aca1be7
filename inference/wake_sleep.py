r"""The wake-sleep algorithm, the paper's first baseline (Section 5; Hinton et al., 1995).

Wake: the model follows the gradient of :math:`\log p_\theta(x, z)` at :math:`z \sim q_\phi(z | x)`. Sleep: the guide
follows that of :math:`\log q_\phi(z | x)` on dreams :math:`(x, z)` from the model just updated. The two have
optimisers of their own, and each step of both counts as one pass over its minibatch, as in the paper.

With several particles it becomes reweighted wake-sleep (Bornschein & Bengio, 2015): the wake phase weighs them by
:math:`p(x, z_k) / q(z_k | x)`, normalised, and the guide may learn from the data as well (*wake-phi*).

Discrete sites of the guide are drawn, which no gradient goes through here; those of the model alone are summed out of
the wake phase and dreamt in the other.
"""

__all__ = ["WakeSleep"]

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.checks import check_pair, require_no_globals
from pyro_vae.enumerated import replayed
from pyro_vae.errors import Count, InputError, Range
from pyro_vae.plates import look, nesting, particle_plate
from pyro_vae.schedules import step_sizes
from pyro_vae.sites import joint_log_prob, sample_sites
from pyro_vae.split import Split
from pyro_vae.steps import Steps
from pyro_vae.update import Update


class WakeSleep:
    """Creates a learner that trains a model and its guide in turn.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        data: The training data.
        batch: The number of datapoints, and of dreams, in a minibatch.
        step_size: The global step size of both optimisers.
        optimizer: `adagrad`, the paper's, or the name of one in `torch.optim`.
        particles: The number of draws per datapoint in the wake phase, 1 in the paper.
        insomnia: The share of wake-phi in the guide's updates, 0 in the paper; above 0 it takes several particles.
        weight_prior: The standard deviation of the prior on the weights; `inf` is no prior.
        schedule: A class of `torch.optim.lr_scheduler` that the step size follows, by name; see `pyro_vae.schedules`.
        schedule_options: Its arguments.
        samples: The budget in datapoint evaluations, which a schedule is laid out over.
        compile: Whether both phases are traced and compiled.

    Attributes:
        loss: The last minibatch's negative bound in nats per datapoint, a scalar on the device.

    Raises:
        InputError: If model and guide do not fit each other or the data.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.inference.wake_sleep import WakeSleep
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits", train_size=200)
        >>> model, guide = BernoulliModel(data.features, 2, hidden=8), GaussianGuide(data.features, 2, hidden=8)
        >>> learner = WakeSleep(model, guide, data.train)
        >>> learner.step()  # datapoint evaluations
        100
    """

    runs_on_ranks = True

    guide_defaults: ClassVar[dict[str, Any]] = {"log_variance_factor": 0.1}
    """What the author's wake-sleep gives its recognition model, and his AEVB does not: without it the first dreams,
    which are all alike, drive the variance of q far off before the model has learnt anything."""

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        data: Split,
        *,
        batch: Count = 100,
        step_size: Annotated[float, Range(above=0)] = 0.02,
        optimizer: str = "adagrad",
        particles: Count = 1,
        insomnia: Annotated[float, Range(0, 1)] = 0.0,
        weight_prior: Annotated[float, Range(above=0, finite=False)] = 1.0,
        schedule: str | None = None,
        schedule_options: Mapping[str, Any] | None = None,
        samples: int | None = None,
        compile: bool = False,
    ) -> None:
        if not 0 <= insomnia <= 1 or (insomnia > 0 and particles == 1):
            raise InputError(f"insomnia {insomnia} must lie in [0, 1], and needs --particles above 1")
        self.rows = ranks.share(batch)
        x = data.first(self.rows)
        require_no_globals("wake_sleep", model, x)
        self.latent = [*check_pair(model, guide, x)]
        self.nesting = nesting(x, model, guide)
        self.summed = bool(look(model, x).countable - {*self.latent})
        self.model, self.guide, self.data = model, guide, data
        self.batch, self.particles, self.insomnia = batch, particles, insomnia
        self.steps = Steps(data.device)
        self.wake, self.sleep = (
            Update(
                loss,
                (model, guide, self.steps),
                (trained,),
                optimizer=optimizer,
                step_size=step_size,
                share=batch / data.total,
                weight_prior=weight_prior,
                compile=compile,
                schedule=step_sizes(schedule, schedule_options, samples and math.ceil(samples / batch)),
            )
            for loss, trained in ((self._wake, model), (self._sleep, guide))
        )
        self.loss = torch.zeros((), device=data.device)
        ranks.draw_apart()

    @property
    def settled(self) -> bool:
        """Whether both phases are compiled by now, so that a step can be recorded."""
        return self.wake.settled and self.sleep.settled

    @property
    def warmup(self) -> int:
        """The first datapoint evaluations, in which the optimisers move nothing."""
        return self.wake.warmup * self.batch

    def step(self) -> int:
        """Performs one wake and one sleep phase.

        Returns:
            Their cost in datapoint evaluations, the size of the minibatch.
        """
        _, self.loss, *recognised = self.wake(self.data.feed(self.rows))
        self.sleep(*recognised)
        return self.batch

    def _wake(self, values: Tensor) -> tuple[Tensor, ...]:
        """The model's loss on a minibatch, the negative bound, and what `_sleep` takes."""
        with self.steps.during(ends=False):  # both phases are one step
            return self._model_loss(values)

    def _sleep(self, x: Tensor, weights: Tensor, *recognised: Tensor) -> tuple[Tensor]:
        """The guide's loss on dreams of the model as it is now, and on what was recognised."""
        with self.steps.during():
            return self._guide_loss(x, weights, *recognised)

    def _model_loss(self, values: Tensor) -> tuple[Tensor, ...]:
        x = self.data.minibatch(self.rows, values)
        with particle_plate(self.particles, self.nesting), torch.no_grad():
            recognised = poutine.trace(self.guide).get_trace(x)
        if self.summed:
            log_p = replayed(self.model, self.guide, recognised, x, self.particles).log_p(scaled=True)
        else:
            with particle_plate(self.particles, self.nesting):
                modelled = poutine.trace(poutine.replay(self.model, trace=recognised)).get_trace(x)
                log_p = joint_log_prob(modelled, scaled=True)
        log_w = (log_p.detach() - joint_log_prob(recognised, scaled=True)).view(self.particles, -1)
        weights = log_w.softmax(0)
        sites = sample_sites(recognised)
        loss = -(weights * log_p.view_as(weights)).sum() * self.data.weight
        return loss, -log_w.mean(), x, weights, *(sites[name]["value"] for name in self.latent)

    def _guide_loss(self, x: Tensor, weights: Tensor, *recognised: Tensor) -> tuple[Tensor]:
        beside = x[:, self.data.features :]  # a dream has the label and the covariates of a datapoint
        given = {"beside": beside} if self.data.beside else {}
        with torch.no_grad():
            dream = sample_sites(poutine.trace(self.model).get_trace(None, size=self.rows, **given))
        seen = torch.cat((dream["x"]["value"], beside), dim=1) if given else dream["x"]["value"]
        dreamt = [dream[name]["value"] for name in self.latent]
        loss = (self.insomnia - 1) * self._log_q(seen, dreamt).sum()
        if self.insomnia:
            with particle_plate(self.particles, self.nesting):
                loss = loss - self.insomnia * self.data.weight * (weights * self._log_q(x, recognised)).sum()
        return (loss,)

    def _log_q(self, x: Tensor, latent: Sequence[Tensor]) -> Tensor:
        """The guide's log density of latent variables, given x."""
        values = dict(zip(self.latent, latent, strict=True))
        return joint_log_prob(poutine.trace(poutine.condition(self.guide, values)).get_trace(x), scaled=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the learner's next step depends on, besides its modules and data."""
        return {
            "wake": self.wake.state_dict(),
            "sleep": self.sleep.state_dict(),
            "generators": ranks.generator_state(self.data.device),
            "steps": self.steps.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Sets what `state_dict` returned."""
        self.wake.load_state_dict(state["wake"])
        self.sleep.load_state_dict(state["sleep"])
        ranks.set_generator_state(state["generators"], self.data.device)
        if "steps" in state:  # older checkpoints have none
            self.steps.load_state_dict(state["steps"])
