"""Functions of tensors, traced through Pyro once and compiled: its meaning without its overhead.

Pyro's handlers cost more than the arithmetic of these models. Tracing runs them one last time and records the tensor
operations that they lead to; TorchInductor makes machine code of the record.
"""

__all__ = ["Traced", "as_recorded", "verify", "worth_compiling"]

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from pyro_vae.compiler import compiled_graph, recorded
from pyro_vae.device import (
    drawn_since,
    generator_state,
    host_generators,
    set_generator_state,
    set_host_generators,
)
from pyro_vae.host_reads import without_host_reads
from pyro_vae.python_state import Watch
from pyro_vae.sites import isolated
from pyro_vae.swap import swapped

Outputs = tuple[Tensor, ...]
Function = Callable[..., Outputs]

# How far a compiled function may be from the plain one, as a share of the norm: float32, summed in another order.
_TOLERANCE, _TINY = 1e-3, 1e-6

# On two cores, compilations cost 5 to 20 seconds, and a minibatch of 100 saves 3 to 8 ms.
_WORTH = 500_000

_logger = logging.getLogger("pyro_vae")
_verification, _as_recorded = 0, False
_told: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # why functions of these run uncompiled


def worth_compiling(choice: str, evaluations: int) -> bool:
    """Decides whether to compile: `on`, `off`, or `auto`, from a number of datapoint evaluations on.

    It decides by the budget, not by the clock: what a run computes must not depend on how busy the machine is.
    """
    return choice == "on" or (choice == "auto" and evaluations >= _WORTH)


