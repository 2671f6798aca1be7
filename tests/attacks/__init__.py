"""What `attack.py` attacks with: for each door, inputs that nobody should send.

A door is a function that yields attacks: a command, and what makes the files that it finds. `DOORS` is their table.
"""

from collections.abc import Callable, Iterator

from attacks.arguments import arguments, checks, code
from attacks.bench import Attack, restart
from attacks.data import arrays, cells, known, larger_than_memory, pictures, tables, tensors
from attacks.folders import changed_folders, odd_folders, spoilt_folders
from attacks.functions import functions
from attacks.settings import configurations, settings, sizes
from attacks.sweeps import grids, trackers

DOORS: dict[str, Callable[[str], Iterator[Attack]]] = {
    "arrays": arrays,
    "tensors": tensors,
    "tables": tables,
    "single cells": cells,
    "pictures": pictures,
    "known data": known,
    "run folders, changed": changed_folders,
    "run folders, odd": odd_folders,
    "run folders, spoilt": spoilt_folders,
    "settings of a record": settings,
    "sizes in a record": sizes,
    "configurations": configurations,
    "arguments": arguments,
    "the user's code": code,
    "checks": checks,
    "functions": functions,
    "larger than memory": larger_than_memory,
    "grids": grids,
    "trackers": trackers,
}


def made(door: str) -> list[Attack]:
    """The attacks of a door, the same in whatever order doors are asked for."""
    restart()
    return [*DOORS[door](door)]
