"""A grid of runs: each an ordinary run folder, trained by workers, several at a time.

What is there already is not done again, so that a grid that was interrupted goes on where it was.
"""

__all__ = ["STEP_SIZES", "Cell", "marginals", "train_all"]

import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pyro_vae.errors import InputError, Interrupted, RunError
from pyro_vae.paper.tables import read_table, write_table
from pyro_vae.paper.workers import Local, WorkerLost, Workers
from pyro_vae.run.fit import schedule
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.lock import wait_until_released
from pyro_vae.run.signals import collected

STEP_SIZES = (0.01, 0.02, 0.1)
"""What the paper chooses Adagrad's global step size from, by the first iterations on the training set (Section 5)."""

_PILOT = 100_000
# The first datapoints of each split, on which the paper estimates the marginal likelihood (Appendix E). Of both
# estimators the expectation is a lower bound. Where a guide fits sharp posteriors well, as it does those of the few
# datapoints it was trained on, importance is ahead; where it misses modes, as on other data then, ais is.
_EVALUATED = 1000
_ESTIMATORS = ("importance", "ais")
_ESTIMATE = (
    *(word for name in _ESTIMATORS for word in ("--marginal", name)),
    *("--set", "ais.temperatures=300", "--set", "ais.chains=4"),
)
# How many workers a run may lose before it counts as failed.
_LIVES = 5
_MARGINALS = ("samples", "split", "estimator", "log_px", "se")


@dataclass(frozen=True)
class Cell:
    """A run of a grid, all but its step size.

    Arguments:
        data: The data set.
        latent: The number of latent variables.
        algorithm: The learning algorithm.
        seed: The seed.
        arguments: The other arguments of `pyro-vae train`.
        train_size: The number of training datapoints, where it is not all of them.
        step_sizes: The step sizes to choose from.
    """

    data: str
    latent: int
    algorithm: str
    seed: int
    arguments: tuple[str, ...] = ()
    train_size: int | None = None
    step_sizes: tuple[float, ...] = STEP_SIZES

    def name(self, step_size: float) -> str:
        """Returns the name of the run folder."""
        return f"{self.data}{self.train_size or ''}-{self.latent}-{self.algorithm}-{step_size:g}-{self.seed}"

    def command(self, step_size: float) -> list[str]:
        """Returns the arguments of `pyro-vae train` but for the budget and the folder."""
        size = () if self.train_size is None else ("--train-size", str(self.train_size))
        named = ("--data", self.data, "--latent", str(self.latent), "--inference", self.algorithm, *size)
        return [*named, *self.arguments, "--step-size", f"{step_size:g}", "--seed", str(self.seed)]


def train_all(
    cells: Sequence[Cell],
    samples: int,
    out: Path,
    *,
    workers: Workers | None = None,
    data_dir: str | None = None,
    stages: Sequence[int] = (),
) -> tuple[dict[Cell, Path], dict[Cell, str]]:
    """Trains every run of a grid with the best of its step sizes.

    Each step size is tried for the first 100,000 samples; the one with the highest bound on the training data goes on.
    One that diverges is dropped, with a line of log. At the stages, log p(x) of the first 1,000 datapoints of either
    split is estimated, for `marginals` to read.

    Arguments:
        cells: The runs.
        samples: The budget of each, in datapoint evaluations.
        out: The folder of the run folders.
        workers: What trains them, a process of this machine per core if omitted.
        data_dir: The folder of the data sets.
        stages: After how many samples to estimate the marginal likelihood.

    Returns:
        The folders of the runs that ended well, and why the others did not.

    Raises:
        Interrupted: If a signal ended it, after checkpoints.
    """
    workers = Local() if workers is None else workers
    out.mkdir(parents=True, exist_ok=True)
    folders: dict[Cell, Path] = {}
    failures: dict[Cell, str] = {}
    with collected() as signals, _Display(cells, samples, out) as display:
        commands = _Commands(out, samples, data_dir, workers)
        with ThreadPoolExecutor(workers.share(len(cells))) as pool:
            trained = {pool.submit(_train, cell, samples, stages, commands, display.note): cell for cell in cells}
            pending = set(trained)
            while pending:
                ended, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                display.update()
                for future in ended:
                    cell = trained[future]
                    try:
                        folders[cell] = future.result()
                    except RunError as error:
                        failures[cell] = str(error)
                        if not signals:
                            display.note(f"failed: {error}")
                    else:
                        display.note(f"{folders[cell].name}: test bound {read_metrics(folders[cell])[-1][3]:.2f}")
                if signals:
                    workers.stop()
                    pool.shutdown(cancel_futures=True)
                    raise Interrupted(signals[0])
    return {cell: folders[cell] for cell in cells if cell in folders}, failures


