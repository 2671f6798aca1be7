"""`pyro-vae sweep`: a grid of runs of one's own."""

__all__ = ["sweep"]

from pathlib import Path
from typing import Any

import click

from pyro_vae.cli.options import computing, grouped, hired, typed, working
from pyro_vae.cli.train import settings_of_a_run
from pyro_vae.errors import InputError, RunError
from pyro_vae.run.settings import MARGINAL, PARTS, Settings, read_toml, require_named, whole


def _evaluation(marginal: tuple[str, ...], limit: str | None, cells: bool) -> dict[str, Any]:
    marginal = marginal or (MARGINAL,)
    arguments = [word for name in marginal for word in ("--marginal", name)]
    arguments += [] if limit is None else ["--limit", str(whole("limit", limit))]
    return {"estimator": marginal[0], "arguments": [*arguments, *(["--cells"] if cells else [])]}


@click.command()
@click.argument("file", metavar="[FILE.toml]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--grid",
    "axes",
    multiple=True,
    metavar="KEY=A,B,...",
    help="values of a setting, latent=2,5,10, or of an argument of a part, model.depth=1,2; may be repeated",
)
@click.option("--seeds", metavar="N", help="number of seeds of each combination  [default: 1]")
@grouped(
    "evaluation",
    _evaluation,
    click.option(
        "--marginal",
        multiple=True,
        metavar="NAME",
        help="estimator of log p(x), may be repeated  [default: importance]",
    ),
    click.option("--limit", metavar="N", help="evaluate the first N test datapoints only"),
    click.option("--cells", is_flag=True, help="score densities of bytes by the probability of grey levels"),
)
@working
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="runs/sweep",
    show_default=True,
    help="folder of runs and results",
)
@settings_of_a_run
def sweep(
    file: Path | None,
    axes: tuple[str, ...],
    seeds: str | None,
    evaluation: dict[str, Any],
    working: dict[str, Any],
    out: Path,
    given: dict[str, Any],
) -> None:
    """Train and evaluate all combinations of some settings, with several seeds.

    FILE.toml holds what `train --config` takes, a table [grid] of lists, and seeds. Finished runs are skipped.
    """
    content = read_toml(file) if file else {}
    grid = content.pop("grid", {})
    of_file = content.pop("seeds", 1)
    trust = given.pop("trust")
    if file and not trust:
        require_named(content, given, str(file))
        for kind in PARTS:
            for value in _values(grid, kind):
                require_named({kind: value}, {}, str(file))
    for text in axes:
        key, equals, values = text.partition("=")
        if not (equals and key and all(values.split(","))):
            raise InputError(f"--grid {text} is not KEY=A,B,...: write latent=2,5,10, for example")
        grid[key] = [typed(value) if "." in key else value for value in values.split(",")]
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise InputError(f"[grid] of {file} is not a table of lists: write latent = [2, 5, 10], for example")
    if not grid:
        raise InputError(
            "sweep needs a grid: give --grid latent=2,5,10, for example, or a FILE.toml with a table [grid]"
        )
    Settings.of({**content, **given}, str(file) if file else "the command line")
    from pyro_vae.analysis.activity import active_latents
    from pyro_vae.analysis.sweep_figure import sweep_figure
    from pyro_vae.run.run import Run
    from pyro_vae.run.sweep import Sweep, points

    number = whole("seeds", of_file if seeds is None else seeds, most=1000)
    with computing():
        chosen = points({**content, **given}, grid, number)
        sweeping = Sweep(out, hired(**working), evaluation["arguments"])
        trained = sweeping.finish(chosen)
        if trained.folders:
            # The user has named what files there are, and `finish` has held them against the folders'.
            table = sweeping.table(trained, lambda path: active_latents(Run.open(path, trust=True)))
            estimator = evaluation["estimator"]
            picture = sweep_figure(table, [*grid], estimator if estimator in table else "bound", out / "sweep.png")
    if trained.folders:
        click.echo(out / "sweep.csv")
        click.echo(picture)
    if trained.failures:
        raise RunError(f"{len(trained.failures)} runs failed ({'; '.join(trained.failures.values())})")


def _values(grid: Any, kind: str) -> list[Any]:
    values = grid.get(kind) if isinstance(grid, dict) else None
    return values if isinstance(values, list) else []
