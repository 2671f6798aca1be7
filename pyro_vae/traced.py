"""Functions of tensors, traced through Pyro once and compiled: its meaning without its overhead.

Pyro's handlers cost more than the arithmetic of these models. Tracing runs them one last time and records the tensor
operations that they lead to; TorchInductor makes machine code of the record.
"""

__all__ = ["Traced", "worth_compiling"]

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_vae.device import generator_state, set_generator_state
from pyro_vae.sites import isolated

Outputs = tuple[Tensor, ...]
Function = Callable[..., Outputs]

_OPTIONS: dict[str, Any] = {
    "fallback_random": True,  # the same draws as torch's own
    "compile_threads": 1,  # no processes on the side
}
_CPU_OPTIONS = {
    **_OPTIONS,
    "cpp_wrapper": True,  # no Python between the kernels
    "pattern_matcher": False,  # no `A @ B + C` as one call, which copies C first
    "cpp.max_horizontal_fusion_size": 1,  # a weight moves while its gradient is in the cache, not with all others
    "cpp.use_decompose_tanh": True,  # by way of exp: half the time
}
_ATEN = torch.ops.aten
_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {**get_decompositions([_ATEN.addmm])}  # `A @ B`, and then `+ C`
# torch 2.11 may draw a Bernoulli before the random numbers that its probability comes from: this draw waits for it.
if torch.__version__ < "2.15":
    _DECOMPOSITIONS[_ATEN.bernoulli.default] = lambda p, generator=None: torch.empty_like(p).bernoulli_(
        p, generator=generator
    )

# How far a compiled function may be from the plain one, as a share of the norm: float32, summed in another order.
_TOLERANCE, _TINY = 1e-3, 1e-6

# On two cores, compilations cost 5 to 20 seconds, and a minibatch of 100 saves 3 to 8 ms.
_WORTH = 500_000

_logger = logging.getLogger("pyro_vae")
# That there is no GPU is no news to who works on a CPU.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def worth_compiling(choice: str, evaluations: int) -> bool:
    """Decides whether to compile: `on`, `off`, or `auto`, from a number of datapoint evaluations on.

    It decides by the budget, not by the clock: what a run computes must not depend on how busy the machine is.
    """
    return choice == "on" or (choice == "auto" and evaluations >= _WORTH)


class Traced:
    """Creates a function that runs compiled where that is asked for, with the same random draws.

    Each set of input shapes is compiled for when it first comes, and the result is held against the plain function's.
    What cannot be traced, a model that branches on its data for example, stays plain, with a line of log.

    Arguments:
        function: Takes a tensor and perhaps more tensors and numbers, returns detached tensors. It runs apart from
            Pyro's parameter store, without validation.
        modules: The modules whose parameters and buffers it uses.
        compile: Whether to compile it.
    """

    def __init__(self, function: Function, *modules: Any, compile: bool = False) -> None:
        self.compile = compile
        self._call = _Call(function, [module for module in modules if isinstance(module, nn.Module)])
        self._compiled: dict[Any, Function] = {}

    @property
    def settled(self) -> bool:
        """Whether it runs compiled by now."""
        return self.compile and bool(self._compiled)

    def __call__(self, *inputs: Any) -> Outputs:
        """Calls the function."""
        if not self.compile:
            return self._call(*inputs)
        modes = [module.training for module in self._call.parts]
        key = (*modes, *((i.shape, i.dtype, i.device) if isinstance(i, Tensor) else i for i in inputs))
        if (compiled := self._compiled.get(key)) is not None:
            return compiled(*inputs)
        device = inputs[0].device
        generators = generator_state(device)
        before = self._call.copies()
        try:
            self._compiled[key], outputs = self._build(inputs, generators)
        except Exception as error:  # a user's function, and two compilers
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:250]
            _logger.warning("%s is not compiled but goes the plain way: %s", self._call.name, reason)
            self.compile = False
            with torch.no_grad():
                for tensor, old in zip(self._call.tensors().values(), before, strict=True):
                    tensor.copy_(old)
            set_generator_state(generators, device)
            outputs = self._call(*inputs)
        return outputs

    def _build(self, inputs: tuple[Any, ...], generators: dict[str, Tensor]) -> tuple[Function, Outputs]:
        """Compiles the function for inputs like these. Returns it and what it makes of them."""
        used = self._call.tensors()
        places = [n for n, value in enumerate(inputs) if isinstance(value, Tensor)]
        given = [inputs[n] for n in places]

        def pure(*tensors: Tensor) -> Outputs:
            own, others = tensors[: len(used)], tensors[len(used) :]
            arguments = {**dict(enumerate(inputs)), **dict(zip(places, others, strict=True))}
            return self._call.with_tensors(dict(zip(used, own, strict=True)), *arguments.values())

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compilers', about themselves
            graph = make_fx(pure, decomposition_table=_DECOMPOSITIONS)(*self._call.copies(), *given)
            set_generator_state(generators, inputs[0].device)
            changed = self._call.copies()
            expected = pure(*changed, *given)
            set_generator_state(generators, inputs[0].device)
            live = list(used.values())
            options = _CPU_OPTIONS if inputs[0].device.type == "cpu" else _OPTIONS
            with torch.no_grad():
                # The compiler alone: what `torch.compile` puts around it would look for what `Traced` has found.
                code = torch._inductor.standalone_compile(
                    graph,
                    [*live, *given],
                    dynamic_shapes="from_example_inputs",
                    options={"config_patches": options},
                )

            @torch.no_grad()
            def compiled(*inputs: Any) -> Outputs:
                return tuple(code(*live, *(inputs[n] for n in places)))

            outputs = compiled(*inputs)
        if not all(map(_alike, (*outputs, *live), (*expected, *changed))):
            # Numbers that the tracer cannot see, such as those of `random`, stay what they were when it looked.
            raise RuntimeError("the compiled function gives other results")
        return compiled, outputs


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

    def with_tensors(self, tensors: dict[str, Tensor], *inputs: Any) -> Outputs:
        parameters = {
            name: tensors[name].detach().requires_grad_(parameter.requires_grad)
            for name, parameter in self.named_parameters()
        }
        outputs: Outputs = functional_call(self, {**tensors, **parameters}, inputs)
        return outputs


def _alike(found: Tensor, expected: Tensor) -> bool:
    # Gradients that are zero but for rounding are all error: what is tiny may differ.
    found, expected = found.double(), expected.double()
    allowed = _TOLERANCE * expected.norm() + _TINY * math.sqrt(expected.numel())
    return bool((found - expected).norm() <= allowed) or not bool(expected.isfinite().all())
