"""Tasks on a Ray cluster that run the commands of a grid."""

__all__ = ["OnRay"]

import logging
import os
import runpy
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

from pyro_vae.errors import InputError, RunError
from pyro_vae.files import open_to_add
from pyro_vae.run.workers import WorkerLost


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
        self.task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=0)(_run_here)
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


def _run_here(arguments: list[str], log: str, folder: str, environment: dict[str, str]) -> tuple[int, str]:
    """Runs `python -m pyro_vae` in the worker's own process, so that it ends with it when the node goes."""
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["pyro-vae", *arguments]
    status = 0
    with (
        TextIOWrapper(open_to_add(Path(log)), "utf-8") as errors,
        redirect_stderr(errors),
        redirect_stdout(StringIO()) as output,
    ):
        try:
            runpy.run_module("pyro_vae", run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
    return status, output.getvalue()
