"""A part inside another module, which looks as the part does: to its state, its attributes and those who name it."""

__all__ = ["SumsOut", "Wrapped"]

from typing import Any

from pyro.infer import config_enumerate
from torch import nn


class Wrapped(nn.Module):
    """A part that is called in another way. Its state has the part's own names, and what it lacks the part has.

    Arguments:
        part: The part.
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["part"], name)


class SumsOut(Wrapped):
    """Marks every discrete site of a part to be summed out, where it is not marked otherwise."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Runs the part."""
        return config_enumerate(self.part)(*inputs, **named)


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}part.")]:
        state[prefix + name.removeprefix(f"{prefix}part.")] = state.pop(name)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}part.{name.removeprefix(prefix)}"] = state.pop(name)
