"""What is checked: a part of a user's own or of a shelf, with partners and data that let it run."""

__all__ = ["KINDS", "Subject", "subject_of"]

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vae.data.dataset import Dataset
from pyro_vae.data.loading import load_data
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.run import parts
from pyro_vae.run.prepared import Prepared, prepare
from pyro_vae.run.settings import OF_DATA, Settings, is_file
from pyro_vae.sites import evaluation_mode, global_sites, isolated, latent_sites, sample_sites
from pyro_vae.split import Split

KINDS = ("model", "prior", "guide", "inference")

# Small: a check is of what is computed, not of how much.
_HIDDEN, _ROWS, _TEST, _CLASSES = 16, 300, 100, 4
_COLUMNS = ("real", "positive", "count", "binary", "category:3")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """A part with what it runs with.

    Arguments:
        kind: One of `KINDS`, or `pair`.
        name: What the user calls it.
        settings: Those of a short run with it.
        dataset: The data.
        simulated: Whether they were drawn from the model itself.
    """

    kind: str
    name: str
    settings: Settings
    dataset: Dataset
    simulated: bool

    def prepared(self, seed: int = 0, **settings: Any) -> Prepared:
        """Builds the pair anew.

        Arguments:
            seed: The seed of its first weights.
            settings: What is other than in the settings.
        """
        with seeded(seed, _CPU):
            return prepare(replace(self.settings, **settings), _CPU, Path("a check"), {}, given=self.dataset)

    @cached_property
    def built(self) -> Prepared:
        """The pair as it is built first."""
        return self.prepared(self.settings.seed)

    @property
    def pair(self) -> tuple[nn.Module, nn.Module | None]:
        """The model and its guide, None where there is none."""
        return self.built.model, self.built.guide

    def x(self, size: int = 101) -> Tensor:
        """Datapoints, over again where the data have fewer."""
        rows = self.built.dataset.train.first(size)
        return rows.repeat(-(-size // len(rows)), 1)[:size]


def subject_of(spec: str, kind: str | None, given: Mapping[str, Any], shape: tuple[int, ...] | None) -> Subject:
    """Finds a part and builds it, with partners of the shelf for what is not given.

    Arguments:
        spec: A name on a shelf, or `FILE.py` or `FILE.py:NAME`.
        kind: One of `KINDS`, where it cannot be told.
        given: Settings by name that the user has set.
        shape: The shape of a datapoint, where data are simulated; 8 x 8 if omitted.

    Raises:
        InputError: If there is no such part, its kind cannot be told, or what is given does not fit.
    """
    kind, named = _kind(spec, kind)
    for other in named:
        if given.get(other, named[other]) != named[other]:
            raise InputError(f"--{other} {given[other]} goes with no {kind} {spec}, which is one itself: leave it out")
    settings = {**_partners(spec, kind, {**named, **given}), **given, **named}
    algorithm = parts.find("inference", settings.get("inference", Settings().inference))
    ours = {"optimizer": "adam", "step_size": 0.01, "batch": 50}
    settings |= {name: value for name, value in ours.items() if parts.takes(algorithm, name)}
    settings |= {"compile": "off", "samples": 10_000}
    own = {part: dict(values) for part, values in settings.get("set", {}).items()}
    for part in ("model", "guide"):
        found = parts.find(part, settings.get(part, getattr(Settings(), part)))
        if "hidden" not in given and parts.takes(found, "hidden") and not parts.is_pair(found):
            own.setdefault(part, {}).setdefault("hidden", _HIDDEN)
    checked = Settings.of({**settings, "set": own}, "the command line")
    parts.find(kind if kind in KINDS else "model", getattr(checked, kind if kind in KINDS else "model"))
    if "data" in given or (kind == "inference" and shape is None):
        data = load_data(
            checked.data, device=_CPU, folder=checked.data_dir, **{name: getattr(checked, name) for name in OF_DATA}
        )
        subject = Subject(kind, spec, checked, data, simulated=False)
        return subject if "guide" in {**given, **named} else _without_stranger(subject)
    subject = Subject(kind, spec, checked, _blank(checked, shape or (8, 8)), simulated=True)
    if "guide" not in {**given, **named}:
        subject = _without_stranger(subject)
    return replace(subject, dataset=_simulated(subject))


def _kind(spec: str, kind: str | None) -> tuple[str, dict[str, str]]:
    """What a part is, and the settings that name it."""
    if not is_file(spec):
        found = [each for each in KINDS if spec in parts.names(each)]
        if kind is None and len(found) > 1:
            raise InputError(f"{spec} is a {' and a '.join(found)}: give --kind {' or --kind '.join(found)}")
        if kind is None and not found:
            raise InputError(
                f"{spec} is on none of the shelves of {', '.join(KINDS)}: see pyro-vae parts, or give FILE.py:NAME"
            )
        return kind or found[0], {kind or found[0]: spec}
    members = parts.members(spec)
    path, _ = parts.split_spec(spec)
    kinds = {name: each for name, part in members.items() if (each := kind_of(part))}
    if len(members) == 1 and kind:
        kinds = dict.fromkeys(members, kind)
    if not kinds:
        raise InputError(f"{spec} has no part that can be told: give --kind, one of {', '.join(KINDS)}")
    if len(kinds) > 1:
        # A file with one model and one guide is a pair.
        if kind is None and sorted(kinds.values()) == ["guide", "model"]:
            return "pair", {each: f"{path}:{name}" for name, each in kinds.items()}
        raise InputError(f"{spec} has several parts: say which, {' or '.join(f'{path}:{name}' for name in kinds)}")
    ((name, _),) = kinds.items()
    part, spec = members[name], f"{path}:{name}"
    if parts.is_pair(part):
        return "pair", {"model": spec, "guide": spec}
    if kinds[name] == "model" and parts.is_program(part) and (guide := parts.own_guide(spec)):
        return "pair", {"model": spec, "guide": guide}
    if kinds[name] not in KINDS:
        raise InputError(f"{spec} is an estimator, which has no check: compare it, pyro-vae evaluate RUN --marginal")
    return kinds[name], {kinds[name]: spec}


def kind_of(part: Any) -> str:
    """Tells a part's kind by its methods, its arguments and what its code calls; empty where it is none."""
    if parts.is_pair(part):
        return "pair"
    if not isinstance(part, type):
        return "guide" if getattr(part, "__name__", "") == "guide" else "model"
    for method, kind in (("step", "inference"), ("estimate", "marginal"), ("loss_and_grads", "elbo")):
        if hasattr(part, method):
            return kind
    for method, kind in (("likelihood", "model"), ("posterior", "guide")):
        if hasattr(part, method):
            return kind
    forward = getattr(part, "forward", None)
    if not isinstance(forward, FunctionType):
        return ""
    _, *arguments = inspect.signature(forward).parameters
    words = _words(part)
    if not arguments:
        return "prior"
    return "model" if "size" in arguments or "obs" in words else "guide" if "sample" in words else ""


def _words(part: type[Any]) -> set[str]:
    """The names that the code of a class uses, those of arguments among them."""
    found: set[str] = set()
    own = [each for each in part.__mro__ if each.__module__.partition(".")[0] not in ("torch", "pyro", "builtins")]
    codes = [value.__code__ for each in own for value in vars(each).values() if isinstance(value, FunctionType)]
    while codes:
        code = codes.pop()
        found |= {*code.co_names}
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                codes.append(constant)
            elif isinstance(constant, tuple):
                found |= {word for word in constant if isinstance(word, str)}
    return found


def _partners(spec: str, kind: str, named: Mapping[str, str]) -> dict[str, str]:
    """The other half of a pair: of the same file where that has one, of the same name where a shelf has one."""
    other = {"model": "guide", "guide": "model"}.get(kind)
    if other is None or other in named:
        return {}
    if not is_file(spec):
        return {other: spec} if spec in parts.names(other) else {}
    path, _ = parts.split_spec(spec)
    found = [name for name, part in parts.members(str(path)).items() if kind_of(part) == other]
    return {other: f"{path}:{found[0]}"} if len(found) == 1 else {}


def _blank(settings: Settings, shape: tuple[int, ...]) -> Dataset:
    """Data of zeros and ones, which nearly every support has, with labels, covariates and kinds for who asks."""
    features, rows = torch.Size(shape).numel(), _ROWS + _TEST
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 2, (rows, features), generator=generator).float()
    labels = torch.randint(0, _CLASSES, (rows,), generator=generator)
    covariates = torch.randn(rows, 2, generator=generator)
    train, test = (
        Split(values[part], labels=labels[part], covariates=covariates[part])
        for part in (slice(_ROWS), slice(_ROWS, None))
    )
    model = parts.find("model", settings.model)
    kinds = tuple(_COLUMNS[n % len(_COLUMNS)] for n in range(features)) if parts.takes(model, "kinds") else None
    return Dataset(
        f"{features} simulated cells",
        train,
        test,
        image_shape=shape if len(shape) > 1 else None,
        checksum="",
        binarize="none",
        kinds=kinds,
        classes=tuple(map(str, range(_CLASSES))),
    )


def _without_stranger(subject: Subject) -> Subject:
    """Leaves the guide of the shelf out where a model has other latent sites than it: nobody said that they fit."""
    if subject.kind != "model" or not is_file(subject.settings.model):
        return subject
    try:
        model, guide = subject.pair
        assert guide is not None
        with seeded(0, _CPU), isolated(), evaluation_mode(model, guide), torch.no_grad():
            x = subject.x(2)
            wanted, given = (poutine.trace(part).get_trace(x) for part in (model, guide))
    except Exception as error:  # a check says it
        _require_known(error)
        return subject
    if {*latent_sites(wanted), *global_sites(wanted)} == {*latent_sites(given), *global_sites(given)}:
        return subject
    alone = next(n for n in parts.names("inference") if not getattr(parts.find("inference", n), "uses_guide", True))
    settings = replace(subject.settings, inference=alone, batch=Settings().batch)
    return replace(subject, settings=settings)


def _simulated(subject: Subject) -> Dataset:
    """Data that the model itself draws, which are in its support; the blank ones where it cannot draw."""
    blank = subject.dataset
    try:
        model = subject.built.model
        with seeded(1, _CPU), isolated(), evaluation_mode(model), torch.no_grad():
            trace = poutine.trace(model).get_trace(None, size=_ROWS + _TEST)
        x = sample_sites(trace)["x"]["value"].float()
        assert x.shape == (_ROWS + _TEST, blank.features)
        assert x.isfinite().all()
    except Exception as error:  # a check says it
        _require_known(error)
        return blank
    splits = {
        name: replace(getattr(blank, name), values=x[part].contiguous())
        for name, part in (("train", slice(_ROWS)), ("test", slice(_ROWS, None)))
    }
    return replace(blank, **splits)


def _require_known(error: Exception) -> None:
    """What is wrong with an argument that the user has set is no matter of the part."""
    if isinstance(error, InputError) and str(error).startswith("--set"):
        raise error