class Traced:
    """Creates a function that runs compiled where that is asked for, with the same random draws.

    Each set of input shapes is compiled for when it first comes, and the result is held against the plain function's,
    then and again at the 2nd, 10th, 100th call and so on, and after each `verify`. What cannot be traced, a model that
    branches on its data for example, or what a trace would freeze, such as a counter in Python, runs uncompiled, with a
    line of log.

    Arguments:
        function: Takes a tensor and perhaps more tensors and numbers, returns detached tensors. It runs apart from
            Pyro's parameter store, without validation.
        modules: The modules whose parameters and buffers it uses.
        compile: Whether to compile it.
        owner: The learner that the function belongs to, whose Python values it may read. Its class names those that
            change and that the function does not read in `untraced`.
        runs: Whether the function runs the modules' code, and not merely works on their tensors.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from pyro_vae.traced import Traced
        >>> net = nn.Linear(3, 1)
        >>> traced = Traced(lambda x: (net(x),), net, compile=False)
        >>> traced(torch.rand(10, 3))[0].shape
        torch.Size([10, 1])
    """

    def __init__(
        self, function: Function, *modules: Any, compile: bool = False, owner: object = None, runs: bool = True
    ) -> None:
        self.compile, self._runs = compile, runs
        self._call = _Call(function, [module for module in modules if isinstance(module, nn.Module)])
        self._owner = owner
        self._compiled: dict[Any, _Compiled] = {}

    @property
    def settled(self) -> bool:
        """Whether it runs compiled by now."""
        return self.compile and bool(self._compiled)

    def __call__(self, *inputs: Any) -> Outputs:
        """Calls the function."""
        if not self.compile:
            return self.plain(*inputs)
        modes = [module.training for module in self._call.parts]
        key = (*modes, *((i.shape, i.dtype, i.device) if isinstance(i, Tensor) else i for i in inputs))
        compiled = self._compiled.get(key)
        if compiled is not None and not self._frozen(compiled):
            return self._verified(compiled, inputs) if compiled.is_due() else compiled(inputs)
        device = inputs[0].device
        generators, hosts = generator_state(device), host_generators()
        before, watch = self._call.copies(), self._watch()
        try:
            if compiled is not None:
                raise _Frozen(compiled.watch.changes())
            self._compiled[key], outputs = self._build(inputs, generators, hosts, before, watch)
        except Exception as error:  # a user's function, and two compilers
            self._give_up(error)
            self._call.set(before)
            watch.restore()
            set_generator_state(generators, device)
            set_host_generators(hosts)
            outputs = self._call(*inputs)
        return outputs

    def plain(self, *inputs: Any) -> Outputs:
        """Calls the function as it is."""
        outputs: Outputs = self._call(*inputs)
        return outputs

    def can_be_traced(self, *inputs: Tensor) -> bool:
        """Tries to trace the function without running it; where that fails, it stays plain, with a line of log."""
        generators, hosts, watch = generator_state(inputs[0].device), host_generators(), self._watch()
        try:
            self._traced(inputs)
        except Exception as error:  # a user's function
            self._give_up(error)
        finally:
            watch.restore()
            set_generator_state(generators, inputs[0].device)
            set_host_generators(hosts)
        return self.compile

    def _traced(self, inputs: tuple[Any, ...]) -> GraphModule:
        """Records what the function does with its modules' tensors and its inputs, in this order."""
        used = list(self._call.tensors())
        places = [n for n, value in enumerate(inputs) if isinstance(value, Tensor)]

        def pure(*tensors: Tensor) -> Outputs:
            own, others = tensors[: len(used)], tensors[len(used) :]
            arguments = {**dict(enumerate(inputs)), **dict(zip(places, others, strict=True))}
            return self._call.with_tensors(dict(zip(used, own, strict=True)), *arguments.values())

        with without_host_reads():
            return recorded(pure, [*self._call.copies(), *(inputs[n] for n in places)])

    def _frozen(self, compiled: "_Compiled") -> list[str]:
        """Names what has changed since it was compiled, from outside; most often it takes a look and no more."""
        if not compiled.watch.may_have_changed():
            return []
        if not (names := compiled.watch.changes()):  # other objects with the same in them
            compiled.watch = self._watch()
        return names

    def _watch(self) -> Watch:
        parts = [*(self._call.parts if self._runs else ()), *([] if self._owner is None else [self._owner])]
        return Watch(parts, but=getattr(self._owner, "untraced", ()))

    def _give_up(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, _Frozen) else f"{type(error).__name__}: {error}"
        told = [_told.setdefault(part, set()) for part in self._call.parts]
        if not any(reason in each for each in told):  # a learner may have several functions of the same modules
            _logger.warning("%s runs uncompiled: %s", self._call.name, " ".join(reason.split())[:250])
        for each in told:
            each.add(reason)
        self.compile = False

    def _build(
        self,
        inputs: tuple[Any, ...],
        generators: dict[str, Tensor],
        hosts: dict[str, Any],
        before: list[Tensor],
        watch: Watch,
    ) -> tuple["_Compiled", Outputs]:
        """Compiles the function for inputs like these. Returns it and what it makes of them."""
        used = self._call.tensors()
        places = [n for n, value in enumerate(inputs) if isinstance(value, Tensor)]
        graph = self._traced(inputs)
        watch.restore()
        set_host_generators(hosts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's, about itself
            set_generator_state(generators, inputs[0].device)
            expected, changed = self._call(*inputs), self._call.copies()
            if frozen := [*watch.changes(), *drawn_since(hosts)]:
                raise _Frozen(frozen)
            self._call.set(before)
            set_generator_state(generators, inputs[0].device)
            live = list(used.values())
            code = graph if _as_recorded else compiled_graph(graph, [*live, *(inputs[n] for n in places)])
            compiled = _Compiled(code, live, places, watch)
            outputs = compiled(inputs)
        if not all(map(_alike, (*outputs, *live), (*expected, *changed))):
            raise _Frozen([])
        return compiled, outputs

    def _verified(self, compiled: "_Compiled", inputs: tuple[Any, ...]) -> Outputs:
        """Calls both the compiled and the plain function; where they differ, the plain one goes on from here."""
        device = inputs[0].device
        generators, before = generator_state(device), self._call.copies()
        outputs = compiled(inputs)
        after, drawn = self._call.copies(), generator_state(device)
        watch, hosts = self._watch(), host_generators()
        self._call.set(before)
        set_generator_state(generators, device)
        expected = self._call(*inputs)
        frozen = [*watch.changes(), *drawn_since(hosts)]
        if not frozen and all(map(_alike, (*outputs, *after), (*expected, *self._call.copies()))):
            self._call.set(after)
            set_generator_state(drawn, device)
            return outputs
        self._give_up(_Frozen(frozen, compiled.calls - 1))  # this one is made good
        return expected


class _Compiled:
    """A compiled function with the tensors that it works on, and when to hold it against the plain one again."""

    def __init__(self, code: Callable[..., Any], live: list[Tensor], places: list[int], watch: Watch) -> None:
        self.code, self.live, self.places, self.watch = code, live, places, watch
        self.calls, self.due, self.verification = 0, 2, _verification

    @torch.no_grad()
    def __call__(self, inputs: tuple[Any, ...]) -> Outputs:
        self.calls += 1
        return tuple(self.code(*self.live, *(inputs[n] for n in self.places)))

    def is_due(self) -> bool:
        asked = self.verification != _verification
        if self.calls + 1 < self.due and not asked:
            return False
        self.verification = _verification
        self.due = 10 ** len(str(self.calls + 1))  # 10 after 2, 100 after 10
        return True


class _Frozen(Exception):
    """What a trace takes for a constant, and is none."""

    def __init__(self, names: Sequence[str], calls: int = 0) -> None:
        what = f"{', '.join(names[:3])} changes" if names else "something outside its tensors changes"
        since = f"; its last {calls} calls treated it as a constant" if calls > 1 else ""
        super().__init__(
            f"{what} from call to call, and compiled code treats it as a constant{since}: "
            "make it a buffer (register_buffer) that is written into, or give --compile off"
        )


def verify() -> None:
    """Has every compiled function held against its plain one at its next call."""
    global _verification
    _verification += 1


@contextmanager
def as_recorded() -> Iterator[None]:
    """Runs what is traced inside the block as it was recorded, and not compiled: what a trace gets wrong is there."""
    global _as_recorded
    before, _as_recorded = _as_recorded, True
    try:
        yield
    finally:
        _as_recorded = before


class _Call(nn.Module):
    """A function as a module of its modules, which torch can call with other tensors in the place of theirs."""

    def __init__(self, function: Function, modules: list[nn.Module]) -> None:
        super().__init__()
        self.function, self.name = function, getattr(function, "__qualname__", repr(function))
        self.parts = nn.ModuleList(modules)

    def forward(self, *inputs: Any) -> Outputs:
        with isolated():
            return self.function(*inputs)

    def tensors(self) -> dict[str, Tensor]:
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def copies(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self.tensors().values()]

    @torch.no_grad()
    def set(self, values: list[Tensor]) -> None:
        for tensor, value in zip(self.tensors().values(), values, strict=True):
            tensor.copy_(value)

    def with_tensors(self, tensors: dict[str, Tensor], *inputs: Any) -> Outputs:
        learning = {
            name: tensors[name].detach().requires_grad_(parameter.requires_grad)
            for name, parameter in self.named_parameters()
        }
        with swapped(self, {**tensors, **learning}):
            outputs: Outputs = self(*inputs)
        return outputs


def _alike(found: Tensor, expected: Tensor) -> bool:
    # Gradients that are zero but for rounding are all error: what is tiny may differ.
    found, expected = found.double(), expected.double()
    allowed = _TOLERANCE * expected.norm() + _TINY * math.sqrt(expected.numel())
    return bool((found - expected).norm() <= allowed) or not bool(expected.isfinite().all())
