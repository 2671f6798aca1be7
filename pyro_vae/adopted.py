"""What Pyro programs learn outside of the engine's modules, made the run's own.

Pyro keeps the tensors of `pyro.param` and `pyro.module` in one store of the process. A run has a module for them
instead: its tensors are saved and resumed with it, and the traced step finds them as it finds all others.
"""

__all__ = ["Adopted"]

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import transform_to

from pyro_vae.errors import InputError, here
from pyro_vae.renewal import Renewal

_OF_A_NET = "$$$"  # what Pyro puts between the names of a net and of its parameter


@dataclass
class _Book:
    """What is known of the parameters by their names in Pyro, beside their values.

    Arguments:
        keys: Their names in the module that keeps them.
        constraints: Where their values lie.
        of_nets: The names of those that `pyro.module` has named, in the module that keeps the nets.
        renewal: What copies nets for the run.
        live: The names of the nets' tensors by their numbers, as long as a program runs.
        whole: The nets of which all learns, named by `pyro.module` or not.
        is_open: Whether parameters may be adopted.
        device: Where they lie.
    """

    keys: dict[str, str] = field(default_factory=dict)
    constraints: dict[str, Any] = field(default_factory=dict)
    of_nets: dict[str, str] = field(default_factory=dict)
    renewal: Renewal = field(default_factory=Renewal)
    live: dict[int, str] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    is_open: bool = True
    device: torch.device | None = None


class Adopted(nn.Module):
    """Creates a store of parameters and nets for the programs of one run, model and guide alike.

    Attributes:
        params: The parameters of `pyro.param`, unconstrained, by their names.
        nets: The nets.
    """

    def __init__(self) -> None:
        super().__init__()
        self.params, self.nets = nn.Module(), nn.Module()
        self.book = _Book()

    def own(self, program: Any) -> Any:
        """Returns a program anew, with nets that are this run's alone, and keeps these; see `pyro_vae.renewal`.

        Raises:
            InputError: If a net cannot be copied.
        """
        renewed = self.book.renewal(program, type(program).__name__)
        while self.book.renewal.nets:
            self.keep(*self.book.renewal.nets.pop(0), whole=renewed)
        return renewed

    def keep(self, name: str, net: nn.Module, whole: object = None) -> None:
        """Keeps a net that is this run's alone.

        Arguments:
            name: Its name.
            net: The net.
            whole: A net of which all parameters learn, whether a program names them or not.
        """
        key = _free(self.nets, name)
        self.book.renewal.keep(net)
        self.nets.add_module(key, net)
        if net is whole:
            self.book.whole.add(f"{key}.")

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Lets programs ask for parameters inside the block."""
        before = self.book.live
        self.book.live = {id(tensor): name for name, tensor in self.nets.named_parameters()}
        try:
            yield
        finally:
            self.book.live = before

    def value(self, name: str, init: Any, constraint: Any) -> Tensor:
        """Returns the value of a parameter that a program asks Pyro for, and adopts it where it is a new one.

        Arguments:
            name: Its name.
            init: Its first value, a function that returns it, or None.
            constraint: Where its values lie.

        Raises:
            InputError: If it is a new one after the first run, has no first value or another shape than the adopted
                one, or belongs to a net that is not kept.
        """
        if isinstance(init, Tensor) and id(init) in self.book.live:
            return self._of_net(name, init, init)
        if name in self.book.keys:
            return self._own(name, init)
        store = pyro.get_param_store()
        if init is None and name in store:  # a PyroParam puts itself there
            value = store[name]
            return self._of_net(name, value.unconstrained(), value)  # type: ignore[attr-defined]
        if init is None:
            raise InputError(
                f"pyro.param '{name}' {here()} has no first value: give it one where it is first asked for"
            )
        if not self.book.is_open:
            raise InputError(
                f"pyro.param '{name}' {here()} appears only after the first run, and the run's parameters are known by "
                "then: ask for it in each call, used or not"
            )
        if _OF_A_NET in name and isinstance(init, nn.Parameter):
            net = name.partition(_OF_A_NET)[0]
            raise InputError(
                f"pyro.module '{net}' {here()} is given a net that is made in the call: make it once, outside of the "
                "function or in the constructor of a class"
            )
        self._adopt(name, init() if callable(init) and not isinstance(init, Tensor) else init, constraint)
        return self._own(name, None)

    def close(self) -> None:
        """Ends the adoption: what is new from here on is refused, and parts of nets that Pyro has not named rest."""
        self.book.is_open = False
        own = {id(parameter): name for name, parameter in self.nets.named_parameters()}
        for name, key in [*self.book.keys.items()]:
            if net := own.get(
                id(getattr(self.params, key))
            ):  # one that a net, an autoguide, has made in its first call
                self.book.of_nets[name] = net
                del self.book.keys[name], self.book.constraints[name]
                delattr(self.params, key)
        named = {*self.book.of_nets.values()}
        for name, parameter in self.nets.named_parameters():
            if name not in named and not name.startswith(tuple(self.book.whole)):
                parameter.requires_grad_(False)

    def _of_net(self, name: str, own: Tensor, value: Tensor) -> Tensor:
        known = self.book.live.get(id(own))
        if known is not None and self.book.of_nets.setdefault(name, known) != known:
            raise InputError(
                f"pyro.param '{name}' {here()} stands for two tensors, '{self.book.of_nets[name]}' and '{known}', of "
                "which Pyro trains one: give each net a name of its own"
            )
        return value

    def _own(self, name: str, init: Any) -> Tensor:
        unconstrained = getattr(self.params, self.book.keys[name])
        value: Tensor = transform_to(self.book.constraints[name])(unconstrained)
        if isinstance(init, Tensor) and init.shape != value.shape:
            raise InputError(
                f"pyro.param '{name}' {here()} has shape {tuple(init.shape)}, and had {tuple(value.shape)} in the "
                "first run: make its shape independent of the number of datapoints, which differs"
            )
        value.unconstrained = weakref.ref(unconstrained)  # type: ignore[attr-defined]
        return value

    @torch.no_grad()
    def _adopt(self, name: str, init: Any, constraint: Any) -> None:
        if not isinstance(init, Tensor) or not init.is_floating_point():
            kind = init.dtype if isinstance(init, Tensor) else type(init).__name__
            raise InputError(
                f"pyro.param '{name}' {here()} starts from a value of {kind}, which cannot learn: give a tensor of "
                "real numbers"
            )
        if not bool(constraint.check(init).all()):
            raise InputError(
                f"pyro.param '{name}' {here()} starts from a value outside of its constraint {constraint}: give one "
                "inside"
            )
        start = transform_to(constraint).inv(init.detach()).to(self.book.device)
        key = self.book.keys[name] = _free(self.params, name)
        self.book.constraints[name] = constraint
        self.params.register_parameter(key, nn.Parameter(start.contiguous().clone()))


def _free(module: nn.Module, name: str) -> str:
    """A name like the given one under which a module has nothing; none in torch has a dot in it."""
    key = name.replace(".", "/")
    while hasattr(module, key):
        key += "_"
    return key
