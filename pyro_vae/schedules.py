r"""Step sizes that follow a plan: the schedules of `torch.optim.lr_scheduler`, laid out over a run.

A scheduler of torch's is Python that runs between steps. Here it runs once, before the first step, and leaves a table
of which an optimiser counts its way through (see `pyro_vae.optim`): tensors, which a traced step reads.
"""

__all__ = ["StepSizes", "step_sizes"]

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import lr_scheduler

from pyro_vae.errors import InputError, reason

StepSizes = Callable[[float], Tensor]
"""Makes of a step size those of all steps of a run."""

# Steps that a schedule is laid out over: those of the run where its user does not say.
_LENGTHS = ("T_max", "total_steps", "total_iters")
# Of schedules that are no plan of numbers, what they need.
_NEEDS = {
    "ReduceLROnPlateau": "looks at a bound as it goes, and is no plan",
    "LambdaLR": "needs a function",
    "MultiplicativeLR": "needs a function",
    "SequentialLR": "needs other schedules",
    "ChainedScheduler": "needs other schedules",
}


def step_sizes(name: str | None, options: Mapping[str, Any] | None, steps: int | None) -> StepSizes | None:
    """Finds a schedule.

    Arguments:
        name: A class of `torch.optim.lr_scheduler`; None keeps the step size as it is.
        options: Its arguments besides the optimiser. `T_max`, `total_steps` and `total_iters` are the steps of the run
            if omitted.
        steps: The number of steps of the run. Those beyond it have the last step size.

    Returns:
        What makes of a step size those of all steps, float64 with shape `(steps,)`; None where they stay the same.

    Raises:
        InputError: If there is no such schedule, or it is none of the number of the step alone.
    """
    if name is None:
        if options:
            raise InputError("schedule_options belong to a schedule: give schedule as well")
        return None
    known = {
        key: each
        for key, each in vars(lr_scheduler).items()
        if isinstance(each, type) and issubclass(each, lr_scheduler.LRScheduler) and "LRScheduler" not in key
    }
    if name not in known or name in _NEEDS:
        choices = ", ".join(sorted(known.keys() - _NEEDS.keys()))
        raise InputError(f"schedule {name} {_NEEDS.get(name, 'is unknown')}: choose from {choices}")
    if not isinstance(options or {}, Mapping):
        raise InputError(f"schedule_options {options} is not possible: give a table, {{gamma=0.1}} for example")
    if steps is None:
        raise InputError(f"schedule {name} is laid out over a run: give samples, its budget")
    takes = inspect.signature(known[name]).parameters
    given = {key: _whole(value, takes.get(key)) for key, value in (options or {}).items()}
    given |= {key: steps for key in _LENGTHS if key in takes and not {key, "epochs"} & given.keys()}
    if "cycle_momentum" in takes:
        if given.get("cycle_momentum"):
            raise InputError("schedule_options cycle_momentum is not possible: schedules move the step size alone")
        given["cycle_momentum"] = False
    return functools.partial(_table, known[name], given, steps)


def _whole(value: Any, parameter: inspect.Parameter | None) -> Any:
    """A number that may be written 1e4, as the whole number that a scheduler wants."""
    wants = parameter is not None and str(parameter.annotation).startswith("int")
    return int(value) if wants and isinstance(value, float) and value.is_integer() else value


def _table(schedule: type[Any], options: dict[str, Any], steps: int, step_size: float) -> Tensor:
    optimizer = torch.optim.SGD([torch.zeros(1)], step_size)
    (group,) = optimizer.param_groups
    sizes = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its optimiser makes no steps
            scheduler = schedule(optimizer, **options)
            for _ in range(steps):
                sizes.append(float(group["lr"]))
                scheduler.step()
        table = torch.tensor(sizes, dtype=torch.float64)
        if not (table.isfinite() & (table >= 0)).all():
            raise ValueError("its step sizes are not all finite and from 0 on")
    except Exception as error:  # each has checks of its own, or none
        raise InputError(
            f"schedule {schedule.__name__} is not possible with schedule_options {options}: {reason(error)}"
        ) from error
    return table
