"""The ranks of a run: the processes that torchrun has started for it, and what they tell each other.

Alone, a process is rank 0 of one, and nothing here does anything. Datapoint n belongs to rank n modulo their number.
"""

__all__ = [
    "all_rows",
    "count",
    "draw_apart",
    "gathered",
    "gathered_by_first",
    "generator_state",
    "join",
    "maxima",
    "mine",
    "own_seed",
    "rank",
    "set_generator_state",
    "share",
    "summed",
]

import atexit
import os
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pyro_vae import device as devices
from pyro_vae.errors import InputError

_state: dict[str, Any] = {}


def join() -> None:
    """Joins the other ranks where torchrun has started this process, once; does nothing else."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    _state["host"] = dist.new_group(backend="gloo")  # what the host has to say does not wait for a GPU
    atexit.register(dist.destroy_process_group)


def count() -> int:
    """Returns the number of ranks."""
    return dist.get_world_size() if "host" in _state else 1


def rank() -> int:
    """Returns which of them this process is; rank 0 writes and prints."""
    return dist.get_rank() if "host" in _state else 0


def mine(size: int) -> range:
    """Returns which of so many datapoints are this rank's."""
    return range(rank(), size, count())


def share(batch: int) -> int:
    """Returns how many datapoints of a minibatch are this rank's.

    Raises:
        InputError: If the ranks cannot have as many each.
    """
    if batch % count():
        raise InputError(f"--batch {batch} does not divide among {count()} ranks: give a multiple of {count()}")
    return batch // count()


def summed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sums tensors over the ranks, all in one message."""
    if count() == 1:
        return [*tensors]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def maxima(*values: int) -> list[int]:
    """Returns the largest of each value over the ranks, so that all of them decide alike."""
    if count() == 1:
        return [*values]
    found = torch.tensor(values)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=_state["host"])
    return found.tolist()


def gathered(value: Any) -> list[Any]:
    """Returns what each rank has in the place of a value."""
    found = [value] * count()
    if count() > 1:
        dist.all_gather_object(found, value, group=_state["host"])
    return found


def gathered_by_first(value: Any) -> list[Any]:
    """Returns on the first rank what each has in the place of a value, on the others their own."""
    found = [value] * count()
    if count() > 1:
        dist.gather_object(value, found if rank() == 0 else None, group=_state["host"])
    return found if rank() == 0 else [value]


def all_rows(part: Tensor) -> Tensor:
    """Puts the values of all datapoints in their order, from each rank's own along the first dimension."""
    if count() == 1:
        return part
    parts = gathered(part.cpu())
    whole = part.new_empty(sum(map(len, parts)), *part.shape[1:])
    for n, values in enumerate(parts):
        whole[n :: count()] = values.to(whole.device)
    return whole


def own_seed(seed: int) -> int:
    """Returns a seed of this rank's own; rank 0 keeps the one that is given."""
    return seed if rank() == 0 else int(np.random.SeedSequence((seed, rank())).generate_state(1)[0])


def draw_apart() -> None:
    """Gives each rank random numbers of its own, all of them from where their common generators are."""
    if count() > 1:
        seed = own_seed(int(torch.randint(2**31, ())))
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)


def generator_state(device: torch.device) -> dict[str, Any]:
    """Returns the state of every rank's generators."""
    states = gathered(devices.generator_state(device))
    return states[0] if len(states) == 1 else {"ranks": states}


def set_generator_state(state: dict[str, Any], device: torch.device) -> None:
    """Sets what `generator_state` returned; another number of ranks draws other numbers from there on."""
    states = state.get("ranks", [state])
    fitting = len(states) == count()
    devices.set_generator_state(states[rank() if fitting else 0], device)
    if not fitting:
        draw_apart()
