"""From settings to the things they name: data, model and guide, learning algorithm."""

__all__ = ["dataset", "learner", "pair", "with_guide_defaults"]

from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from pyro_vae import ranks
from pyro_vae.checks import check_prior
from pyro_vae.data.adapt import adapted
from pyro_vae.data.dataset import Dataset, load_data
from pyro_vae.errors import InputError
from pyro_vae.run import parts
from pyro_vae.run.fit import Learner
from pyro_vae.run.settings import Settings
from pyro_vae.traced import worth_compiling

# The settings that go to `load_data` as they are.
_OF_DATA = (
    "columns",
    "drop",
    "kinds",
    "label",
    "covariates",
    "group",
    "split_column",
    "test",
    "test_share",
    "stratify",
    "scale",
    "channels",
    "resize",
)


def dataset(settings: Settings, device: torch.device, checksum: str | None = None) -> Dataset:
    """Loads the data of a run.

    Arguments:
        settings: The settings.
        device: The device to keep them on.
        checksum: What a trained run has recorded of them.

    Raises:
        InputError: If they cannot be loaded, or are not those that the run was trained on.
    """
    data = load_data(
        settings.data,
        binarize=settings.binarize,
        divisor=settings.divisor,
        train_size=settings.train_size,
        device=device,
        folder=settings.data_dir,
        **{name: getattr(settings, name) for name in _OF_DATA},
    )
    if checksum is not None and data.checksum != checksum:
        raise InputError(f"--data {settings.data} has changed since the run was trained: put the old file back")
    return data


def _fitting(settings: Settings, part: type[Any], *names: str) -> dict[str, Any]:
    """The settings among the named ones that a part takes; one that the user changed in vain is refused."""
    defaults = {entry.name: entry.default for entry in fields(Settings)}
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name] and not parts.takes(part, name):
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} {value} means nothing to {part.__name__}: leave it out")
    return {name: getattr(settings, name) for name in names if parts.takes(part, name)}


def pair(settings: Settings, data: Dataset) -> tuple[nn.Module, nn.Module | None, Dataset]:
    """Builds the model and the guide of a run, and the data that they are called with; see `pyro_vae.data.adapted`.

    The guide is None where the algorithm has none. An algorithm that learns more of a model than its parameters puts it
    into a module of its own (`wraps_model`).

    Arguments:
        settings: The settings.
        data: The data.

    Raises:
        InputError: If a part is unknown, cannot be built, or does not take what it is given.
    """
    found = {kind: parts.find(kind, getattr(settings, kind)) for kind in ("model", "prior", "guide")}
    built: dict[str, nn.Module] = {}
    algorithm = parts.find("inference", settings.inference)
    guided = getattr(algorithm, "uses_guide", True)
    size = (data.features, settings.latent)
    kinds = ("model", "guide") if guided else ("model",)
    if parts.takes(found["prior"], "guide"):
        kinds = kinds[::-1]  # the others keep their order, and so the numbers that a seed gives them
    for kind in kinds:
        shared = _fitting(settings, found[kind], "hidden")
        shared |= {name: value for name, value in data.offers.items() if parts.takes(found[kind], name)}
        if kind == "model":
            own = settings.set.get("prior", {})
            if _fitting(settings, found[kind], "prior"):
                shared["prior"] = _prior(settings, found["prior"], data.features, built.get("guide"))
            elif own:
                raise InputError(f"--set prior.{next(iter(own))} means nothing to {found[kind].__name__}: leave it out")
        module = parts.build(kind, found[kind], *size, own=settings.set.get(kind, {}), **shared)
        if not isinstance(module, nn.Module):
            raise InputError(f"--{kind} {found[kind].__name__} is no torch.nn.Module: make it one")
        built[kind] = module.to(data.train.device)
    model, guide, data = adapted(built["model"], built.get("guide"), data)
    if hasattr(algorithm, "wraps_model"):
        model = algorithm.wraps_model(model).to(data.train.device)
    return model, guide, data


def _prior(settings: Settings, part: type[Any], features: int, guide: nn.Module | None) -> nn.Module:
    """Builds a prior, with the number of pixels and the guide where it takes them."""
    if guide is None and parts.takes(part, "guide"):
        raise InputError(
            f"--prior {settings.prior} is made of a guide's posteriors, and {settings.inference} has no guide: "
            "choose another"
        )
    offered = {"features": features, "guide": guide}
    shared = {name: value for name, value in offered.items() if parts.takes(part, name)}
    prior: nn.Module = parts.build("prior", part, settings.latent, own=settings.set.get("prior", {}), **shared)
    check_prior(prior, f"--prior {settings.prior}", settings.latent)
    return prior


def with_guide_defaults(settings: Settings) -> Settings:
    """Adds what the algorithm gives its guide (`guide_defaults`), where the guide takes it and the user is silent."""
    brought = getattr(parts.find("inference", settings.inference), "guide_defaults", {})
    guide = parts.find("guide", settings.guide)
    taken = {name: value for name, value in brought.items() if parts.takes(guide, name)}
    if not taken:
        return settings
    return replace(settings, set={**settings.set, "guide": {**taken, **settings.set.get("guide", {})}})


def learner(settings: Settings, model: nn.Module, guide: nn.Module | None, data: Dataset) -> Learner:
    """Builds the learning algorithm of a run."""
    part = parts.find("inference", settings.inference)
    shared = _fitting(settings, part, "batch", "step_size", "optimizer", "kl", "particles")
    if ranks.count() > 1 and not getattr(part, "runs_on_ranks", False):
        raise InputError(f"--inference {settings.inference} runs in one process: start it without torchrun")
    if parts.takes(part, "compile"):
        shared["compile"] = worth_compiling(settings.compile, settings.samples)
    own = settings.set.get("inference", {})
    for name in own.keys() & shared.keys():
        raise InputError(f"--set inference.{name} is a setting of every run: give --{name.replace('_', '-')}")
    built: Learner = parts.build("inference", part, model, guide, data.train, own=own, **shared)
    for name in ("loss", "state_dict", "load_state_dict"):
        if not hasattr(built, name):
            raise InputError(f"--inference {part.__name__} is no algorithm: give it {name}")
    return built
