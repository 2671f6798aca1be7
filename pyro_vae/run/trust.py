"""A user's Python files: copied into the run folder, and run from there only where the user trusts them."""

__all__ = ["contents", "copy", "located", "require"]

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyro_vae.errors import InputError, RunError
from pyro_vae.run import parts
from pyro_vae.run.folder import replace_file
from pyro_vae.run.settings import PARTS, Settings
from pyro_vae.run.user_files import collect


def _specs(settings: Settings) -> dict[str, str]:
    """The parts that are a user's files, by kind."""
    return {kind: spec for kind in PARTS if parts.is_file(spec := getattr(settings, kind))}


def _copy_of(folder: Path, kind: str) -> Path:
    return folder / "parts" / f"{kind}.py"


def _files(kind: str, path: Path) -> dict[str, bytes]:
    """A user's file and what it imports from its folder, by their places in the folder `parts`."""
    tree = collect(path, f"--{kind}")
    neighbours = {f"{kind}/{source.place}": source.content for source in tree.sources.values()}
    return {f"{kind}.py": tree.entry.content, **neighbours}


def contents(settings: Settings) -> dict[str, bytes]:
    """Reads the user's files that the settings name, and what they import from their folders.

    Returns:
        Their bytes, by their places in a run's folder `parts`: `model.py`, `model/blocks.py`.

    Raises:
        InputError: If one cannot be read, or not be copied.
    """
    found: dict[str, bytes] = {}
    for kind, spec in _specs(settings).items():
        found |= _files(kind, parts.split_spec(spec)[0])
    return found


def copy(files: Mapping[str, bytes], folder: Path) -> None:
    """Copies the user's files into a run folder.

    Raises:
        RunError: If one cannot be written.
    """
    for place, content in files.items():
        path = folder / "parts" / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path.parent} cannot be written: {error.strerror}") from error
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
        given: What the user has named in this call: where they and what they import equal the copies, these are
            trusted, too.

    Raises:
        InputError: If they may not.
    """
    if trust:
        return
    named = Settings.of({k: v for k, v in (given or {}).items() if k in PARTS})
    for kind in _specs(settings):
        path, spec = _copy_of(folder, kind), getattr(named, kind)
        if parts.is_file(spec) and path.is_file() and _files(kind, path) == _files(kind, parts.split_spec(spec)[0]):
            continue
        beside = f" and {path.with_suffix('')}" if path.with_suffix("").is_dir() else ""
        raise InputError(f"{folder} holds a user's Python code, {path}{beside}: read it, then give --trust")
