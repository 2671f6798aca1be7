r"""Monte Carlo EM, the paper's second baseline (Section 5, Appendix E): no recognition model.

Every datapoint has a Markov chain on its posterior :math:`p_\theta(z | x)` that persists while the model learns. An
iteration moves all chains by one HMC transition of 10 leapfrog steps, with a step size tuned to 90 % acceptance, and
then updates the weights five times by the gradient of :math:`\sum_i \log p_\theta(x_i, z_i) + \log p(\theta)` at the
draws. It is no online algorithm: every iteration visits all N datapoints 10 + 5 times, and costs 15 N evaluations.
The points of the paper's Figure 3 lie on multiples of 15 N.
"""

__all__ = ["MCEM"]

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.checks import check_pair, require_no_globals
from pyro_vae.errors import Count, InputError, Range, require_whole
from pyro_vae.hmc import HMC
from pyro_vae.log_joint import LogJoint
from pyro_vae.schedules import step_sizes
from pyro_vae.sites import isolated
from pyro_vae.split import Split
from pyro_vae.steps import at_step
from pyro_vae.update import Update

# Datapoints that go through the networks at once.
_ROWS = 10_000

_NO_STEP = "mcem has no pyro_vae.step(), its chains are of one posterior: leave it out of the model, or train by aevb"


