"""The memory at hand, asked before something large is allocated: what is refused costs nothing."""

__all__ = ["free_memory", "require_room", "said", "widest"]

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from torch import nn
from torch.nn.parameter import is_lazy

# The last tenth is left to everything else.
_SHARE = 0.9
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def free_memory() -> int:
    """Returns how many bytes this process may still take: of its machine's, its container's and its own limit.

    Where the system does not say (it is no Linux), there is no end to them.
    """
    found = [sys.maxsize]
    with suppress(OSError, ValueError, TypeError):
        known = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        found.append(int(known[1]) << 10)  # type: ignore[index]
    with suppress(OSError, ValueError):  # in a container, its own group is at the top
        most, used = (int(Path("/sys/fs/cgroup", f"memory.{name}").read_text()) for name in ("max", "current"))
        found.append(most - used)
    with suppress(OSError, ValueError, TypeError):  # what `ulimit -v` says
        limit = re.search(r"^Max address space +(\d+)", Path("/proc/self/limits").read_text(), re.MULTILINE)
        held = re.search(r"^VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        found.append(int(limit[1]) - (int(held[1]) << 10))  # type: ignore[index]
    return max(0, int(min(found) * _SHARE))


def require_room(size: int, what: str) -> None:
    """Checks that there is memory for so many bytes.

    Arguments:
        size: The number of bytes.
        what: What needs them, to begin the message with: `it unpacks to`.

    Raises:
        ValueError: If there is not.
    """
    if size > 2**20 and size > (free := free_memory()):
        raise ValueError(f"{what} {said(size)}, and {said(free)} of memory are free")


def said(size: float) -> str:
    """Returns a number of bytes as one says it: `9.1 GB`."""
    power = max((n for n in range(1, len(_UNITS)) if size >= 1000**n), default=0)
    number = size / 1000**power
    return f"{number:.3g} {_UNITS[power]}" if number < 1000 else f"{number:.1e} {_UNITS[power]}"


def widest(modules: Iterable[nn.Module], features: int) -> int:
    """The most numbers that a layer may make of a datapoint, by the shapes of the weights and the number of cells."""
    parameters = [parameter for module in modules for parameter in module.parameters() if not is_lazy(parameter)]
    return max([features, *(size for parameter in parameters for size in parameter.shape)])
