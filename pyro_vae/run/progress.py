"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

__all__ = ["Progress", "Stages", "print_analysis", "print_claims", "print_comparison", "print_evaluation"]

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from pyro_vae.analysis.verdicts import Finding
from pyro_vae.run.fit import Clock, Learner
from pyro_vae.run.settings import pixels

_STYLES = {"good": "green", "fair": "yellow", "poor": "red"}
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
        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
        disable = self.console.quiet or not self.console.is_terminal
        with Bar(*columns, console=self.console, disable=disable, transient=True) as bar:
            task = bar.add_task(name, total=1.0)
            yield lambda share: bar.advance(task, share)
        self.console.print(f"{name}: {monotonic() - began:.0f} s", markup=False)


def _rate(clock: Clock) -> str:
    return f"{clock.samples / clock.seconds:,.0f} samples/s" if clock.seconds else ""


def print_evaluation(result: dict[str, Any]) -> None:
    """Prints what `pyro_vae.run.score.evaluate` returned as a table on standard output."""
    table = Table(title=_what(result))
    table.caption = "nats per datapoint, with the standard error of the Monte Carlo draws"
    table.add_column("estimate", no_wrap=True)
    table.add_column("nats", justify="right", no_wrap=True)
    table.add_column("s.e.", justify="right", no_wrap=True)
    table.add_column("details")
    bits = "" if result.get("bits_per_dim") is None else f"bits_per_dim {result['bits_per_dim']:.4g}"
    table.add_row("bound", *_numbers(result["bound"], result["bound_se"]), bits)
    if "weights_kl" in result:
        paid = "in the bound" if result["split"] == "train" else "paid by the training data"
        table.add_row("KL of the weights", *_numbers(result["weights_kl"], None), paid)
    for name, values in result.items():
        if isinstance(values, dict):
            details = (
                f"{key} {value:.4g}"
                for key, value in values.items()
                if key not in ("log_px", "se") and value is not None
            )
            table.add_row(f"log p(x), {name}", *_numbers(values["log_px"], values["se"]), ", ".join(details))
    if "weighted" in result:
        table.add_row("weighted sites", "", "", Text(f"{', '.join(result['weighted'])}: they count once here"))
    Console().print(table)


def print_claims(rows: Iterable[Mapping[str, str]]) -> None:
    """Prints what `pyro_vae.paper.claims.judge` returned as a table on standard output."""
    table = Table("", "claim", "paper", "ours", "holds", show_lines=True)
    for row in rows:
        table.add_row(row["claim"], row["statement"], row["paper"], row["ours"], row["holds"])
    Console().print(table)


def print_analysis(findings: list[Finding], title: str) -> None:
    """Prints the findings of an analysis as a table on standard output."""
    table = Table(title=Text(title), show_lines=True)
    table.add_column("question", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("finding")
    for found in findings:
        text = f"{found.text} {found.advice}".strip()
        table.add_row(found.question, Text(found.verdict, style=_STYLES[found.verdict]), Text(text))
    Console().print(table)


def print_comparison(result: dict[str, Any]) -> None:
    """Prints the table of a `pyro_vae.analysis.comparison.Comparison` on standard output."""
    estimators = [name for name, value in result["runs"][0].items() if isinstance(value, dict)]
    table = Table(title=_what(result))
    table.caption = (
        "nats per datapoint; differences from the first run, paired by datapoint, with their standard errors"
    )
    table.add_column("run", overflow="fold")
    for name in ("bound", "difference", *(h for e in estimators for h in (f"log p(x), {e}", "difference", "details"))):
        table.add_column(name, justify="left" if name == "details" else "right")
    for row in result["runs"]:
        cells = [_number(row["bound"]), _difference(row)]
        for name in estimators:
            values = row[name]
            shown = (key for key in ("bits_per_dim", "khat_over_0_7", "acceptance") if values.get(key) is not None)
            details = ", ".join(f"{key} {values[key]:.3g}" for key in shown)
            cells += [_number(values["log_px"]), _difference(values), details]
        weighted = f" (weighted sites count once: {', '.join(row['weighted'])})" if "weighted" in row else ""
        table.add_row(Text(row["run"] + weighted), *cells)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file has room for whole lines
    console.print(table)


def _what(result: dict[str, Any]) -> Text:
    about = f"{pixels(result['binarize'])} pixels, {result['measure']}"
    # A path may hold what would be markup.
    return Text(f"{result['data']} {result['split']}, {result['datapoints']:,} datapoints, {about}")


def _difference(values: dict[str, Any]) -> str:
    if values["difference"] is None:
        return "-"
    if values["difference_se"] is None:
        return f"{values['difference']:+.2f}"
    return f"{values['difference']:+.2f} ± {values['difference_se']:.2f}" if values["difference_se"] else ""


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _numbers(mean: float | None, se: float | None) -> tuple[str, str]:
    return _number(mean, 3), "" if se is None else _number(se, 3)
