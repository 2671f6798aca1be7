"""Reading files that may be anything: pipes, devices and files without an end are refused before they are read."""

__all__ = ["read_regular"]

import os
import stat
from pathlib import Path


def read_regular(path: Path, most: int) -> bytes:
    """Reads a regular file of a bounded size.

    Arguments:
        path: The file; a link is followed.
        most: The largest size in bytes.

    Raises:
        OSError: If it cannot be read, or is no regular file: a pipe or a device may never end.
        ValueError: If it is larger, or its name cannot be one.
    """
    # Looked at before it is opened, which may be an act (a pipe's writer goes on), and after, for who puts one there.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is no regular file")
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(None, "it is no regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is longer than {most >> 20} MiB")
    return content
