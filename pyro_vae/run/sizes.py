"""How large the parts of a run get, held against the memory at hand before they are: settings may be a stranger's."""

__all__ = ["built_within", "require_step"]

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_vae.device import host_generators, set_host_generators
from pyro_vae.errors import InputError
from pyro_vae.memory import free_memory, said, widest

# Below this, a tensor is not worth a look, and a part none at the memory.
_SMALL, _LARGE = 2**24, 2**28
# No honest part has so many tensors, and a million of them take minutes to make.
_MOST_TENSORS = 20_000
# Weights are held twice while they are read from their file; in training with gradients, the optimiser's state and the
# checkpoint.
_READ, _TRAINED = 2, 4
# A step holds what each layer makes of a minibatch, and the gradients of it.
_LAYERS = 2


class TooLarge(Exception):
    """A part needs more memory than there is."""


class _Allocations(TorchDispatchMode):
    """Adds up what a constructor registers, and stops it before it allocates more than there is.

    Arguments:
        room: The bytes that there are.
    """

    def __init__(self, room: float) -> None:
        super().__init__()
        self.room, self.numbers, self.bytes, self.tensors = room, 0, 0, 0

    def __enter__(self) -> Self:
        self._hooks = [
            register(self._registered)
            for register in (register_module_parameter_registration_hook, register_module_buffer_registration_hook)
        ]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        size = _made(function, arguments, named)
        if size > _SMALL and self.bytes + size > self.room:
            raise TooLarge
        return function(*arguments, **named)

    def _registered(self, module: nn.Module, name: str, value: Tensor | None) -> None:
        if value is None or is_lazy(value):
            return
        self.tensors += 1
        self.numbers += value.numel()
        self.bytes += value.numel() * value.element_size()
        if self.bytes > self.room or self.tensors > _MOST_TENSORS:
            raise TooLarge


def _made(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> int:
    """The bytes of what an operation is about to make; 0 where it is only another look at what is there."""
    if function.is_view:
        return 0
    name = function.overloadpacket.__name__
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    dtype = named.get("dtype") or (tensors[0].dtype if tensors else torch.get_default_dtype())
    sizes = next((value for value in arguments if isinstance(value, list | tuple) and _whole(value)), None)
    whole = [value for value in arguments if isinstance(value, int | float) and not isinstance(value, bool)]
    count = max((tensor.numel() for tensor in tensors), default=0)
    if sizes and (not tensors or name.startswith("new_")):
        count = math.prod(sizes)
    elif sizes and name == "repeat":
        count *= math.prod(sizes)
    elif not tensors and whole and name == "eye":
        count = int(whole[0] * whole[-1])
    elif not tensors and whole and name in ("arange", "linspace", "logspace", "randperm"):
        count = int(max(whole))
    elif len(tensors) > 1:
        with suppress(RuntimeError):  # they are no partners of an operation cell by cell
            count = math.prod(torch.broadcast_shapes(*(tensor.shape for tensor in tensors)))
    return count * dtype.itemsize


def _whole(values: Any) -> bool:
    return bool(values) and all(isinstance(value, int) for value in values)


def built_within(what: str, build: Callable[[], Any]) -> Any:
    """Builds a part within the memory at hand.

    As soon as its constructor gets to something large, it is stopped and built without values, on torch's meta device,
    to find how large it becomes; where there is room, it is then built anew.

    Arguments:
        what: The part and what it is made of, for the message.
        build: Builds it.

    Raises:
        InputError: If there is no room for it.
    """
    generators, torchs = host_generators(), torch.get_rng_state()
    try:
        with _Allocations(_LARGE) as begun:
            return build()
    except TooLarge:
        if begun.tensors > _MOST_TENSORS:
            raise InputError(f"{what} has more than {_MOST_TENSORS:,} tensors of weights: lower its sizes") from None
    room = free_memory()
    counted = _Allocations(math.inf)
    try:
        with (
            suppress(Exception),
            torch.device("meta"),
            counted,
        ):  # some constructors look at the values of their tensors
            build()
        if counted.bytes > room / _READ:
            raise TooLarge
        set_host_generators(generators)
        torch.set_rng_state(torchs)
        with _Allocations(room / _READ):
            return build()
    except TooLarge:
        size = f"{counted.numbers:,} parameters or more, {said(counted.bytes)}" if counted.numbers else "more numbers"
        raise InputError(f"{what} has {size}, and {said(room)} of memory are free: lower its sizes") from None


def require_step(modules: Iterable[nn.Module], batch: int, particles: int, features: int, device: torch.device) -> None:
    """Checks that training has room: for the weights and what goes with them, and for a minibatch in each layer.

    Arguments:
        modules: The model and its guide.
        batch: Datapoints of a minibatch.
        particles: Draws of each.
        features: Cells of each.
        device: Where they are.

    Raises:
        InputError: If it has not.
    """
    modules = [*modules]
    parameters = [parameter for module in modules for parameter in module.parameters() if not is_lazy(parameter)]
    weights = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    step = _LAYERS * batch * particles * widest(modules, features) * torch.get_default_dtype().itemsize
    needed = step + (_TRAINED - 1) * weights
    if needed < _SMALL:
        return
    room = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if needed > room:
        raise InputError(
            f"--batch {batch} with --particles {particles} and {sum(p.numel() for p in parameters):,} parameters need "
            f"{said(needed)} to train, and {said(room)} of memory are free: lower them"
        )
