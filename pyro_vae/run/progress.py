"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

__all__ = ["Progress", "Stages", "waiting"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pyro_vae.run.fit import Clock, Learner

_SECONDS = 0.25  # between two looks at the loss, each a read from the device


class Progress:
    """Shows how far a run has come.

    Arguments:
        total: The budget in samples.
        done: The samples so far.
        shown: Whether to show anything.
    """

    def __init__(self, total: int, done: int, shown: bool = True) -> None:
        self.console = Console(stderr=True, quiet=not shown, highlight=False, soft_wrap=True)
        self.bar = Bar(
            TextColumn("{task.completed:,.0f} / {task.total:,.0f} samples"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
            transient=True,
        )
        self.task = self.bar.add_task("", total=total, completed=done, note="")
        self.looked = 0.0

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def note(self, text: str) -> None:
        """Prints a line of log."""
        self.console.print(f"note: {text}", markup=False)

    def stepped(self, clock: Clock, learner: Learner) -> None:
        """Moves the bar, a few times a second."""
        if self.bar.disable or monotonic() - self.looked < _SECONDS:
            return
        self.looked = monotonic()
        note = f"bound {-learner.loss.item():.1f}  {_rate(clock)}"
        self.bar.update(self.task, completed=clock.samples, note=note)

    def evaluated(self, clock: Clock, train_bound: float, test_bound: float) -> None:
        """Prints an evaluation."""
        bounds = f"train bound {train_bound:9.2f}  test bound {test_bound:9.2f} nats"
        self.console.print(f"{clock.samples:>11,} samples  {bounds}  {_rate(clock)}")


class Stages:
    """Shows how far each stage of a piece of work has come: a bar on a terminal, a line with its time at its end.

    Arguments:
        shown: Whether to show anything.
    """

    def __init__(self, shown: bool = True) -> None:
        self.console = Console(stderr=True, quiet=not shown, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Begins a stage; what it yields is called with the share of the stage done since the last call."""
        began = monotonic()
        with waiting(name, self.console) as advance:
            yield advance
        self.console.print(f"{name}: {monotonic() - began:.0f} s", markup=False)


@contextmanager
def waiting(name: str, console: Console | None = None) -> Iterator[Callable[[float], None]]:
    """Shows a bar with the time that is left, on a terminal, and takes it away at the end.

    Arguments:
        name: What is waited for.
        console: Where it is shown; standard error if omitted.

    Yields:
        What is called with the share that has been done since the last call.
    """
    console = console or Console(stderr=True, highlight=False)
    left = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*left, console=console, disable=console.quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda share: bar.advance(task, share)


def _rate(clock: Clock) -> str:
    return f"{clock.samples / clock.seconds:,.0f} samples/s" if clock.seconds else ""
