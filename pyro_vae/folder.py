"""The files of a run folder: written beside and renamed, read as data only."""

__all__ = [
    "ANALYSIS",
    "FORMAT",
    "REPORT",
    "create",
    "read_checkpoint",
    "read_metrics",
    "read_record",
    "read_weights",
    "replace_file",
    "require_free",
    "write_checkpoint",
    "write_metrics",
    "write_record",
    "write_weights",
]

import csv
import os
import pickle
import shutil
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pyro_vae.errors import InputError, RunError

FORMAT = 1
PICTURES = ("curve.png", "samples.png", "reconstructions.png", "manifold.png")
REPORT = "report.html"
ANALYSIS = "analysis"
METRICS = ("samples", "seconds", "train_bound", "test_bound")


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside its place and renames it, so that a reader finds the old one or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        beside.replace(path)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise RunError(f"{path} cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def require_free(folder: Path, overwrite: bool) -> None:
    """Checks that a new run may take the folder.

    Raises:
        InputError: If something is there and may not be replaced.
    """
    if (folder / "run.toml").is_file():
        if not overwrite:
            raise InputError(
                f"{folder} holds a run: go on with it by --resume, replace it by --overwrite, or choose another --out"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty and not a run folder: choose another --out")


def create(folder: Path) -> None:
    """Creates the folder of a new run; of an old run there, its own files are removed and no others."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.csv", "weights.safetensors", "checkpoint.pt", REPORT, *PICTURES):
            (folder / name).unlink(missing_ok=True)
        for name in ("parts", ANALYSIS):
            shutil.rmtree(folder / name, ignore_errors=True)
    except OSError as error:
        raise InputError(f"--out {folder} cannot be written: {error.strerror}") from error


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes `run.toml`."""
    replace_file(folder / "run.toml", lambda path: path.write_text(tomli_w.dumps(dict(record)), encoding="utf-8"))


def read_record(folder: Path) -> dict[str, Any]:
    """Reads `run.toml`.

    Raises:
        InputError: If the folder is not one of a run.
    """
    try:
        record = tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder} is not a run folder: it has no readable run.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{folder}/run.toml is damaged: {error}") from error
    if record.get("format") != FORMAT:
        raise InputError(f"{folder}/run.toml has format {record.get('format')}, not {FORMAT}: train the run anew")
    data, settings = record.get("data"), record.get("settings")
    if not (isinstance(settings, dict) and isinstance(data, dict) and isinstance(data.get("checksum"), str)):
        raise InputError(f"{folder}/run.toml is damaged: it lacks its settings, or the checksum of its data")
    return record


def write_metrics(folder: Path, rows: Sequence[Sequence[float]]) -> None:
    """Writes `metrics.csv`, all rows of it, since a run has a few dozen."""

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([METRICS, *rows])

    replace_file(folder / "metrics.csv", write)


def read_metrics(folder: Path) -> list[list[float]]:
    """Reads the rows of `metrics.csv`.

    Raises:
        InputError: If the file is missing or damaged.
    """
    path = folder / "metrics.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        if any(len(row) != len(METRICS) for row in rows):
            raise ValueError(f"its rows must have {len(METRICS)} columns")
        return [[int(samples), *map(float, values)] for samples, *values in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def write_weights(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Writes `weights.safetensors`, with the names `model.*` and `guide.*`."""
    tensors = {
        f"{part}.{name}": value.clone().contiguous()  # tied weights are saved twice: the format shares none
        for part, module in modules.items()
        for name, value in module.state_dict().items()
    }
    replace_file(folder / "weights.safetensors", lambda path: save_file(tensors, path))


def read_weights(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Reads `weights.safetensors` into modules.

    Raises:
        InputError: If the file is missing, damaged or of other modules.
    """
    path = folder / "weights.safetensors"
    try:
        tensors = load_file(path)
        for part, module in modules.items():
            prefix = part + "."
            own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(own)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read: {reason}") from error


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes `checkpoint.pt`: tensors and primitives only."""
    replace_file(folder / "checkpoint.pt", lambda path: torch.save({"format": FORMAT, **state}, path))


def read_checkpoint(folder: Path, device: torch.device) -> dict[str, Any]:
    """Reads `checkpoint.pt` as data: a pickle with code in it is refused.

    Raises:
        InputError: If the file is missing or damaged.
    """
    path = folder / "checkpoint.pt"
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of other pickles before it refuses them
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path} is no checkpoint of format {FORMAT}: train the run anew")
    return state