def marginals(folder: Path) -> list[dict[str, Any]]:
    """Reads what log p(x) was estimated to be along a run of a grid.

    Arguments:
        folder: The run folder.

    Returns:
        Rows with `samples`, `split`, `estimator`, its `log_px` and the Monte Carlo standard error `se` of that, in nats
        per datapoint.
    """
    return read_table(folder / "marginals.csv", _MARGINALS, ("split", "estimator"))


def _train(cell: Cell, samples: int, stages: Sequence[int], commands: "_Commands", note: Callable[[str], None]) -> Path:
    """Trains a run, as often as its worker is lost from where it has come to."""
    for _ in range(_LIVES):
        try:
            return _advance(cell, samples, stages, commands, note)
        except WorkerLost as error:
            note(f"{cell.name(cell.step_sizes[0])}: {error}, it goes on from its last checkpoint")
            for step_size in cell.step_sizes:
                wait_until_released(commands.out / cell.name(step_size))  # a lost worker may live on for a moment
    raise RunError(f"{cell.name(cell.step_sizes[0])}: it has lost {_LIVES} workers")


def _advance(
    cell: Cell, samples: int, stages: Sequence[int], commands: "_Commands", note: Callable[[str], None]
) -> Path:
    best = _best(cell, min(_PILOT, samples), commands, note)
    for stage in sorted({*stages, samples}):
        if reason := commands.advance(cell, best, stage):
            raise RunError(f"{cell.name(best)}: {reason}")
        if stage in stages:
            commands.estimate(cell, best, stage)
    return commands.out / cell.name(best)


def _best(cell: Cell, pilot: int, commands: "_Commands", note: Callable[[str], None]) -> float:
    """Returns the step size with the highest bound on the training data after the first samples."""
    if len(cell.step_sizes) == 1:
        return cell.step_sizes[0]
    bounds: dict[float, float] = {}
    for step_size in cell.step_sizes:
        if (reason := commands.advance(cell, step_size, pilot)) is None:
            rows = read_metrics(commands.out / cell.name(step_size))
            bounds[step_size] = next(row[2] for row in rows if row[0] >= pilot)
        else:
            note(f"{cell.name(step_size)} is dropped: {reason}")
    if not bounds:
        raise RunError(f"{cell.name(cell.step_sizes[0])}: every step size diverges")
    return max(bounds, key=lambda step_size: bounds[step_size])


