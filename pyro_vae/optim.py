r"""How a step follows a gradient: the paper's Adagrad, and any optimiser of torch's or Pyro's by name.

An optimiser here is one for all parameters of a run, and a function of tensors: it can be traced with the gradient that
it follows, whatever it is, so that none costs more than another.
"""

__all__ = ["WARMUP", "Optimizer", "WarmupAdagrad", "create_optimizer"]

import inspect
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from pyro.optim.adagrad_rmsprop import AdagradRMSProp
from pyro.optim.clipped_adam import ClippedAdam
from pyro.optim.dct_adam import DCTAdam
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.functional import hardshrink
from torch.overrides import TorchFunctionMode

from pyro_vae.errors import InputError
from pyro_vae.schedules import StepSizes

WARMUP = 101
"""The first steps of the author's Adagrad that move nothing."""

# LBFGS evaluates the objective several times a step, SparseAdam wants sparse gradients.
_UNFIT = (torch.optim.Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam)


# Where no likelihood pulls, as at a pixel that is always black, the prior shrinks weights, and optimisers shrink their
# averages, to subnormal numbers, which processors multiply a hundred times as slowly. Shrinking ends here, far below
# what moves a weight.
_SMALLEST_PULL = 2.0**-50
_SMALLEST_STATE = _SMALLEST_PULL**2


