"""`pyro-vae data`, `pyro-vae parts` and `pyro-vae cite`: what there is to choose from, and where it is from."""

__all__ = ["cite", "data", "parts"]

import inspect
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pyro_vae.cli.options import options, settings_options
from pyro_vae.run.settings import OF_DATA, Settings

if TYPE_CHECKING:
    from pyro_vae.data import Dataset

_SHOWN = 8


@click.command()
@click.argument("name", metavar="NAME|FILE|FOLDER")
@options(*settings_options(*OF_DATA, "data_dir"))
def data(name: str, **given: str | None) -> None:
    """Describe a data set or file; download it if it is missing, and verify it."""
    from pyro_vae.data.loading import load_data

    settings = Settings.of({key: value for key, value in given.items() if value is not None}, "the command line")
    loaded = load_data(name, folder=settings.data_dir, **{key: getattr(settings, key) for key in OF_DATA})
    for term, value in _described(loaded).items():
        click.echo(f"{term:<20} {value}")


def _described(data: "Dataset") -> dict[str, Any]:
    """What there is to say of a data set, by name."""
    shape = " x ".join(map(str, data.image_shape)) + " pixels" if data.image_shape else f"{data.features} cells"
    train = data.train
    said: dict[str, Any] = {
        "data": data.name,
        "training datapoints": f"{len(train):,}",
        "test datapoints": f"{len(data.test):,}",
        "datapoint": shape,
        "stored as": f"{train.values.dtype}".removeprefix("torch.") + f", divided by {train.divisor}",
        "training values": _summary(data),
    }
    if data.names:
        kinds = [f" ({kind})" for kind in data.kinds or ()] or [""] * data.features
        said["columns"] = _listed([name + kind for name, kind in zip(data.names, kinds, strict=True)])
    if data.classes:
        said["classes"] = f"{len(data.classes)}: {_listed(data.classes)}"
    if train.covariates is not None:
        said["covariates"] = f"{train.covariates.shape[1]} columns"
    return said | {"sha-256": data.checksum}


def _summary(data: "Dataset") -> str:
    """The range and the mean of the training values, a part of the datapoints at a time, and how many are missing."""
    low, high, total, there, cells = float("inf"), -float("inf"), 0.0, 0, 0
    for values in data.train.values.split(4_096):
        x = data.train.read(values)
        known = x[~x.isnan()]
        cells += x.numel()
        there += len(known)
        total += known.double().sum().item()
        if len(known):
            low, high = min(low, known.min().item()), max(high, known.max().item())
    missing = f", {1 - there / cells:.1%} missing" if there < cells else ""
    return f"{low:.4f} to {high:.4f}, mean {total / max(there, 1):.4f}{missing}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


# What the run gives a part, or has an option of its own for.
_GIVEN = {
    *("self", "args", "kwargs", "features", "latent", "hidden", "prior", "guide", "model", "data"),
    *("image_shape", "kinds", "classes", "covariates"),
    *("batch", "step_size", "optimizer", "kl", "particles", "compile", "elbo", "force"),
}


@click.command()
def parts() -> None:
    """List what is on the shelves, with the arguments that --set takes."""
    from pyro.infer import ELBO

    from pyro_vae.run.arguments import parameters
    from pyro_vae.run.parts import find, names

    of_all_bounds = {*parameters(ELBO)}
    for kind in ("model", "prior", "guide", "inference", "elbo", "marginal"):
        for name in names(kind):
            part = find(kind, name)
            click.echo(f"--{kind:<10} {name:<32} {_told(part)}")
            own = [key for key in parameters(part) if key not in _GIVEN | (of_all_bounds if kind == "elbo" else set())]
            if own:
                flags = ", ".join(f"{name if kind == 'marginal' else kind}.{key}" for key in own)
                click.echo(f"{'':<46}--set {flags}")


@click.command()
@click.argument("names", metavar="[NAME ...]", nargs=-1)
def cite(names: tuple[str, ...]) -> None:
    """Print what to cite as BibTeX: this software, Pyro, the paper, and the sources of parts."""
    from pyro_vae.run.cite import cite as entries

    click.echo(entries(*names), nl=False)


def _told(part: Any) -> str:
    """What a part is, in its first sentence, with the source that it or its file names."""
    paragraph = " ".join((inspect.getdoc(part) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[^.]{3})\.(?: |$)", paragraph)[0].removeprefix("Creates ")
    sentence = re.sub(r"\s*\[\d\]| (?:following|as described in) ref\w*$", "", sentence)
    sentence = re.sub(r":? - ", " ", sentence)
    plain = re.sub(r"(?::\w+:)?`+([^`]*)`+", r"\1", sentence).replace(r"\alpha", "alpha")
    source = re.compile(r"\(([^()]*(?:\b(?:Section|Appendix|Equation|Algorithm) |\b(?:19|20)\d\d)[^()]*)\)")
    found = source.search(inspect.getdoc(sys.modules[part.__module__]) or "")
    return plain if found is None or source.search(plain) else f"{plain} ({found[1]})"
