"""What can go wrong, by who can mend it. The command line turns each kind into its exit status."""

__all__ = [
    "Count",
    "InputError",
    "Interrupted",
    "Range",
    "RunError",
    "here",
    "reason",
    "require_one_of",
    "require_whole",
    "told",
]

import math
import sysconfig
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any

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


@dataclass(frozen=True)
class Range:
    """Which numbers a part's argument may be, as a mark of its annotation: `levels: Annotated[int, Range(2)] = 256`.

    Arguments:
        least: The least of them.
        most: The greatest.
        above: What they must exceed.
        finite: Whether they are finite. So are those without a range, if the argument's default is.

    Example:
        >>> from pyro_vae.errors import Range
        >>> str(Range(above=0)), 0.5 in Range(0, 1)
        ('above 0', True)
    """

    least: float = -math.inf
    most: float = math.inf
    above: float | None = None
    finite: bool = True

    def __contains__(self, number: float) -> bool:
        return self.least <= number <= self.most and (self.above is None or number > self.above)

    def __str__(self) -> str:
        """Returns what to say after "a number"."""
        bounds = [
            f"above {self.above:g}" if self.above is not None else "",
            f"of at least {self.least:g}" if self.least > -math.inf else "",
            f"of at most {self.most:g}" if self.most < math.inf else "",
        ]
        return " and ".join(bound for bound in bounds if bound)


Count = Annotated[int, Range(1)]
"""A number of things of which there is one at least."""


def reason(error: BaseException) -> str:
    """Tells in one line what went wrong in a user's part: class, message, and the file and line where it did."""
    place = _place(traceback.extract_tb(error.__traceback__))
    try:
        # Pyro adds a table of shapes, which is no line.
        said = " ".join(str(error).partition("Trace Shapes:")[0].split())[:300]
    except BaseException:  # the class is a user's
        said = ""
    name = type.__dict__["__name__"].__get__(type(error))
    return f"{name}: {said}{place}" if said else f"{name}{place}"


def here() -> str:
    """The file and line of a user's part that is running now, in parentheses; empty where there is none."""
    return _place(traceback.extract_stack()).strip()


def _place(frames: traceback.StackSummary) -> str:
    # What the user can mend is the last line that is neither ours nor a library's.
    theirs = [frame for frame in frames if not (_LIBRARY in frame.filename or frame.filename.startswith(_NOT_THEIRS))]
    return f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno})" if theirs else ""


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
        raise InputError(f"{what} failed: {reason(error)}") from error
