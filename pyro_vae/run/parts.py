"""The shelves: finds a part by its name or by the path of a user's file, and builds it."""

__all__ = [
    "arguments",
    "build",
    "find",
    "in_memory",
    "is_file",
    "is_pair",
    "is_program",
    "members",
    "name_in_memory",
    "names",
    "own_guide",
    "split_spec",
    "takes",
]

import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pyro_vae.errors import InputError
from pyro_vae.run.arguments import checked, parameters
from pyro_vae.run.settings import is_file
from pyro_vae.run.user_code import guarded, is_user_code, load

_SHELVES = {
    "model": "pyro_vae.models",
    "prior": "pyro_vae.models.priors",
    "guide": "pyro_vae.guides",
    "inference": "pyro_vae.inference",
    "marginal": "pyro_vae.inference",
}
# What the class of a part must have; algorithms and estimators share a shelf, and this tells them apart.
_PROGRAMS = ("model", "guide")  # what may be a Pyro program, and the methods of a class that makes a pair
_METHODS = {
    "model": "forward",
    "prior": "forward",
    "guide": "forward",
    "inference": "step",
    "marginal": "estimate",
    "elbo": "loss_and_grads",
}
# What is made of weights, whose number is the settings' to say.
_OF_WEIGHTS = ("model", "prior", "guide")


def names(kind: str) -> list[str]:
    """Returns the names of the parts of a kind.

    Arguments:
        kind: `model`, `prior`, `guide`, `inference` (learning algorithms) or `marginal` (estimators of the
            marginal likelihood).
    """
    if kind == "elbo":
        return sorted(_estimators())
    return [name for name in _files(kind) if hasattr(_on_shelf(kind, name), _METHODS[kind])]


def _estimators() -> dict[str, type[Any]]:
    """Pyro's estimators of the bound, without those of its old compiler: steps are compiled here."""
    from pyro import infer

    found = {name: value for name, value in vars(infer).items() if isinstance(value, type) and name[:3] != "Jit"}
    return {name: value for name, value in found.items() if issubclass(value, infer.ELBO) and value is not infer.ELBO}


def _files(kind: str) -> list[str]:
    modules = pkgutil.iter_modules(import_module(_SHELVES[kind]).__path__)
    return sorted(
        module.name for module in modules if not module.ispkg and module.name[0] != "_" and module.name != "base"
    )


def _on_shelf(kind: str, name: str) -> Any:
    return _part(import_module(f"{_SHELVES[kind]}.{name}"), name, kind)


def split_spec(spec: str) -> tuple[Path, str]:
    """Splits `FILE.py:CLASS` or `FILE.py` into the path and the name, empty where there is none."""
    if spec.endswith(".py"):
        return Path(spec), ""
    path, _, name = spec.rpartition(":")
    return Path(path), name


def find(kind: str, spec: str) -> Any:
    """Finds a part: what it is built by, a class; or a Pyro program, see `is_program`.

    Arguments:
        kind: One of those of `names`.
        spec: A name on the shelf, or `FILE.py` or `FILE.py:CLASS`.

    Raises:
        InputError: If there is no such part, or the user's file cannot be imported.
    """
    if is_file(spec):
        path, name = split_spec(spec)
        module = load(path, f"--{kind}")
        with guarded(f"--{kind} {spec} cannot be used"):
            part = _part(module, str(path), kind, name)
            _require_kind(kind, spec, part)
        return part
    if in_memory(spec):
        raise InputError(f"the run has a {kind} that was in memory, {spec}: give it again, {kind}=...")
    if kind == "elbo" and spec in (known := _estimators()):
        return known[spec]
    # Only the file of this name is imported: its neighbours may need libraries that are slow to load.
    if kind == "elbo" or spec not in _files(kind) or not hasattr(part := _on_shelf(kind, spec), _METHODS[kind]):
        raise InputError(f"--{kind} {spec} is unknown: choose from {', '.join(names(kind))}, or give FILE.py:CLASS")
    return part


def is_pair(part: Any) -> bool:
    """Whether a class makes a model and its guide, as its methods `model` and `guide`."""
    return isinstance(part, type) and all(isinstance(getattr(part, kind, None), FunctionType) for kind in _PROGRAMS)


def is_program(part: Any) -> bool:
    """Whether a part is a Pyro program: a function or another object that is called with data, or a pair of them."""
    return is_pair(part) or not isinstance(part, type)


def name_in_memory(part: Any) -> str:
    """Returns what a part is called in the settings that lies in memory: its name in parentheses."""
    name = getattr(part, "__qualname__", type(part).__qualname__).rpartition(".")[2]
    return f"({name.strip('<>')})"


def in_memory(spec: str) -> bool:
    """Whether a part of this name lay in memory, so that it cannot be found by it."""
    return spec.startswith("(")


def own_guide(spec: str) -> str | None:
    """The guide that comes with a model, None where there is none: that of a pair, or the function beside it.

    Arguments:
        spec: What the model is given as.
    """
    if not is_file(spec) or not is_program(part := find("model", spec)):
        return None
    path, _ = split_spec(spec)
    beside = vars(load(path, "--model")).get("guide")
    return spec if is_pair(part) else f"{path}:guide" if isinstance(beside, FunctionType) else None


