"""TOML from anywhere, read as tables of a bounded depth with numbers of a bounded size."""

__all__ = ["parse_toml", "read_toml_file"]

import re
import tomllib
from pathlib import Path
from typing import Any

from pyro_vae.files import read_regular

# A run has a few dozen settings, and the names and scales of some ten thousand columns.
_LONGEST = 2**23
_DEEPEST = 16
# The parser takes time that grows with the square of the parts of a dotted key.
_DOTTED = re.compile(rf"""(?<![\w"'-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{_DEEPEST},}}""")


def parse_toml(text: str) -> dict[str, Any]:
    """Reads TOML.

    Raises:
        ValueError: If it is none, or holds what no settings need and much would choke on: tables in tables without end,
            whole numbers of more than 64 bits.
    """
    if _DOTTED.search(text):
        raise ValueError(f"it has keys of more than {_DEEPEST} parts")
    try:
        content = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("its tables or lists lie too deep in each other") from error
    waiting: list[tuple[Any, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError("its tables or lists lie too deep in each other")
        if isinstance(value, int) and value.bit_length() > 63:
            raise ValueError("it has a whole number of more than 64 bits")
        if isinstance(value, dict | list):
            waiting += [(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value)]
    return content


def read_toml_file(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If it is no such TOML.
    """
    return parse_toml(read_regular(path, _LONGEST).decode())