class _Commands:
    """What the runs of a grid are asked to do."""

    def __init__(self, out: Path, budget: int, data_dir: str | None, workers: Workers) -> None:
        self.out, self.budget, self.data_dir, self.workers = out, budget, data_dir, workers

    def advance(self, cell: Cell, step_size: float, samples: int) -> str | None:
        """Trains a run up to a budget, as far as that is not done. Returns why it diverged, if it did."""
        folder = self.out / cell.name(step_size)
        diverged = _diverged(folder)
        if diverged.exists():
            return diverged.read_text(encoding="utf-8")
        if _done(folder) >= samples:
            return None
        if not (begun := (folder / "checkpoint.pt").exists()):
            (folder / "marginals.csv").unlink(missing_ok=True)
        command = ["--resume"] if begun else ["--overwrite", *cell.command(step_size)]
        pictures = () if samples >= self.budget else ("--no-figures",)
        budget = ("--samples", str(samples), "--out", str(folder))
        status, output = self._run(folder, "train", *command, *budget, *pictures)
        if status == 0:
            return None
        if status != 1 or "not finite" not in output:
            raise RunError(f"{folder.name}: {output or f'exit status {status}'}")
        diverged.write_text(output, encoding="utf-8")
        return output

    def estimate(self, cell: Cell, step_size: float, stage: int) -> None:
        """Estimates the marginal likelihood where a run has come to, as far as that is not done."""
        folder = self.out / cell.name(step_size)
        rows = marginals(folder)
        if any(row["samples"] >= stage for row in rows):
            return
        for split in ("train", "test"):
            command = ("evaluate", str(folder), "--split", split, "--limit", str(_EVALUATED), "--json")
            status, output = self._run(folder, *command, *_ESTIMATE)
            if status != 0:
                raise RunError(f"{folder.name}: {output or f'exit status {status}'}")
            found = json.loads(output)
            for name in _ESTIMATORS:
                values = (_done(folder), split, name, found[name]["log_px"], found[name]["se"])
                rows.append(dict(zip(_MARGINALS, values, strict=True)))
        write_table(rows, _MARGINALS, folder / "marginals.csv")

    def _run(self, folder: Path, *arguments: str) -> tuple[int, str]:
        """Runs a command to its end. Returns its exit status, and its output or the last line of its log."""
        where = () if self.data_dir is None else ("--data-dir", self.data_dir)
        log = folder.with_name(f"{folder.name}.log")
        try:
            status, output = self.workers.run([*arguments, *where], log)
        except RunError as error:
            raise RunError(f"{folder.name}: {error}") from error
        if status != 0:
            output = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        return status, output.removeprefix("pyro-vae: ")


def _diverged(folder: Path) -> Path:
    """Where it is written why a run diverged."""
    return folder.with_name(f"{folder.name}.diverged")


def _done(folder: Path) -> int:
    try:
        return int(read_metrics(folder)[-1][0])
    except (InputError, IndexError):
        return 0


class _Display:
    """One bar for the whole grid."""

    def __init__(self, cells: Sequence[Cell], samples: int, out: Path) -> None:
        self.cells, self.samples, self.out = cells, samples, out
        self.pilot = min(_PILOT, samples)
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.fields[runs]}  {task.completed:,.0f} / {task.total:,.0f} samples"),
            BarColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
            speed_estimate_period=300,
        )
        total = sum(samples + (len(cell.step_sizes) - 1) * self.pilot for cell in cells)
        self.task = self.bar.add_task("", total=total, runs="")

    def __enter__(self) -> "_Display":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def note(self, text: str) -> None:
        """Prints a line of log."""
        self.console.print(text, markup=False)

    def update(self) -> None:
        """Moves the bar to where the run folders are, and between their evaluations at the pace of the last one."""
        if self.bar.disable:
            return
        completed, ended = 0.0, 0
        for cell in self.cells:
            folders = [self.out / cell.name(step_size) for step_size in cell.step_sizes]
            reached = [self._reached(folder) for folder in folders]
            completed += sum(min(self.pilot, each) for each in reached) + max(0, *reached, self.pilot) - self.pilot
            ended += max(reached) >= self.samples
        self.bar.update(self.task, completed=completed, runs=f"{ended} of {len(self.cells)} runs")

    def _reached(self, folder: Path) -> float:
        if _diverged(folder).exists():
            return self.pilot
        try:
            samples, seconds, *_ = read_metrics(folder)[-1]
            since = time() - (folder / "metrics.csv").stat().st_mtime
        except (InputError, IndexError, OSError):
            return 0
        following = min((point for point in schedule(self.samples) if point > samples), default=samples)
        return min(following, samples + since * samples / seconds) if seconds else samples
