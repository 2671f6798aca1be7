"""Training into a run folder: a new run and one that goes on differ in where they start, and in nothing else."""

__all__ = ["train"]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pyro_vae import python_state, ranks
from pyro_vae.checks import weighted_terms
from pyro_vae.data.dataset import name_of
from pyro_vae.device import resolve, seeded, set_host_generators
from pyro_vae.errors import InputError
from pyro_vae.run import folder, parts, record
from pyro_vae.run.fit import Clock, Learner
from pyro_vae.run.lock import locked
from pyro_vae.run.prepared import Prepared, prepare
from pyro_vae.run.run import Run
from pyro_vae.run.settings import Settings
from pyro_vae.run.signals import collected
from pyro_vae.run.stored import require_fit, require_shapes
from pyro_vae.run.support import require_support
from pyro_vae.run.trackers import require_tracker, tracked
from pyro_vae.run.training import Training
from pyro_vae.run.trust import contents, copy
from pyro_vae.run.trust import require as require_trusted


class _Start(NamedTuple):
    """Where a run starts.

    Arguments:
        path: The run folder.
        settings: The settings.
        record: What its `run.toml` says, nothing where it is new.
        files: A user's files that are to be copied into the folder, by kind.
        overwrite: Whether it replaces another run.
        data: The data, where they lie in memory.
        parts: Model and guide by these names, where they lie in memory.
    """

    path: Path
    settings: Settings
    record: dict[str, Any]
    files: dict[str, bytes]
    overwrite: bool = False
    data: Any = None
    parts: Mapping[str, Any] = {}


def train(
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    trust: bool = False,
    progress: bool = True,
    log: str | None = None,
    **settings: Any,
) -> Run:
    """Trains a model and its guide into a run folder.

    Where torchrun has started several processes, they divide minibatches and data (see `pyro_vae.ranks`), and the first
    one writes. All of them must see the folder. Threads of one process train one after the other, since torch's random
    numbers and Pyro's handlers are the process's own.

    Arguments:
        out: The run folder, `runs/DATA-MODEL-INFERENCE-LATENT` if omitted.
        resume: Go on with the run in the folder, from its last checkpoint.
        overwrite: Replace the run in the folder.
        trust: Whether the user's Python files that a resumed folder holds copies of may be run.
        progress: Whether to report progress on standard error.
        log: What bounds and samples are sent to at each evaluation, `tensorboard`, `mlflow` or `wandb`.
        settings: Settings by name, see `Settings`. `data` may be a data set (see `pyro_vae.data`), or what one is made
            of: a run that was trained on such data is resumed with them. `model` and `guide` may be what is called with
            data, functions, methods or modules, or classes; each run trains copies of the nets in them.

    Returns:
        The run.

    Raises:
        InputError: If a setting is wrong; nothing has been written then.
        RunError: If the loss is not finite, or a file cannot be written.
        Interrupted: If a signal ended the run, after a checkpoint.

    Example:
        >>> import pyro_vae
        >>> run = pyro_vae.train(
        ...     "runs/example", data="digits", latent=2, hidden=8, samples=500, progress=False, overwrite=True
        ... )
        >>> run.path
        PosixPath('runs/example')
    """
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other: give one")
    require_tracker(log)
    ranks.join()
    data = None
    if not isinstance(settings.get("data", ""), str | Path):
        data, settings = settings["data"], {**settings, "data": name_of(settings["data"])}
    given = {kind: settings[kind] for kind in ("model", "guide") if callable(settings.get(kind))}
    if "guide" not in settings and parts.is_pair(given.get("model")):
        given["guide"] = given["model"]
    settings |= {kind: parts.name_in_memory(part) for kind, part in given.items()}
    start = _resumed(out, trust, settings) if resume else _new(out, overwrite, settings)
    start = start._replace(data=data, parts=given)
    device = resolve(start.settings.device)
    with seeded(start.settings.seed, device):
        prepared = prepare(start.settings, device, start.path, start.record, start.data, start.parts)
        if start.record:
            _require_sizes(start.path, prepared)
        require_support(prepared.model, prepared.dataset, prepared.settings.model)
        learner = prepared.learner()
        folder.require_savable(prepared.modules)
        weighted = weighted_terms(prepared.model, prepared.guide, prepared.dataset.train.first(2))
        run = Run.of(start.path, prepared, rows=[])
        ranks.maxima(0)  # all of them have found the folder as it should be, before one writes in it
        # Until here a signal ends the run as it comes: nothing has been written.
        with collected() as signals, locked(run.path) if ranks.rank() == 0 else nullcontext():
            _claim(start)
            clock = _restored(run, learner) if start.record else Clock()
            if start.record:
                _require_more(run.settings, start, clock)
            if ranks.rank() == 0:
                folder.write_record(run.path, record.describe(run.settings, run.dataset, weighted, start.record))
                copy(start.files, run.path)
            with tracked(log, run) as told:
                Training(run, learner, clock, weighted, progress, signals, told).go()
    return run


