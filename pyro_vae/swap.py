"""Other tensors in the places of a module's parameters and buffers, for the time of a call."""

__all__ = ["swapped"]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def swapped(module: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts tensors in the places of a module's own, wherever a tensor of it is held, and its own back at the end.

    `torch.func.functional_call` does not find back to the tensors of a module that has two owners.

    Arguments:
        module: The module.
        tensors: The tensors by the names of those that they stand for.
    """
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    others = {id(own[name]): tensor for name, tensor in tensors.items()}
    tables: list[dict[str, Any]] = [t for part in module.modules() for t in (part._parameters, part._buffers)]
    before = [(table, dict(table)) for table in tables]
    try:
        for table, held in before:
            table.update({name: others.get(id(old), old) for name, old in held.items()})
        yield
    finally:
        for table, held in before:
            table.update(held)
