"""Standard output and standard error that bear what may happen to them, and pass on nothing that moves a cursor."""

__all__ = ["Lost", "outputs"]

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

# Colours are what our tables send to a terminal.
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


class Lost(Exception):
    """Standard output cannot be written any more. No `OSError`, of which libraries make something of their own.

    Arguments:
        error: Why.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.unread = error.errno == errno.EPIPE


class _Output:
    """A stream in the place of another, which it asks for everything but writing.

    Arguments:
        stream: The other.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Results(_Output):
    """Standard output: names of files and columns may hold what moves a cursor, and it may end before we do."""

    def write(self, text: str) -> int:
        """Writes text, with `?` for what does not print."""
        parts = _COLOUR.split(text) if self._stream.isatty() else [text]
        shown = "".join(part if n % 2 else _printable(part) for n, part in enumerate(parts))
        try:
            self._stream.write(shown)
        except OSError as error:
            raise Lost(error) from error
        return len(text)

    def flush(self) -> None:
        """Writes what is waiting."""
        try:
            self._stream.flush()
        except OSError as error:
            raise Lost(error) from error


class _Reports(_Output):
    """Standard error: when nobody can read it any more, training goes on without."""

    def write(self, text: str) -> int:
        """Writes text, as far as that can be done."""
        try:
            self._stream.write(text)
        except OSError:
            _drained(self._stream)
        return len(text)

    def flush(self) -> None:
        """Writes what is waiting, as far as that can be done."""
        try:
            self._stream.flush()
        except OSError:
            _drained(self._stream)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


@contextmanager
def outputs() -> Iterator[None]:
    """Puts streams that bear their end in the place of standard output and standard error.

    Raises:
        Lost: If what was written to standard output could not be.
    """
    before = sys.stdout, sys.stderr
    for name, kind in (("stdout", _Results), ("stderr", _Reports)):
        # Closed when Python starts, there is none; a name may have characters that its encoding lacks.
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, kind(stream))
    try:
        yield
        sys.stdout.flush()
    except Lost:
        _drained(before[0])
        raise
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _drained(stream: Any) -> None:
    """Lets what waits in a stream go nowhere, so that the interpreter does not try again at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
