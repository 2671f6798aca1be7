"""Pyro programs, functions and methods as `pyro.infer.SVI` takes them, as the modules that the engine knows.

A program is called with the data, names its observed site and its plate as it likes, and keeps its parameters where
Pyro would: `Program` makes of it a module that is called as `model(x)`, `model(None, size=n)` or `guide(x)`, observes
the site `"x"` and holds what it learns (see `pyro_vae.adopted`). What it learns is known after a first run: `bind`.
"""

__all__ = ["Program", "bind", "check_generation", "create", "signature"]

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_vae.adopted import Adopted
from pyro_vae.errors import InputError, here
from pyro_vae.sites import is_factor, isolated, sample_sites
from pyro_vae.words import listed, name_of, running

# What a program is given where its signature has them, besides the data, which come first.
_GIVEN = ("size", "label", "covariates", "observed")


def signature(part: nn.Module) -> inspect.Signature:
    """Returns the arguments that a module takes when it is called; of a program, its own."""
    call = part.program if isinstance(part, Program) else part
    return inspect.signature(call.forward if isinstance(call, nn.Module) else call)


class Program(nn.Module):
    """A program as a module; see `create`.

    Arguments:
        program: What is called.
        adopted: What the programs of the run learn outside of modules.
    """

    program: Callable[..., Any]

    def __init__(self, program: Callable[..., Any], adopted: Adopted) -> None:
        super().__init__()
        self.__dict__["program"] = program  # a net is in `adopted`
        self.adopted = adopted
        self.sees = _Sees(adopted)
        self.generates = "size" in signature(self).parameters

    def forward(self, x: Tensor | None = None, size: int | None = None, **named: Any) -> Any:
        """Runs the program on data, or generates data: where it cannot by itself, on rows that it does not observe."""
        given: tuple[Any, ...] = (x,)
        if self.generates and size is not None:
            named["size"] = size
        elif x is None:
            like = self.sees.x
            assert like is not None  # programs are bound before they generate
            given = (like.new_full((size or 1, *like.shape[1:]), self.sees.stand_in),)
        self.sees.generating = x is None and not self.generates
        if self.sees.naming is not None:
            self.sees.x = given[0]
        try:
            with self.adopted.asked(), self.sees:
                return self.program(*given, **named)
        finally:
            self.sees.generating = False


class _Sees(Messenger):
    """Answers what a program asks of Pyro's store, and names the site of its data `"x"`.

    Arguments:
        adopted: What it learns outside of modules.

    Attributes:
        observed: The program's own name of the site.
        naming: In the first run, whether each observed site holds the data, by name; None after it.
        x: What the program was last given before it was bound.
        generating: Whether it generates data, so that nothing is observed.
        stand_in: What the rows hold that it is given then.
    """

    def __init__(self, adopted: Adopted) -> None:
        super().__init__()
        self.adopted, self.observed = adopted, "x"
        self.naming: dict[str, bool] | None = {}
        self.x: Tensor | None = None
        self.generating, self.stand_in = False, 0.0

    def _pyro_param(self, msg: dict[str, Any]) -> None:
        _, init = (*msg["args"], None)[:2]
        msg["value"] = self.adopted.value(msg["name"], init, msg["kwargs"].get("constraint"))
        msg["done"] = msg["stop"] = True

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"] or msg["infer"].get("_deterministic") or is_factor(msg):
            if msg["name"] == "x" != self.observed:
                raise InputError(
                    f"site 'x' {here()} is no data, and the data are '{self.observed}': the name is theirs here, call "
                    "it otherwise"
                )
            return
        if self.naming is not None:
            self.naming[msg["name"]] = _same(msg["value"], self.x)
        if msg["name"] == self.observed:
            msg["name"] = "x"
        if self.generating:
            msg["is_observed"], msg["value"], msg["done"] = False, None, False


def create(program: Callable[..., Any], adopted: Adopted, **own: Any) -> Program:
    """Makes a module of a program.

    Arguments:
        program: A function, a method, or anything else that is called with the data.
        adopted: Where model and guide of a run keep what they learn.
        own: Arguments of its own that it is given in each call.

    Returns:
        The module. Its class bears the program's name and module, by which messages call it.

    Raises:
        InputError: If it takes arguments that nobody gives it.
    """
    base = program
    while isinstance(base, partial):
        base = base.func
    base = getattr(base, "__func__", base)
    of = base if hasattr(base, "__qualname__") else type(program)
    name = getattr(of, "__qualname__", "program").rpartition("<locals>.")[2]
    kind = type(name, (Program,), {"__module__": getattr(of, "__module__", __name__), "__doc__": of.__doc__})
    module: Program = kind(adopted.own(partial(program, **own) if own else program), adopted)
    _, *others = _arguments(module)
    for argument in others:
        varies = argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
        if argument.name not in _GIVEN and argument.default is argument.empty and not varies:
            raise InputError(
                f"{name_of(module)} takes '{argument.name}', which a run does not know: give it a default, or name it "
                "label, covariates or observed"
            )
    return module


