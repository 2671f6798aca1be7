"""Python values that modules and learners keep beside their tensors: counters, weights, temperatures.

A trace freezes them, and no `state_dict` holds them. So a function is not compiled where they change as it runs, and
checkpoints hold those of a run's modules. Where they are kept is found by `pyro_vae.python_values`.
"""

__all__ = ["Watch", "read", "write"]

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from pyro_vae.python_values import (
    ABSENT,
    GLOBAL,
    UNREADABLE,
    Found,
    Path,
    Place,
    Plain,
    Search,
    is_the_users,
    own_entries,
)

Value = Plain | list[Any] | dict[Any, Any]


class Watch:
    """Remembers the Python values that objects keep now, and those that the code of their classes refers to.

    Arguments:
        parts: Modules, learners and other objects.
        but: Attributes that may change, by name.
    """

    def __init__(self, parts: Iterable[object], but: Iterable[str] = ()) -> None:
        self._parts, self._but = [*parts], frozenset(but)
        self._before = self._read()
        # Before every compiled step: most are the same object still, which needs no call to tell.
        unmarked = [found for found in self._before.values() if found.mark is None]
        self._same = [(found.owner, found.key, found.value, found.is_as_it_was) for found in unmarked]
        self._marked = [found for found in self._before.values() if found.mark is not None]

    def _read(self) -> dict[Place, Found]:
        return {found.place: found for found in Search(self._parts) if found.place[1][-1] not in self._but}

    def may_have_changed(self) -> bool:
        """Whether something is no longer what it was, by a look that costs microseconds."""
        try:
            for owner, key, value, is_as_it_was in self._same:
                if owner[key] is not value and not is_as_it_was():
                    return True
        except UNREADABLE:
            return True
        return any(not found.is_as_it_was() for found in self._marked)

    def changes(self) -> list[str]:
        """Names the values that have changed, come or gone since, as `Class.attribute`."""
        return list(dict.fromkeys(_name(place) for place, _ in self._changed()))

    def unsaved(self) -> list[str]:
        """Names those of them that no checkpoint holds, neither by `read` nor in a `state_dict`."""
        return list(
            dict.fromkeys(
                _name(place) for place, kept in self._changed() if any(f.matters and not f.saved for f in kept)
            )
        )

    def _changed(self) -> Iterator[tuple[Place, list[Found]]]:
        now, before = self._read(), self._before
        for place in dict.fromkeys((*before, *now)):
            kept = [each[place] for each in (before, now) if place in each]
            if len(kept) == 1 or not kept[0].same_as(kept[1]):
                yield place, kept

    def restore(self) -> None:
        """Puts the old values back; what has been written into tensors stays."""
        for place, found in self._read().items():
            if place not in self._before:
                found.remove()
        for found in self._before.values():
            found.put_back()


def _name(place: Place) -> str:
    return ".".join(str(each) for each in (place[0], *place[1]) if each not in ("", GLOBAL))


def read(module: nn.Module) -> list[tuple[Path, Value]]:
    """Returns the Python values of a module and its parts that a checkpoint can hold."""
    return [
        ((name, *path), value)
        for seen in [set[int]()]
        for name, inner in module.named_modules()
        for path, value in _values(inner, seen)
    ]


def _values(part: object, seen: set[int]) -> Iterator[tuple[Path, Value]]:
    """The values in an object that is seen for the first time, with the path to each."""
    if id(part) in seen:
        return
    seen.add(id(part))
    kept = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else own_entries(part)
    for key, value in kept:
        if (copied := _copied(value)) is not ABSENT:
            yield (key,), copied
        elif isinstance(value, dict | list) or is_the_users(value):
            for path, inner in _values(value, seen):
                yield (key, *path), inner


def _copied(value: Any) -> Any:
    """A value that a checkpoint can hold, with lists and tables in it; ABSENT where there is something else in it."""
    if type(value) in (bool, int, float, str, type(None)):
        return value
    if type(value) not in (list, dict):
        return ABSENT
    items = [(k, _copied(v)) for k, v in (value.items() if type(value) is dict else enumerate(value))]
    if any(v is ABSENT or type(k) not in (int, str) for k, v in items):
        return ABSENT
    return dict(items) if type(value) is dict else [v for _, v in items]


def write(module: nn.Module, values: Iterable[tuple[Path, Value]]) -> None:
    """Sets what `read` returned, attributes that come with the first step among them."""
    for (name, *between, key), value in values:
        owner: Any = vars(module.get_submodule(str(name)))
        for each in between:
            inner = owner[each]
            owner = inner if isinstance(inner, dict | list) else vars(inner)
        old = owner.get(key) if isinstance(owner, dict) else owner[key]
        # Others may hold the same list or table, so that it is filled anew and not replaced.
        if type(old) is list and isinstance(value, list):
            old[:] = value
        elif type(old) is dict and isinstance(value, dict):
            old.clear()
            old.update(value)
        else:
            owner[key] = value
