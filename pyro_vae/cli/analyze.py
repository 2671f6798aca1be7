"""`pyro-vae analyze`: a trained model judged with ArviZ."""

__all__ = ["analyze"]

import json
from collections.abc import Mapping
from typing import Any

import click

from pyro_vae.cli.options import computing, grouped, on_other, opened, opening, other, splits
from pyro_vae.run.settings import COMPILE, MARGINAL, whole


def _sampling(limit: str, chains: str, draws: str, warmup: str, seed: str, **others: Any) -> dict[str, Any]:
    return {
        "limit": whole("limit", limit),
        "chains": whole("chains", chains, 2, most=1000),
        "draws": whole("draws", draws, 4, most=10**6),
        "warmup": whole("warmup", warmup, 0, most=10**6),
        "seed": whole("seed", seed, 0),
        **others,
    }


@click.command()
@click.argument("path", metavar="RUN")
@opening
@other
@grouped(
    "sampling",
    _sampling,
    splits,
    click.option("--limit", default="500", show_default=True, metavar="N", help="the first N datapoints only"),
    click.option("--chains", default="4", show_default=True, help="Markov chains of each datapoint"),
    click.option("--draws", default="500", show_default=True, help="draws of each chain"),
    click.option("--warmup", default="200", show_default=True, help="transitions before them"),
    click.option(
        "--marginal", default=MARGINAL, show_default=True, metavar="NAME", help="estimator of log p(x), e.g. ais"
    ),
    click.option("--seed", default="0", show_default=True, help="the seed of all draws"),
    click.option("--compile", type=click.Choice(COMPILE), default="auto", show_default=True, help="compile gradients"),
    click.option("--quick", is_flag=True, help="leave out the slowest parts: simulation-based calibration and gaps"),
    click.option("--zarr", is_flag=True, help="write the draws as zarr, not as netCDF"),
)
@click.option("--json", "as_json", is_flag=True, help="print the summary as one JSON object")
def analyze(
    path: str, opening: Mapping[str, Any], other: str | None, sampling: Mapping[str, Any], as_json: bool
) -> None:
    """Judge a trained model with ArviZ: sampler, guide and fit, with a report."""
    from pyro_vae import ranks
    from pyro_vae.analysis.analyze import analyze as analyze_run
    from pyro_vae.analysis.report import write_report
    from pyro_vae.analysis.verdicts import findings
    from pyro_vae.cli.tables import print_analysis

    ranks.join()
    with computing():
        run = on_other(opened(path, opening), other, sampling["split"])
        analysis = analyze_run(run, **sampling)
    if ranks.rank():
        return
    report = write_report(run, analysis)
    if as_json:
        click.echo(json.dumps(analysis.summary, allow_nan=False))
        return
    count = analysis.summary["run"]["datapoints"]
    print_analysis(findings(analysis.summary), f"{run.dataset.name} {sampling['split']}, {count:,} datapoints")
    for part, why in analysis.summary["left_out"].items():
        click.echo(f"left out: {part} ({why})")
    click.echo(f"report {report}")
