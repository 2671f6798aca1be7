"""Python values that modules and learners keep beside their tensors: counters, weights, temperatures.

A trace freezes them, and no `state_dict` holds them. So a function is not compiled where they change as it runs, and
checkpoints hold those of a run's modules.
"""

__all__ = ["Watch", "read", "write"]

import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

Path = tuple[str | int, ...]
Value = bool | int | float | str | None
Place = tuple[str, Path]

# What torch and Pyro keep in modules for themselves, and what `Traced` looks at by itself.
_NOT_THE_USERS = frozenset(vars(nn.Module()))
_LIBRARIES = ("torch", "pyro", "numpy", "zuko", "builtins", "collections", "functools", "pyro_vae")
_NO_STATE = (type, ModuleType, FunctionType, MethodType, nn.Module)
_DEEPEST = 4
_ABSENT, _GLOBAL = object(), "global"


def _entries(part: object, depth: int = 0) -> Iterator[tuple[Path, Any, str | int]]:
    """Finds the values in an object, with the path to each and where it is kept: a mapping or list, and a key."""
    if isinstance(part, nn.Module) and depth == 0:
        for name, module in part.named_modules():
            for path, owner, key in _entries(module, 1):
                yield (name, *path), owner, key
        return
    kept = part if isinstance(part, dict | list) else getattr(part, "__dict__", {})
    for key, value in list(kept.items() if isinstance(kept, Mapping) else enumerate(kept)):
        if key in _NOT_THE_USERS or str(key).startswith(("_pyro", "__")):
            continue
        if isinstance(value, Value) or (isinstance(value, Tensor) and not _is_a_librarys(part)):
            yield (key,), kept, key
        elif depth < _DEEPEST and (isinstance(value, dict | list) or _is_the_users(value)):
            for path, owner, inner in _entries(value, depth + 1):
                yield (key, *path), owner, inner


def _is_the_users(value: object) -> bool:
    return hasattr(value, "__dict__") and not _is_a_librarys(value) and not isinstance(value, _NO_STATE)


def _is_a_librarys(value: object) -> bool:
    return type(value).__module__.partition(".")[0] in _LIBRARIES


def _globals_of(part: object) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """The global variables that a user's class or function sees."""
    for cls in {type(module) for module in part.modules()} if isinstance(part, nn.Module) else {type(part)}:
        name = cls.__module__
        if name.partition(".")[0] not in _LIBRARIES and name in sys.modules:
            yield name, vars(sys.modules[name])


class Watch:
    """Remembers the Python values that objects keep now, and those in the files of their classes.

    Arguments:
        parts: Modules, learners and other objects.
        but: Attributes that may change, by name.
    """

    def __init__(self, parts: Iterable[object], but: Iterable[str] = ()) -> None:
        self._parts, self._but = [*parts], frozenset(but)
        self._before = dict(self._read())

    def _read(self) -> Iterator[tuple[Place, tuple[Any, str | int, Any]]]:
        for part in self._parts:
            for path, owner, key in _entries(part):
                # The tensors of a learner are its own affair: it hands on those that are wanted.
                tensor = isinstance(owner[key], Tensor) and not isinstance(part, nn.Module)
                if path[-1] not in self._but and not tensor:
                    yield (type(part).__name__, path), (owner, key, _seen(owner[key]))
            for name, variables in _globals_of(part):
                for key, value in list(variables.items()):
                    if isinstance(value, int | float) and not key.startswith("__"):
                        yield (_GLOBAL, (name, key)), (variables, key, value)

    def quick_changes(self) -> bool:
        """Whether a value has changed in its place, by a look that costs microseconds."""
        for owner, key, value in self._before.values():
            there = key in owner if isinstance(owner, dict) else int(key) < len(owner)
            now = owner[key] if there else _ABSENT
            if now is not value and not _same(_seen(now), value):
                return True
        return False

    def changes(self) -> list[str]:
        """Names the values that have changed, come or gone since, as `Class.attribute`."""
        return [_name(place) for place in self._changed()]

    def unsaved(self) -> list[str]:
        """Names those of them that `read` does not return: tensors that are no buffers, and global variables."""
        now = dict(self._read())
        seen = {place: [each[place][2] for each in (now, self._before) if place in each] for place in self._changed()}
        return [
            _name(place)
            for place, values in seen.items()
            if place[0] == _GLOBAL or any(isinstance(value, _Version) for value in values)
        ]

    def _changed(self) -> list[Place]:
        now, before = dict(self._read()), self._before
        return [
            place
            for place in dict.fromkeys((*before, *now))
            if place not in now or place not in before or not _same(now[place][2], before[place][2])
        ]

    def restore(self) -> None:
        """Puts the old values back, but for tensors."""
        for place, (owner, key, _) in dict(self._read()).items():
            if place not in self._before and isinstance(owner, dict):
                del owner[key]
        for owner, key, value in self._before.values():
            if not isinstance(value, _Version):
                owner[key] = value


def _name(place: Place) -> str:
    return ".".join(str(each) for each in (place[0], *place[1]) if each not in ("", _GLOBAL))


class _Version(tuple[int, int]):
    """Which tensor it is, and how often it has been written to."""


def _same(one: Any, other: Any) -> bool:
    return one is other or bool(one == other)


def _seen(value: Any) -> Any:
    return _Version((id(value), value._version)) if isinstance(value, Tensor) else value


def read(module: nn.Module) -> list[tuple[Path, Value]]:
    """Returns the Python values of a module and its parts, which a checkpoint can hold."""
    return [(path, owner[key]) for path, owner, key in _entries(module) if not isinstance(owner[key], Tensor)]


def write(module: nn.Module, values: Iterable[tuple[Path, Value]]) -> None:
    """Sets what `read` returned, attributes that come with the first step among them."""
    for (name, *between, key), value in values:
        owner: Any = vars(module.get_submodule(str(name)))
        for each in between:
            inner = owner[each]
            owner = inner if isinstance(inner, dict | list) else vars(inner)
        owner[key] = value
