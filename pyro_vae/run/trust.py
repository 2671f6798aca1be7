"""A user's Python files: copied into the run folder, and run from there only where the user trusts them."""

__all__ = ["contents", "copy", "located", "require"]

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyro_vae.errors import InputError
from pyro_vae.run import parts
from pyro_vae.run.folder import replace_file
from pyro_vae.run.settings import PARTS, Settings


def _specs(settings: Settings) -> dict[str, str]:
    """The parts that are a user's files, by kind."""
    return {kind: spec for kind in PARTS if parts.is_file(spec := getattr(settings, kind))}


def _copy_of(folder: Path, kind: str) -> Path:
    return folder / "parts" / f"{kind}.py"


def contents(settings: Settings) -> dict[str, bytes]:
    """Reads the user's files that the settings name, by kind.

    Raises:
        InputError: If one cannot be read.
    """
    found = {}
    for kind, spec in _specs(settings).items():
        path, _ = parts.split_spec(spec)
        try:
            found[kind] = path.read_bytes()
        except OSError as error:
            raise InputError(f"--{kind} {path} cannot be read: {error.strerror}") from error
    return found


def copy(files: Mapping[str, bytes], folder: Path) -> None:
    """Copies the user's files into a run folder."""
    for kind, content in files.items():
        path = _copy_of(folder, kind)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, lambda beside, content=content: beside.write_bytes(content))  # type: ignore[misc]


def located(folder: Path, settings: Settings) -> Settings:
    """Returns the settings with the copies in the folder in the place of the user's own files."""
    copies: dict[str, Any] = {}
    for kind, spec in _specs(settings).items():
        _, name = parts.split_spec(spec)
        copies[kind] = f"{_copy_of(folder, kind)}:{name}" if name else str(_copy_of(folder, kind))
    return replace(settings, **copies)


def require(folder: Path, settings: Settings, trust: bool, given: Mapping[str, Any] | None = None) -> None:
    """Checks that the user's files in a run folder may be run.

    Arguments:
        folder: The run folder.
        settings: The settings of its run.
        trust: Whether the user says so.
        given: What the user has named in this call: files that equal the copies are trusted, too.

    Raises:
        InputError: If they may not.
    """
    if trust:
        return
    named = contents(Settings.of({k: v for k, v in (given or {}).items() if k in PARTS}))
    for kind in _specs(settings):
        path = _copy_of(folder, kind)
        if kind not in named or not path.is_file() or path.read_bytes() != named[kind]:
            raise InputError(f"{folder} holds a user's Python code, {path}: read it, then give --trust")
