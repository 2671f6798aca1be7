"""How far an estimate has come that takes minutes, told to whoever watches."""

__all__ = ["Watcher", "in_parts", "watched"]

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from torch import Tensor

# Begins a piece of work by its name; what it yields is called with the share that has been done since the last call.
Watcher = Callable[[str], AbstractContextManager[Callable[[float], object]]]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Has what is estimated inside told to a watcher."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def in_parts(values: Tensor, size: int, what: str) -> Iterator[Tensor]:
    """Splits datapoints, and tells how many are done.

    Arguments:
        values: The datapoints, with shape `(datapoints, ...)`.
        size: The number of them in a part.
        what: What they are needed for, in a word or two.
    """
    watcher = _watcher.get()
    with nullcontext(lambda share: None) if watcher is None else watcher(what) as advance:
        for part in values.split(size):
            yield part
            advance(len(part) / len(values))
