"""Results as tables on standard output."""

__all__ = ["print_analysis", "print_claims", "print_comparison", "print_evaluation"]

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pyro_vae.run.settings import pixels

if TYPE_CHECKING:
    from pyro_vae.analysis.verdicts import Finding

_STYLES = {"good": "green", "fair": "yellow", "poor": "red"}


def print_evaluation(result: dict[str, Any]) -> None:
    """Prints what `pyro_vae.run.evaluation.evaluate` returned as a table on standard output."""
    table = Table(title=_what(result))
    table.caption = "nats per datapoint, with the standard error of the Monte Carlo draws"
    table.add_column("estimate", no_wrap=True)
    table.add_column("nats", justify="right", no_wrap=True)
    table.add_column("s.e.", justify="right", no_wrap=True)
    table.add_column("details")
    bits = f"bits_per_dim {result['bits_per_dim']:.4g}" if "bits_per_dim" in result else ""
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
    Console().print(table)


def print_claims(rows: Iterable[Mapping[str, str]]) -> None:
    """Prints what `pyro_vae.paper.claims.judge` returned as a table on standard output."""
    table = Table("", "claim", "paper", "ours", "holds", show_lines=True)
    for row in rows:
        table.add_row(row["claim"], row["statement"], row["paper"], row["ours"], row["holds"])
    Console().print(table)


def print_analysis(findings: list["Finding"], title: str) -> None:
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
        cells = [f"{row['bound']:.2f}", _difference(row)]
        for name in estimators:
            values = row[name]
            shown = (key for key in ("bits_per_dim", "khat_over_0_7", "acceptance") if values.get(key) is not None)
            details = ", ".join(f"{key} {values[key]:.3g}" for key in shown)
            cells += [f"{values['log_px']:.2f}", _difference(values), details]
        table.add_row(Text(row["run"]), *cells)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file has room for whole lines
    console.print(table)


def _what(result: dict[str, Any]) -> Text:
    about = f"{pixels(result['binarize'])} pixels, {result['measure']}"
    # A path may hold what would be markup.
    return Text(f"{result['data']} {result['split']}, {result['datapoints']:,} datapoints, {about}")


def _difference(values: dict[str, Any]) -> str:
    if values["difference_se"] is None:
        return f"{values['difference']:+.2f}"
    return f"{values['difference']:+.2f} ± {values['difference_se']:.2f}" if values["difference_se"] else ""


def _numbers(mean: float, se: float | None) -> tuple[str, str]:
    return f"{mean:.3f}", "" if se is None else f"{se:.3f}"
