"""Runs of a grid, several at a time: what the paper's grid and a user's sweep have in common.

Finished runs are skipped, so that an interrupted grid resumes where it was.
"""

__all__ = ["Trained", "finish", "outlive"]

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from pyro_vae.errors import Interrupted, RunError
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.lock import wait_until_released
from pyro_vae.run.signals import collected
from pyro_vae.run.workers import WorkerLost, Workers

# How many workers a run may lose before it counts as failed.
_LIVES = 5

Note = Callable[[str], None]


class Trained[Cell](NamedTuple):
    """The folders of the runs that ended well, in the order of the cells, and why the others did not."""

    folders: dict[Cell, Path]
    failures: dict[Cell, str]


class Screen(AbstractContextManager["Screen"], Protocol):
    """What shows how far a grid is."""

    def update(self) -> None:
        """Looks at the runs."""

    def note(self, text: str) -> None:
        """Prints a line of log."""


def finish[Cell: Hashable](
    cells: Sequence[Cell], work: Callable[[Cell], Path], workers: Workers, screen: Screen
) -> Trained[Cell]:
    """Finishes the runs of a grid, as many at a time as the workers allow.

    Arguments:
        cells: The runs.
        work: Finishes one, by commands of the workers, and returns its folder.
        workers: What runs the commands.
        screen: What shows how far they are.

    Raises:
        Interrupted: If a signal ended it, after checkpoints.
    """
    folders: dict[Cell, Path] = {}
    failures: dict[Cell, str] = {}
    with collected() as signals, screen, ThreadPoolExecutor(workers.share(len(cells))) as pool:

        def look() -> None:
            screen.update()
            if signals:
                workers.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise Interrupted(signals[0])

        futures = {pool.submit(work, cell): cell for cell in cells}
        for future in _as_they_end(futures, look):
            cell = futures[future]
            try:
                folders[cell] = future.result()
                screen.note(f"{folders[cell].name}: test bound {read_metrics(folders[cell])[-1][3]:.2f}")
            except RunError as error:
                failures[cell] = str(error)
                screen.note(f"failed: {error}")
    return Trained({cell: folders[cell] for cell in cells if cell in folders}, failures)


def _as_they_end(futures: Iterable[Future[Path]], look: Callable[[], None]) -> Iterator[Future[Path]]:
    """Yields futures as they end, and calls a function about twice a second."""
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
        look()
        yield from ended


def outlive(name: str, work: Callable[[], Path], folders: Iterable[Path], note: Note) -> Path:
    """Does what a run needs; where its worker is lost, another one goes on from where it has come to.

    Arguments:
        name: The name of the run.
        work: What it needs.
        folders: The folders that a lost worker may hold for a moment longer.
        note: Prints a line of log.

    Raises:
        RunError: If it fails, or has lost too many workers.
    """
    for _ in range(_LIVES):
        try:
            return work()
        except WorkerLost as error:
            note(f"{name}: {error}, it resumes from its last checkpoint")
            for folder in folders:
                wait_until_released(folder)
    raise RunError(f"{name}: it has lost {_LIVES} workers")