def _arguments(module: Program) -> list[inspect.Parameter]:
    found = [*signature(module).parameters.values()]
    if not found or found[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise InputError(f"{name_of(module)} takes no data: give it a first argument x")
    return found


def bind(model: nn.Module, guide: nn.Module | None, x: Tensor) -> None:
    """Runs the programs of a pair for the first time: they adopt their parameters, and their data get their name.

    Arguments:
        model: The generative model; a program, or a module that has one in it, or any other.
        guide: The recognition model; None where there is none.
        x: A few rows of data.

    Raises:
        InputError: If they cannot be run, or do not observe the data.
    """
    found = [
        part for each in (model, guide) if each is not None for part in each.modules() if isinstance(part, Program)
    ]
    if not found:
        return
    (adopted,) = {id(part.adopted): part.adopted for part in found}.values()
    adopted.book.device = x.device
    adopted.to(x.device)
    with _first_run(model, guide):
        _run(model, guide, x)
    adopted.close()
    for part in found:
        if part.sees.naming and any(part is each for each in model.modules()):
            part.sees.observed = _name_of_data(part, part.sees.naming)
        assert part.sees.x is not None  # it was run
        part.sees.naming, part.sees.x = None, part.sees.x[:1]
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), _first_run(model, guide):
        _run(model, guide, x[:2] if len(x) > 2 else x.repeat(2, 1))


def check_generation(model: nn.Module, x: Tensor) -> None:
    """Checks that what a program generates does not depend on the rows that stand in for data.

    Arguments:
        model: The generative model, a program or any other.
        x: A few rows of data.

    Raises:
        InputError: If it does.
    """
    found = []
    for part in [part for part in model.modules() if isinstance(part, Program) and not part.generates]:
        for stand_in in (1.0, 0.0):
            part.sees.stand_in = stand_in
            torch.manual_seed(0)
            with running(model, x):
                sites = sample_sites(poutine.trace(model).get_trace(None, size=2))
            found.append({name: site["value"] for name, site in sites.items()})
        for name, value in found[0].items():
            other = found[1].get(name)
            if other is None or value.shape != other.shape or not torch.allclose(value, other, equal_nan=True):
                raise InputError(
                    f"{name_of(part)} draws site '{name}' from the data that it is given, so that it cannot generate "
                    "any: let it depend on latent variables alone, or take an argument size, and generate where x is "
                    "None"
                )


@contextmanager
def _first_run(model: nn.Module, guide: nn.Module | None) -> Iterator[None]:
    """Lets parts run as they do when they learn, and leaves their modes and buffers as they were."""
    parts = [part for part in (model, guide) if part is not None]
    modes = [(module, module.training) for part in parts for module in part.modules()]
    buffers = [(buffer, buffer.clone()) for part in parts for buffer in part.buffers()]
    try:
        for module, _ in modes:
            module.training = True
        with isolated(), torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*was not registered in the param store")
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, old in buffers:
                buffer.copy_(old)


def _run(model: nn.Module, guide: nn.Module | None, x: Tensor) -> None:
    """Runs the guide and then the model, as SVI does."""
    replayed: Callable[..., Any] = model
    if guide is not None:
        with running(guide, x):
            replayed = poutine.replay(model, trace=poutine.trace(guide).get_trace(x))
    with running(model, x):
        replayed(x)


def _name_of_data(part: Program, naming: Mapping[str, bool]) -> str:
    """The program's name of the observed site that holds the data."""
    holds = [name for name, same in naming.items() if same]
    if "x" in holds or ("x" in naming and not holds):
        return "x"
    if not holds:
        raise InputError(
            f"{name_of(part)} observes {listed(naming)}, and none of it is the data as it is given them: sample a site "
            "with obs=x"
        )
    if "x" in naming:
        raise InputError(f"site 'x' of {name_of(part)} is not the data, and '{holds[0]}' is: exchange their names")
    return holds[0]


def _same(value: Any, x: Tensor | None) -> bool:
    """Whether an observed value is the data, in any shape and kind."""
    if not isinstance(value, Tensor) or x is None or value.numel() != x.numel():
        return False
    return torch.equal(value.detach().reshape(x.shape).to(x.dtype).nan_to_num(), x.nan_to_num())
