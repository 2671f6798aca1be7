"""Pyro's estimators without a read from the device, so that they can be traced.

They read a loss to return it as a number and to warn where it is not one, and some ask a tensor which way to go. While
a function is traced, `torch_item` detaches, `warn_if_nan` and `warn_if_inf` return what they get, plates that are gone
through in turn count, and Pyro and torch's optimisers are told that a tracer is at work. `TraceEnum_ELBO` leaves out
values that have no probability, whose number is read from a tensor, and looks whether the scales of enumerated sites
are one: in a trace such values are 0 instead, and a scale that is shared is not looked at. `one_hot` does not look
whether the classes are possible, and a distribution that was made with validation does not look at its values.
"""

__all__ = ["without_host_reads"]

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro.infer.util
import pyro.util
import torch
from pyro.infer import traceenum_elbo
from pyro.poutine.indep_messenger import IndepMessenger

_local = threading.local()  # whether this thread traces
_lock = threading.Lock()
_tracing = 0  # threads that do
_undo: list[tuple[Any, str, Any]] = []


@contextmanager
def without_host_reads() -> Iterator[None]:
    """Keeps Pyro from reading tensors inside the block, in this thread alone.

    The names are replaced wherever they have been imported to, a user's own estimator among them, and put back when the
    last thread leaves, whatever happens.
    """
    global _tracing
    outer = getattr(_local, "tracing", False)
    with _lock:
        if _tracing == 0:
            _replace()
        _tracing += 1
    _local.tracing = True
    try:
        yield
    finally:
        _local.tracing = outer
        with _lock:
            _tracing -= 1
            if _tracing == 0:
                _restore()


def _replace() -> None:
    replacements: dict[Any, Callable[..., Any]] = {
        pyro.infer.util.torch_item: lambda x: x.detach() if isinstance(x, torch.Tensor) else x,
        pyro.util.warn_if_nan: lambda value, *_, **__: value,
        pyro.util.warn_if_inf: lambda value, *_, **__: value,
        torch.nn.functional.one_hot: _one_hot,
        traceenum_elbo._get_common_scale: _common_scale,
    }
    inner = {original: _in_tracing_threads(original, quiet) for original, quiet in replacements.items()}
    by_name = {original.__name__: original for original in replacements}
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        for name, original in by_name.items():
            if names.get(name) is original:
                _put(module, name, inner[original])
    _put(IndepMessenger, "__iter__", _in_turn(IndepMessenger.__iter__))
    # Torch asks both in many more places, where another answer would lead another way to the same numbers.
    _put(torch._C, "_get_tracing_state", _answered_yes(torch._C._get_tracing_state, "pyro."))
    _put(torch.compiler, "is_compiling", _answered_yes(torch.compiler.is_compiling, "torch.optim."))
    check = torch.distributions.Distribution._validate_sample
    _put(torch.distributions.Distribution, "_validate_sample", _in_tracing_threads(check, lambda *_: None))
    _put(torch.Tensor, "masked_select", _zero_where_masked(torch.Tensor.masked_select))


def _answered_yes(ask: Callable[[], Any], asked_by: str) -> Callable[[], Any]:
    """A question about tracing with the answer yes, where a tracing thread asks it in some package."""

    def answer() -> Any:
        asked = sys._getframe(1).f_globals.get("__name__", "").startswith(asked_by)
        return (asked and getattr(_local, "tracing", False)) or ask()

    return answer


def _common_scale(scales: list[Any], look: Callable[..., Any] = traceenum_elbo._get_common_scale) -> Any:
    """The scale of enumerated sites: one that they share is not looked at."""
    return scales[0] if all(scale is scales[0] for scale in scales) else look(scales)


def _one_hot(tensor: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
    classes = num_classes if num_classes >= 0 else int(tensor.max()) + 1  # which is read, and so is not traced
    return (tensor.unsqueeze(-1) == torch.arange(classes, device=tensor.device)).long()


def _zero_where_masked(select: Callable[..., Any]) -> Callable[..., Any]:
    """A selection that keeps the shape where Pyro makes it in a tracing thread: it sums up what it has selected."""

    def selected(values: torch.Tensor, mask: torch.Tensor) -> Any:
        asked = sys._getframe(1).f_globals.get("__name__", "") == "pyro.infer.util"
        return values.where(mask, 0) if asked and getattr(_local, "tracing", False) else select(values, mask)

    return selected


def _in_tracing_threads(original: Callable[..., Any], quiet: Callable[..., Any]) -> Callable[..., Any]:
    def chosen(*arguments: Any, **named: Any) -> Any:
        return (quiet if getattr(_local, "tracing", False) else original)(*arguments, **named)

    return chosen


def _in_turn(iterate: Callable[..., Any]) -> Callable[..., Any]:
    """Goes through a whole plate by numbers, which Pyro would read from a tensor that it has just made of them."""

    def by_numbers(plate: Any) -> Any:
        if getattr(_local, "tracing", False) and plate.size == getattr(plate, "subsample_size", None):
            plate._indices = range(plate.size)
        return iterate(plate)

    return by_numbers


def _put(owner: Any, name: str, value: Any) -> None:
    _undo.append((owner, name, getattr(owner, name)))
    setattr(owner, name, value)


def _restore() -> None:
    while _undo:
        owner, name, value = _undo.pop()
        setattr(owner, name, value)
