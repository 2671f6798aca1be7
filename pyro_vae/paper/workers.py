"""Where the commands of a grid run: in processes of this machine, or in tasks on a Ray cluster."""

__all__ = ["Local", "OnRay", "WorkerLost", "Workers"]

import io
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from pyro_vae.errors import InputError, RunError


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
        with log.open("ab") as errors:
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


class OnRay:
    """Creates workers that are tasks on a Ray cluster, each in a process of its own.

    Every node needs this package, and the current folder and those of the runs and the data at the same paths.

    Arguments:
        address: `local` starts a cluster on this machine, `auto` finds the one that it belongs to; else `HOST:PORT`.
        cpus: The cores that a run takes.
        gpus: The GPUs that a run takes; 0.25 puts four runs on one.

    Raises:
        InputError: If Ray is not installed, there is no such cluster, or no node of it has so much.
    """

    def __init__(self, address: str, cpus: int = 1, gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError("--ray needs Ray: install pyro-vae[ray]") from error
        if gpus > 1 and gpus % 1:
            raise InputError(f"--gpus {gpus:g} is not possible: give a share of one GPU, or a whole number")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of its own does not call home
        try:
            if ":" in address and "://" not in address:  # Ray itself would wait for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except Exception as error:  # Ray's, gRPC's and the system's
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"--ray {address} does not answer: start it by `ray start` ({reason})") from error
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            raise InputError(f"--cpus {cpus}, --gpus {gpus:g} is more than any node of {address} has: lower it")
        self.ray: Any = ray
        # What a lost node leaves undone is started anew by the grid, which knows by then where to go on.
        self.task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=0)(_command)
        self.running: set[Any] = set()
        self.lock, self.stopped = threading.Lock(), False

    def share(self, runs: int) -> int:
        """Leaves it to Ray, which starts as many as the nodes have room for."""
        return runs

    def run(self, arguments: Sequence[str], log: Path) -> tuple[int, str]:
        """Runs a command in a task."""
        environment = {name: value for name, value in os.environ.items() if name == "PYRO_VAE_DATA"}
        with self.lock:
            if self.stopped:
                raise RunError("interrupted")
            task = self.task.remote([*arguments], str(log), os.getcwd(), environment)
            self.running.add(task)
        try:
            status, output = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:
            raise RunError(str(error.cause)) from error
        except self.ray.exceptions.TaskCancelledError as error:
            raise RunError("interrupted") from error
        except self.ray.exceptions.RayError as error:
            raise WorkerLost(type(error).__name__) from error
        finally:
            with self.lock:
                self.running.discard(task)
        return status, output

    def stop(self) -> None:
        """Interrupts the tasks."""
        with self.lock:
            self.stopped = True
            for task in self.running:
                self.ray.cancel(task)


def _command(arguments: list[str], log: str, folder: str, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command inside the worker's process, so that it ends with it when the node goes."""
    from pyro_vae.cli import main

    os.chdir(folder)
    os.environ.update(environment)
    status = 0
    with open(log, "a", encoding="utf-8") as errors, redirect_stderr(errors), redirect_stdout(io.StringIO()) as output:
        try:
            main(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
    return status, output.getvalue()
