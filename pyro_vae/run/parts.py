"""The shelves: finds a part by its name or by the path of a user's file, and builds it."""

__all__ = ["build", "find", "is_file", "names", "split_spec", "takes"]

import inspect
import pkgutil
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pyro_vae.errors import InputError

_SHELVES = {
    "model": "pyro_vae.models",
    "prior": "pyro_vae.models.priors",
    "guide": "pyro_vae.guides",
    "inference": "pyro_vae.inference",
    "marginal": "pyro_vae.inference",
}
# What the class of a part must have; algorithms and estimators share a shelf, and this tells them apart.
_METHODS = {
    "model": "forward",
    "prior": "forward",
    "guide": "forward",
    "inference": "step",
    "marginal": "estimate",
    "elbo": "loss_and_grads",
}


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
    """Pyro's estimators of the bound."""
    from pyro import infer

    found = {name: value for name, value in vars(infer).items() if inspect.isclass(value)}
    return {name: value for name, value in found.items() if issubclass(value, infer.ELBO) and value is not infer.ELBO}


def _files(kind: str) -> list[str]:
    modules = pkgutil.iter_modules(import_module(_SHELVES[kind]).__path__)
    return sorted(
        module.name for module in modules if not module.ispkg and module.name[0] != "_" and module.name != "base"
    )


def _on_shelf(kind: str, name: str) -> type[Any]:
    return _part(import_module(f"{_SHELVES[kind]}.{name}"), name)


def is_file(spec: str) -> bool:
    """Whether a part is asked for by path, `FILE.py` or `FILE.py:CLASS`."""
    return spec.endswith(".py") or ".py:" in spec


def split_spec(spec: str) -> tuple[Path, str]:
    """Splits `FILE.py:CLASS` or `FILE.py` into the path and the name, empty where there is none."""
    if spec.endswith(".py"):
        return Path(spec), ""
    path, _, name = spec.rpartition(":")
    return Path(path), name


def find(kind: str, spec: str) -> type[Any]:
    """Finds the class of a part.

    Arguments:
        kind: One of those of `names`.
        spec: A name on the shelf, or `FILE.py` or `FILE.py:CLASS`.

    Raises:
        InputError: If there is no such part, or the user's file cannot be imported.
    """
    if is_file(spec):
        path, name = split_spec(spec)
        part = _part(_load(path, kind), str(path), name)
        if not hasattr(part, _METHODS[kind]):
            raise InputError(f"--{kind} {spec} is no {kind}: give its class {part.__name__} a method {_METHODS[kind]}")
        return part
    if kind == "elbo" and spec in (known := _estimators()):
        return known[spec]
    # Only the file of this name is imported: its neighbours may need libraries that are slow to load.
    if kind == "elbo" or spec not in _files(kind) or not hasattr(part := _on_shelf(kind, spec), _METHODS[kind]):
        raise InputError(f"--{kind} {spec} is unknown: choose from {', '.join(names(kind))}, or give FILE.py:CLASS")
    return part


def _load(path: Path, kind: str) -> ModuleType:
    if not path.is_file():
        raise InputError(f"--{kind} {path} is not there: give the path of a Python file")
    module = ModuleType(f"pyro_vae_user_{kind}_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickles look their module up
    try:
        # What runs is what can be read: Python's own import would take a compiled file from beside it.
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise InputError(f"--{kind} {path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _part(module: ModuleType, where: str, name: str = "") -> type[Any]:
    public = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
    classes = {
        n: value
        for n in public
        if inspect.isclass(value := getattr(module, n, None)) and value.__module__ == module.__name__
    }
    if name in classes:
        return classes[name]
    if not classes:
        raise InputError(f"{where} has no public class: write one")
    if name:
        raise InputError(f"{where} has no class {name}: it has {', '.join(classes)}")
    if len(classes) > 1:
        raise InputError(f"{where} has several classes: say which, {' or '.join(f'{where}:{n}' for n in classes)}")
    return next(iter(classes.values()))


def takes(part: type[Any], name: str) -> bool:
    """Whether the constructor of a part takes an argument of this name."""
    parameters = inspect.signature(part).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def build(kind: str, part: type[Any], *given: Any, own: Mapping[str, Any] | None = None, **shared: Any) -> Any:
    """Builds a part.

    Arguments:
        kind: What it is, for the message.
        part: Its class.
        given: Positional arguments.
        own: Arguments that the user has set for this part; they go before the shared ones.
        shared: Arguments that the caller gives.

    Raises:
        InputError: If the class does not take an argument of the user's, or cannot be built from them.
    """
    own = own or {}
    for key in own:
        if not takes(part, key):
            options = ", ".join(list(inspect.signature(part).parameters)[len(given) :]) or "none"
            raise InputError(f"--set {kind}.{key} is unknown: {part.__name__} takes {options}")
    try:
        return part(*given, **{**shared, **own})
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{kind} {part.__name__} cannot be built: {type(error).__name__}: {reason}") from error