def _new(out: str | Path | None, overwrite: bool, given: dict[str, Any]) -> _Start:
    settings = Settings.of(given)
    if "guide" not in given and (own := parts.own_guide(settings.model)):
        settings = replace(settings, guide=own)
    path = Path(out) if out is not None else record.default_path(settings)
    files = contents(settings)
    folder.require_free(path, overwrite)
    if overwrite:
        record.require_outside(path, settings)
    return _Start(path, settings, {}, files, overwrite)


def _resumed(out: str | Path | None, trust: bool, given: dict[str, Any]) -> _Start:
    if out is None:
        raise InputError("--resume needs the run folder: name it by --out")
    path = Path(out)
    written = folder.read_record(path)
    settings = record.resumed(written, given)
    require_trusted(path, settings, trust, given=given)
    return _Start(path, settings, written, {})


def _claim(start: _Start) -> None:
    """Makes the folder this process's own, which holds its lock."""
    if ranks.rank():
        return
    if not start.record:
        folder.require_free(start.path, start.overwrite)  # another process may have been there in the meantime
        folder.create(start.path)
    folder.sweep(start.path)


def _require_more(settings: Settings, start: _Start, clock: Clock) -> None:
    # The last step may have led beyond the budget, which is then no reason to ask for more.
    if settings.samples < min(clock.samples, Settings.of(start.record["settings"]).samples):
        raise InputError(
            f"--samples {settings.samples} is less than the {clock.samples} that the run has seen: give more"
        )


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a foreign or damaged checkpoint may hold
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}/checkpoint.pt does not fit the run: {type(error).__name__}: {reason}") from error


def _require_sizes(path: Path, prepared: Prepared) -> None:
    """Holds sizes in a record against those in its checkpoint, before a model of that size is run."""
    state = folder.read_checkpoint(path, prepared.dataset.train.device)
    with _fitting(path):
        for part, module in prepared.modules.items():
            require_shapes(module, {name: value.shape for name, value in state[part].items() if torch.is_tensor(value)})


def _restored(run: Run, learner: Learner) -> Clock:
    """Sets modules, learner, generators and metrics to those of the last checkpoint, and returns its clock."""
    state = folder.read_checkpoint(run.path, run.dataset.train.device)
    if forgotten := state.get("unsaved"):
        raise InputError(
            f"{run.path} cannot be resumed: {forgotten[0]} changes as the model trains, and no checkpoint holds it: "
            "make it a buffer (register_buffer), and retrain the run"
        )
    with _fitting(run.path):
        for part, module in run.modules.items():
            require_fit(module, state[part])
            module.load_state_dict(state[part])
            python_state.write(module, state.get("python", {}).get(part, ()))
        learner.load_state_dict(state["learner"])
        run.dataset.train.go_on(int(state.get("fed", 0)))
        run.rows.extend([int(samples), *map(float, values)] for samples, *values in state["metrics"])
        clock = Clock(int(state["clock"]["samples"]), float(state["clock"]["seconds"]))
        if "host_generators" in state:  # older checkpoints hold torch's only
            set_host_generators(state["host_generators"])
    return clock
