"""`pyro-vae evaluate` and `pyro-vae compare`: bounds and marginal likelihoods."""

__all__ = ["compare", "evaluate"]

import csv
import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from pyro_vae.cli.options import computing, on_other, opened, opening, other, scoring
from pyro_vae.errors import InputError


@click.command()
@click.argument("path", metavar="RUN")
@opening
@other
@scoring
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def evaluate(
    path: str, opening: Mapping[str, Any], other: str | None, scoring: Mapping[str, Any], as_json: bool
) -> None:
    """Estimate the bound and the marginal likelihood of a trained model."""
    from pyro_vae import ranks
    from pyro_vae.cli.tables import print_evaluation
    from pyro_vae.run.progress import waiting
    from pyro_vae.watched import watched

    ranks.join()
    with computing(), watched(waiting):
        result = on_other(opened(path, opening), other, scoring["split"]).evaluate(**scoring)
    if ranks.rank():
        return
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    else:
        print_evaluation(result)


@click.command()
@click.argument("paths", metavar="RUN RUN ...", nargs=-1, required=True)
@opening
@scoring
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@click.option("--csv", "as_csv", is_flag=True, help="print comma-separated values, a line for each run or model")
@click.option(
    "--by", type=click.Choice(["seed"]), help="compare models; runs that differ only in their seed are repetitions"
)
def compare(
    paths: tuple[str, ...],
    opening: Mapping[str, Any],
    scoring: Mapping[str, Any],
    as_json: bool,
    as_csv: bool,
    by: str | None,
) -> None:
    """Compare runs on the same datapoints, with paired differences from the first."""
    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other: give one")
    if len(paths) < 2:
        raise InputError(f"compare needs two runs or more, not {paths[0]} alone: name another")
    from pyro_vae.analysis.comparison import compare as compare_runs
    from pyro_vae.analysis.seeds import by_seed, require_seeds
    from pyro_vae.cli.tables import print_comparison, print_models
    from pyro_vae.run.progress import waiting
    from pyro_vae.watched import watched

    with computing(), watched(waiting):
        runs = [opened(path, opening) for path in paths]
        if by is not None:
            require_seeds(runs)  # before the long part
        compared = compare_runs(runs, **scoring)
    result = compared.table()
    if by is not None:
        result = result | {"models": by_seed(compared)}
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    elif as_csv:
        rows = [_flat(row) for row in result["runs" if by is None else "models"]]
        shared = {name: value for name, value in result.items() if name not in ("runs", "models")}
        names = dict.fromkeys(name for row in rows for name in row)  # some runs have what others lack
        writer = csv.DictWriter(sys.stdout, [*shared, *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**shared, **row} for row in rows)
    elif by is not None:
        print_models(result)
    else:
        print_comparison(result)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Puts the values of each estimator beside the others, as `importance.log_px` for example."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        value = " ".join(map(str, value)) if isinstance(value, list) else value
        flat |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat
