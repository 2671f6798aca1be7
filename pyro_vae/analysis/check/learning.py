"""The contract of an algorithm, and of what it trains: compiled steps, counts, what it learns and how it goes on."""

__all__ = ["Trained", "compiled", "counts", "goes_on", "learns", "steps"]

import copy
import logging
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_vae.analysis.check.verdict import Fault, Skipped
from pyro_vae.device import seeded
from pyro_vae.marginal import bound
from pyro_vae.run.fit import Learner, require_finite
from pyro_vae.run.prepared import Prepared
from pyro_vae.traced import as_recorded

Build = Callable[..., Prepared]
"""Builds a pair anew; it takes settings by name, `compile` among them."""

# How far compiled steps may lead from plain ones, as a share of how far these lead.
_APART = 0.02


class Trained(NamedTuple):
    """What some steps have led to.

    Arguments:
        prepared: The pair.
        learner: The algorithm.
        warnings: What was logged.
    """

    prepared: Prepared
    learner: Learner
    warnings: list[str]

    @property
    def parameters(self) -> Tensor:
        """All parameters, one after the other."""
        values = [p.detach().flatten().double() for part in self.prepared.modules.values() for p in part.parameters()]
        return torch.cat(values) if values else torch.zeros(0)


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def trained(build: Build, count: int, *, compile: str = "off", seed: int = 0) -> Trained:
    """Builds a pair and takes some steps, apart from all else."""
    heard, logger = _Heard(), logging.getLogger("pyro_vae")
    propagate = logger.propagate
    logger.addHandler(heard)
    logger.propagate = False
    try:
        with seeded(seed, torch.device("cpu")):
            prepared = build(compile=compile)
            learner = prepared.learner()
            for _ in range(count):
                learner.step()
    finally:
        logger.removeHandler(heard)
        logger.propagate = propagate
    return Trained(prepared, learner, heard.lines)


def compiled(build: Build, count: int = 100, recorded: bool = True) -> str:
    """Trains twice with the same draws, compiled and not.

    Arguments:
        build: Builds the pair; with an optimiser that makes no whole steps of rounding errors, as Adam does where a
            gradient is 0.
        count: The number of steps.
        recorded: Whether the record of a step is run as it is, and not given to the compiler.
    """
    start, plain = trained(build, 0), trained(build, count)
    with as_recorded() if recorded else nullcontext():
        other = trained(build, count, compile="on")
    require_finite(plain.learner, count)
    told = [line for line in other.warnings if "uncompiled" in line]
    if told:
        raise Fault(
            f"{told[0].removesuffix(', or give --compile off')}",
            "compute with torch on tensors, without .item(), numpy or branches on data; or live with slower steps, "
            "--skip compiled",
        )
    if not len(plain.parameters):
        raise Skipped("there is nothing to learn")
    moved, apart = (plain.parameters - start.parameters).norm(), (plain.parameters - other.parameters).norm()
    if not apart <= _APART * moved + 1e-6:
        raise Fault(
            f"after {count} steps compiled parameters are {apart.item():.3g} from plain ones, which moved by "
            f"{moved.item():.3g}",
            "keep what changes from step to step in buffers, and draw by torch and Pyro alone",
        )
    return f"{count} steps lead to the same parameters" + (" (recorded; --compile compiles them)" if recorded else "")


def steps(build: Build) -> str:
    """Takes three steps: their costs are whole numbers, the loss is a number on the device, apart from its graph."""
    with seeded(0, torch.device("cpu")):
        learner = build().learner()
        costs = [learner.step() for _ in range(3)]
    name = type(learner).__name__
    if not all(isinstance(cost, int) and not isinstance(cost, bool) and cost > 0 for cost in costs):
        raise Fault(f"{name}.step() returns {costs[0]!r}", "return its cost in datapoint evaluations, a whole number")
    loss: Any = learner.loss
    if not isinstance(loss, Tensor) or loss.dim() or loss.requires_grad:
        raise Fault(
            f"{name}.loss is {type(loss).__name__}" + (" with its graph" if getattr(loss, "requires_grad", 0) else ""),
            "keep the last loss as a detached scalar tensor",
        )
    require_finite(learner, sum(costs))
    return f"a step costs {costs[-1]} datapoint evaluations"


