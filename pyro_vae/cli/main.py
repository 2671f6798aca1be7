"""The command line. Results go to standard output, progress and errors to standard error.

Nothing above the commands' own bodies imports torch, so that help and wrong input are answered at once.
"""

__all__ = ["main"]

import csv
import json
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_vae import __version__
from pyro_vae.cli.paper import paper
from pyro_vae.cli.tables_out import encode, impute
from pyro_vae.errors import InputError, Interrupted, RunError
from pyro_vae.run.settings import COMPILE, PARTS, Options, Settings, pixels, read_toml, whole

if TYPE_CHECKING:
    from pyro_vae.run.train import Run


# Which of torchrun's processes this is: the first one has the word.
_RANK = int(os.environ.get("RANK", "0")) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0, 1 a run failed, 2 wrong input, 128 + signal interrupted."""
    try:
        cli.main(arguments, prog_name="pyro-vae", standalone_mode=False)
    except (InputError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        _fail(message, 2)
    except RunError as error:
        _fail(str(error), 1)
    except OSError as error:  # no permission, a full disk
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", 2)
    except Interrupted as error:
        _fail("interrupted: go on by --resume", 128 + error.signal)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", 130)


def _fail(message: str, status: int) -> None:
    if _RANK and status != 1:
        sys.exit(status)  # the first rank says it
    line = " ".join(message.split())
    # A name in a folder from elsewhere may hold what moves a terminal's cursor.
    click.echo(f"pyro-vae: {''.join(c if c.isprintable() else '?' for c in line)}", err=True)
    sys.exit(status)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """Auto-Encoding Variational Bayes (Kingma & Welling, 2014) in Pyro."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command an option for each setting. They have no default, so that what was given is known."""
    for entry in reversed([entry for entry in fields(Settings) if entry.name != "set"]):
        default = "" if entry.default is None else f"  [default: {entry.default}]"
        flag = "--" + entry.name.replace("_", "-")
        metavar = "|".join(entry.metadata["choices"]) or entry.name.upper()
        command = click.option(flag, entry.name, metavar=metavar, help=entry.metadata["help"] + default)(command)
    return command


@cli.command()
@_setting_options
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="PART.KEY=VALUE",
    help="an argument of the model, prior, guide or inference; may be repeated",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="settings by name, or another run's run.toml; options go before it",
)
@click.option("--out", metavar="RUN", help="the run folder  [default: runs/DATA-MODEL-INFERENCE-LATENT]")
@click.option("--resume", is_flag=True, help="go on with the run in the folder")
@click.option("--overwrite", is_flag=True, help="replace the run in the folder")
@click.option("--trust", is_flag=True, help="when resuming, run the Python files in the folder")
@click.option("--no-figures", is_flag=True, help="draw nothing at the end")
def train(
    assignments: tuple[str, ...],
    config: Path | None,
    out: str | None,
    resume: bool,
    overwrite: bool,
    trust: bool,
    no_figures: bool,
    **options: str | None,
) -> None:
    """Train a model and its guide, and draw what they have learnt."""
    where = str(config) if config else "the command line"
    given: dict[str, Any] = read_toml(config) if config else {}
    given |= {name: value for name, value in options.items() if value is not None}
    if assignments:
        Settings.of(given, where)
        given["set"] = _merged(given.get("set", {}), assignments, PARTS)
    Settings.of(given, where)  # before torch is imported

    from pyro_vae.run.train import train as run_training

    run = run_training(out, resume=resume, overwrite=overwrite, trust=trust, **given)
    if _RANK:
        return
    *_, test_bound = run.metrics[-1]
    click.echo(f"test bound {test_bound:.2f} nats per datapoint, {_what(run)}")
    click.echo(f"run folder {run.path}")
    if no_figures:
        return
    from pyro_vae.analysis import figures

    for path in figures.all_of(run):
        click.echo(f"figure {path}")


def _merged(options: Any, assignments: Sequence[str], parts: Sequence[str]) -> Options:
    merged: Options = {part: dict(values) for part, values in options.items()}
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        part = next((part for part in parts if target.startswith(f"{part}.")), "")  # a part named by path has dots
        key = target.removeprefix(f"{part}.")
        if not (equals and part and key):
            raise InputError(f"--set {assignment} is not PART.KEY=VALUE, PART being one of {', '.join(parts)}")
        merged.setdefault(part, {})[key] = _value(text)
    return merged


