"""What `run.toml` says of a run, and what that means for a later call."""

__all__ = ["default_path", "describe", "require_outside", "resumed", "used_data_dir"]

import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyro_vae import __version__
from pyro_vae.data.dataset import Dataset, data_dir
from pyro_vae.data.reading import NAMED
from pyro_vae.data.schema import described
from pyro_vae.errors import InputError
from pyro_vae.run import folder, parts
from pyro_vae.run.settings import PARTS, Settings

# What a resumed run may be given anew: how far and how fast, but not what it is.
_CHANGEABLE = ("samples", "step_size", "device", "compile", "checkpoint_every", "data_dir")


def default_path(settings: Settings) -> Path:
    """Returns the run folder where the user names none."""
    names = (_path(spec).stem for spec in (settings.data, settings.model, settings.inference))
    return Path("runs") / f"{'-'.join(names)}-{settings.latent}"


def _path(spec: str) -> Path:
    return parts.split_spec(spec)[0] if parts.is_file(spec) else Path(spec)


def used_data_dir(settings: Settings, record: Mapping[str, Any]) -> str | None:
    """The folder of the data: the one of the settings, or the one that was used, as long as it is there."""
    used = record.get("data", {}).get("folder")
    return settings.data_dir or (used if isinstance(used, str) and Path(used).is_dir() else None)


def require_outside(path: Path, settings: Settings) -> None:
    """Checks that a new run needs nothing of the old run that it replaces."""
    for spec in (settings.data, *(getattr(settings, kind) for kind in PARTS)):
        if _path(spec).resolve().is_relative_to((path / "parts").resolve()):
            raise InputError(f"{spec} lies in the run that --overwrite replaces: move it, or choose another --out")


def _program() -> str:
    """What was started; `python -m pyro_vae` is the command of our name."""
    path = Path(sys.argv[0])
    return "pyro-vae" if path.parts[-2:] == ("pyro_vae", "__main__.py") else path.name


def _with_whole_path(settings: Settings) -> Settings:
    """The settings with data that are found from everywhere."""
    whole: dict[str, Any] = {
        name: str(Path(value).absolute())
        for name in ("data", "test")
        if (value := getattr(settings, name)) and Path(value).exists() and value not in NAMED
    }
    return replace(settings, **whole)


def resumed(record: dict[str, Any], given: dict[str, Any]) -> Settings:
    """The settings of a run that goes on, with those changed that may be."""
    old = Settings.of(record["settings"])
    new = _with_whole_path(Settings.of({**record["settings"], **given}))
    for name, value in asdict(new).items():
        if name not in _CHANGEABLE and value != getattr(old, name):
            # A user's file may be named anew, to say that it is trusted.
            if name in PARTS and parts.is_file(value) and parts.is_file(getattr(old, name)):
                continue
            raise InputError(
                f"--{name.replace('_', '-')} {value} cannot be given to a resumed run, which has "
                f"{getattr(old, name)}: leave it out, or train a new run"
            )
    return replace(new, **{kind: getattr(old, kind) for kind in PARTS})


def describe(settings: Settings, data: Dataset, weighted: list[str], old: dict[str, Any]) -> dict[str, Any]:
    """What `run.toml` holds; of a resumed run, the first command stays.

    Arguments:
        settings: The settings.
        data: The data.
        weighted: The sites whose terms training weighs.
        old: What it held before.
    """
    settings = _with_whole_path(settings)
    return {
        "format": folder.FORMAT,
        "command": old.get("command", shlex.join([_program(), *sys.argv[1:]])),
        "device": str(data.train.device),
        "settings": settings.table(),
        **({"weighted": weighted} if weighted else {}),
        "data": {
            "folder": str(data_dir(settings.data_dir).absolute()),
            **described(data),
        },
        "versions": {
            "pyro-vae": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "pyro-ppl", "numpy")},
        },
    }
