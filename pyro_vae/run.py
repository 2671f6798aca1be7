"""A run: from its settings to a trained pair in a run folder, and from the folder back to the pair."""

__all__ = ["Run", "train"]

import filecmp
import platform
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

from torch import nn

from pyro_vae import __version__, assembly, evaluation, folder, parts
from pyro_vae.data import Dataset
from pyro_vae.device import resolve, seeded
from pyro_vae.errors import InputError, Interrupted
from pyro_vae.progress import Progress
from pyro_vae.settings import Settings
from pyro_vae.signals import collected
from pyro_vae.training import Clock, Learner, fit

# What a resumed run may be given anew: how far and how fast, but not what it is.
_RESUMABLE = ("samples", "step_size", "device", "data_dir")
_CHECKPOINT_SECONDS = 60.0
# An evaluation makes about this many draws of each split, from at most as many datapoints.
_DRAWS = 10_000
# Without a guide, each of these datapoints needs a Gaussian of its own.
_FITTED = 300


@dataclass(frozen=True)
class Run:
    """A trained pair with its data and its folder.

    Arguments:
        path: The run folder.
        settings: The settings.
        dataset: The data.
        model: The generative model.
        guide: The recognition model, None where the algorithm has none.
        metrics: The rows of `metrics.csv`.
    """

    path: Path
    settings: Settings
    dataset: Dataset
    model: nn.Module
    guide: nn.Module | None
    metrics: list[list[float]]

    @classmethod
    def open(cls, path: str | Path, *, trust: bool = False, device: str = "auto", data_dir: str | None = None) -> "Run":
        """Opens a run folder.

        Arguments:
            path: The run folder.
            trust: Whether the user's Python files that the folder holds copies of may be run.
            device: The device to work on.
            data_dir: The folder of the data, where it is not the run's own.

        Raises:
            InputError: If the folder, its files or the data are not what they should be.
        """
        path = Path(path)
        record = folder.read_record(path)
        copies = _copies(path, record)
        if copies and not trust:
            raise InputError(f"{path} holds a user's Python code, {_named(copies)}: read it, then give --trust")
        settings = Settings.of(record["settings"], f"{path}/run.toml")
        settings = replace(settings, device=device, data_dir=data_dir or settings.data_dir)
        dataset = assembly.dataset(settings, resolve(device), record["data"]["checksum"])
        model, guide = assembly.pair(settings, dataset, copies)
        run = cls(path, settings, dataset, model, guide, folder.read_metrics(path))
        folder.read_weights(path, run.modules)
        return run

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The model and, where there is one, the guide, by these names."""
        return {"model": self.model} | ({} if self.guide is None else {"guide": self.guide})

    def evaluate(self, **options: Any) -> dict[str, Any]:
        """Evaluates the pair; see `pyro_vae.evaluation.evaluate` for the options and the result."""
        return evaluation.evaluate(self.model, self.guide, self.dataset, **options)


def train(
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    trust: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Trains a model and its guide into a run folder.

    Arguments:
        out: The run folder, `runs/DATA-MODEL-INFERENCE-LATENT` if omitted.
        resume: Go on with the run in the folder, from its last checkpoint.
        overwrite: Replace the run in the folder.
        trust: Whether the user's Python files that a resumed folder holds copies of may be run.
        progress: Whether to report progress on standard error.
        settings: Settings by name, see `Settings`.

    Returns:
        The run.

    Raises:
        InputError: If a setting is wrong; nothing has been written then.
        RunError: If the loss is not finite, or a file cannot be written.
        Interrupted: If a signal ended the run, after a checkpoint.
    """
    if resume and overwrite:
        raise InputError("--resume and --overwrite exclude each other: give one")
    if resume:
        if out is None:
            raise InputError("--resume needs the run folder: name it by --out")
        path = Path(out)
        record = folder.read_record(path)
        config = _resumed(record, settings)
        copies = _copies(path, record)
        if not trust and not _named_anew(copies, settings):
            raise InputError(f"{path} holds a user's Python code, {_named(copies)}: read it, then give --trust")
    else:
        record, copies = {}, {}
        config = assembly.with_guide_defaults(Settings.of(settings))
        names = (config.data, config.model, config.inference)
        path = Path(out or "runs") / ("" if out else "-".join([*(Path(n).stem for n in names), str(config.latent)]))
        folder.require_free(path, overwrite)
    device = resolve(config.device)
    dataset = assembly.dataset(config, device, record.get("data", {}).get("checksum"))
    if config.batch > len(dataset.train):
        raise InputError(f"--batch {config.batch} is more than the {len(dataset.train)} training datapoints: lower it")
    with seeded(config.seed, device):
        model, guide = assembly.pair(config, dataset, copies)
        learner = assembly.learner(config, model, guide, dataset)
        run = Run(path, config, dataset, model, guide, metrics=[])
        clock = Clock()
        if resume:
            clock = _restore(run, learner)
        else:
            folder.create(path)
            copies = _copy_parts(path, config)
        folder.write_record(path, _record(run, copies))
        _train(run, learner, clock, progress)
    return run