def _value(text: str) -> Any:
    """Reads a value as TOML does, a string where it is nothing else."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _what(run: "Run") -> str:
    data = run.dataset
    return f"{data.name}, pixels {pixels(data.binarize)}, {data.test.total:,} datapoints"


def _opening_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command that opens run folders its options."""
    for decorate in (
        click.option("--data-dir", metavar="DIR", help="folder of the data sets"),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."),
        click.option("--trust", is_flag=True, help="run the user's Python files that the folder holds copies of"),
    ):
        command = decorate(command)
    return command


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command that opens a run folder its argument and options."""
    return click.argument("path", metavar="RUN")(_opening_options(command))


def _open(path: str, trust: bool, device: str, data_dir: str | None) -> "Run":
    from pyro_vae.run.train import Run

    return Run.open(path, trust=trust, device=device, data_dir=data_dir)


def _scoring_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command that estimates bounds and likelihoods its options."""
    for decorate in (
        click.option("--force", is_flag=True, help="estimate log p(x) where an estimator declines"),
        click.option(
            "--compile", type=click.Choice(COMPILE), default="auto", show_default=True, help="compile the estimators"
        ),
        click.option("--seed", default="0", show_default=True, help="the seed of the draws"),
        click.option("--limit", metavar="N", help="the first N datapoints only"),
        click.option(
            "--marginal",
            multiple=True,
            metavar="NAME",
            help="estimator of log p(x), may be repeated  [default: importance]",
        ),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="NAME.KEY=VALUE",
            help="an argument of an estimator, e.g. reciprocal.draws=50; may be repeated",
        ),
        click.option("--particles", default="1000", show_default=True, help="importance samples per datapoint"),
        click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True),
    ):
        command = decorate(command)
    return command


def _scoring(
    split: str,
    particles: str,
    marginal: tuple[str, ...],
    assignments: tuple[str, ...],
    limit: str | None,
    seed: str,
    compile: str,
    force: bool,
) -> dict[str, Any]:
    """Reads those options."""
    marginal = marginal or ("importance",)
    return {
        "split": split,
        "particles": whole("particles", particles, most=10**6),
        "marginal": marginal,
        "set": _merged({}, assignments, marginal),
        "limit": None if limit is None else whole("limit", limit),
        "seed": whole("seed", seed, 0),
        "compile": compile,
        "force": force,
    }


@cli.command()
@_run_options
@_scoring_options
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def evaluate(path: str, trust: bool, device: str, data_dir: str | None, as_json: bool, **scoring: Any) -> None:
    """Estimate the bound and the marginal likelihood of a trained model."""
    options = _scoring(**scoring)
    from pyro_vae import ranks

    ranks.join()
    result = _open(path, trust, device, data_dir).evaluate(**options)
    if _RANK:
        return
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
        return
    from pyro_vae.run.progress import print_evaluation

    print_evaluation(result)


@cli.command()
@_run_options
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option("--limit", default="500", show_default=True, metavar="N", help="the first N datapoints only")
@click.option("--chains", default="4", show_default=True, help="Markov chains of each datapoint")
@click.option("--draws", default="500", show_default=True, help="draws of each chain")
@click.option("--warmup", default="200", show_default=True, help="transitions before them")
@click.option(
    "--marginal", default="importance", show_default=True, metavar="NAME", help="estimator of log p(x), e.g. ais"
)
@click.option("--seed", default="0", show_default=True, help="the seed of all draws")
@click.option("--compile", type=click.Choice(COMPILE), default="auto", show_default=True, help="compile gradients")
@click.option("--zarr", is_flag=True, help="write the draws as zarr, not as netCDF")
@click.option("--json", "as_json", is_flag=True, help="print the summary as one JSON object")
def analyze(
    path: str,
    trust: bool,
    device: str,
    data_dir: str | None,
    split: str,
    limit: str,
    chains: str,
    draws: str,
    warmup: str,
    marginal: str,
    seed: str,
    compile: str,
    zarr: bool,
    as_json: bool,
) -> None:
    """Judge a trained model with ArviZ: sampler, guide and fit, with a report."""
    numbers: dict[str, Any] = {
        "limit": whole("limit", limit),
        "chains": whole("chains", chains, 2, most=1000),
        "draws": whole("draws", draws, 4, most=10**6),
        "warmup": whole("warmup", warmup, 0, most=10**6),
        "seed": whole("seed", seed, 0),
    }
    from pyro_vae import ranks

    ranks.join()
    run = _open(path, trust, device, data_dir)
    from pyro_vae.analysis.analyze import analyze as analyze_run
    from pyro_vae.analysis.report import write_report
    from pyro_vae.analysis.verdicts import findings
    from pyro_vae.run.progress import print_analysis

    analysis = analyze_run(run, split=split, marginal=marginal, compile=compile, zarr=zarr, **numbers)
    if _RANK:
        return
    report = write_report(run, analysis)
    if as_json:
        click.echo(json.dumps(analysis.summary, allow_nan=False))
        return
    count = analysis.summary["run"]["datapoints"]
    print_analysis(findings(analysis.summary), f"{run.dataset.name} {split}, {count:,} datapoints")
    click.echo(f"report {report}")


