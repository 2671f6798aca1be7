"""Pictures of a trained model: `pyro-vae sample`, `reconstruct`, `analogies`, `manifold`, `latent`, `traverse`, ..."""

__all__ = ["analogies", "interpolate", "latent", "manifold", "reconstruct", "sample", "traverse"]

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_vae.cli.options import computing, opened, opening, options, splits
from pyro_vae.errors import InputError
from pyro_vae.run.settings import whole

if TYPE_CHECKING:
    from pyro_vae.run.run import Run

_picture = options(
    click.argument("path", metavar="RUN"),
    opening,
    click.option(
        "--out", type=click.Path(path_type=Path), metavar="FILE", help="a .png, .svg or .pdf file  [default: in RUN]"
    ),
)
_steps = click.option("--steps", default="11", show_default=True, help="images from one end to the other")
_label = click.option("--label", metavar="CLASS", help="draw this class, for a model that takes a label")


@click.command()
@_picture
@_label
@click.option("--number", default="100", show_default=True, help="number of images or rows")
@click.option("--z", "points", multiple=True, metavar="A,B,...", help="latent variables to take; may be repeated")
def sample(
    path: str, opening: Mapping[str, Any], out: Path | None, label: str | None, number: str, points: tuple[str, ...]
) -> None:
    """Draw from the model, with z from the prior or given.

    Images (the paper's Figure 5); of a table its columns beside the data's; or the draws themselves, --out FILE.csv.
    """
    count = whole("number", number, most=10_000)
    z = [_numbers("z", text, float) for text in points]
    from pyro_vae.analysis import figures
    from pyro_vae.analysis.tables import TABLES, write_table

    with computing():
        run = opened(path, opening)
        with _of_class(run, label):
            if out is not None and out.suffix.lower() in TABLES:
                made = write_table(figures.drawn(run, count, z), out)
            else:
                made = out or run.path / "samples.png"
                figures.sample(run, count, made, z)
    click.echo(made)


@click.command()
@_picture
@click.option("--number", default="10", show_default=True, help="number of datapoints, the first ones")
@click.option("--index", metavar="A,B,...", help="these datapoints instead, counted from 0")
def reconstruct(path: str, opening: Mapping[str, Any], out: Path | None, number: str, index: str | None) -> None:
    """Draw test datapoints and their reconstructions."""
    count = whole("number", number, most=10_000)
    rows = [] if index is None else _numbers("index", index, int)
    _drawn("reconstruct", "reconstructions", path, opening, out, count, index=rows)


@click.command()
@_picture
@click.option("--number", default="10", show_default=True, help="number of datapoints")
def analogies(path: str, opening: Mapping[str, Any], out: Path | None, number: str) -> None:
    """Draw test datapoints as every class, for a model that takes a label: z is kept, the label changes."""
    _drawn("analogies", "analogies", path, opening, out, whole("number", number, most=10_000))


@click.command()
@_picture
@_label
@click.option("--grid", help="images along each side  [default: 20, or 12 for small images]")
def manifold(path: str, opening: Mapping[str, Any], out: Path | None, label: str | None, grid: str | None) -> None:
    """Draw the manifold of a model with two latents (the paper's Figure 4)."""
    side = None if grid is None else whole("grid", grid, most=100)
    _drawn("manifold", "manifold", path, opening, out, side, label=label)


@click.command()
@_picture
@splits
def latent(path: str, opening: Mapping[str, Any], out: Path | None, split: str) -> None:
    """Draw where the data lie in the latent space, by label, beside the manifold."""
    _drawn("latent", "latent", path, opening, out, split)


@click.command()
@_picture
@click.option("--number", default="10", show_default=True, help="number of latent variables, the most active ones")
@click.option("--index", metavar="N", help="take the other latent variables from test datapoint N, from 0")
@_steps
def traverse(
    path: str, opening: Mapping[str, Any], out: Path | None, number: str, index: str | None, steps: str
) -> None:
    """Draw what each latent variable does, a row each."""
    count, along = whole("number", number, most=1000), whole("steps", steps, 2, most=100)
    row = None if index is None else whole("index", index, 0)
    _drawn("traverse", "traverse", path, opening, out, count, index=row, steps=along)


@click.command()
@_picture
@click.argument("start", metavar="A", type=click.IntRange(0))
@click.argument("end", metavar="B", type=click.IntRange(0))
@_steps
def interpolate(path: str, opening: Mapping[str, Any], out: Path | None, start: int, end: int, steps: str) -> None:
    """Draw the path in the latent space from test datapoint A to B, numbers from 0."""
    along = whole("steps", steps, 2, most=100)
    _drawn("interpolate", "interpolate", path, opening, out, start, end, steps=along)


def _drawn(
    what: str,
    name: str,
    path: str,
    opening: Mapping[str, Any],
    out: Path | None,
    *given: Any,
    label: str | None = None,
    **named: Any,
) -> None:
    """Draws what `figures` calls so into the run folder, or where it is asked for, and says where it is."""
    from pyro_vae.analysis import figures

    with computing():
        run = opened(path, opening)
        made = out or run.path / f"{name}.png"
        with _of_class(run, label):
            getattr(figures, what)(run, *given, path=made, **named)
    click.echo(made)


def _of_class(run: "Run", label: str | None) -> AbstractContextManager[None]:
    """Has a run's model generate the class that is asked for, by its name or number."""
    if label is None:
        return nullcontext()
    from pyro_vae.data.labels import class_number
    from pyro_vae.rows import generating

    return generating(run.model, class_number(label, run.dataset.classes))


def _numbers(name: str, text: str, kind: type[Any]) -> list[Any]:
    try:
        return [kind(each) for each in text.split(",")]
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise InputError(f"--{name} {text} is not possible: give {wanted}, separated by commas") from None
