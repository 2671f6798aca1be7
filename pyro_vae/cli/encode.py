"""Commands whose results go on to elsewhere, as tables: latent variables of data, and missing cells."""

__all__ = ["encode", "impute"]

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_vae.cli.options import on_other, opened, opening, other, splits
from pyro_vae.errors import InputError
from pyro_vae.run.settings import whole

if TYPE_CHECKING:
    from pandas import DataFrame

_OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="the table: .csv, .tsv, .parquet or .npz",
)
_SEED = click.option("--seed", default="0", show_default=True, help="the seed of the draws")


@click.command()
@click.argument("path", metavar="RUN")
@other
@splits
@_OUT
@click.option("--particles", default="100", show_default=True, help="draws of each datapoint")
@_SEED
@opening
def encode(
    path: str, other: str | None, split: str, out: Path, particles: str, seed: str, opening: Mapping[str, Any]
) -> None:
    """Write the latent variables of data as a table."""
    draws, start = whole("particles", particles, most=10**6), whole("seed", seed, 0)
    run, rows, numbers = _opened(path, other, split, out, opening)
    from pyro_vae.analysis.encode import encode as encoded

    table = encoded(run.model, run.guide, rows, classes=run.dataset.classes, particles=draws, seed=start)
    table.insert(0, "row", numbers)
    _written(table, out)


@click.command()
@click.argument("path", metavar="RUN")
@other
@splits
@_OUT
@click.option("--particles", default="1000", show_default=True, help="draws of the latent variables of each datapoint")
@click.option("--draws", default="5", show_default=True, help="draws of each missing cell")
@_SEED
@opening
def impute(
    path: str,
    other: str | None,
    split: str,
    out: Path,
    particles: str,
    draws: str,
    seed: str,
    opening: Mapping[str, Any],
) -> None:
    """Impute missing cells, as a table."""
    options = {
        "particles": whole("particles", particles, 2, 10**6),
        "draws": whole("draws", draws, 0, 10_000),
        "seed": whole("seed", seed, 0),
    }
    run, rows, numbers = _opened(path, other, split, out, opening)
    from pyro_vae.analysis.impute import impute as imputed

    table = imputed(run.model, run.guide, rows, names=run.dataset.names, **options)
    table["row"] = numbers[table["row"].to_numpy()]
    _written(table, out)


def _opened(path: str, other: str | None, split: str, out: Path, opening: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The run, the datapoints that are asked for, and their numbers in their file, from 0."""
    import numpy as np

    from pyro_vae.analysis.tables import require_table

    require_table(out)
    if out.suffix.lower() == ".npy":
        raise InputError(f"--out {out} is not possible: a table has names, give .csv, .tsv, .parquet or .npz")
    run = on_other(opened(path, opening), other, split)
    rows, numbers = getattr(run.dataset, split), run.dataset.rows
    return run, rows, np.arange(len(rows)) if numbers is None else numbers[split == "test"]


def _written(table: "DataFrame", out: Path) -> None:
    from pyro_vae.analysis.tables import write_table

    write_table(table, out)
    click.echo(f"{len(table):,} rows in {out}")