def members(spec: str) -> dict[str, Any]:
    """Returns the parts of a user's file by their names, those of one name where it says one.

    Arguments:
        spec: `FILE.py`, whose public classes are meant, else its function `model`; or `FILE.py:NAME`.

    Raises:
        InputError: If there is none, or the file cannot be imported.
    """
    path, name = split_spec(spec)
    module = load(path, "FILE")
    found = {} if name else _classes(module, str(path))
    return found or {name or "model": _part(module, str(path), "model", name)}


def _part(module: ModuleType, where: str, kind: str, name: str = "") -> Any:
    """The part of a file: its one public class, or the one that is named; a program by its name or its kind's."""
    found = _classes(module, where)
    if name in found:
        return found[name]
    program = vars(module).get(name or kind) if kind in _PROGRAMS and (name or not found) else None
    if callable(program) and not isinstance(program, type):
        return program
    if name and isinstance(vars(module).get(name), FunctionType):
        raise InputError(f"{where}:{name} is a function, and a {kind} is a class: write one")
    if not found:
        raise InputError(f"{where} has no public class: write one")
    if name:
        raise InputError(f"{where} has no class {name}: it has {', '.join(found)}")
    if len(found) > 1:
        raise InputError(f"{where} has several classes: say which, {' or '.join(f'{where}:{n}' for n in found)}")
    return next(iter(found.values()))


def _classes(module: ModuleType, where: str) -> dict[str, Any]:
    """The public classes of a file by their names. What `__all__` lists may also come from the file's neighbours."""
    every = vars(module)  # and not what a `__getattr__` in it makes up
    listed = every.get("__all__", missing := object())
    if listed is missing:
        names = [name for name in every if not name.startswith("_")]
    else:
        if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
            raise InputError(f"{where} has an __all__ that is not a list of names: write __all__ = ['CLASS']")
        if unknown := [name for name in listed if name not in every]:
            raise InputError(f"{where} lists {unknown[0]} in __all__ and has nothing of that name: take it out")
        names = [*listed]
    # The class of a value is asked, and not the value, which may answer with anything.
    classes = {name: every[name] for name in names if issubclass(type(every[name]), type)}
    return {
        name: value
        for name, value in classes.items()
        if value.__module__ == module.__name__ or (listed is not missing and is_user_code(value.__module__))
    }


def _require_kind(kind: str, spec: str, part: Any) -> None:
    method = _METHODS[kind]
    if not hasattr(part, method) and not is_program(part):
        name = part.__name__
        raise InputError(f"--{kind} {spec} cannot be used as {kind}: give its class {name} a method {method}")
    # The engine asks a part for attributes that it need not have.
    if hasattr(part, "_an_attribute_that_no_part_has"):
        raise InputError(f"--{kind} {spec} has a metaclass that makes attributes up: leave it out")


def takes(part: Callable[..., Any], name: str) -> bool:
    """Whether the constructor of a part takes an argument of this name."""
    own = parameters(part)
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return (name in own and own[name].kind in by_name) or any(p.kind is p.VAR_KEYWORD for p in own.values())


def build(kind: str, part: Callable[..., Any], *given: Any, own: Mapping[str, Any] | None = None, **shared: Any) -> Any:
    """Builds a part.

    Arguments:
        kind: What it is, for the message.
        part: Its class.
        given: Positional arguments.
        own: Arguments that the user has set for this part; they go before the shared ones.
        shared: Arguments that the caller gives.

    Raises:
        InputError: If the class does not take an argument of the user's, or one is not what its annotation says (see
            `pyro_vae.run.arguments`), or it cannot be built from them.
    """
    from pyro_vae.run.sizes import built_within  # imports torch, and the command line asks here what is a file

    name = part.__name__
    with guarded(f"{kind} {name} cannot be built"):
        named = arguments(kind, part, *given, own=own, **shared)
        sizes = {**dict(zip(parameters(part), given, strict=False)), **named}
        told = ", ".join(f"{key} {value:,}" for key, value in sizes.items() if type(value) is int and value > 1)
        make = partial(part, *given, **named)
        what = f"{kind} {name} with {told}"
        built = built_within(what, make, first=kind == "prior") if kind in _OF_WEIGHTS else make()
        if isinstance(part, type) and not isinstance(built, part):
            raise InputError(f"{kind} {name} cannot be built: its constructor returns a {type(built).__name__}")
    return built


def arguments(
    kind: str, part: Callable[..., Any], *given: Any, own: Mapping[str, Any] | None = None, **shared: Any
) -> dict[str, Any]:
    """Returns the arguments by name that a part is built with, checked; see `build`."""
    own = own or {}
    name = getattr(part, "__name__", type(part).__name__)
    for key in own:
        if not takes(part, key):
            options = ", ".join([*parameters(part)][len(given) :]) or "none"
            raise InputError(f"--set {kind}.{key} is unknown: {name} takes {options}")
        if key in [*parameters(part)][: len(given)]:
            raise InputError(f"--set {kind}.{key} is not possible: the run itself gives it to {name}, leave it out")
    return checked(part, given, {**shared, **own}, {key: f"--set {kind}.{key}" for key in own})
