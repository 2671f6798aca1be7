"""`pyro-vae check`: a part held against the contract of its shelf."""

__all__ = ["check"]

import json
import math
from typing import Any

import click

from pyro_vae.cli.options import computing, grouped, merged, of_parts, options, settings_options
from pyro_vae.errors import InputError, RunError
from pyro_vae.run.settings import OF_DATA, PARTS, Settings, whole

# What a check trains by, and for how long, is its own.
_SETTINGS = ("data", "model", "prior", "guide", "inference", "latent", "hidden", "seed", *OF_DATA, "data_dir")
_MOST = 100_000


def _given(assignments: tuple[str, ...], **named: str | None) -> dict[str, Any]:
    """Reads what is given of the settings, checked before torch is imported."""
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if assignments:
        given["set"] = merged({}, assignments, PARTS)
    Settings.of(given, "the command line")
    return given


def _shape(_: Any, __: Any, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    shape = tuple(whole("features", size, most=_MOST) for size in text.split("x")[:4])
    if len(shape) > 3 or math.prod(shape) > _MOST:
        raise InputError(f"--features {text} is not possible: give N, HxW or HxWxC, {_MOST:,} cells at most")
    return shape


@click.command()
@click.argument("part", metavar="FILE.py[:NAME]|NAME")
@click.option(
    "--kind", type=click.Choice(("model", "prior", "guide", "inference")), help="what it is, if that is not clear"
)
@click.option(
    "--features", "shape", metavar="N|HxW|HxWxC", callback=_shape, help="cells of a datapoint  [default: 8x8]"
)
@grouped(
    "given",
    _given,
    *settings_options(*_SETTINGS),
    of_parts,
)
@options(
    click.option("--skip", multiple=True, metavar="CHECK", help="a check to leave out; may be repeated"),
    click.option("--only", multiple=True, metavar="CHECK", help="run this check alone; may be repeated"),
    click.option("--compile", is_flag=True, help="compile the steps, rather than only record them"),
    click.option("--json", "as_json", is_flag=True, help="print the verdicts as one JSON object"),
)
def check(part: str, given: dict[str, Any], as_json: bool, **how: Any) -> None:
    """Test a part of your own against the contract of its shelf.

    A model, prior, guide, algorithm, or a Pyro program with its guide: is its density normalised, do its draws follow
    it, does it compile, save, and take any batch size? Without --data, the model simulates the data. Exit status 1 if
    a check fails.
    """
    from pyro_vae.analysis.check.check import check as run_checks
    from pyro_vae.cli.tables import print_check

    if how["shape"] is not None and "data" in given:
        raise InputError("--features is for simulated data: leave it out, or --data")
    with computing():
        report = run_checks(part, **how, **given)
    if as_json:
        click.echo(json.dumps(report.table(), allow_nan=False))
    else:
        print_check(report)
    if report.failed:
        raise RunError(f"{report.name} fails {len(report.failed)} of its checks: {', '.join(report.failed)}")