def _train(run: Run, learner: Learner, clock: Clock, progress: bool) -> None:
    most = _DRAWS if run.guide is not None else _FITTED
    splits = [split.some(most) for split in (run.dataset.train, run.dataset.test)]
    saved = monotonic()

    def checkpoint() -> None:
        nonlocal saved
        saved = monotonic()
        state: dict[str, Any] = {part: module.state_dict() for part, module in run.modules.items()}
        state |= {"learner": learner.state_dict(), "clock": asdict(clock), "metrics": run.metrics}
        folder.write_checkpoint(run.path, state)
        folder.write_weights(run.path, run.modules)

    with Progress(run.settings.samples, clock.samples, shown=progress) as shown, collected() as received:

        def on_evaluation(clock: Clock) -> None:
            bounds = [
                evaluation.bound(run.model, run.guide, split, -(-_DRAWS // len(split)), run.settings.seed).mean
                for split in splits
            ]
            run.metrics.append([clock.samples, round(clock.seconds, 3), *bounds])
            folder.write_metrics(run.path, run.metrics)
            shown.evaluated(clock, *bounds)

        def on_step(clock: Clock) -> None:
            if received or monotonic() - saved > _CHECKPOINT_SECONDS:
                checkpoint()
            if received:
                raise Interrupted(received[0])
            shown.stepped(clock, learner)

        folder.write_metrics(run.path, run.metrics)
        fit(learner, run.settings.samples, clock=clock, on_evaluation=on_evaluation, on_step=on_step)
        checkpoint()


def _restore(run: Run, learner: Learner) -> Clock:
    state = folder.read_checkpoint(run.path, run.dataset.train.device)
    try:
        for part, module in run.modules.items():
            module.load_state_dict(state[part])
        learner.load_state_dict(state["learner"])
        run.metrics.extend(state["metrics"])
        return Clock(**state["clock"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{run.path}/checkpoint.pt does not fit the run: {reason}") from error


def _resumed(record: dict[str, Any], given: dict[str, Any]) -> Settings:
    """The settings of a run that goes on, with those changed that may be."""
    old = Settings.of(record["settings"])
    new = Settings.of({**record["settings"], **given})
    for name, value in asdict(new).items():
        if name not in _RESUMABLE and value != getattr(old, name):
            raise InputError(
                f"--{name.replace('_', '-')} {value} cannot be given to a resumed run, which has "
                f"{getattr(old, name)}: leave it out, or train a new run"
            )
    return new


def _copy_parts(path: Path, settings: Settings) -> dict[str, str]:
    """Copies the parts that are a user's files into the run folder; returns them by kind."""
    copies = {}
    for kind in ("model", "prior", "guide", "inference"):
        spec = getattr(settings, kind)
        if parts.is_file(spec):
            file, name = parts.split_spec(spec)
            copy = path / "parts" / f"{kind}.py"
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
            copies[kind] = f"{copy}:{name}" if name else str(copy)
    return copies


def _copies(path: Path, record: dict[str, Any]) -> dict[str, str]:
    return {kind: str(path / spec) for kind, spec in record.get("copies", {}).items()}


def _named(copies: dict[str, str]) -> str:
    return ", ".join(copies.values())


def _named_anew(copies: dict[str, str], given: dict[str, Any]) -> bool:
    """Whether the user has named, in this call, files that equal the copies."""
    return all(
        parts.is_file(given.get(kind, ""))
        and filecmp.cmp(parts.split_spec(given[kind])[0], parts.split_spec(spec)[0], shallow=False)
        for kind, spec in copies.items()
    )


def _record(run: Run, copies: dict[str, str]) -> dict[str, Any]:
    data = run.dataset
    return {
        "format": folder.FORMAT,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": str(data.train.device),
        "settings": run.settings.table(),
        "copies": {kind: str(Path(spec).relative_to(run.path)) for kind, spec in copies.items()},
        "data": {
            "checksum": data.checksum,
            "train": len(data.train),
            "test": len(data.test),
            "image_shape": list(data.image_shape),
            "binarize": data.binarize,
        },
        "versions": {
            "pyro-vae": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "pyro-ppl", "numpy")},
        },
    }
