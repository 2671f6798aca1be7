"""How large the parts of a run get, held against the memory at hand before they are: settings may be a stranger's."""

__all__ = ["built_within", "require_step", "within_memory"]

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pyro_vae.device import host_generators, set_host_generators
from pyro_vae.errors import InputError, here
from pyro_vae.memory import free_memory, said, widest

# Below this, a tensor is not worth a look, and a part none at the memory.
_SMALL, _LARGE = 2**24, 2**28
# No honest part has so many tensors, and a million of them take minutes to make.
_MOST_TENSORS = 20_000
# Weights are held twice while they are read from their file; in training with gradients, the optimiser's state and the
# checkpoint.
_READ, _TRAINED = 2, 4
# A prior is built before the networks, which have weights for each of its latent variables and so need more room.
_OF_PRIOR = 8
# A step holds what each layer makes of a minibatch, and the gradients of it.
_LAYERS = 2
# Of a number, the most that there are.
_WIDEST = 16


class TooLarge(InputError):
    """A part needs more memory than there is."""


class _Allocations(TorchDispatchMode):
    """Adds up what is made and what modules register, and stops before more is allocated than there is.

    Arguments:
        room: The bytes that there are.
    """

    supports_higher_order_operators = True

    def __init__(self, room: float) -> None:
        super().__init__()
        self.room, self.numbers, self.bytes, self.tensors = room, 0, 0, 0
        self.large: list[tuple[StorageWeakRef, int]] = []

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
        if size <= _SMALL:
            return function(*arguments, **named)
        self.large = [(storage, held) for storage, held in self.large if not storage.expired()]
        if (needed := max(self.bytes, sum(held for _, held in self.large)) + size) > self.room:
            raise TooLarge(f"{said(needed)} {here()}".strip())
        made = function(*arguments, **named)
        if isinstance(made, Tensor) and made.layout == torch.strided:
            self.large.append((StorageWeakRef(made.untyped_storage()), size))
        return made

    def _registered(self, module: nn.Module, name: str, value: Tensor | None) -> None:
        if value is None or is_lazy(value):
            return
        self.tensors += 1
        self.numbers += value.numel()
        self.bytes += value.numel() * value.element_size()
        if self.bytes > self.room or self.tensors > _MOST_TENSORS:
            raise TooLarge(said(self.bytes))


def _made(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> int:
    """The bytes of what an operation is about to make, found by performing it without values; 0 where it cannot be.

    It cannot where the values say how much it makes, which is then no more than it was given.
    """
    schema = getattr(function, "_schema", None)  # what runs other operations, a loop or a condition, has none
    if schema is None or function.is_view or (schema.is_mutable and "resize" not in schema.name):
        return 0
    given = tree_leaves((arguments, named))
    tensors = [value for value in given if isinstance(value, Tensor)]
    if any(torch.device(each).type == "cuda" for each in (*(t.device for t in tensors), named.get("device") or "cpu")):
        return 0  # its allocator refuses by itself
    whole = [abs(value) for value in given if isinstance(value, int | float)]
    if tensors and _WIDEST * math.prod(max(1, n) for n in (*whole, *(t.numel() for t in tensors))) <= _SMALL:
        return 0
    named = {key: None if isinstance(value, torch.Generator) else value for key, value in named.items()}
    if any(argument.name == "device" for argument in schema.arguments):
        named["device"] = "meta"
    with suppress(Exception):
        made = function(*tree_map(_empty, arguments), **tree_map(_empty, named))
        return sum(value.numel() * value.element_size() for value in tree_leaves(made) if isinstance(value, Tensor))
    return 0


def _empty(value: Any) -> Any:
    """A tensor without values in the place of a tensor."""
    return value.detach().to("meta") if isinstance(value, Tensor) else value


def built_within(what: str, build: Callable[[], Any], first: bool = False) -> Any:
    """Builds a part within the memory at hand.

    As soon as its constructor gets to something large, it is stopped and built without values, on torch's meta device,
    to find how large it becomes; where there is room, it is then built anew.

    Arguments:
        what: The part and what it is made of, for the message.
        build: Builds it.
        first: Whether it is a prior, which leaves most of the room to the networks.

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
    most = room / _READ / (_OF_PRIOR if first else 1)
    counted = _Allocations(math.inf)
    try:
        with (
            suppress(Exception),
            torch.device("meta"),
            counted,
        ):  # some constructors look at the values of their tensors
            build()
        if counted.bytes > most:
            raise TooLarge
        set_host_generators(generators)
        torch.set_rng_state(torchs)
        with _Allocations(most):
            return build()
    except TooLarge:
        size = f"{counted.numbers:,} parameters or more, {said(counted.bytes)}" if counted.numbers else "more numbers"
        others = ", most of it for the networks" if first else ""
        raise InputError(f"{what} has {size}, and {said(room)} of memory are free{others}: lower its sizes") from None


@contextmanager
def within_memory(what: str) -> Iterator[None]:
    """Lets parts run inside the block as long as there is room for what they make.

    Functions make their parameters when they are first called, so that there is no constructor to be stopped.

    Arguments:
        what: What runs, for the message.

    Raises:
        InputError: Before something is made for which there is none.
    """
    room = free_memory()
    try:
        with _Allocations(room):
            yield
    except TooLarge as error:
        raise InputError(f"{what} needs {error}, and {said(room)} of memory are free: lower its sizes") from None


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
    every = {parameter for module in modules for parameter in module.parameters()}  # programs of a pair share theirs
    parameters = [parameter for parameter in every if not is_lazy(parameter)]
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
