"""What a check finds: it returns what it has seen, or raises what is wrong or why it cannot be told."""

__all__ = ["Fault", "Skipped", "Verdict", "judge"]

import warnings
from collections.abc import Callable
from typing import NamedTuple

from pyro_vae.errors import InputError, Interrupted, RunError, reason


class Fault(Exception):
    """A contract is not kept.

    Arguments:
        finding: What was found, in one sentence.
        mend: What to change.
    """

    def __init__(self, finding: str, mend: str) -> None:
        super().__init__(f"{finding}: {mend}")
        self.finding, self.mend = finding, mend


class Skipped(Exception):
    """A contract means nothing here, or cannot be tested. Its text says why."""


class Verdict(NamedTuple):
    """What came of a check.

    Arguments:
        check: Its name.
        verdict: `passes`, `fails` or `skipped`.
        finding: What was found, or why it was skipped.
        mend: What to change where it fails; empty where the finding says it.
    """

    check: str
    verdict: str
    finding: str
    mend: str = ""


def judge(name: str, check: Callable[[], str]) -> Verdict:
    """Runs a check.

    Arguments:
        name: Its name.
        check: Returns what it has seen; whatever it raises but `Skipped` is a fault of the part.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of, the checks look at
            return Verdict(name, "passes", check())
    except Skipped as error:
        return Verdict(name, "skipped", str(error))
    except Fault as error:
        return Verdict(name, "fails", error.finding, error.mend)
    except Interrupted:
        raise
    except (InputError, RunError) as error:  # such messages end with the mend
        return Verdict(name, "fails", str(error))
    except Exception as error:  # a user's part may fail in any way
        return Verdict(name, "fails", reason(error))