@cli.command()
@click.argument("paths", metavar="RUN RUN ...", nargs=-1, required=True)
@_opening_options
@_scoring_options
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option("--csv", "as_csv", is_flag=True, help="print comma-separated values, a line for each run")
def compare(
    paths: tuple[str, ...],
    trust: bool,
    device: str,
    data_dir: str | None,
    as_json: bool,
    as_csv: bool,
    **scoring: Any,
) -> None:
    """Compare runs on the same datapoints, with paired differences from the first."""
    options = _scoring(**scoring)
    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other: give one")
    if len(paths) < 2:
        raise InputError(f"compare needs two runs or more, not {paths[0]} alone: name another")
    from pyro_vae.analysis.comparison import compare as compare_runs
    from pyro_vae.run.progress import print_comparison

    result = compare_runs([_open(path, trust, device, data_dir) for path in paths], **options).table()
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    elif as_csv:
        rows = [_flat(run) for run in result["runs"]]
        shared = {name: value for name, value in result.items() if name != "runs"}
        writer = csv.DictWriter(sys.stdout, [*shared, *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**shared, **row} for row in rows)
    else:
        print_comparison(result)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Puts the values of each estimator beside the others, as `importance.log_px` for example."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _picture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command that draws its options."""
    out = click.option(
        "--out", type=click.Path(path_type=Path), metavar="FILE.png", help="the picture  [default: in RUN]"
    )
    return _run_options(out(command))


@cli.command()
@_picture_options
@click.option("--number", default="100", show_default=True, help="number of images")
def sample(path: str, trust: bool, device: str, data_dir: str | None, out: Path | None, number: str) -> None:
    """Draw images from the model, with z from the prior (the paper's Figure 5)."""
    count = whole("number", number, most=10_000)
    run = _open(path, trust, device, data_dir)
    from pyro_vae.analysis.tables import TABLES, write_table

    if out is not None and out.suffix.lower() in TABLES:
        from pyro_vae.analysis.drawn import draw

        click.echo(write_table(draw(run.model, run.dataset, count, run.settings.seed), out))
        return
    from pyro_vae.analysis import figures

    click.echo(figures.sample(run, count, out))


@cli.command()
@_picture_options
@click.option("--number", default="10", show_default=True, help="number of datapoints")
def reconstruct(path: str, trust: bool, device: str, data_dir: str | None, out: Path | None, number: str) -> None:
    """Draw test datapoints and what the model makes of them."""
    count = whole("number", number, most=10_000)
    run = _open(path, trust, device, data_dir)
    from pyro_vae.analysis import figures

    click.echo(figures.reconstruct(run, count, out))


@cli.command()
@_picture_options
@click.option("--grid", default="20", show_default=True, help="images along each side")
def manifold(path: str, trust: bool, device: str, data_dir: str | None, out: Path | None, grid: str) -> None:
    """Draw the manifold of a model with two latents (the paper's Figure 4)."""
    side = whole("grid", grid, most=100)
    run = _open(path, trust, device, data_dir)
    from pyro_vae.analysis import figures

    click.echo(figures.manifold(run, side, out))


@cli.command()
@click.argument("name", metavar="mnist|frey|digits|FILE")
@click.option("--data-dir", metavar="DIR", help="folder of the data sets  [default: $PYRO_VAE_DATA, else ./data]")
def data(name: str, data_dir: str | None) -> None:
    """Download a data set where it is missing, verify and describe it."""
    from pyro_vae.data.dataset import load_data

    loaded = load_data(name, folder=data_dir)
    train = loaded.train.first()
    for term, value in {
        "data": loaded.name,
        "training datapoints": f"{len(loaded.train):,}",
        "test datapoints": f"{len(loaded.test):,}",
        "datapoint": " x ".join(map(str, loaded.image_shape)) + " pixels"
        if loaded.image_shape
        else f"{loaded.features} cells",
        "stored as": f"{loaded.train.values.dtype}".removeprefix("torch.") + f", divided by {loaded.train.divisor}",
        "training values": f"{train.min():.4f} to {train.max():.4f}, mean {train.mean():.4f}",
        "sha-256": loaded.checksum,
    }.items():
        click.echo(f"{term:<20} {value}")


@cli.command()
def parts() -> None:
    """List what is on the shelves."""
    from pyro_vae.run.parts import find, names

    for kind in ("model", "prior", "guide", "inference", "marginal"):
        for name in names(kind):
            summary = (find(kind, name).__doc__ or "").strip().partition("\n")[0]
            click.echo(f"--{kind:<10} {name:<12} {summary.removeprefix('Creates ')}")


cli.add_command(paper)
cli.add_command(encode)
cli.add_command(impute)
