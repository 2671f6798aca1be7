"""Devices by name, and the state of their random generators."""

__all__ = [
    "drawn_since",
    "generator_state",
    "host_generators",
    "resolve",
    "seeded",
    "set_generator_state",
    "set_host_generators",
]

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_vae.errors import InputError

_one_thread = threading.RLock()


def resolve(name: str) -> torch.device:
    """Returns the device of a name; `auto` is a GPU where there is one.

    Raises:
        InputError: If the name is not a device's, or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", name):
        raise InputError(f"--device {name} is unknown: choose from auto, cpu, cuda, cuda:N, mps")
    try:
        torch.zeros((), device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"--device {name} is not available: use auto or cpu ({reason})") from error
    return torch.device(name)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's generators, Python's and NumPy's inside the block and gives them their old state back after it.

    The generators are the process's own, and so are Pyro's handlers: other threads wait for the end of the block.
    """
    cuda = [device] if device.type == "cuda" else []
    with _one_thread:
        before = host_generators()
        try:
            with torch.random.fork_rng(devices=cuda):
                torch.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)
                yield
        finally:
            set_host_generators(before)


def generator_state(device: torch.device) -> dict[str, Tensor]:
    """Returns the state of the generators that a run on the device draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_generator_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Sets what `generator_state` returned, as far as the device has such generators."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def host_generators() -> dict[str, Any]:
    """Returns the state of Python's and NumPy's global generators, which a user's part may draw from."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)
    return {"python": random.getstate(), "numpy": (algorithm, torch.from_numpy(keys), *rest)}


def set_host_generators(state: dict[str, Any]) -> None:
    """Sets what `host_generators` returned."""
    algorithm, keys, *rest = state["numpy"]
    np.random.set_state((algorithm, keys.numpy(), *rest))
    random.setstate(state["python"])


def drawn_since(before: dict[str, Any]) -> list[str]:
    """Names those of Python's and NumPy's generators that have been drawn from since `host_generators` was asked."""
    now = host_generators()
    moved = {
        "random": now["python"] != before["python"],
        "numpy.random": any(
            not torch.equal(torch.as_tensor(a), torch.as_tensor(b))
            for a, b in zip(now["numpy"][1:], before["numpy"][1:], strict=True)
        ),
    }
    return [name for name, drawn in moved.items() if drawn]
