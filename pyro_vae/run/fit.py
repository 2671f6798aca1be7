"""The training loop. Its clock counts datapoint evaluations, the x-axis of the paper's figures."""

__all__ = ["Clock", "Learner", "fit", "not_finite", "require_finite", "schedule"]

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.errors import RunError
from pyro_vae.plates import traces
from pyro_vae.replay import Replay, capture
from pyro_vae.sites import evaluation_mode, isolated, sample_sites, site_log_prob
from pyro_vae.split import Split

# Cycles of updates between two looks at the loss, each a read from the device.
_LOOK = 100


class Learner(Protocol):
    """What a learning algorithm is to the loop."""

    model: nn.Module
    guide: nn.Module | None
    data: Split
    loss: Tensor
    """The last cycle's loss in nats per datapoint, a scalar on the device."""

    def step(self) -> int:
        """Performs one cycle of updates and returns its cost in datapoint evaluations."""

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the next step depends on, besides modules and data: primitives and finite tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Sets what `state_dict` returned."""


@dataclass
class Clock:
    """How far a run has come.

    Arguments:
        samples: Datapoint evaluations so far.
        seconds: Training time so far, without evaluations.
    """

    samples: int = 0
    seconds: float = 0.0


def schedule(samples: int) -> list[int]:
    """Returns when to evaluate, in samples: at 0, six times a decade from 1,000 on, and at the end."""
    points, k = [0], 18
    while (point := round(10 ** (k / 6))) < samples:
        points.append(point)
        k += 1
    return [*points, samples]


def fit(
    learner: Learner,
    samples: int,
    *,
    clock: Clock | None = None,
    on_evaluation: Callable[[Clock], None] | None = None,
    on_step: Callable[[Clock], None] | None = None,
) -> Clock:
    """Trains until a budget is spent.

    Arguments:
        learner: The learning algorithm.
        samples: The budget in datapoint evaluations.
        clock: Where to go on from; it is moved on. A new one if omitted.
        on_evaluation: Called at the points of `schedule`.
        on_step: Called after every cycle of updates.

    Returns:
        The clock.

    Raises:
        RunError: If a loss, a parameter or a tensor of the learner's state, where a gradient that is not finite leaves
            its trace, is not finite. It comes within 100 cycles.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.inference.aevb import AEVB
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits")
        >>> model, guide = BernoulliModel(data.features, 2, hidden=8), GaussianGuide(data.features, 2, hidden=8)
        >>> pyro_vae.fit(AEVB(model, guide, data.train), samples=500).samples
        500
    """
    clock = Clock() if clock is None else clock
    if clock.samples == 0 and on_evaluation:
        on_evaluation(clock)
    due = [point for point in schedule(int(samples)) if point > clock.samples]
    cycles = 0
    losses = torch.zeros_like(learner.loss)  # their sum since the last look, which hides none of them
    replay: Replay | None = None
    recordable = learner.data.device.type == "cuda" and learner.data.resident  # a record draws no minibatch on the host
    while due:
        started = perf_counter()
        if recordable and getattr(learner, "settled", False):
            replay, recordable = capture(learner, _LOOK), False
        if replay and clock.samples + replay.cost <= due[0]:
            clock.samples += replay()
            losses = losses + replay.losses
            cycles = 0
        else:
            clock.samples += learner.step()
            losses = losses + learner.loss.detach()
            cycles += 1
        evaluate = clock.samples >= due[0]
        if evaluate or cycles % _LOOK == 0:
            require_finite(learner, clock.samples, losses)
            losses = torch.zeros_like(losses)
        clock.seconds += perf_counter() - started
        if evaluate:
            due = [point for point in due if point > clock.samples]
            if on_evaluation:
                on_evaluation(clock)
        if on_step:
            on_step(clock)
    return clock


def require_finite(learner: Learner, samples: int, losses: Tensor | None = None) -> None:
    """Checks that the loss, all parameters and the learner's state are finite, with one read from the device.

    Arguments:
        learner: The learning algorithm.
        samples: How far it has come, for the message.
        losses: The sum of several losses, the last one if omitted.

    Raises:
        RunError: If they are not.
    """
    checks = [learner.loss if losses is None else losses, *_parameters(learner).values(), *_state(learner).values()]
    finite = [value.isfinite().all().to(learner.loss.device) for value in checks]
    if ranks.maxima(int(not torch.stack(finite).all()))[0]:
        raise not_finite("state" if finite[0] else "loss", learner, samples)


def not_finite(what: str, learner: Learner, samples: int) -> RunError:
    """Returns the error that names the sites and the parameters that are not finite, and the likely mend."""
    broken, state = (
        [name for name, value in tensors.items() if not value.isfinite().all()]
        for tensors in (_parameters(learner), _state(learner))
    )
    x = learner.data.first(100)
    with isolated(), evaluation_mode(learner.model, learner.guide):
        if learner.guide is None:
            found = [poutine.trace(learner.model).get_trace(x)]
        else:
            found = [*reversed(traces(learner.model, learner.guide, x))]
        sites = [
            name
            for trace in found
            for name, site in sample_sites(trace).items()
            if not site_log_prob(site).isfinite().all()
        ]
    advice = getattr(learner.model, "when_not_finite", "")
    return RunError(
        f"the {what} is not finite after {samples} samples (sites: {_listed(sites)}; parameters: {_listed(broken)}; "
        f"learner: {_listed(state)}): lower --step-size{advice and f', and {advice}'}"
    )


def _parameters(learner: Learner) -> dict[str, Tensor]:
    parts = {"model": learner.model} | ({} if learner.guide is None else {"guide": learner.guide})
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.named_parameters()}


def _state(learner: Learner) -> dict[str, Tensor]:
    return dict(_real_tensors(learner.state_dict()))


def _real_tensors(part: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of real numbers in nested tables and lists, with the path to each."""
    if isinstance(part, Tensor):
        if part.is_floating_point():
            yield name, part
    elif isinstance(part, Mapping | list | tuple):
        for key, value in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _real_tensors(value, f"{name}.{key}" if name else str(key))


def _listed(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest if names else "none"