class MCEM:
    """Creates a learner that trains a model without a guide.

    Arguments:
        model: The generative model.
        guide: None: there is no recognition model.
        data: The training data.
        step_size: The global step size of the weight updates.
        optimizer: `adagrad`, the paper's with its shorter warm-up here, or the name of one in `torch.optim`.
        leapfrogs: The number of leapfrog steps in a transition.
        updates: The number of weight updates after it.
        block: How many datapoints an iteration visits. All of them, N, is the paper's algorithm. Fewer, in turn, is
            **our own variant**: the paper's claim that MCEM is slow at N = 50,000 is about the algorithm, not about it.
        shared_step: Whether all chains share one leapfrog step size, as in the author's code, or tune their own.
        weight_prior: The standard deviation of the prior on the weights; `inf` is no prior.
        schedule: A class of `torch.optim.lr_scheduler` that the step size follows, by name; see `pyro_vae.schedules`.
        schedule_options: Its arguments.
        samples: The budget in datapoint evaluations, which a schedule is laid out over.
        compile: Whether leapfrogs and weight updates are traced and compiled.

    Attributes:
        loss: The last update's negative :math:`\\log p(x, z)` in nats per datapoint, a scalar on the device.
        acceptance: The last transition's mean acceptance probability, a scalar on the device.

    Raises:
        InputError: If the model does not fit the data, or the data change from reading to reading.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.inference.mcem import MCEM
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits", train_size=200)
        >>> model = BernoulliModel(data.features, 2, hidden=8)
        >>> learner = MCEM(model, None, data.train)
        >>> learner.step()  # datapoint evaluations
        3000
    """

    uses_guide, runs_on_ranks = False, True
    weighs_terms = False
    """Chains draw from p(z|x), and weights on terms would make another density of it: each term counts once."""
    untraced = ("next",)
    """It changes from step to step, and neither the loss nor the potential reads it."""

    def __init__(
        self,
        model: nn.Module,
        guide: None,
        data: Split,
        *,
        step_size: Annotated[float, Range(above=0)] = 0.1,
        optimizer: str = "adagrad",
        leapfrogs: Count = 10,
        updates: Count = 5,
        block: Count | None = None,
        shared_step: bool = True,
        weight_prior: Annotated[float, Range(above=0, finite=False)] = 1.0,
        schedule: str | None = None,
        schedule_options: Mapping[str, Any] | None = None,
        samples: int | None = None,
        compile: bool = False,
    ) -> None:
        if data.dynamic:
            raise InputError("mcem needs data that stay as they are: give --binarize static, threshold or none")
        self.block = data.total if block is None else block
        require_whole("leapfrogs", leapfrogs)
        require_whole("updates", updates)
        require_whole("block", self.block)
        if self.block > data.total:
            raise InputError(f"block {self.block} is more than the {data.total} training datapoints: lower it")
        if self.block < 2 * ranks.count() and ranks.count() > 1:
            raise InputError(f"block {self.block} leaves ranks without a datapoint: give at least {2 * ranks.count()}")
        aside = torch.random.fork_rng([data.device] if data.device.type == "cuda" else [])
        with aside, at_step(_NO_STEP):
            require_no_globals("mcem", model, data.first(100))
            check_pair(model, None, data.first(100))  # what it draws depends on how many datapoints are here
        self.model, self.guide, self.data = model, guide, data
        self.leapfrogs, self.updates, self.shared_step = leapfrogs, updates, shared_step
        self.next = 0
        cost = (leapfrogs + updates) * self.block
        self.update = Update(
            self._loss,
            (model,),
            (model,),
            optimizer=optimizer,
            step_size=step_size,
            share=self.block / data.total,
            weight_prior=weight_prior,
            warmup=10,
            compile=compile,
            schedule=step_sizes(schedule, schedule_options, samples and updates * math.ceil(samples / cost)),
        )
        with isolated():
            self.log_joint = LogJoint(model, data.first(1), compile)
            # Draws from the prior look at the shape of the data alone.
            blank = data.read(data.values[:1])
            starts = [
                self.log_joint.on(blank.expand(len(rows), -1)).start(chains=1)[:, self._here(rows)]
                for rows in self._chunks(data.total)
            ]
        self.position = torch.cat(starts, dim=1)
        self.log_step = self.position.new_full((1,) if shared_step else (len(data),), 0.05).log()
        self.loss = self.acceptance = torch.zeros((), device=data.device)

    def step(self) -> int:
        """Performs one iteration: a transition of every chain, then the weight updates.

        Returns:
            Its cost in datapoint evaluations, 15 N with the paper's numbers.
        """
        chunks, host = [], self.data.values.device
        for rows in self._chunks(self.block):
            here = self._here(rows)
            part = rows[here] // ranks.count()
            chunks.append((part, here, self.data.read(self.data.values[part.to(host)])))
        self.next = (self.next + self.block) % self.data.total
        self._expectation(chunks)
        for _ in range(self.updates):
            losses = [self.update.accumulate(self.position[:, part], x)[0] for part, _, x in chunks]
            self.update.apply()
        (loss,) = ranks.summed([torch.stack(losses).sum()])
        self.loss = loss / self.block
        return (self.leapfrogs + self.updates) * self.block

    def _loss(self, position: Tensor, x: Tensor) -> tuple[Tensor]:
        return (-self.log_joint.on(x)(position).sum(),)

    def _chunks(self, size: int) -> tuple[Tensor, ...]:
        """Cuts the datapoints that are next, those of all ranks, into chunks of about the same size."""
        rows = (self.next + torch.arange(size, device=self.data.device)) % self.data.total
        return rows.tensor_split(-(-size // _ROWS))

    def _here(self, rows: Tensor) -> slice | Tensor:
        """Which of some datapoints this rank has."""
        return slice(None) if ranks.count() == 1 else rows % ranks.count() == ranks.rank()

    def _expectation(self, chunks: list[tuple[Tensor, slice | Tensor, Tensor]]) -> None:
        acceptance = []
        for part, here, x in chunks:
            step = self.log_step.exp() if self.shared_step else self.log_step[part].exp()
            log_joint = self.log_joint.on(x)
            kernel = HMC(
                log_joint.with_gradient,
                self.position[:, part],
                step_size=step,
                leapfrogs=self.leapfrogs,
                gradient=log_joint.gradient,
                among=here if isinstance(here, Tensor) else None,
            )
            acceptance.append(kernel.transition().acceptance)
            self.position[:, part] = kernel.position
            if not self.shared_step:
                kernel.adapt(acceptance[-1], gain=0.5)
                self.log_step[part] = kernel.log_step
        (total,) = ranks.summed([torch.cat(acceptance, dim=1).sum()])
        self.acceptance = total / self.block
        if self.shared_step:
            self.log_step += (self.acceptance - kernel.target).to(self.log_step.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the learner's next iteration depends on, besides its model and data."""
        return {
            "update": self.update.state_dict(),
            "position": ranks.all_rows(self.position[0]).unsqueeze(0),
            "log_step": self.log_step if self.shared_step else ranks.all_rows(self.log_step),
            "next": self.next,
            "generators": ranks.generator_state(self.data.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Sets what `state_dict` returned."""
        self.update.load_state_dict(state["update"])
        own = slice(ranks.rank(), None, ranks.count())
        self.position.copy_(state["position"][:, own])
        self.log_step.copy_(state["log_step"] if self.shared_step else state["log_step"][own])
        self.next = state["next"]
        ranks.set_generator_state(state["generators"], self.data.device)
