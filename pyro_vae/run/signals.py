"""SIGINT and SIGTERM, held until a run can end."""

__all__ = ["collected"]

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the loop can end between two steps; a second one ends at once."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may set handlers
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        received.append(number)
        for each in old:
            signal.signal(each, signal.SIG_DFL)

    try:
        for number in old:
            signal.signal(number, handle)
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
