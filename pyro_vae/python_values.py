"""Where Python values are kept: attributes, lists and tables, closures, class attributes, variables of modules.

What is opened is the user's. Objects of the standard library and of installed packages are told apart by their
identity, and those that count or draw (iterators, random generators) by how far they have come.
"""

__all__ = [
    "ABSENT",
    "GLOBAL",
    "UNREADABLE",
    "Found",
    "Path",
    "Place",
    "Plain",
    "Search",
    "is_installed",
    "is_the_users",
    "names_in",
    "own_entries",
]

import argparse
import functools
import io
import itertools
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from types import CodeType, FunctionType, GeneratorType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Path = tuple[str | int, ...]
Plain = bool | int | float | str | None
Place = tuple[str, Path]

ABSENT, GLOBAL = object(), "global"

# What torch keeps in modules for itself.
_NOT_THE_USERS = frozenset(vars(nn.Module()))
_LIBRARIES = ("torch", "pyro", "numpy", "zuko", "builtins", "collections", "functools", "pyro_vae")
_INSTALLED = ("site-packages", "dist-packages")
_TENSORS = ("_parameters", "_buffers", "_modules")
_DEEPEST = 8
_LARGEST = 1_000  # of what holds more, it is seen how many these are
UNREADABLE = (LookupError, AttributeError, TypeError, ValueError)


class Found(NamedTuple):
    """A value in its place.

    Arguments:
        place: The name of what it belongs to, and the path to it.
        owner: What keeps it: a list, a table or `_Attributes`.
        key: Under what it is kept.
        value: The value.
        mark: What changes with a value that stays the same object: how often a tensor has been written to.
        saved: Whether a checkpoint holds it.
        opened: Whether what is in it has places of its own.
        content: What a list, a table or a small tensor holds.
    """

    place: Place
    owner: Any
    key: Any
    value: Any
    mark: Any = None
    saved: bool = False
    opened: bool = False
    content: Any = None

    @property
    def matters(self) -> bool:
        """Whether the next call may depend on it; objects of libraries are most often results of the last one."""
        return self.mark is not None or isinstance(self.value, Plain | Tensor)

    def is_as_it_was(self) -> bool:
        """Whether it is still there and the same, as far as a look at it tells."""
        try:
            now = self.owner[self.key]
        except UNREADABLE:
            return False
        return (now is self.value or _equal(now, self.value)) and (self.mark is None or self.mark == _mark(now))

    def same_as(self, other: "Found") -> bool:
        """Whether two values are the same, besides what has a place of its own."""
        if self.opened and other.opened:
            alike = type(self.value) is type(other.value)
            return alike and getattr(self.value, "__code__", None) is getattr(other.value, "__code__", None)
        same = self.value is other.value or _equal(self.value, other.value)
        return same and (self.mark is None or self.mark == other.mark)

    def put_back(self) -> None:
        """Puts the value where it was, and back into it what it held."""
        try:
            if self.owner[self.key] is not self.value:
                self.owner[self.key] = self.value
        except UNREADABLE:  # what kept it is gone, or cannot be written to
            return
        if isinstance(self.value, random.Random):
            self.value.setstate(self.mark)
        elif self.content is None or (isinstance(self.value, Tensor) and self.value._version == self.mark):
            return
        elif isinstance(self.value, Tensor | np.ndarray):
            self.value[...] = self.content
        else:
            self.value.clear()
            self.value.update(self.content) if isinstance(self.value, dict) else self.value.extend(self.content)

    def remove(self) -> None:
        """Takes the value out of its table; what learns stays."""
        if isinstance(self.owner, dict) and not isinstance(self.value, nn.Module | nn.Parameter):
            self.owner.pop(self.key, None)


class _Attributes:
    """Attributes that are in no table, by name: of a class, of an object with slots, of a variable of a closure."""

    def __init__(self, of: object) -> None:
        self.of = of

    def __getitem__(self, key: str) -> Any:
        return vars(self.of)[key] if isinstance(self.of, type) else getattr(self.of, key)

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self.of, key, value)


