"""One progress bar for a whole grid, and its lines of log."""

__all__ = ["Display"]

from collections.abc import Sequence
from pathlib import Path
from time import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pyro_vae.errors import InputError
from pyro_vae.paper.cells import Cell
from pyro_vae.paper.commands import Commands, has_diverged
from pyro_vae.run.fit import schedule
from pyro_vae.run.folder import read_metrics


class Display:
    """Creates a display on standard error, a context.

    Arguments:
        cells: The runs.
        commands: What trains them.
        pilot: How far each step size is tried, in samples.
    """

    def __init__(self, cells: Sequence[Cell], commands: Commands, pilot: int) -> None:
        self.samples, self.pilot = commands.samples, pilot
        self.folders = [[commands.folder(cell, step_size) for step_size in cell.step_sizes] for cell in cells]
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
        total = sum(self.samples + (len(folders) - 1) * pilot for folders in self.folders)
        self.task = self.bar.add_task("", total=total, runs="")

    def __enter__(self) -> "Display":
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
        for folders in self.folders:
            reached = [self._reached(folder) for folder in folders]
            completed += sum(min(self.pilot, each) for each in reached) + max(0, *reached, self.pilot) - self.pilot
            ended += max(reached) >= self.samples
        self.bar.update(self.task, completed=completed, runs=f"{ended} of {len(self.folders)} runs")

    def _reached(self, folder: Path) -> float:
        if has_diverged(folder):
            return self.pilot
        try:
            samples, seconds, *_ = read_metrics(folder)[-1]
            since = time() - (folder / "metrics.csv").stat().st_mtime
        except (InputError, IndexError, OSError):
            return 0
        following = min((point for point in schedule(self.samples) if point > samples), default=samples)
        return min(following, samples + since * samples / seconds) if seconds else samples
