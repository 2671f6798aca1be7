"""What can go wrong, by who can mend it. The command line turns each kind into its exit status."""

__all__ = ["InputError", "Interrupted", "RunError", "reason", "require_one_of", "require_whole"]

import sysconfig
import traceback
from collections.abc import Collection
from numbers import Integral
from pathlib import Path
from typing import Any

_LIBRARY, _NOT_THEIRS = "site-packages", (str(Path(__file__).parent), sysconfig.get_path("stdlib"))


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


def require_one_of(name: str, value: Any, choices: Collection[str]) -> None:
    """Checks a part's argument that is one of some words.

    Raises:
        InputError: If it is none of them.
    """
    if value not in choices:
        raise InputError(f"{name} {value} is unknown: choose from {', '.join(choices)}")


def reason(error: BaseException) -> str:
    """Tells in one line what went wrong in a user's part: type, message, and the file and line where it did."""
    frames = traceback.extract_tb(error.__traceback__)
    # What the user can mend is the last line that is neither ours nor a library's.
    theirs = [frame for frame in frames if not (_LIBRARY in frame.filename or frame.filename.startswith(_NOT_THEIRS))]
    at = (theirs or frames)[-1:]
    place = f" ({Path(at[0].filename).name}:{at[0].lineno})" if at else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"
