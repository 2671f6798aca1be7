"""What happens around the steps of a run: evaluations, checkpoints, progress, and how it ends."""

__all__ = ["Training"]

import math
from dataclasses import asdict
from time import monotonic
from typing import Any

from pyro_vae import python_state, ranks
from pyro_vae.bayesian import has_random_weights
from pyro_vae.device import host_generators
from pyro_vae.errors import InputError, Interrupted, RunError, reason, told
from pyro_vae.marginal import LOOKED_AT, bound, information, proposal, weights_cost
from pyro_vae.plates import look
from pyro_vae.run import folder
from pyro_vae.run.fit import Clock, Learner, fit, not_finite, require_finite
from pyro_vae.run.progress import Progress
from pyro_vae.run.run import Run
from pyro_vae.run.trackers import Log, silent
from pyro_vae.traced import verify

# An evaluation makes about this many draws of each split, from at most as many datapoints.
_DRAWS = 10_000
# Without a guide, each of these datapoints needs a Gaussian of its own.
_FITTED = 300
# Nats of information about a datapoint below which latent variables count as unused.
_CARRIED = 0.01
# Random weights are drawn for all datapoints at once: so many of these leave ten draws.
_SHARING = 1_000


class Training:
    """Trains a run from where it starts to the end of its budget.

    Arguments:
        run: The run.
        learner: Its learning algorithm.
        clock: Where it starts.
        weighted: The sites whose terms training weighs.
        progress: Whether to report progress on standard error.
        signals: The signals that have come; one of them ends the run.
        log: What is told of each evaluation.
    """

    def __init__(
        self,
        run: Run,
        learner: Learner,
        clock: Clock,
        weighted: list[str],
        progress: bool,
        signals: list[int],
        log: Log,
    ) -> None:
        self.run, self.learner, self.clock, self.signals, self.log = run, learner, clock, signals, log
        self.weighted = weighted
        with told("looking at the guide"):
            self.proposal = proposal(run.guide, x := run.dataset.train.first(LOOKED_AT))
            self.latent = look(run.model, x).latent
        most = _FITTED if self.proposal is None else _SHARING if has_random_weights(run.model) else _DRAWS
        self.splits = [split.some(most) for split in (run.dataset.train, run.dataset.test)]
        self.watch = python_state.Watch(run.modules.values())
        self.progress = Progress(run.settings.samples, clock.samples, shown=progress and ranks.rank() == 0)
        self.saved = monotonic()

    def go(self) -> None:
        """Trains.

        Raises:
            RunError: If the run fails on its way.
            Interrupted: If a signal ended it, after a checkpoint.
        """
        with self.progress:
            if ranks.rank() == 0:
                folder.write_metrics(self.run.path, self.run.rows)
            self.checkpoint()
            budget, warmup = self.run.settings.samples, getattr(self.learner, "warmup", 0)
            if self.weighted:
                weighs = getattr(self.learner, "weighs_terms", True)
                what = "training minimises the weighted objective" if weighs else "this algorithm counts each once"
                self.progress.note(
                    f"terms of {', '.join(self.weighted)} have weights: {what}; bounds and log p(x) are without weights"
                )
            if annealed := getattr(getattr(self.learner, "warmup_of_kl", None), "samples", 0):
                self.progress.note(
                    f"KL terms have a weight from 0 to 1 over the first {annealed:,.0f} samples; bounds and log p(x) "
                    "are without weights"
                )
            if budget <= warmup:
                self.progress.note(f"the paper's Adagrad moves nothing in its warm-up: give --samples above {warmup}")
            try:
                fit(self.learner, budget, clock=self.clock, on_evaluation=self.evaluate, on_step=self.after_step)
            except (InputError, RunError, Interrupted):
                raise
            except Exception as error:  # a user's part may fail in any way, at any time
                raise RunError(f"the run failed after {self.clock.samples} samples: {reason(error)}") from error
            self.checkpoint()
            self._tell_collapse()

    def _tell_collapse(self) -> None:
        """Says so where the latent variables have come to say nothing of the data."""
        run = self.run
        if self.proposal is None or not self.latent or run.settings.samples <= getattr(self.learner, "warmup", 0):
            return
        if (carried := information(run.model, self.proposal, self.splits[1])) >= _CARRIED:
            return
        self.progress.note(
            f"the latent variables carry {max(carried, 0.0):.2f} nats (collapsed): try "
            "--set inference.weight_prior=inf, or --kl analytic --step-size 0.1"
        )

    def evaluate(self, clock: Clock) -> None:
        """Adds a row to the metrics."""
        run = self.run
        bounds = [
            bound(run.model, self.proposal, split, -(-_DRAWS // split.total), run.settings.seed).mean
            for split in self.splits
        ]
        bounds[0] -= weights_cost(run.model, run.dataset.train.total)
        if not all(map(math.isfinite, bounds)):
            raise not_finite("bound", self.learner, clock.samples)
        run.rows.append([clock.samples, round(clock.seconds, 3), *bounds])
        if ranks.rank() == 0:
            folder.write_metrics(run.path, run.rows)
        self.progress.evaluated(clock, *bounds)
        self._tell(clock, bounds)
        verify()

    def _tell(self, clock: Clock, bounds: list[float]) -> None:
        """Tells a tracker, whose failure is none of the run's."""
        try:
            self.log(clock.samples, {"train_bound": bounds[0], "test_bound": bounds[1], "seconds": clock.seconds})
        except Exception as error:  # a server that has gone
            self.progress.note(f"--log failed, and the run continues without it: {reason(error)}")
            self.log = silent

    def after_step(self, clock: Clock) -> None:
        """Writes a checkpoint where one is due, and ends the run where a signal has come."""
        late = monotonic() - self.saved >= self.run.settings.checkpoint_every
        save, signal = ranks.maxima(int(late), *(self.signals[:1] or [0]))
        if save or signal:
            self.checkpoint()
        if signal:
            raise Interrupted(signal)
        self.progress.stepped(clock, self.learner)

    def checkpoint(self) -> None:
        """Writes weights and checkpoint, unless something is not finite: the last finite checkpoint stays."""
        require_finite(self.learner, self.clock.samples)
        self.saved = monotonic()
        modules = self.run.modules
        state: dict[str, Any] = {part: module.state_dict() for part, module in modules.items()}
        state |= {"learner": self.learner.state_dict(), "clock": asdict(self.clock), "metrics": self.run.rows}
        state["host_generators"] = host_generators()
        state["fed"] = self.run.dataset.train.fed
        state["python"] = {part: python_state.read(module) for part, module in modules.items()}
        state["unsaved"] = self.watch.unsaved()
        if ranks.rank() == 0:
            folder.write_weights(self.run.path, modules)
            folder.write_checkpoint(self.run.path, state)  # last: where there is one, there is all else
