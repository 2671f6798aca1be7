"""One training process in a run folder at a time."""

__all__ = ["locked", "wait_until_released"]

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from filelock import FileLock, SoftFileLock, Timeout

from pyro_vae.errors import InputError

# A process whose machine is given up for lost ends within this many seconds, or is not going to.
_PATIENCE = 60

_logger = logging.getLogger("pyro_vae")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a run folder and keeps other processes from training in it.

    The operating system releases the lock with the process that holds it, however that ends.

    Raises:
        InputError: If another process trains in it, or it cannot be written.
    """
    # The file stays, since removing it would race with whoever opens it, and a link in its place is not followed.
    stays = not issubclass(FileLock, SoftFileLock)  # where the system has no locks, the file itself is one
    lock = FileLock(folder / ".lock", timeout=0, preserve_lock_file=stays)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{folder} is being trained by another process: wait until it ends, or choose another --out"
        ) from error
    except OSError as error:
        if error.filename is not None:
            raise InputError(f"--out {folder} cannot be written: {error.strerror}") from error
        # The file could be opened, and not locked: a network file system without locks.
        _logger.warning("%s cannot be locked (%s): let no other process train in it", folder, error.strerror)
    try:
        yield
    finally:
        lock.release()


def wait_until_released(folder: Path) -> None:
    """Waits until no process trains in a run folder, a minute at most."""
    end = monotonic() + _PATIENCE
    while folder.is_dir() and monotonic() < end:
        try:
            with locked(folder):
                return
        except InputError:
            sleep(0.5)
