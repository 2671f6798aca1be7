"""What can go wrong, by who can mend it. The command line turns each kind into its exit status."""

__all__ = ["InputError", "Interrupted", "RunError"]


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
