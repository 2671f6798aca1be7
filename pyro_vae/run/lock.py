"""One training process in a run folder at a time."""

__all__ = ["locked", "released"]

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from pyro_vae.errors import InputError

# A process whose machine is given up for lost ends within this many seconds, or is not going to.
_PATIENCE = 60

_logger = logging.getLogger("pyro_vae")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a run folder and keeps other processes from training in it.

    The kernel releases the lock with the process that holds it, however that ends.

    Raises:
        InputError: If another process trains in it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The file stays, since removing it would race with whoever opens it. No link leads out of the folder.
        file = os.fdopen(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))
    except OSError as error:
        raise InputError(f"--out {folder} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder} is being trained by another process: wait for its end, or choose another --out"
            ) from error
        except OSError as error:  # a network file system without locks
            _logger.warning("%s cannot be locked (%s): let no other process train in it", folder, error.strerror)
        yield


def released(folder: Path) -> None:
    """Waits until no process trains in a run folder, a minute at most."""
    end = monotonic() + _PATIENCE
    while folder.is_dir() and monotonic() < end:
        try:
            with locked(folder):
                return
        except InputError:
            sleep(0.5)
