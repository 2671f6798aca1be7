"""The command line of the paper's reruns, `pyro-vae paper`. As in `cli`, only the commands' bodies import torch."""

__all__ = ["paper"]

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_vae.cli.options import hired, number, options, working
from pyro_vae.errors import InputError
from pyro_vae.paper import protocol
from pyro_vae.run.settings import whole

if TYPE_CHECKING:
    from pyro_vae.paper.grid import Grid

Command = Callable[..., Any]


@click.group()
def paper() -> None:
    """Rerun the paper's figures and judge its claims."""


def _words(_: click.Context, __: click.Parameter, text: str) -> list[str]:
    """Reads an option's words, each once."""
    return list(dict.fromkeys(text.replace(",", " ").split()))


def _grid_options(samples: str) -> Callable[[Command], Command]:
    """Gives a command the options that `_grid` reads, with a default budget."""
    return options(
        click.option(
            "--samples",
            default=samples,
            show_default=True,
            callback=number(10**12),
            help="budget of each run in datapoint evaluations",
        ),
        working,
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            default="runs/paper",
            show_default=True,
            help="folder of runs and results",
        ),
        click.option("--data-dir", metavar="DIR", help="folder of the data sets"),
    )


def _grid(out: Path, samples: int, data_dir: str | None, working: dict[str, Any]) -> "Grid":
    """Reads what is to train the runs, and where."""
    from pyro_vae.paper.grid import Grid

    return Grid(out, samples, hired(**working), data_dir)


def _comparison_options(algorithms: Iterable[str]) -> Callable[[Command], Command]:
    """Gives a command that compares algorithms its options."""
    return options(
        click.option(
            "--algorithms",
            metavar="NAME|FILE.py[:CLASS],...",
            default=",".join(algorithms),
            show_default=True,
            callback=_words,
            help="learning algorithms to compare",
        ),
        click.option("--seeds", default="1", show_default=True, callback=number(1000), help="number of seeds"),
    )


_redraw = click.option("--redraw", is_flag=True, help="draw the table in --out again, and train nothing")


@paper.command()
@_grid_options("1e7")
@_comparison_options(protocol.FIGURE2)
@click.option(
    "--panels", multiple=True, metavar="DATA:LATENT,...", help="mnist:3,20 frey:10, for example  [default: all]"
)
@_redraw
@click.argument("more", nargs=-1, metavar="[DATA:LATENT ...]")
def figure2(
    panels: tuple[str, ...], more: tuple[str, ...], algorithms: list[str], seeds: int, redraw: bool, **where: Any
) -> None:
    """The lower bound of AEVB and of wake-sleep over training samples."""
    if more and not panels:
        raise InputError(f"{more[0]} is not expected: give --panels before it")
    chosen = protocol.read_panels([*panels, *more])
    from pyro_vae.paper import reruns

    _print(reruns.redrawn("2", where["out"]) if redraw else reruns.figure2(_grid(**where), chosen, algorithms, seeds))


@paper.command()
@_grid_options("6e7")
@_comparison_options(protocol.FIGURE3)
@click.option(
    "--train-sizes",
    default=",".join(map(str, protocol.TRAIN_SIZES)),
    show_default=True,
    callback=_words,
    help="numbers of training datapoints",
)
@_redraw
def figure3(train_sizes: list[str], algorithms: list[str], seeds: int, redraw: bool, **where: Any) -> None:
    """The marginal likelihood reached by three algorithms, with few and with many training datapoints."""
    sizes = [whole("train_sizes", text, most=50_000) for text in train_sizes]
    from pyro_vae.paper import reruns

    _print(reruns.redrawn("3", where["out"]) if redraw else reruns.figure3(_grid(**where), sizes, algorithms, seeds))


@paper.command()
@_grid_options("1e7")
def figure4(**where: Any) -> None:
    """Manifolds learnt with two latent variables."""
    from pyro_vae.paper import reruns

    _print(reruns.figure4(_grid(**where)))


@paper.command()
@_grid_options("1e7")
def figure5(**where: Any) -> None:
    """Samples from models with 2 to 20 latent variables."""
    from pyro_vae.paper import reruns

    _print(reruns.figure5(_grid(**where)))


@paper.command()
@_grid_options("1e6")
def claims(**where: Any) -> None:
    """Judge the paper's claims by the figures' tables, and measure what else they need."""
    from rich.console import Console
    from rich.table import Table

    from pyro_vae.paper.judgement import judge_claims

    judged, written = judge_claims(_grid(**where))
    table = Table("", "claim", "paper", "ours", "holds", show_lines=True)
    for row in judged.itertuples():
        table.add_row(row.claim, row.statement, row.paper, row.ours, row.holds)
    Console().print(table)
    _print(written)


def _print(written: Iterable[Path]) -> None:
    for path in written:
        click.echo(path)