class Search:
    """Goes through what objects keep and what their code refers to, and opens each object once.

    Arguments:
        parts: Modules, learners and other objects.
    """

    def __init__(self, parts: Sequence[object]) -> None:
        self.parts = parts
        # By their numbers, which no other object is given as long as they are here.
        self._opened: dict[int, object] = {}
        self._classes: list[type[Any]] = []
        self._own: set[int] = set()  # tensors that modules hold under names
        for part in parts:
            for module in part.modules() if isinstance(part, nn.Module) else ():
                self._opened[id(module)] = module
                self._own |= {id(tensor) for kind in _TENSORS[:2] for tensor in vars(module)[kind].values()}

    def __iter__(self) -> Iterator[Found]:
        for part in self.parts:
            name = type(part).__name__
            if not isinstance(part, nn.Module):
                # The tensors of a learner are its own affair: it hands on those that are wanted.
                yield from self._object((name, ()), part, False, 0, False)
                yield from self._class(type(part), 0)
                continue
            for inner, module in part.named_modules():
                for table in (vars(module)[kind] for kind in _TENSORS):
                    for key, value in table.items():
                        yield Found((name, (inner, key)), table, key, value, saved=True)
                yield from self._object((name, (inner,)), module, not _is_a_librarys(module), 0, True)

    def _value(
        self, place: Place, owner: Any, key: Any, value: Any, theirs: bool, depth: int, saved: bool = False
    ) -> Iterator[Found]:
        if isinstance(value, Plain):
            yield Found(place, owner, key, value, saved=saved and type(value) in (bool, int, float, str, type(None)))
        elif isinstance(value, Tensor):
            if theirs and id(value) not in self._own:
                yield Found(place, owner, key, value, _mark(value), content=_content(value))
        elif theirs or isinstance(value, list | dict) or is_the_users(value):
            opens = depth < _DEEPEST and _opens(value)
            if theirs:
                written = saved and type(value) in (list, dict)
                yield Found(place, owner, key, value, _mark(value), written, opens, _content(value))
            if opens and id(value) not in self._opened:
                self._opened[id(value)] = value
                yield from self._inside(place, value, theirs, depth + 1, saved)

    def _inside(self, at: Place, value: Any, theirs: bool, depth: int, saved: bool) -> Iterator[Found]:
        if isinstance(value, list | tuple | dict | deque):
            for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
                kept = saved and isinstance(value, list | dict)
                yield from self._value((at[0], (*at[1], key)), value, key, inner, theirs, depth, kept)
        elif isinstance(value, FunctionType):
            yield from self._function(at, value, depth)
        elif isinstance(value, MethodType | functools.partial):
            for key in ("__self__", "__func__") if isinstance(value, MethodType) else ("func", "args", "keywords"):
                yield from self._value(
                    (at[0], (*at[1], key)), _Attributes(value), key, getattr(value, key), True, depth
                )
        elif isinstance(value, type):
            yield from self._class(value, depth)
        elif isinstance(value, nn.Module):  # one in a list, which is no part of the module that keeps it
            for name, module in value.named_modules():
                self._opened[id(module)] = module
                yield from self._object((at[0], (*at[1], name)), module, not _is_a_librarys(module), depth, False)
        else:
            yield from self._object(at, value, True, depth, saved)

    def _object(self, at: Place, part: object, theirs: bool, depth: int, saved: bool) -> Iterator[Found]:
        """The attributes of an object, and what its class keeps."""
        for key, value in own_entries(part):
            yield from self._value((at[0], (*at[1], key)), vars(part), key, value, theirs, depth, saved)
        if theirs:
            for slot in (slot for cls in type(part).__mro__ for slot in _slots(cls)):
                if (value := getattr(part, slot, ABSENT)) is not ABSENT:
                    yield from self._value((at[0], (*at[1], slot)), _Attributes(part), slot, value, theirs, depth)
            yield from self._class(type(part), depth)

    def _class(self, cls: type[Any], depth: int) -> Iterator[Found]:
        """The attributes of a class and of those that it is made of, and what their methods keep."""
        for base in cls.__mro__:
            if is_installed(base.__module__) or any(base is each for each in self._classes):
                continue
            self._classes.append(base)
            for key, value in list(vars(base).items()):
                at = base.__name__, (key,)
                if functions := _functions(value):
                    for function in functions:
                        yield from self._function(at, function, depth)
                elif not key.startswith(("__", "_pyro", "_abc")):
                    yield from self._value(at, _Attributes(base), key, value, True, depth + 1)

    def _function(self, at: Place, function: FunctionType, depth: int) -> Iterator[Found]:
        """What a function keeps: variables around it, defaults, attributes, and what it names of its module's."""
        variables = function.__globals__
        if depth >= _DEEPEST or is_installed(variables.get("__name__", "")):
            return
        for key, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if (inner := getattr(cell, "cell_contents", ABSENT)) is not ABSENT:
                where = (at[0], (*at[1], key))
                yield from self._value(where, _Attributes(cell), "cell_contents", inner, True, depth + 1)
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        kept: Any
        for kept in (dict(enumerate(defaults)), vars(function)):
            for each, inner in list(kept.items()):
                yield from self._value((at[0], (*at[1], each)), kept, each, inner, True, depth + 1)
        yield from self._variables(variables, names_in(function.__code__), depth)

    def _variables(self, variables: dict[str, Any], names: set[str], depth: int) -> Iterator[Found]:
        """The variables of a module that code names, and those of other modules that it names through them."""
        for key in sorted(names & variables.keys()):
            value = variables[key]
            if isinstance(value, ModuleType):
                if not is_installed(value.__name__):
                    yield from self._variables(vars(value), names, depth + 1)
            elif not key.startswith("__") and not (
                isinstance(value, type | FunctionType) and is_installed(value.__module__)
            ):
                place = (GLOBAL, (_shown(variables), key))
                yield from self._value(place, variables, key, value, True, depth + 1)


