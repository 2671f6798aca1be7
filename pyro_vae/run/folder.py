"""The files of a run folder: written beside and renamed, read as data only."""

__all__ = [
    "ANALYSIS",
    "FORMAT",
    "REPORT",
    "TENSORBOARD",
    "create",
    "inside",
    "read_checkpoint",
    "read_metrics",
    "read_record",
    "read_weights",
    "replace_file",
    "require_free",
    "require_savable",
    "require_sizes",
    "sweep",
    "write_checkpoint",
    "write_metrics",
    "write_record",
    "write_weights",
]

import csv
import io
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pyro_vae.errors import InputError, RunError
from pyro_vae.files import open_regular, read_regular, require_regular
from pyro_vae.memory import require_room
from pyro_vae.run.settings import PARTS
from pyro_vae.run.stored import (
    METRICS,
    metrics_row,
    require_checkpoint,
    require_fit,
    require_savable,
    require_shapes,
)
from pyro_vae.run.toml import read_toml_file

FORMAT = 1
FILES = ("run.toml", "metrics.csv", "weights.safetensors", "checkpoint.pt")
PICTURES = (
    "curve.png",
    "samples.png",
    "reconstructions.png",
    "manifold.png",
    "latent.png",
    "traverse.png",
    "interpolate.png",
)
REPORT = "report.html"
TENSORBOARD = "tensorboard"
ANALYSIS = "analysis"
ANALYSES = tuple(f"{ANALYSIS}/{name}" for name in ("draws.nc", "summary.json", "datapoints.csv", "latents.csv"))

# A run has a few dozen settings and evaluations; what is longer was not written here.
_LONGEST_TEXT = 2**24
# What of `weights.safetensors` is no tensor.
_EXTRA = "extra_state"


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside its place and renames it, so that a reader finds the old one or the new one.

    Both are on the disk before this returns: a power failure, too, leaves one of them whole.

    Arguments:
        path: The file.
        write: Writes the path that it is given.

    Raises:
        RunError: If it cannot be written. What was there stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):  # a stranger may have put a link there, which would be followed
        beside.unlink()
    try:
        write(beside)
        _flush(beside)
        beside.replace(path)
        with suppress(OSError):  # some network file systems flush no folders
            _flush(path.parent)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise RunError(f"{path} cannot be written ({reason}): the old file is unchanged") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    folder = path.is_dir()
    if folder and os.name == "nt":
        return  # Windows flushes no folders, and files only where they are open for writing
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_text(path: Path) -> str:
    return read_regular(path, _LONGEST_TEXT).decode()


def require_free(folder: Path, overwrite: bool) -> None:
    """Checks that a new run may take the folder.

    Raises:
        InputError: If something is there and may not be replaced.
    """
    if _holds_run(folder):
        if not overwrite:
            raise InputError(
                f"{folder} holds a run: continue it with --resume, replace it with --overwrite, or choose another --out"
            )
    elif folder.exists() and (not folder.is_dir() or {*folder.iterdir()} - {folder / ".lock", *_left_over(folder)}):
        raise InputError(f"{folder} is not empty and not a run folder: choose another --out")


def _holds_run(folder: Path) -> bool:
    """Whether the folder's `run.toml` is one of ours, of whatever format."""
    try:
        record = read_toml_file(folder / "run.toml")
    except (OSError, ValueError):
        return False
    return "format" in record and "settings" in record


def create(folder: Path) -> None:
    """Prepares the folder of a new run; of an old run there, its own files are removed and no others."""
    copies, analysis = folder / "parts", folder / ANALYSIS
    folders = (analysis / "draws.zarr", folder / TENSORBOARD)
    try:
        for path in (copies, analysis, *folders):
            if path.is_symlink():  # what it leads to is not ours
                path.unlink()
        # `run.toml` goes last, when another one takes its place: without it, this would be no run folder.
        for name in (*FILES[1:], *PICTURES, REPORT, *(f"parts/{kind}.py" for kind in PARTS), *ANALYSES):
            (folder / name).unlink(missing_ok=True)
        for kind in PARTS:
            _remove_sources(copies / kind)
        for path in folders:
            shutil.rmtree(path, ignore_errors=True)
        for path in (copies, analysis):
            with suppress(OSError):  # it is not there, or holds what is not ours
                path.rmdir()
    except OSError as error:
        raise InputError(f"--out {folder} cannot be written: {error.strerror}") from error


def inside(folder: Path, name: str) -> Path:
    """Returns the path of a folder inside another one, which is to be written into.

    Raises:
        InputError: If it is a link, as a stranger may have put there.
    """
    if (path := folder / name).is_symlink():
        raise InputError(f"{path} is a link, which may lead out of the folder: remove it")
    return path


def _remove_sources(folder: Path) -> None:
    """Removes the Python files that a copied part has imported: the next one would take them for its own."""
    if folder.is_symlink():
        folder.unlink()
    for path, folders, names in os.walk(folder, topdown=False):
        for name in names:
            if name.endswith(".py"):
                Path(path, name).unlink()
        for name in folders:
            if Path(path, name).is_symlink():
                Path(path, name).unlink()
        with suppress(OSError):  # it holds what is not ours
            Path(path).rmdir()


