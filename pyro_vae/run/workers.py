"""What runs the commands of a grid, and the processes of this machine that do (on Ray: `on_ray.py`)."""

__all__ = ["Local", "WorkerLost", "Workers"]

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pyro_vae.errors import RunError
from pyro_vae.files import open_to_add


class WorkerLost(Exception):
    """A worker has gone, with its machine perhaps: what it ran goes on elsewhere from the last checkpoint."""


class Workers(Protocol):
    """What runs the commands of a grid, from many threads."""

    def share(self, runs: int) -> int:
        """Divides the machine among runs, and returns how many of them are to go at a time."""

    def run(self, arguments: Sequence[str], log: Path) -> tuple[int, str]:
        """Runs `pyro-vae` to its end.

        Arguments:
            arguments: Its arguments.
            log: Where its standard error is added.

        Returns:
            The exit status and what it has printed.

        Raises:
            RunError: If it could not be started, or the grid is being stopped.
            WorkerLost: If its worker has gone.
        """

    def stop(self) -> None:
        """Lets the commands write their checkpoints and end, and starts no more."""


class Local:
    """Creates workers that are processes of this machine.

    Arguments:
        jobs: How many run at a time, as many as there are cores if omitted. They share the cores.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.jobs = jobs or self.cores
        self.environment: dict[str, str] = {}
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock, self.stopped = threading.Lock(), False

    def share(self, runs: int) -> int:
        """Gives every process its share of the cores."""
        jobs = min(self.jobs, runs)
        # Two processes with two threads each on two cores would wait for each other's threads most of the time.
        self.environment = {"OMP_NUM_THREADS": str(max(1, self.cores // jobs)), **os.environ}
        return jobs

    def run(self, arguments: Sequence[str], log: Path) -> tuple[int, str]:
        """Runs a command in a process."""
        with open_to_add(log) as errors:
            with self.lock:
                if self.stopped:
                    raise RunError("interrupted")
                process = subprocess.Popen(
                    [sys.executable, "-m", "pyro_vae", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=self.environment,
                    start_new_session=True,  # a Ctrl-C is for this process, which passes it on
                )
                self.running.add(process)
            output, _ = process.communicate()
            with self.lock:
                self.running.discard(process)
        return process.returncode, output.decode(errors="replace")

    def stop(self) -> None:
        """Passes the signal on."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.terminate()
