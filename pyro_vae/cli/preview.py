"""`pyro-vae preview`: what another prior would make of a run, before anything is trained."""

__all__ = ["preview"]

import json
from collections.abc import Mapping
from typing import Any

import click

from pyro_vae.cli.options import computing, grouped, merged, opened, opening, splits
from pyro_vae.errors import InputError
from pyro_vae.run.settings import COMPILE, whole


def _previewing(
    priors: tuple[str, ...],
    limit: str,
    chains: str,
    draws: str,
    warmup: str,
    marginal: tuple[str, ...],
    assignments: tuple[str, ...],
    seed: str,
    **others: Any,
) -> dict[str, Any]:
    for name in priors:
        if priors.count(name) > 1:
            raise InputError(f"--prior {name} is given twice: leave one out")
    return {
        "priors": priors,
        "limit": whole("limit", limit),
        "chains": whole("chains", chains, most=1000),
        "draws": whole("draws", draws, 4, most=10**6),
        "warmup": whole("warmup", warmup, 0, most=10**6),
        "marginal": marginal,
        "set": merged({}, assignments, (*priors, *marginal)),
        "seed": whole("seed", seed, 0),
        **others,
    }


@click.command()
@click.argument("path", metavar="RUN")
@opening
@grouped(
    "previewing",
    _previewing,
    click.option("--prior", "priors", multiple=True, required=True, metavar="NAME", help="the prior, may be repeated"),
    splits,
    click.option("--limit", default="200", show_default=True, metavar="N", help="the first N datapoints only"),
    click.option("--chains", default="4", show_default=True, help="Markov chains of each datapoint"),
    click.option("--draws", default="500", show_default=True, help="draws of each chain"),
    click.option("--warmup", default="200", show_default=True, help="transitions before them"),
    click.option("--bridge", is_flag=True, help="draw under the new priors as well, for those with heavier tails"),
    click.option(
        "--marginal",
        multiple=True,
        metavar="NAME",
        help="estimator of log p(x) to compare predictions with, e.g. ais; may be repeated",
    ),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="NAME.KEY=VALUE",
        help="an argument of a prior or an estimator, e.g. laplace.scale=0.7; may be repeated",
    ),
    click.option("--seed", default="0", show_default=True, help="the seed of all draws"),
    click.option("--compile", type=click.Choice(COMPILE), default="auto", show_default=True, help="compile gradients"),
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def preview(path: str, opening: Mapping[str, Any], previewing: Mapping[str, Any], as_json: bool) -> None:
    """Predict what other priors would make of log p(x), without training: the decoder stays as it is."""
    from pyro_vae.analysis.preview import preview as previewed
    from pyro_vae.cli.tables import print_preview

    with computing():
        result = previewed(opened(path, opening), **previewing)
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    else:
        print_preview(result)
