"""The command line of the paper's reruns, `pyro-vae paper`. As in `cli`, only the commands' bodies import torch."""

__all__ = ["paper"]

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_vae.errors import InputError
from pyro_vae.run.settings import whole

if TYPE_CHECKING:
    from pyro_vae.paper.workers import Workers


@click.group()
def paper() -> None:
    """Rerun the paper's figures and judge its claims."""


def _whole(most: int) -> Callable[..., int | None]:
    """Returns a callback that reads an option's whole number."""
    return lambda _, option, text: None if text is None else whole(option.name, text, most=most)


def _rerun_options(samples: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command that reruns a figure its options, with a default budget."""
    out = click.Path(path_type=Path, file_okay=False)
    budget = click.option(
        "--samples",
        default=samples,
        show_default=True,
        callback=_whole(10**12),
        help="budget of each run in datapoint evaluations",
    )
    jobs = click.option(
        "--jobs", metavar="N", callback=_whole(1000), help="runs trained at a time  [default: one per core]"
    )
    ray = click.option(
        "--ray",
        metavar="local|auto|HOST:PORT",
        help="train on Ray: a new cluster here, the one found here, or that one",
    )
    cpus = click.option("--cpus", metavar="N", callback=_whole(1000), help="on Ray: cores of each run  [default: 1]")
    gpus = click.option("--gpus", type=click.FloatRange(0, 64), help="on Ray: GPUs of each run, 0.25 for example")
    folder = click.option("--out", type=out, default="runs/paper", show_default=True, help="folder of runs and results")
    data = click.option("--data-dir", metavar="DIR", help="folder of the data sets")
    return lambda command: budget(jobs(ray(cpus(gpus(folder(data(command)))))))


def _workers(jobs: int | None, ray: str | None, cpus: int | None, gpus: float | None) -> "Workers":
    """Reads where a grid is to be trained."""
    from pyro_vae.paper.workers import Local, OnRay

    if ray is None:
        if cpus is not None or gpus is not None:
            raise InputError("--cpus and --gpus are for runs on Ray: give --ray as well, or --jobs alone")
        return Local(jobs)
    if jobs is not None:
        raise InputError(f"--jobs {jobs} means nothing on Ray: give --cpus, the cores of each run")
    return OnRay(ray, cpus or 1, gpus or 0.0)


def _comparison_options(algorithms: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command that compares algorithms its options."""
    chosen = click.option(
        "--algorithms",
        default=algorithms,
        show_default=True,
        callback=lambda _, __, text: text.replace(",", " ").split(),
        help="algorithms to compare",
    )
    seeds = click.option("--seeds", default="1", show_default=True, callback=_whole(1000), help="number of seeds")
    return lambda command: chosen(seeds(command))


@paper.command()
@_rerun_options("1e7")
@_comparison_options("aevb,wake_sleep")
@click.option(
    "--panels", multiple=True, metavar="DATA:LATENT,...", help="mnist:3,20 frey:10, for example  [default: all]"
)
@click.argument("more", nargs=-1, metavar="")
def figure2(
    panels: tuple[str, ...],
    more: tuple[str, ...],
    algorithms: list[str],
    out: Path,
    samples: int,
    seeds: int,
    data_dir: str | None,
    **where: Any,
) -> None:
    """The lower bound of AEVB and of wake-sleep over training samples."""
    if more and not panels:
        raise InputError(f"{more[0]} is not expected: give --panels before it")
    from pyro_vae.paper import reruns

    chosen = reruns.panels([*panels, *more])
    _print(reruns.figure2(out, chosen, algorithms, samples, seeds, _workers(**where), data_dir))


@paper.command()
@_rerun_options("6e7")
@_comparison_options("aevb,wake_sleep,mcem")
@click.option("--train-sizes", default="1000,50000", show_default=True, help="numbers of training datapoints")
def figure3(
    train_sizes: str,
    algorithms: list[str],
    out: Path,
    samples: int,
    seeds: int,
    data_dir: str | None,
    **where: Any,
) -> None:
    """The marginal likelihood reached by three algorithms, with few and with many training datapoints."""
    sizes = [whole("train_sizes", text, most=50_000) for text in train_sizes.replace(",", " ").split()]
    from pyro_vae.paper import reruns

    _print(reruns.figure3(out, sizes, algorithms, samples, seeds, _workers(**where), data_dir))


@paper.command()
@_rerun_options("1e7")
def figure4(out: Path, samples: int, data_dir: str | None, **where: Any) -> None:
    """Manifolds learnt with two latent variables."""
    from pyro_vae.paper import reruns

    _print(reruns.figure4(out, samples, _workers(**where), data_dir))


@paper.command()
@_rerun_options("1e7")
def figure5(out: Path, samples: int, data_dir: str | None, **where: Any) -> None:
    """Samples from models with 2 to 20 latent variables."""
    from pyro_vae.paper import reruns

    _print(reruns.figure5(out, samples, _workers(**where), data_dir))


@paper.command()
@_rerun_options("1e6")
def claims(out: Path, samples: int, data_dir: str | None, **where: Any) -> None:
    """Judge the paper's claims by the figures' tables, and measure what else they need."""
    from pyro_vae.cli.tables import print_claims
    from pyro_vae.paper import claims

    rows, written = claims.claims(out, samples, _workers(**where), data_dir)
    print_claims(rows)
    _print(written)


def _print(written: Iterable[Path]) -> None:
    for path in written:
        click.echo(path)
