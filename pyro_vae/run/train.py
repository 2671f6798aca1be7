"""A run: from its settings to a trained pair in a run folder, and from the folder back to the pair."""

__all__ = ["Run", "train"]

import math
import traceback
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from torch import nn

from pyro_vae import ranks
from pyro_vae.bayesian import BayesianModel
from pyro_vae.data.dataset import Dataset
from pyro_vae.device import host_generators, resolve, seeded, set_host_generators
from pyro_vae.errors import InputError, Interrupted, RunError
from pyro_vae.marginal import bound, weights_cost
from pyro_vae.optim import WARMUP
from pyro_vae.run import assembly, evaluation, folder, parts, record
from pyro_vae.run.fit import Clock, Learner, fit, not_finite, require_finite
from pyro_vae.run.lock import locked
from pyro_vae.run.progress import Progress
from pyro_vae.run.settings import Settings
from pyro_vae.run.signals import collected
from pyro_vae.run.support import require_support
from pyro_vae.run.trust import contents, copy, located
from pyro_vae.run.trust import require as trust_files

# An evaluation makes about this many draws of each split, from at most as many datapoints.
_DRAWS = 10_000
# Without a guide, each of these datapoints needs a Gaussian of its own.
_FITTED = 300
# Random weights are drawn for all datapoints at once: so many of these leave ten draws.
_SHARING = 1_000


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
        written = folder.read_record(path)
        settings = Settings.of(written["settings"], f"{path}/run.toml")
        trust_files(path, settings, trust)
        settings = replace(settings, device=device, data_dir=data_dir or record.used_data_dir(settings, written))
        where = resolve(device)
        dataset = assembly.dataset(settings, where, written["data"]["checksum"])
        with seeded(settings.seed, where):
            model, guide, dataset = assembly.pair(located(path, settings), dataset)
        run = cls(path, settings, dataset, model, guide, folder.read_metrics(path))
        folder.read_weights(path, run.modules)
        return run

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The model and, where there is one, the guide, by these names."""
        return {"model": self.model} | ({} if self.guide is None else {"guide": self.guide})

    def evaluate(self, **options: Any) -> dict[str, Any]:
        """Evaluates the pair; see `pyro_vae.run.evaluation.evaluate` for the options and the result."""
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

    Where torchrun has started several processes, they divide minibatches and data (see `pyro_vae.ranks`), and the first
    one writes. All of them must see the folder.

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
    ranks.join()
    written: dict[str, Any] = {}
    if resume:
        if out is None:
            raise InputError("--resume needs the run folder: name it by --out")
        path = Path(out)
        written = folder.read_record(path)
        config = record.resumed(written, settings)
        trust_files(path, config, trust, given=settings)
        files: dict[str, bytes] = {}
    else:
        config = assembly.with_guide_defaults(Settings.of(settings))
        path = Path(out) if out is not None else record.default_path(config)
        files = contents(config)
        folder.require_free(path, overwrite)
        if overwrite:
            record.require_outside(path, config)
    device = resolve(config.device)
    found = replace(config, data_dir=record.used_data_dir(config, written))
    dataset = assembly.dataset(found, device, written["data"]["checksum"] if resume else None)
    with seeded(config.seed, device), collected() as signals:
        own = located(path, config) if resume else config
        model, guide, dataset = assembly.pair(own, dataset)
        require_support(model, dataset, own.model)
        learner = assembly.learner(own, model, guide, dataset)
        if parts.takes(type(learner), "batch") and config.batch > (size := dataset.train.total):
            raise InputError(f"--batch {config.batch} is more than the {size} training datapoints: lower it")
        run = Run(path, config, dataset, model, guide, metrics=[])
        ranks.largest(0)  # all of them have found the folder as it should be, before one writes in it
        with locked(path) if ranks.rank() == 0 else nullcontext():
            if ranks.rank() == 0:
                if not resume:
                    folder.require_free(path, overwrite)  # another process may have been there in the meantime
                    folder.create(path)
                folder.sweep(path)
            clock = _restore(run, learner) if resume else Clock()
            # The last step may have led beyond the budget, which is then no reason to ask for more.
            if resume and config.samples < min(clock.samples, Settings.of(written["settings"]).samples):
                raise InputError(
                    f"--samples {config.samples} is less than the {clock.samples} that the run has seen: give more"
                )
            if ranks.rank() == 0:
                folder.write_record(path, record.describe(config, dataset, written))
                copy(files, path)
            _train(run, learner, clock, progress, signals)
    return run


def _train(run: Run, learner: Learner, clock: Clock, progress: bool, signals: list[int]) -> None:
    most = _FITTED if run.guide is None else _SHARING if isinstance(run.model, BayesianModel) else _DRAWS
    splits = [split.some(most) for split in (run.dataset.train, run.dataset.test)]
    saved = monotonic()

    def checkpoint() -> None:
        nonlocal saved
        require_finite(learner, clock.samples)  # the last finite checkpoint stays
        saved = monotonic()
        state: dict[str, Any] = {part: module.state_dict() for part, module in run.modules.items()}
        state |= {"learner": learner.state_dict(), "clock": asdict(clock), "metrics": run.metrics}
        state["host_generators"] = host_generators()
        if ranks.rank() == 0:
            folder.write_weights(run.path, run.modules)
            folder.write_checkpoint(run.path, state)  # last: where there is one, there is all else

    with Progress(run.settings.samples, clock.samples, shown=progress and ranks.rank() == 0) as shown:

        def on_evaluation(clock: Clock) -> None:
            bounds = [
                bound(run.model, run.guide, split, -(-_DRAWS // split.total), run.settings.seed).mean
                for split in splits
            ]
            bounds[0] -= weights_cost(run.model, run.dataset.train.total)
            if not all(map(math.isfinite, bounds)):
                raise not_finite("bound", learner, clock.samples)
            run.metrics.append([clock.samples, round(clock.seconds, 3), *bounds])
            if ranks.rank() == 0:
                folder.write_metrics(run.path, run.metrics)
            shown.evaluated(clock, *bounds)

        def on_step(clock: Clock) -> None:
            late = monotonic() - saved >= run.settings.checkpoint_every
            save, signal = ranks.largest(int(late), *(signals[:1] or [0]))
            if save or signal:
                checkpoint()
            if signal:
                raise Interrupted(signal)
            shown.stepped(clock, learner)

        if ranks.rank() == 0:
            folder.write_metrics(run.path, run.metrics)
        checkpoint()
        settings = run.settings
        warmup = WARMUP * settings.batch if parts.takes(type(learner), "batch") else 0
        if settings.optimizer == "adagrad" and settings.samples <= warmup:
            shown.note(f"the paper's Adagrad moves nothing in its first {WARMUP} steps: give --samples above {warmup}")
        try:
            fit(learner, run.settings.samples, clock=clock, on_evaluation=on_evaluation, on_step=on_step)
        except (InputError, RunError, Interrupted):
            raise
        except Exception as error:  # a user's part may fail in any way, at any time
            at = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {str(error).partition('\n')[0]} ({Path(at.filename).name}:{at.lineno})"
            raise RunError(f"the run failed after {clock.samples} samples: {reason}") from error
        checkpoint()


def _restore(run: Run, learner: Learner) -> Clock:
    state = folder.read_checkpoint(run.path, run.dataset.train.device)
    try:
        for part, module in run.modules.items():
            module.load_state_dict(state[part])
        learner.load_state_dict(state["learner"])
        run.metrics.extend([int(samples), *map(float, values)] for samples, *values in state["metrics"])
        clock = Clock(int(state["clock"]["samples"]), float(state["clock"]["seconds"]))
        if "host_generators" in state:  # older checkpoints hold torch's only
            set_host_generators(state["host_generators"])
    except Exception as error:  # whatever a foreign or damaged checkpoint may hold
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{run.path}/checkpoint.pt does not fit the run: {type(error).__name__}: {reason}") from error
    return clock