def own_entries(part: object) -> list[tuple[str, Any]]:
    """The attributes of an object that are neither torch's nor Pyro's."""
    return [
        (key, value)
        for key, value in getattr(part, "__dict__", {}).items()
        if key not in _NOT_THE_USERS and not str(key).startswith(("_pyro", "__"))
    ]


def is_the_users(value: object) -> bool:
    """Whether an object keeps attributes that may be a user's."""
    if isinstance(value, type | ModuleType | FunctionType | MethodType | nn.Module) or not hasattr(value, "__dict__"):
        return False
    return isinstance(value, SimpleNamespace | argparse.Namespace) or not (
        _is_a_librarys(value) or is_installed(type(value).__module__)
    )


def _opens(value: object) -> bool:
    """Whether what is in an object is looked at."""
    if isinstance(value, list | tuple | dict | deque):
        return len(value) <= _LARGEST
    if isinstance(value, FunctionType | type):
        return not is_installed(value.__module__)
    if isinstance(value, MethodType | functools.partial):
        return True
    if isinstance(value, nn.Module):
        return True
    return is_the_users(value) or any(_slots(cls) for cls in type(value).__mro__ if not is_installed(cls.__module__))


def _is_a_librarys(value: object) -> bool:
    return type(value).__module__.partition(".")[0] in _LIBRARIES


def is_installed(module: str) -> bool:
    """Whether a module is one of Python's or of an installed package."""
    top = module.partition(".")[0]
    if top in _LIBRARIES or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return any(folder in PurePath(file).parts for folder in _INSTALLED)


def _slots(cls: type[Any]) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return () if is_installed(cls.__module__) else (slots,) if isinstance(slots, str) else tuple(slots)


def _functions(member: object) -> list[FunctionType]:
    """The functions of a member of a class: a method, a property."""
    of = (member, *(getattr(member, name, None) for name in ("__func__", "fget", "fset", "func")))
    return [function for function in of if isinstance(function, FunctionType)]


def names_in(code: CodeType) -> set[str]:
    """What code names, with the code inside it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(names_in, inner))


def _shown(variables: dict[str, Any]) -> str:
    """What a user calls a module: by its file, which is run under a name of ours."""
    file = variables.get("__file__")
    return PurePath(file).stem if isinstance(file, str) else str(variables.get("__name__"))


def _equal(one: Any, other: Any) -> bool:
    # Of true and 1 a trace may make different things.
    return isinstance(one, Plain) and type(one) is type(other) and bool(one == other)


def _content(value: Any) -> Any:
    """A copy of what a value holds; None where there is nothing to be put back."""
    if isinstance(value, Tensor):
        return value.detach().clone() if value.numel() <= _LARGEST and not value.requires_grad else None
    if isinstance(value, np.ndarray):
        return None if _mark(value) is None else value.copy()
    return value.copy() if isinstance(value, list | dict | deque) else None


def _mark(value: Any) -> Any:
    """What changes with a value that stays the same object; None where nothing does that could be seen."""
    if isinstance(value, Tensor):
        return None if value.is_inference() else value._version
    if isinstance(value, list | dict | deque | set):
        return len(value)
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.size <= _LARGEST and value.dtype != object else None
    if isinstance(value, torch.Generator):
        return value.get_state().cpu().numpy().tobytes()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.Generator | np.random.RandomState):
        return repr(value.bit_generator.state if isinstance(value, np.random.Generator) else value.get_state())
    if isinstance(value, itertools.count):
        return repr(value)
    if isinstance(value, GeneratorType):
        frame = value.gi_frame
        return frame and (frame.f_lasti, [v for v in frame.f_locals.values() if isinstance(v, Plain)])
    if hasattr(value, "__length_hint__"):  # an iterator of a list, a tuple or a range
        return value.__length_hint__()
    if hasattr(type(value), "__next__") and not isinstance(value, io.IOBase) and not is_the_users(value):
        return float("nan")  # it may have moved on: nothing is equal to it
    return None
