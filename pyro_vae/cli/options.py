"""Options that several commands share."""

__all__ = [
    "computing",
    "grouped",
    "hired",
    "merged",
    "number",
    "of_parts",
    "on_other",
    "opened",
    "opening",
    "options",
    "other",
    "scoring",
    "settings_options",
    "splits",
    "typed",
    "working",
]

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from pyro_vae.errors import InputError
from pyro_vae.run.settings import COMPILE, MARGINAL, Options, Settings, whole
from pyro_vae.run.toml import parse_toml

if TYPE_CHECKING:
    from pyro_vae.run.run import Run
    from pyro_vae.run.workers import Workers

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def options(*given: Decorator) -> Decorator:
    """Gives a command several options, which help lists in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(given):
            command = option(command)
        return command

    return decorate


def grouped(name: str, read: Callable[..., Mapping[str, Any]], *given: Decorator) -> Decorator:
    """Gives a command several options whose values reach it together, as one mapping.

    Arguments:
        name: The command's argument that takes the mapping.
        read: Turns the options' values, by name, into the mapping.
        given: The options.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def grouping(**values: Any) -> Any:
            ours = {parameter: values.pop(parameter) for parameter in parameters}
            return command(**values, **{name: read(**ours)})

        before = len(getattr(grouping, "__click_params__", ()))
        options(*given)(grouping)
        parameters = [parameter.name for parameter in grouping.__click_params__[before:]]  # type: ignore[attr-defined]
        return grouping

    return decorate


def settings_options(*names: str) -> list[Decorator]:
    """Returns an option for each of some settings. They have no default, so that what was given is known."""
    known = {entry.name: entry for entry in fields(Settings)}
    found: list[Decorator] = []
    for name in names:
        entry = known[name]
        default = "" if entry.default is None else f"  [default: {entry.default}]"
        metavar = "|".join(entry.metadata["choices"]) or name.upper()
        flag = "--" + name.replace("_", "-")
        # What is true or false may be given alone, and is true then.
        alone: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if entry.default is False else {}
        found.append(click.option(flag, name, metavar=metavar, help=entry.metadata["help"] + default, **alone))
    return found


# Beside settings; `merged` reads what it is given.
of_parts = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="PART.KEY=VALUE",
    help="an argument of the model, prior, guide or inference; may be repeated",
)


opening = grouped(
    "opening",
    dict,
    click.option("--trust", is_flag=True, help="run the Python files in the run folder, with all that you may do"),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."),
    click.option("--data-dir", metavar="DIR", help="folder of the data sets"),
)


def computing() -> AbstractContextManager[Any]:
    """What a user's part prints goes to standard error: standard output is for results."""
    return redirect_stdout(sys.stderr)


def opened(path: str, opening: Mapping[str, Any]) -> "Run":
    """Opens a run folder as the options of `opening` say."""
    from pyro_vae.run.run import Run

    return Run.open(path, **opening)


other = click.option("--data", "other", metavar="FILE", help="other data with the same columns; all of it is used")


def on_other(run: "Run", other: str | None, split: str) -> "Run":
    """Gives a run other data in the place of its test split, where `--data` names any."""
    if other is None:
        return run
    if split != "test":
        raise InputError(f"--data {other} is scored as a whole: leave --split out")
    return run.on(other)


splits = click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)


def _scoring(
    split: str,
    particles: str,
    marginal: tuple[str, ...],
    assignments: tuple[str, ...],
    limit: str | None,
    seed: str,
    **others: Any,
) -> dict[str, Any]:
    marginal = marginal or (MARGINAL,)
    return {
        "split": split,
        "particles": whole("particles", particles, most=10**6),
        "marginal": marginal,
        "set": merged({}, assignments, marginal),
        "limit": None if limit is None else whole("limit", limit),
        "seed": whole("seed", seed, 0),
        **others,
    }


scoring = grouped(
    "scoring",
    _scoring,
    splits,
    click.option("--particles", default="1000", show_default=True, help="importance samples per datapoint"),
    click.option(
        "--marginal",
        multiple=True,
        metavar="NAME",
        help="estimator of log p(x), may be repeated  [default: importance]",
    ),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="NAME.KEY=VALUE",
        help="an argument of an estimator, e.g. reciprocal.draws=50; may be repeated",
    ),
    click.option("--limit", metavar="N", help="the first N datapoints only"),
    click.option("--seed", default="0", show_default=True, help="the seed of the draws"),
    click.option(
        "--compile", type=click.Choice(COMPILE), default="auto", show_default=True, help="compile the estimators"
    ),
    click.option("--local", is_flag=True, help="use a Gaussian fitted to each datapoint's posterior as the guide"),
    click.option("--force", is_flag=True, help="estimate log p(x) even if an estimator rejects the model"),
    click.option("--cells", is_flag=True, help="score densities of bytes by the probability of grey levels"),
)


def number(most: int) -> Callable[..., int | None]:
    """Returns a callback that reads an option's whole number."""
    return lambda _, option, text: None if text is None else whole(option.name, text, most=most)


def _workers(jobs: int | None, ray: str | None, cpus: int | None, gpus: float | None) -> dict[str, Any]:
    if ray is None and (cpus is not None or gpus is not None):
        raise InputError("--cpus and --gpus are for runs on Ray: give --ray as well, or --jobs alone")
    if ray is not None and jobs is not None:
        raise InputError(f"--jobs {jobs} does not apply on Ray: give --cpus, the cores of each run")
    return {"jobs": jobs, "ray": ray, "cpus": cpus, "gpus": gpus}


def hired(jobs: int | None, ray: str | None, cpus: int | None, gpus: float | None) -> "Workers":
    """Returns what runs the commands of a grid, as the options of `working` say."""
    from pyro_vae.run.on_ray import OnRay
    from pyro_vae.run.workers import Local

    return Local(jobs) if ray is None else OnRay(ray, cpus or 1, gpus or 0.0)


working = grouped(
    "working",
    _workers,
    click.option("--jobs", metavar="N", callback=number(1000), help="runs trained at a time  [default: one per core]"),
    click.option(
        "--ray",
        metavar="local|auto|HOST:PORT",
        help="train on Ray: a new cluster here, the one found here, or that one",
    ),
    click.option("--cpus", metavar="N", callback=number(1000), help="on Ray: cores of each run  [default: 1]"),
    click.option("--gpus", type=click.FloatRange(0, 64), help="on Ray: GPUs of each run, 0.25 for example"),
)


def merged(given: Mapping[str, Mapping[str, Any]], assignments: Sequence[str], parts: Sequence[str]) -> Options:
    """Adds what `--set PART.KEY=VALUE` says to the arguments of parts.

    Arguments:
        given: Arguments by part.
        assignments: The texts.
        parts: The parts that may be named.

    Raises:
        InputError: If a text names no part and key.
    """
    added: Options = {part: dict(values) for part, values in given.items()}
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        part = next((part for part in parts if target.startswith(f"{part}.")), "")  # a part named by path has dots
        key = target.removeprefix(f"{part}.")
        if not (equals and part and key):
            raise InputError(f"--set {assignment} is not PART.KEY=VALUE, PART being one of {', '.join(parts)}")
        added.setdefault(part, {})[key] = typed(text)
    return added


def typed(text: str) -> Any:
    """Reads a value as TOML does, a string where it is nothing else."""
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text
