"""What the files of a run may hold: its state judged as it is before it is saved, and as it was read."""

__all__ = ["METRICS", "metrics_row", "require_checkpoint", "require_fit", "require_savable", "require_shapes"]

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyro_vae.errors import InputError, reason

METRICS = ("samples", "seconds", "train_bound", "test_bound")

_LARGEST = 2**53
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def metrics_row(row: Sequence[Any]) -> list[float]:
    """Reads one evaluation.

    Raises:
        ValueError: If it is none.
    """
    if len(row) != len(METRICS):
        raise ValueError(f"its rows must have {len(METRICS)} columns")
    samples, seconds, *bounds = int(row[0]), *map(float, row[1:])
    if not (0 <= samples <= _LARGEST and 0 <= seconds < math.inf and all(map(math.isfinite, bounds))):
        raise ValueError("its numbers must be finite, and those of samples and seconds not below 0")
    return [samples, seconds, *bounds]


def require_savable(modules: Mapping[str, nn.Module]) -> None:
    """Checks that modules can be saved: that their state is of tensors, and of what JSON has words for.

    Arguments:
        modules: The modules by the names of their parts, `model` and `guide`.

    Raises:
        InputError: If something in a `state_dict` can be no part of a run folder.
    """
    for part, module in modules.items():
        what = f"--{part} {type(module).__name__}"
        try:
            state = dict(module.state_dict())
        except Exception as error:  # get_extra_state is the user's
            raise InputError(f"{what} cannot be saved: its state_dict raises {reason(error)}") from error
        for name, value in state.items():
            if wrong := _unsavable(value):
                raise InputError(
                    f"{what} cannot be saved: '{name}' of its state_dict is {wrong}: make it a tensor, or of numbers, "
                    "texts, lists and tables by text"
                )
        for inner in module.modules():
            kind = type(inner)
            if kind.get_extra_state is not nn.Module.get_extra_state and (
                kind.set_extra_state is nn.Module.set_extra_state
            ):
                raise InputError(f"{what} cannot be read again: give {kind.__name__} a method set_extra_state(state)")


def _unsavable(value: Any) -> str:
    """Says why an entry of a state_dict cannot be saved; empty where it can."""
    if not isinstance(value, Tensor):
        try:
            return "" if json.loads(json.dumps(value, allow_nan=False)) == value else "no value that JSON gives back"
        except Exception:  # a user's object may do anything when it is looked at
            return f"a {type(value).__name__}"
    if is_lazy(value):
        return "a tensor without a shape yet"
    if value.is_meta or value.layout is not torch.strided or value.is_quantized:
        return "a tensor that is sparse, quantised or without values"
    try:
        save({"": torch.empty(0, dtype=value.dtype)})
    except Exception:  # not one of safetensors' kinds
        return f"a tensor of {value.dtype}"
    return ""


def require_fit(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Checks that a `state_dict` from a file is one of a module's, before it is loaded.

    Arguments:
        module: The module as it was built.
        state: The names and values that were read.

    Raises:
        ValueError: If a name is missing or unknown, or a tensor is of another shape or kind or, where the module's own
            is not such by design, not finite.
    """
    own = module.state_dict()
    for name in own.keys() ^ state.keys():
        raise ValueError(f"it lacks {name}" if name in own else f"{name} is none of {type(module).__name__}'s")
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, value in state.items():
        usual = own[name]
        if isinstance(value, Tensor) != isinstance(usual, Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}")
        if not isinstance(value, Tensor):
            continue
        _require_shape(name, value.shape, usual)
        if value.dtype != usual.dtype and {value.dtype, usual.dtype} - {*_FLOATS}:
            raise ValueError(f"{name} is of {value.dtype}, not {usual.dtype}")
        if not value.is_floating_point() and not value.is_complex():
            continue
        # A buffer may be infinite by design, a mask for example.
        finite = value.isfinite().cpu() if name in parameters else (value.isfinite().cpu() | ~usual.isfinite().cpu())
        if not finite.all():
            raise ValueError(f"{name} is not finite")


def require_shapes(module: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Checks that a `state_dict` from a file has a module's tensors, in their shapes where the module knows them.

    Arguments:
        module: The module as it was built.
        shapes: The shapes that were read, by name.

    Raises:
        ValueError: If a tensor is missing, or of another shape.
    """
    for name, usual in module.state_dict().items():
        if not isinstance(usual, Tensor) or is_lazy(usual):
            continue
        if name not in shapes:
            raise ValueError(f"it lacks {name}")
        _require_shape(name, shapes[name], usual)


def _require_shape(name: str, found: Sequence[int], usual: Tensor) -> None:
    if tuple(found) != tuple(usual.shape):
        raise ValueError(f"{name} has shape {tuple(found)}, not {tuple(usual.shape)}")


def require_checkpoint(state: Mapping[str, Any]) -> None:
    """Checks the values of a checkpoint that need no module to be judged.

    Raises:
        ValueError: If one of them is impossible.
    """
    for name, value in _tensors(state):
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{name} is sparse, quantised or without values")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{name} is larger than what is stored of it")
        # What is not finite stops a run before it is saved.
        if name.startswith("learner.") and value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} is not finite")
    if "clock" in state:
        clock = state["clock"]
        samples, seconds = (clock.get(name) if isinstance(clock, dict) else None for name in ("samples", "seconds"))
        if not (
            isinstance(samples, int)
            and isinstance(seconds, int | float)
            and 0 <= samples <= _LARGEST
            and 0 <= seconds < math.inf
        ):
            raise ValueError(f"its clock is at {samples} samples and {seconds} seconds"[:200])
    if "metrics" in state:
        for row in state["metrics"]:
            metrics_row(row)


def _tensors(part: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested tables and lists, with the path to each."""
    if isinstance(part, Tensor):
        yield name, part
    elif isinstance(part, Mapping | list | tuple):
        for key, value in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
