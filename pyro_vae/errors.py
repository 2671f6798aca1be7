"""What can go wrong, by who can mend it. The command line turns each kind into its exit status."""

__all__ = ["InputError", "Interrupted", "RunError", "describe", "require_whole", "told"]

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """The user's input is wrong: one line that names the thing, its value and the mend. Exit status 2."""


class RunError(RuntimeError):
    """A run failed on its way. Exit status 1."""


class Interrupted(Exception):
    """A signal ended the run, after a checkpoint. Exit status 128 + signal.

    Arguments:
        signal: The signal's number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"interrupted by signal {signal}")
        self.signal = signal


def require_whole(name: str, value: Any, least: int = 1) -> None:
    """Checks a part's argument that counts something. What the command line reads is checked by `settings.whole`.

    Raises:
        InputError: If it is no whole number, or below the least.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise InputError(f"{name} {value} is not possible: give a whole number from {least} on")


def describe(error: BaseException) -> str:
    """Returns an error in one line: its type, its message, and where it came from, outside of installed packages."""
    installed = sysconfig.get_path("purelib")
    frames = traceback.extract_tb(error.__traceback__)
    at = next((frame for frame in reversed(frames) if not frame.filename.startswith(installed)), frames[-1])
    message = str(error).partition("\n")[0].strip()[:300]  # Pyro adds the shapes of all sites
    return f"{type(error).__name__}: {message} ({Path(at.filename).name}:{at.lineno})"


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tells what a user's part raises in one line, where it may fail in any way.

    Arguments:
        what: What is done in the block, for the message.

    Raises:
        InputError: In the place of what is no error of ours.
    """
    try:
        yield
    except (InputError, RunError, Interrupted):
        raise
    except Exception as error:
        raise InputError(f"{what} failed: {describe(error)}") from error
