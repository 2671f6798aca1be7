"""`pyro-vae train`."""

__all__ = ["settings_of_a_run", "train"]

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from pyro_vae.cli.options import computing, grouped, merged, of_parts, settings_options
from pyro_vae.run.settings import LOGS, PARTS, Settings, read_toml, require_named


def _given(config: Path | None, trust: bool, assignments: tuple[str, ...], **named: str | None) -> dict[str, Any]:
    """Reads what is given of the settings, checked before torch is imported."""
    where = str(config) if config else "the command line"
    given: dict[str, Any] = read_toml(config) if config else {}
    given |= {name: value for name, value in named.items() if value is not None}
    if config and not trust:
        require_named(given, named, f"--config {config}")
    if assignments:
        Settings.of(given, where)
        given["set"] = merged(given.get("set", {}), assignments, PARTS)
    Settings.of(given, where)
    return {**given, "trust": trust}


settings_of_a_run = grouped(
    "given",
    _given,
    *settings_options(*(entry.name for entry in fields(Settings) if entry.name != "set")),
    of_parts,
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE.toml",
        help="settings by name, or another run's run.toml; options go before it",
    ),
    click.option("--trust", is_flag=True, help="run the Python files that the resumed folder or --config names"),
)


@click.command()
@settings_of_a_run
@grouped(
    "place",
    dict,
    click.option("--out", metavar="RUN", help="the run folder  [default: runs/DATA-MODEL-INFERENCE-LATENT]"),
    click.option("--resume", is_flag=True, help="continue the run in the folder"),
    click.option("--overwrite", is_flag=True, help="replace the run in the folder"),
    click.option("--log", metavar="|".join(LOGS), help="send bounds and samples there at each evaluation"),
)
@click.option("--no-figures", is_flag=True, help="draw nothing at the end")
def train(given: dict[str, Any], place: dict[str, Any], no_figures: bool) -> None:
    """Train a model and its guide, and draw what they have learnt."""
    from pyro_vae import ranks
    from pyro_vae.run.train import train as run_training

    with computing():
        run = run_training(place.pop("out"), **place, **given)
    if ranks.rank():
        return
    *_, test_bound = run.rows[-1]
    data = run.dataset
    click.echo(
        f"test bound {test_bound:.2f} nats per datapoint, "
        f"{data.name}, {' '.join(data.cells)}, {data.test.total:,} datapoints"
    )
    click.echo(f"run folder {run.path}")
    if no_figures:
        return
    from pyro_vae.analysis import figures

    with computing():
        paths = figures.all_of(run)
    for path in paths:
        click.echo(f"figure {path}")
