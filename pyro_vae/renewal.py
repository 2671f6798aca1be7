"""A program anew for each run: a function with copies of the nets that it finds around itself.

What a function reaches, by its variables, closure and defaults, belongs to its file and to all runs of a process. A run
must not change what another starts from, so that it has a copy of the function, whose names mean copies: of nets, of
functions in turn, and of lists, tables and objects that hold nets. All else is what it was.
"""

__all__ = ["Renewal"]

import copy
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from pyro.infer.autoguide import AutoGuide
from pyro.poutine.messenger import _bound_partial
from torch import nn

from pyro_vae.errors import InputError, reason
from pyro_vae.python_values import is_installed, is_the_users, names_in, own_entries


class Renewal:
    """Makes copies, one of each thing, however often it is met.

    Attributes:
        nets: The copied nets with their names.
    """

    def __init__(self) -> None:
        self.nets: list[tuple[str, nn.Module]] = []
        self._copies: dict[int, Any] = {}  # as `copy.deepcopy` has them
        self._kept: list[Any] = []  # so that no other object is given their numbers

    def keep(self, value: Any) -> None:
        """Leaves an object that belongs to this run alone as it is."""
        self._remember(value, value)

    def __call__(self, value: Any, name: str = "") -> Any:
        """Returns a copy of a value, or the value itself where it holds no net.

        Arguments:
            value: The value.
            name: What a net is called.

        Raises:
            InputError: If a net cannot be copied.
        """
        if id(value) in self._copies:
            return self._copies[id(value)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return MethodType(value.__func__, self(value.__self__, name))
        if isinstance(value, _bound_partial):  # a function inside a handler of Pyro's
            return _bound_partial(self(value.func, name))
        if isinstance(value, partial):
            return type(value)(self(value.func, name), *map(self, value.args), **self._table(value.keywords))
        if isinstance(value, ModuleType):
            return self._module(value)
        if type(value) in (list, tuple):
            return self._remember(value, type(value)(self(each, f"{name}_{n}") for n, each in enumerate(value)))
        if type(value) is dict:
            return self._remember(value, self._table(value))
        if isinstance(value, nn.Module) or (is_the_users(value) and _holds_net(value)):
            return self._copied(value, name)
        return value

    def _remember(self, value: Any, copied: Any) -> Any:
        self._copies[id(value)] = copied
        self._kept.append(value)
        return copied

    def _table(self, values: dict[Any, Any]) -> dict[Any, Any]:
        return {key: self(each, str(key)) for key, each in values.items()}

    def _copied(self, value: Any, name: str) -> Any:
        # An autoguide that is copied loses its model, and so does its copy.
        inner = [part for _, net in _nets(value) for part in net.modules()]
        models = [(part, part._model) for part in inner if isinstance(part, AutoGuide)]
        try:
            copied = copy.deepcopy(value, self._copies)
        except Exception as error:  # a user's object may refuse in any way
            raise InputError(f"{name or type(value).__name__} cannot be copied for the run: {reason(error)}") from error
        finally:
            for auto, held in models:
                auto._model = held
        self._remember(value, copied)
        for auto, held in models:
            self._copies[id(auto)]._model = self(held)
        found = [(name, copied)] if isinstance(copied, nn.Module) else _nets(copied)
        self.nets += [(each or type(net).__name__, net) for each, net in found]
        return copied

    def _function(self, function: FunctionType) -> FunctionType:
        installed = is_installed(function.__globals__.get("__name__", ""))
        cells = [CellType() for _ in function.__closure__ or ()]
        if installed and not cells:
            return function
        variables = function.__globals__ if installed else self._variables(function.__globals__)
        renewed = FunctionType(function.__code__, variables, function.__name__, None, tuple(cells) or None)
        self._remember(function, renewed)  # before what is in it, which may be itself
        renewed.__qualname__, renewed.__module__, renewed.__doc__ = (
            function.__qualname__,
            function.__module__,
            function.__doc__,
        )
        renewed.__dict__.update(function.__dict__)
        renewed.__annotations__ = function.__annotations__
        renewed.__defaults__ = self(function.__defaults__) if function.__defaults__ else None
        renewed.__kwdefaults__ = self._table(function.__kwdefaults__) if function.__kwdefaults__ else None
        for name, cell, old in zip(function.__code__.co_freevars, cells, function.__closure__ or (), strict=True):
            if old != CellType():  # an empty one is of a name that is not bound yet
                cell.cell_contents = self(old.cell_contents, name)
        if not installed:
            self._rename(variables, function.__globals__, names_in(function.__code__))
        return renewed

    def _variables(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The variables of a module, one copy of the table for all functions in it."""
        found: dict[str, Any] = self._copies.get(id(variables)) or self._remember(variables, dict(variables))
        return found

    def _module(self, module: ModuleType) -> ModuleType:
        """A user's module, of which functions name what they want."""
        if is_installed(module.__name__):
            return module
        renewed = ModuleType(module.__name__, module.__doc__)
        self._remember(module, renewed)
        vars(renewed).update(vars(module))
        self._rename(vars(renewed), vars(module), {*vars(module)})
        return renewed

    def _rename(self, variables: dict[str, Any], old: dict[str, Any], names: set[str]) -> None:
        for name in sorted(names & old.keys()):
            if variables.get(name) is old[name]:
                variables[name] = self(old[name], name)


def _nets(value: Any) -> list[tuple[str, nn.Module]]:
    """The nets in the attributes of an object, and in lists and tables there."""
    found, seen, waiting = list[tuple[str, nn.Module]](), set[int](), [("", value)]
    while waiting:
        name, each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, nn.Module):
            found.append((name, each))
        elif isinstance(each, list | tuple | dict):
            entries = each.items() if isinstance(each, dict) else enumerate(each)
            waiting += [(f"{name}_{key}", inner) for key, inner in entries]
        elif is_the_users(each):
            waiting += [(str(key), inner) for key, inner in own_entries(each)]
    return found[::-1]


def _holds_net(value: Any) -> bool:
    return bool(_nets(value))
