"""Files that may be anything: pipes, devices and files without an end are refused before they are read or added to.

Every file that comes from outside is opened here, also where a library reads on.
"""

__all__ = ["open_regular", "open_to_add", "read_regular", "require_regular"]

import os
import stat
from io import BufferedReader, BufferedWriter
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Opens a regular file for reading.

    Arguments:
        path: The file; a link is followed.

    Raises:
        OSError: If it cannot be opened, or is no regular file: a pipe or a device may never end.
        ValueError: If its name cannot be one.
    """
    # Looked at before it is opened, which may be an act (a pipe's writer goes on), and after, for who puts one there.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(None, "it is no regular file")
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(None, "it is no regular file")
    return file


def read_regular(path: Path, most: int) -> bytes:
    """Reads a regular file of a bounded size.

    Arguments:
        path: The file; a link is followed.
        most: The largest size in bytes.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If it is larger, or its name cannot be one.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is longer than {most >> 20} MiB")
    return content


def require_regular(path: Path) -> None:
    """Checks that a file can be read, and is regular, for libraries that take nothing but a path.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If its name cannot be one.
    """
    open_regular(path).close()


def open_to_add(path: Path) -> BufferedWriter:
    """Opens a regular file to add to its end, and makes it where there is none.

    Arguments:
        path: The file; a link is not followed.

    Raises:
        OSError: If it cannot be opened, is a link or no regular file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # Windows has the last one only
        flags |= getattr(os, name, 0)
    file = open(path, "ab", opener=lambda name, _: os.open(name, flags, 0o666))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(None, "it is no regular file", str(path))
    return file
