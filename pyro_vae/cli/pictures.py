"""`pyro-vae sample`, `reconstruct` and `manifold`: pictures of a trained model."""

__all__ = ["manifold", "reconstruct", "sample"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pyro_vae.cli.options import computing, opened, opening, options
from pyro_vae.run.settings import whole

_picture = options(
    click.argument("path", metavar="RUN"),
    opening,
    click.option("--out", type=click.Path(path_type=Path), metavar="FILE.png", help="the picture  [default: in RUN]"),
)


@click.command()
@_picture
@click.option("--number", default="100", show_default=True, help="number of images")
def sample(path: str, opening: Mapping[str, Any], out: Path | None, number: str) -> None:
    """Draw from the model, with z from the prior: images (the paper's Figure 5), or a table, --out FILE.csv."""
    count = whole("number", number, most=10_000)
    from pyro_vae.analysis import figures
    from pyro_vae.analysis.tables import TABLES, write_table

    with computing():
        run = opened(path, opening)
        if out is not None and out.suffix.lower() in TABLES:
            from pyro_vae.analysis.drawn import draw

            made = write_table(draw(run.model, run.dataset, count, run.settings.seed), out)
        else:
            made = figures.sample(run, count, out)
    click.echo(made)


@click.command()
@_picture
@click.option("--number", default="10", show_default=True, help="number of datapoints")
def reconstruct(path: str, opening: Mapping[str, Any], out: Path | None, number: str) -> None:
    """Draw test datapoints and what the model makes of them."""
    count = whole("number", number, most=10_000)
    from pyro_vae.analysis import figures

    with computing():
        picture = figures.reconstruct(opened(path, opening), count, out)
    click.echo(picture)


@click.command()
@_picture
@click.option("--grid", default="20", show_default=True, help="images along each side")
def manifold(path: str, opening: Mapping[str, Any], out: Path | None, grid: str) -> None:
    """Draw the manifold of a model with two latents (the paper's Figure 4)."""
    side = whole("grid", grid, most=100)
    from pyro_vae.analysis import figures

    with computing():
        picture = figures.manifold(opened(path, opening), side, out)
    click.echo(picture)