def sweep(folder: Path) -> None:
    """Removes what a killed process has left half-written. Only for who holds the folder's lock."""
    for path in _left_over(folder):
        path.unlink(missing_ok=True)


def _left_over(folder: Path) -> list[Path]:
    return [path for name in FILES for path in folder.glob(f".{name}.[0-9]*")]


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes `run.toml`."""
    replace_file(folder / "run.toml", lambda path: path.write_text(tomli_w.dumps(dict(record)), encoding="utf-8"))


def read_record(folder: Path) -> dict[str, Any]:
    """Reads `run.toml`.

    Raises:
        InputError: If the folder is not one of a run.
    """
    try:
        record = read_toml_file(folder / "run.toml")
    except OSError as error:
        raise InputError(f"{folder} is not a run folder: it has no readable run.toml") from error
    except ValueError as error:
        raise InputError(f"{folder}/run.toml is damaged: {error}") from error
    if record.get("format") != FORMAT:
        versions = record.get("versions")
        writer = versions.get("pyro-vae") if isinstance(versions, dict) else None
        mend = f"use pyro-vae {writer}, which wrote it, or train" if writer else "train"
        raise InputError(f"{folder}/run.toml has format {record.get('format')}, not {FORMAT}: {mend} the run anew")
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
    """Reads the rows of `metrics.csv`, of which there is one at least.

    Raises:
        InputError: If the file is missing or damaged, or the run was killed before its first evaluation.
    """
    path = folder / "metrics.csv"
    try:
        header, *rows = [*csv.reader(io.StringIO(_read_text(path), newline=""))] or [[]]
        if header != [*METRICS]:
            raise ValueError(f"its first row must be {','.join(METRICS)}")
        metrics = [metrics_row(row) for row in rows]
    except (OSError, ValueError, OverflowError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not metrics:
        raise InputError(f"{path} holds no evaluation: continue the run with --resume, or retrain it with --overwrite")
    return metrics


def write_weights(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Writes `weights.safetensors`, with the names `model.*` and `guide.*`.

    What is no tensor, `get_extra_state` that is, goes into its metadata as JSON.
    """
    state = {f"{part}.{name}": v for part, module in modules.items() for name, v in module.state_dict().items()}
    # Tied weights are saved twice: the format shares none.
    tensors = {name: value.clone().contiguous() for name, value in state.items() if isinstance(value, Tensor)}
    extra = {name: value for name, value in state.items() if name not in tensors}
    metadata = {_EXTRA: json.dumps(extra)} if extra else None
    replace_file(folder / "weights.safetensors", lambda path: path.write_bytes(save(tensors, metadata)))


def require_sizes(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Holds modules against the shapes in `weights.safetensors`, before one of the sizes in a record is run.

    Raises:
        InputError: If the file is missing, damaged or of modules of other sizes.
    """
    path = folder / "weights.safetensors"
    with _reading(path):
        require_regular(path)
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        for part, module in modules.items():
            require_shapes(module, _of_part(part, shapes))


def read_weights(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Reads `weights.safetensors` into modules.

    Raises:
        InputError: If the file is missing, damaged or of other modules, or holds numbers that are not finite.
    """
    path = folder / "weights.safetensors"
    with _reading(path):
        require_regular(path)
        with safe_open(path, framework="pt") as file:
            state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            extra = json.loads((file.metadata() or {}).get(_EXTRA, "{}"))
        if not isinstance(extra, dict):
            raise ValueError(f"its {_EXTRA} is no table")
        state |= extra
        if other := [name for name in state if not name.startswith(tuple(f"{part}." for part in modules))]:
            raise ValueError(f"{other[0]} is none of the run's")
        for part, module in modules.items():
            own = _of_part(part, state)
            require_fit(module, own)
            module.load_state_dict(own)


def _of_part(part: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a user's module may refuse in any way what it is given
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} cannot be read: {why}") from error


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Writes `checkpoint.pt`: tensors and primitives only."""
    content = io.BytesIO()  # torch's own writer has no plain words for a full disk
    torch.save({"format": FORMAT, **state}, content)
    replace_file(folder / "checkpoint.pt", lambda path: path.write_bytes(content.getbuffer()))


def read_checkpoint(folder: Path, device: torch.device) -> dict[str, Any]:
    """Reads `checkpoint.pt` as data: a pickle with code in it is refused, and so is one that promises more than it has.

    Raises:
        InputError: If the file is missing or damaged, or holds what no run has written.
    """
    path = folder / "checkpoint.pt"
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
            size = os.fstat(file.fileno()).st_size
            require_room(size, "it holds")
            with zipfile.ZipFile(file) as archive:
                # torch compresses nothing.
                if sum(entry.file_size for entry in archive.infolist()) > size:
                    raise ValueError("its parts are larger than the file")
                if any(entry.filename.endswith("/constants.pkl") for entry in archive.infolist()):
                    raise ValueError("it is a TorchScript archive")
            file.seek(0)
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
        if not isinstance(state, dict) or not isinstance(state.get("format"), int) or state["format"] != FORMAT:
            raise InputError(f"{path} is not a checkpoint of format {FORMAT}: retrain the run")
        require_checkpoint(state)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: retrain the run with --overwrite") from error
    except Exception as error:  # there is no end to what a damaged or hostile file may lead to
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} cannot be read: {why}") from error
    return state