def counts(build: Build) -> str:
    """Holds the cost that a step tells against the rows of data that the model is run on, within a factor of two."""
    rows: list[int] = []

    def count(module: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor):
            rows.append(len(given[0]))

    with seeded(0, torch.device("cpu")):
        prepared = build()
        learner = prepared.learner()
        learner.step()
        handle = learner.model.register_forward_pre_hook(count)
        cost = learner.step()
        handle.remove()
    if not rows:
        raise Skipped("it does not call its model on data")
    if not sum(rows) / 2 <= cost <= 2 * sum(rows):
        raise Fault(
            f"a step says that it costs {cost} datapoint evaluations, and runs the model on {sum(rows)} datapoints",
            "return the datapoints of a step, not its number and not the size of the data",
        )
    return f"a step costs {cost} datapoint evaluations, and runs the model on {sum(rows)} datapoints"


def learns(build: Build, budget: int = 15_000) -> str:
    """Trains a little, by Adam: all parameters move, and the bound rises."""
    found = trained(build, 0)
    before = {name: value.clone() for name, value in _named(found.prepared).items()}
    split = found.prepared.dataset.train.some(50)
    model, guide = found.prepared.model, found.prepared.guide
    first, spent = bound(model, guide, split, 20).mean, 0
    with seeded(0, torch.device("cpu")):
        while spent < budget:
            spent += found.learner.step()
    require_finite(found.learner, spent)
    still = [name for name, value in _named(found.prepared).items() if torch.equal(value, before[name])]
    if still:
        raise Fault(f"{still[0]} has not moved after {spent:,} samples", "give all parameters to the update")
    last = bound(model, guide, split, 20).mean
    if not last > first:
        raise Fault(
            f"the bound went from {first:.2f} to {last:.2f} nats in {spent:,} samples", "check the sign of its loss"
        )
    return f"the bound rises from {first:.2f} to {last:.2f} nats in {spent:,} samples"


def _named(prepared: Prepared) -> dict[str, Tensor]:
    return {
        f"{kind}.{name}": parameter.detach()
        for kind, part in prepared.modules.items()
        for name, parameter in part.named_parameters()
        if parameter.requires_grad
    }


def goes_on(build: Build) -> str:
    """Saves an algorithm after three steps: another one, with the state loaded, takes the next two alike."""
    one = trained(build, 3)
    state = {kind: copy.deepcopy(part.state_dict()) for kind, part in one.prepared.modules.items()}
    file = BytesIO()
    torch.save(one.learner.state_dict(), file)
    try:
        file.seek(0)
        held = torch.load(file, weights_only=True)
    except Exception as error:
        raise Fault(
            "its state_dict holds more than tensors, numbers, texts, lists and dictionaries", "leave the rest out"
        ) from error
    other = trained(build, 1, seed=1)  # optimisers make their state in the first step
    for kind, part in other.prepared.modules.items():
        part.load_state_dict(state[kind])
    with seeded(2, torch.device("cpu")):
        other.learner.load_state_dict(copy.deepcopy(held))
        for _ in range(2):
            other.learner.step()
    with seeded(3, torch.device("cpu")):
        one.learner.load_state_dict(held)  # the generators of the process have gone on
        for _ in range(2):
            one.learner.step()
    if not torch.allclose(one.parameters, other.parameters, rtol=1e-5, atol=1e-6):
        name = type(one.learner).__name__
        raise Fault(
            f"two steps of a resumed {name} lead elsewhere than those of the one that was saved",
            "hold in state_dict all that the next step depends on: optimiser, counters, chains, generators",
        )
    return "a resumed run takes the same steps"