class WarmupAdagrad(torch.optim.Optimizer):
    r"""Creates Adagrad as in the author's code: the first steps only collect squared gradients.

    .. math:: s \leftarrow s + g^2, \quad \theta \leftarrow \theta - \eta \, g / \sqrt{s + \epsilon}

    With weights near 0.01, torch's Adagrad, whose first step is :math:`\eta \, \mathrm{sign}(g)`, would start with a
    leap. Its :math:`\epsilon` also lies outside the root.

    Arguments:
        params: The parameters.
        lr: The global step size :math:`\eta`.
        warmup: The number of first steps that move nothing.
        eps: :math:`\epsilon`, inside the root.
    """

    def __init__(self, params: Sequence[Tensor], lr: float = 0.02, warmup: int = WARMUP, eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "warmup": warmup, "eps": eps})
        for group in self.param_groups:
            group["steps"] = torch.zeros((), dtype=torch.int64, device=group["params"][0].device)
            for parameter in group["params"]:
                self.state[parameter]["sum"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Performs one step."""
        for group in self.param_groups:
            group["steps"] += 1
            step_size = group["lr"] * (group["steps"] > group["warmup"])
            for parameter in group["params"]:
                total = self.state[parameter]["sum"].addcmul_(parameter.grad, parameter.grad)
                parameter -= step_size * parameter.grad / (total + group["eps"]).sqrt()


class Optimizer(nn.Module):
    r"""Makes an optimiser a function of parameters and gradients, with its state in buffers.

    Arguments:
        optimizer: The optimiser, with one group of parameters.
        weight_decay: :math:`\lambda`, which adds :math:`\lambda \theta` to the gradients of parameters with two
            dimensions or more, the paper's prior on the weights. The `weight_decay` of an optimiser itself may mean
            something else, as AdamW's does.
        schedule: What makes of a step size those of all steps; see `pyro_vae.schedules`. None keeps it as it is.
    """

    step_size: Tensor
    count: Tensor

    def __init__(
        self, optimizer: torch.optim.Optimizer, weight_decay: float = 0.0, schedule: StepSizes | None = None
    ) -> None:
        super().__init__()
        self.optimizer, self.weight_decay, self.schedule = optimizer, weight_decay, schedule
        self._rate = "lr" if "lr" in self.group else "eta"
        device = self.group["params"][0].device
        self.register_buffer("step_size", self._sizes(self.group[self._rate]).to(device), persistent=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64, device=device), persistent=False)
        self.ready = bool(optimizer.state)
        """Whether it has all of its state, and so can be traced: most make theirs in their first step."""
        self._adopt()

    @property
    def group(self) -> dict[str, Any]:
        """The parameters with what the optimiser is set to."""
        (group,) = self.optimizer.param_groups
        return group

    @torch.no_grad()
    def forward(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Performs one step."""
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for n, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            parameter.grad = gradient
            if parameter.ndim > 1 and self.weight_decay:
                parameter.grad = gradient + hardshrink(self.weight_decay * parameter, _SMALLEST_PULL)
            state[parameter] = {key: self._buffers.get(f"{n}_{key}", value) for key, value in self._state(n).items()}
        group, own_state, own_group = self.group, self.optimizer.state, dict(self.group)
        self.optimizer.state = state
        group |= {key: self._buffers.get(f"group_{key}", value) for key, value in own_group.items()}
        group["params"] = [*parameters]
        tracing = get_proxy_mode() is not None
        if self.schedule:
            now = self.step_size.index_select(0, self.count.clamp(max=len(self.step_size) - 1).view(1)).squeeze(0)
            group[self._rate] = now if tracing else now.item()
            self.count.add_(1)
        elif tracing:
            group[self._rate] = self.step_size  # it may change from step to step
        if tracing and "capturable" in group:  # torch's own word for steps that read no tensor
            group["capturable"] = True
        try:
            with _numbers_in_tensors(type(self.optimizer)) if tracing else nullcontext():
                inspect.unwrap(type(self.optimizer).step)(self.optimizer)  # without the profiler's hooks
            for n, parameter in enumerate(parameters):
                for key, value in state[parameter].items():
                    kept = self._buffers.get(f"{n}_{key}")
                    if kept is not None and tracing and kept.shape and kept.is_floating_point():
                        kept.copy_(hardshrink(value, _SMALLEST_STATE))
                    elif kept is not None and value is not kept:
                        kept.copy_(value)
        finally:
            for parameter in parameters:
                parameter.grad = None
            group |= own_group
            self.optimizer.state = own_state if self.ready else state
        if not self.ready:
            self.ready = True
            self._adopt()

    def set_step_size(self, step_size: float) -> None:
        """Sets the global step size."""
        self.group[self._rate] = step_size
        self.step_size.copy_(self._sizes(step_size))

    def state_dict(self, *arguments: Any, **named: Any) -> dict[str, Any]:  # type: ignore[override]
        """Returns all that the next step depends on, besides the parameters."""
        return self.optimizer.state_dict() | ({"count": self.count} if self.schedule else {})

    def load_state_dict(self, state: dict[str, Any], *arguments: Any, **named: Any) -> None:  # type: ignore[override]
        """Sets what `state_dict` returned."""
        own = {key: value for key, value in self.group.items() if key in ("foreach", "fused", self._rate)}
        if self.schedule:
            self.count.copy_(state["count"])
        self.optimizer.load_state_dict(_of_version_0_1(state) if "steps" in state else state)
        self.group.update(own)
        self.ready = True
        self._adopt()

    def _sizes(self, step_size: float) -> Tensor:
        """The step sizes of all steps, or the one of all."""
        return self.schedule(step_size) if self.schedule else torch.tensor(step_size, dtype=torch.float64)

    def _state(self, n: int) -> dict[str, Any]:
        return self.optimizer.state.get(self.group["params"][n], {})

    def _adopt(self) -> None:
        """Registers the state's tensors as buffers; counts become tensors, which a trace can follow."""
        for n in range(len(self.group["params"])):
            own = self._state(n)
            for key, value in own.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    own[key] = torch.tensor(float(value), dtype=torch.float64, device=self.group["params"][n].device)
                if isinstance(own[key], Tensor):
                    self.register_buffer(f"{n}_{key}", own[key], persistent=False)
        for key, value in self.group.items():
            if isinstance(value, Tensor):
                self.register_buffer(f"group_{key}", value, persistent=False)


def _of_version_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """The state of the paper's Adagrad as version 0.1 kept it."""
    sums = [value for key, value in sorted(state.items(), key=_number) if key.startswith("sum_")]
    group = {"lr": 0.02, "warmup": WARMUP, "eps": 1e-8, "steps": state["steps"], "params": [*range(len(sums))]}
    return {"state": {n: {"sum": value} for n, value in enumerate(sums)}, "param_groups": [group]}


def _number(item: tuple[str, Any]) -> int:
    return int(item[0].removeprefix("sum_")) if item[0].startswith("sum_") else -1


class _NumbersInTensors(TorchFunctionMode):
    """What an optimiser would read from a tensor stays in it, so that it is traced and not frozen."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        named = named or {}
        if function is Tensor.item:
            return arguments[0].double()
        for name in ("value", "alpha"):  # of addcdiv, addcmul and add, which want a number
            if isinstance(named.get(name), Tensor):
                first, second, *others = arguments
                rest = {key: value for key, value in named.items() if key != name}
                return function(first, second * named[name], *others, **rest)
        return function(*arguments, **named)


@contextmanager
def _numbers_in_tensors(optimizer: type[torch.optim.Optimizer]) -> Iterator[None]:
    module = sys.modules[optimizer.__module__]
    reads = module.__name__ != __name__ and getattr(module, "math", None) is math  # its square root reads a tensor
    if reads:
        module.math = SimpleNamespace(**{**vars(math), "sqrt": _sqrt})  # type: ignore[attr-defined]
    try:
        with _NumbersInTensors():
            yield
    finally:
        if reads:
            module.math = math  # type: ignore[attr-defined]


def _sqrt(value: Any) -> Any:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def create_optimizer(
    name: str,
    parameters: Sequence[Tensor],
    step_size: float,
    weight_decay: float = 0.0,
    warmup: int = WARMUP,
    schedule: StepSizes | None = None,
) -> Optimizer:
    r"""Creates an optimiser by its name.

    Arguments:
        name: `adagrad` is the paper's; every other name is a class of `torch.optim` or `pyro.optim`, in any case
            (`adam`, `ClippedAdam`), and torch's own Adagrad is `Adagrad`.
        parameters: The parameters.
        step_size: The step size, `lr` in torch.
        weight_decay: :math:`\lambda`, which adds :math:`\lambda \theta` to the gradients of parameters with two
            dimensions or more.
        warmup: The warm-up of the paper's Adagrad.
        schedule: What makes of the step size those of all steps; see `pyro_vae.schedules`.

    Raises:
        InputError: If there is no such optimiser, or it cannot train these parameters.
    """
    if name == "adagrad":
        return Optimizer(WarmupAdagrad(parameters, step_size, warmup), weight_decay, schedule)
    known = {
        each.__name__: each
        for each in (*vars(torch.optim).values(), AdagradRMSProp, ClippedAdam, DCTAdam)
        if isinstance(each, type) and issubclass(each, torch.optim.Optimizer) and each not in _UNFIT
    }
    # `ADAGRAD` could be either.
    match = known.get(name) or {n.lower(): each for n, each in known.items() if n != "Adagrad"}.get(name.lower())
    if match is None:
        raise InputError(f"--optimizer {name} is unknown: choose from adagrad, {', '.join(sorted(known))}")
    takes = inspect.signature(match).parameters
    # One parameter after the other is what a compiler can fuse with the gradient.
    settings: dict[str, Any] = {key: False for key in ("foreach", "fused") if key in takes}
    settings["lr" if "lr" in takes else "eta"] = step_size
    try:
        return Optimizer(match(parameters, **settings), weight_decay, schedule)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--optimizer {name} cannot train this model: {error}") from error
