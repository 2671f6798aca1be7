"""From settings to what they name: parts, data, the pair, and the algorithm that trains it."""

__all__ = ["Parts", "Prepared", "build_prior", "prepare"]

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.adopted import Adopted
from pyro_vae.checks import check_prior
from pyro_vae.data.adapt import adapted
from pyro_vae.data.dataset import Dataset, in_memory
from pyro_vae.data.loading import load_data
from pyro_vae.data.schema import without_data
from pyro_vae.errors import InputError
from pyro_vae.plates import look
from pyro_vae.programs import Program, bind, create
from pyro_vae.run import parts
from pyro_vae.run.arguments import parameters
from pyro_vae.run.fit import Learner
from pyro_vae.run.record import used_data_dir
from pyro_vae.run.settings import OF_DATA, Settings, usual_step
from pyro_vae.run.sizes import require_step, within_memory
from pyro_vae.run.trust import located
from pyro_vae.traced import worth_compiling
from pyro_vae.wrapped import SumsOut


class Parts(NamedTuple):
    """The classes that settings name, found once."""

    model: type[Any]
    prior: type[Any]
    guide: type[Any]
    inference: type[Any]
    elbo: type[Any]

    @classmethod
    def of(cls, settings: Settings, given: Mapping[str, Any]) -> "Parts":
        """Finds them on the shelves and in a user's files.

        Arguments:
            settings: The settings.
            given: Those that lie in memory, by their kinds.

        Raises:
            InputError: If there is no such part, or a user's file cannot be imported.
        """
        return cls(*(given.get(kind) or parts.find(kind, getattr(settings, kind)) for kind in cls._fields))

    @property
    def uses_guide(self) -> bool:
        """Whether the algorithm trains a guide."""
        return getattr(self.inference, "uses_guide", True)

    def completed(self, settings: Settings) -> Settings:
        """Adds what the algorithm gives its guide (`guide_defaults`), where the guide takes it and none is set."""
        brought = getattr(self.inference, "guide_defaults", {})
        taken = {name: value for name, value in brought.items() if parts.takes(self.guide, name)}
        if not taken:
            return settings
        return replace(settings, set={**settings.set, "guide": {**taken, **settings.set.get("guide", {})}})


