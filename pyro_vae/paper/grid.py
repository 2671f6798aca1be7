"""The grid of the paper's runs, each with the best of its step sizes."""

__all__ = ["Grid", "Trained"]

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pyro_vae.data.loading import load_data
from pyro_vae.errors import RunError
from pyro_vae.paper.cells import Cell
from pyro_vae.paper.commands import Commands, Diverged
from pyro_vae.paper.display import Display
from pyro_vae.paper.protocol import PILOT
from pyro_vae.run.folder import read_metrics
from pyro_vae.run.pool import Trained, finish, outlive
from pyro_vae.run.workers import Local, Workers

Note = Callable[[str], None]


class Grid:
    """Creates what trains the runs of the paper's experiments.

    Arguments:
        out: The folder of the results and of the folders of runs.
        samples: The budget of each run, in datapoint evaluations.
        workers: What trains them, a process of this machine per core if omitted.
        data_dir: The folder of the data sets.
    """

    def __init__(self, out: Path, samples: int, workers: Workers | None = None, data_dir: str | None = None) -> None:
        self.out, self.samples, self.data_dir = out, samples, data_dir
        self.workers = Local() if workers is None else workers

    def train(self, cells: Sequence[Cell], folder: str, stages: Iterable[int] = ()) -> Trained[Cell]:
        """Trains runs with the best of their step sizes.

        Each step size is tried for the first 100,000 samples; the one with the highest bound on the training data goes
        on. One that diverges is dropped, with a line of log.

        Arguments:
            cells: The runs.
            folder: The folder of their run folders, in that of the results.
            stages: After how many samples to estimate log p(x) of the first 1,000 datapoints of either split.

        Raises:
            InputError: If data are missing.
            Interrupted: If a signal ended it, after checkpoints.
        """
        for data in {cell.data: None for cell in cells}:
            load_data(data, folder=self.data_dir)  # what is missing is said, or fetched, before the long part
        (self.out / folder).mkdir(parents=True, exist_ok=True)
        commands = Commands(self.out / folder, self.samples, self.workers, self.data_dir)
        display = Display(cells, commands, _pilot(commands))
        return finish(cells, lambda cell: _train(cell, {*stages}, commands, display.note), self.workers, display)


def _train(cell: Cell, stages: set[int], commands: Commands, note: Note) -> Path:
    folders = [commands.folder(cell, step_size) for step_size in cell.step_sizes]
    return outlive(cell.name(cell.step_sizes[0]), lambda: _train_once(cell, stages, commands, note), folders, note)


def _train_once(cell: Cell, stages: set[int], commands: Commands, note: Note) -> Path:
    best = _best_step_size(cell, commands, note)
    for stage in sorted({*stages, commands.samples}):
        commands.advance(cell, best, stage)
        if stage in stages:
            commands.estimate(cell, best, stage)
    return commands.folder(cell, best)


def _best_step_size(cell: Cell, commands: Commands, note: Note) -> float:
    """Returns the step size with the highest bound on the training data after the first samples."""
    if len(cell.step_sizes) == 1:
        return cell.step_sizes[0]
    pilot = _pilot(commands)
    bounds: dict[float, float] = {}
    for step_size in cell.step_sizes:
        try:
            commands.advance(cell, step_size, pilot)
        except Diverged as error:
            note(f"dropped {error}")
            continue
        metrics = read_metrics(commands.folder(cell, step_size))
        bounds[step_size] = next(bound for samples, _, bound, _ in metrics if samples >= pilot)
    if not bounds:
        raise RunError(f"{cell.name(cell.step_sizes[0])}: every step size diverges")
    return max(bounds, key=bounds.__getitem__)


def _pilot(commands: Commands) -> int:
    """After how many samples the step size is chosen."""
    return min(PILOT, commands.samples)
