"""Results as tables on standard output."""

__all__ = ["print_analysis", "print_check", "print_comparison", "print_evaluation", "print_models", "print_preview"]

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pyro_vae.analysis.check.check import Report
    from pyro_vae.analysis.verdicts import Finding

_STYLES = {"good": "green", "fair": "yellow", "poor": "red", "passes": "green", "skipped": "yellow", "fails": "red"}


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


def print_check(report: "Report") -> None:
    """Prints the verdicts of a check as a table on standard output."""
    table = Table(title=Text(f"{report.kind} {report.name}, {report.seconds:.0f} s"))
    table.add_column("check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for each in report.verdicts:
        text = Text(f"{each.finding}: {each.mend}" if each.mend else each.finding)
        table.add_row(each.check, Text(each.verdict, style=_STYLES[each.verdict]), text)
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


def print_models(result: dict[str, Any]) -> None:
    """Prints the models of `pyro_vae.analysis.seeds.by_seed` on standard output."""
    kinds = [name for name, value in result["models"][0].items() if isinstance(value, dict)]
    table = Table(title=_what(result))
    table.caption = (
        "nats per datapoint; differences from the first model with errors, and what of these seeds, datapoints "
        "and draws make; flips: how likely a new run of each ranks them otherwise; seeds: how many of each settle it"
    )
    table.add_column("model", overflow="fold")
    for name in ("runs", "estimate", "mean", "s.d. of seeds", "difference", "of seeds", "of datapoints", "of draws"):
        table.add_column(name, justify="left" if name == "estimate" else "right")
    for name in ("p", "flips", "seeds"):
        table.add_column(name, justify="right")
    for model in result["models"]:
        for kind in kinds:
            own = model.get(kind)
            if own is None:
                continue
            estimate = "bound" if kind == "bound" else f"log p(x), {kind}"
            cells = [str(len(model["runs"])), estimate, _number(own["mean"]), _number(own["sd_of_seeds"])]
            if "difference" in own:
                seeds = "more datapoints" if own["seeds"] is None else str(own["seeds"])
                cells += [_difference(own), *(_number(own[f"of_{name}"]) for name in ("seeds", "datapoints", "draws"))]
                cells += [_number(own["p"], 3), _number(own["flips"]), seeds]
            table.add_row(Text(model["name"]), *cells)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file has room for whole lines
    console.print(table)


def print_preview(result: dict[str, Any]) -> None:
    """Prints what `pyro_vae.analysis.preview.preview` returned on standard output."""
    priors = result["priors"]
    checked = [name for name, value in priors[0].items() if isinstance(value, dict)]
    table = Table(title=_what(result))
    table.caption = (
        f"log p(x) above that of {result['prior']}, {result['run']}, nats per datapoint, the decoder fixed; with "
        "standard errors that hold the choice of datapoints, and those of the draws alone; where k-hat is above 0.7 "
        "they are not to be trusted, and differences tend to be too low, but with --bridge, which leaves out "
        "datapoints whose two posteriors are apart"
    )
    table.add_column("prior", overflow="fold")
    for name in ("difference", "of draws", *(head for each in checked for head in (f"by {each}", "of draws"))):
        table.add_column(name, justify="right")
    table.add_column("details")
    for row in priors:
        cells = [Text(row["prior"])]
        for each in (row, *(row[name] for name in checked)):
            cells += [Text(_difference(each)), Text(_number(each["draws_se"], 3))]
        details = f"khat_over_0_7 {_number(row['khat_over_0_7'], 3)}, ess {_number(row['ess'], 0)}"
        details += f", apart {_number(row['apart'], 3)}" if "apart" in row else ""
        table.add_row(*cells, details + (", as it begins to learn" if row["learns"] else ""))
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a file has room for whole lines
    console.print(table)


def _what(result: dict[str, Any]) -> Text:
    about = f"{result['cells']}, {result['measure']}"
    # A path may hold what would be markup.
    return Text(f"{Path(result['data']).name} {result['split']}, {result['datapoints']:,} datapoints, {about}")


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