class Prepared(NamedTuple):
    """All that a run needs before its first step.

    Arguments:
        settings: The settings.
        parts: The classes that they name.
        dataset: The data.
        model: The generative model.
        guide: The recognition model, None where the algorithm has none.
    """

    settings: Settings
    parts: Parts
    dataset: Dataset
    model: nn.Module
    guide: nn.Module | None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The model and, where there is one, the guide, by these names."""
        return {"model": self.model} | ({} if self.guide is None else {"guide": self.guide})

    def learner(self) -> Learner:
        """Builds the learning algorithm.

        Raises:
            InputError: If it does not take what it is given, or model and guide do not fit it.
        """
        settings, part, data = self.settings, self.parts.inference, self.dataset.train
        if settings.enumerate and not any(look(each, data.first(2)).marked for each in self.modules.values()):
            raise InputError("--enumerate finds no discrete latent variable that could be summed out: leave it out")
        shared = _taken(settings, part, "batch", "step_size", "optimizer", "kl", "particles")
        if ranks.count() > 1 and not getattr(part, "runs_on_ranks", False):
            raise InputError(f"--inference {settings.inference} runs in one process: start it without torchrun")
        if "batch" in shared and settings.batch > data.total:
            raise InputError(f"--batch {settings.batch} is more than the {data.total} training datapoints: lower it")
        require_step(self.modules.values(), settings.batch, settings.particles, data.features, data.device)
        if parts.takes(part, "samples"):  # the run's own budget, which schedules follow
            shared["samples"] = settings.samples
        if parts.takes(part, "compile"):
            shared["compile"] = worth_compiling(settings.compile, settings.samples)
        if "elbo" in _taken(settings, part, "elbo"):
            own = settings.set.get("elbo", {})
            estimator: Callable[..., Any] = self.parts.elbo
            shared["elbo"] = partial(estimator, **own) if own else estimator
        own = settings.set.get("inference", {})
        for name in own.keys() & shared.keys():
            raise InputError(f"--set inference.{name} is a setting of every run: give --{name.replace('_', '-')}")
        built: Learner = parts.build("inference", part, self.model, self.guide, data, own=own, **shared)
        for name in ("loss", "state_dict", "load_state_dict"):
            if not hasattr(built, name):
                raise InputError(f"--inference {part.__name__} is not an algorithm: give it {name}")
        return built


def prepare(
    settings: Settings,
    device: torch.device,
    path: Path,
    record: Mapping[str, Any],
    given: Any = None,
    parts_given: Mapping[str, Any] | None = None,
) -> Prepared:
    """Loads the data and builds the pair of a run: new ones, resumed ones and those that are opened meet here.

    Arguments:
        settings: The settings.
        device: The device of data and pair.
        path: The run folder, whose copies of a user's files are used where it holds a run.
        record: What its `run.toml` says, nothing where the run is new.
        given: The data, where they lie in memory: a data set, or what `load_data` makes one of.
        parts_given: Model and guide by these names, where they lie in memory.

    Raises:
        InputError: If data or parts are not there, are not what they were, or cannot be built.
    """
    found = Parts.of(located(path, settings) if record else settings, parts_given or {})
    if not record:
        settings = found.completed(settings)
    dataset = _dataset(settings, device, record, given)
    built = _pair(settings, found, dataset, device)
    model, guide, dataset = adapted(built["model"], built.get("guide"), dataset)
    rows = _some_rows(dataset, settings.batch)
    with within_memory(f"--model {settings.model}"):
        bind(model, guide, rows)
    if settings.enumerate:
        model, guide = SumsOut(model), None if guide is None else SumsOut(guide)
    if hasattr(found.inference, "wraps_model"):
        model = found.inference.wraps_model(model).to(device)
    return Prepared(settings, found, dataset, model, guide)


def _dataset(settings: Settings, device: torch.device, record: Mapping[str, Any], given: Any) -> Dataset:
    """Loads the data. Where they are not what a run was trained on, it has none, and says so when it needs them."""
    try:
        if isinstance(given, Dataset):
            data = given.to(device)
        elif given is None and in_memory(settings.data):
            raise InputError(f"the run was trained on data in memory, {settings.data}: give them again, data=...")
        else:
            data = load_data(
                settings.data if given is None else given,
                device=device,
                folder=used_data_dir(settings, record),
                **{name: getattr(settings, name) for name in OF_DATA},
            )
        if not record or data.checksum == record["data"]["checksum"]:
            return data
        reason = f"--data {settings.data} has changed since the run was trained: put the old file back"
    except InputError as error:
        if not record:
            raise
        reason = str(error)
    return without_data(settings.data, record["data"], reason, device)


def _taken(settings: Settings, part: type[Any], *names: str) -> dict[str, Any]:
    """The settings among the named ones that a part takes; one that the user changed in vain is refused."""
    defaults = {entry.name: entry.default for entry in fields(Settings)} | {"step_size": usual_step(settings.optimizer)}
    for name in names:
        value = getattr(settings, name)
        if value != defaults[name] and not parts.takes(part, name):
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} {value} does not apply to {part.__name__}: leave it out")
    return {name: getattr(settings, name) for name in names if parts.takes(part, name)}


def _pair(settings: Settings, found: Parts, dataset: Dataset, device: torch.device) -> dict[str, nn.Module]:
    """Builds model and guide, the guide first where the prior is made of it."""
    built: dict[str, nn.Module] = {}
    kinds = ["model", "guide"] if found.uses_guide else ["model"]
    if parts.takes(found.prior, "guide"):
        kinds.reverse()  # elsewhere the order stays, and so do the numbers that a seed gives them
    adopted, pairs = Adopted(), dict[type[Any], Any]()
    for kind in kinds:
        part = getattr(found, kind)
        if parts.is_program(part):
            built[kind] = _program(kind, part, settings, dataset, adopted, pairs).to(device)
            continue
        shared = _taken(settings, part, "hidden")
        shared |= {name: value for name, value in dataset.offers.items() if parts.takes(part, name)}
        if kind == "model":
            shared |= _prior(settings, found, dataset, built.get("guide"))
        own = settings.set.get(kind, {})
        module = parts.build(kind, part, dataset.features, settings.latent, own=own, **shared)
        if not isinstance(module, nn.Module):
            raise InputError(f"--{kind} {part.__name__} is not a torch.nn.Module: make it one")
        built[kind] = module.to(device)
    return built


def _program(
    kind: str, part: Any, settings: Settings, dataset: Dataset, adopted: Adopted, pairs: dict[type[Any], Any]
) -> Program:
    """Builds a Pyro program. A class that makes a pair is built once, for both; a function is given what it takes."""
    own = settings.set.get(kind, {})
    offers = {"features": dataset.features, **dataset.offers}
    if not parts.is_pair(part):
        shared = {name: value for name, value in offers.items() if name != "covariates" and parts.takes(part, name)}
        shared |= _own_settings(settings, part)
        return create(part, adopted, **parts.arguments(kind, part, None, own=own, **shared))
    if part in pairs:
        for key in own:
            raise InputError(f"--set {kind}.{key} is one of a pair: give --set model.{key}")
    else:
        shared = {name: value for name, value in offers.items() if parts.takes(part, name)}
        shared |= _own_settings(settings, part)
        for name, parameter in parameters(part).items():
            varies = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if parameter.default is parameter.empty and not varies and name not in {**shared, **own}:
                raise InputError(
                    f"{kind} {part.__name__} takes {name}, which has no default: give --set {kind}.{name}=VALUE"
                )
        pairs[part] = parts.build(kind, part, own=own, **shared)
        if isinstance(pairs[part], nn.Module):
            adopted.keep(part.__name__, pairs[part])
    return create(getattr(pairs[part], kind), adopted)


def _own_settings(settings: Settings, part: Any) -> dict[str, Any]:
    return _taken(settings, part, "hidden", "latent")


def _some_rows(dataset: Dataset, size: int) -> Tensor:
    """The first rows of the training data, and others of their shape where there are no data."""
    if len(dataset.train):
        return dataset.train.first(size)
    return torch.rand(2, dataset.train.values.shape[1], device=dataset.train.device)


def _prior(settings: Settings, found: Parts, dataset: Dataset, guide: nn.Module | None) -> dict[str, nn.Module]:
    """Builds the prior where the model takes one."""
    own = settings.set.get("prior", {})
    if "prior" not in _taken(settings, found.model, "prior"):
        for name in own:
            raise InputError(f"--set prior.{name} does not apply to {found.model.__name__}: leave it out")
        return {}
    return {"prior": build_prior(settings.prior, found.prior, settings, dataset, guide, own)}


def build_prior(
    name: str,
    part: type[Any],
    settings: Settings,
    dataset: Dataset,
    guide: nn.Module | None,
    own: Mapping[str, Any],
) -> nn.Module:
    """Builds a prior of the latent variables of a run, with what it takes of the features, their span and the guide.

    Arguments:
        name: What it is asked for by.
        part: Its class.
        settings: The settings of the run.
        dataset: The data.
        guide: The guide, None where the algorithm has none.
        own: Arguments that the user has set for it.

    Raises:
        InputError: If it is made of a guide and there is none, or it is no prior of so many latent variables.
    """
    if guide is None and parts.takes(part, "guide"):
        raise InputError(
            f"--prior {name} is made of a guide's posteriors, and {settings.inference} has no guide: choose another"
        )
    offered = {"features": dataset.features, "span": dataset.span, "guide": guide}
    shared = {key: value for key, value in offered.items() if parts.takes(part, key)}
    prior: nn.Module = parts.build("prior", part, settings.latent, own=own, **shared)
    check_prior(prior, f"--prior {name}", settings.latent)
    return prior
