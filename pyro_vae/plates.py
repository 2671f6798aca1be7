"""The plates of a Pyro program: runs with several draws at once, and which sites are summed out of them."""

__all__ = ["Place", "Structure", "is_countable", "is_marked", "look", "nesting", "particle_plate", "traces"]

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.python_state import Watch
from pyro_vae.sites import Site, evaluation_mode, global_sites, isolated, latent_sites, sample_sites


class Structure(NamedTuple):
    """What is to be known of a model or a guide before it runs with several draws, or with sites summed out.

    Arguments:
        nesting: How many dimensions its plates take: 1 where there is no plate inside that of the datapoints.
        latent: Its latent sites.
        marked: Those of them that are marked to be summed out, `infer={"enumerate": "parallel"}`.
        countable: Those whose values can be counted.
        shared: The global latent sites, which all datapoints have in common.
    """

    nesting: int = 1
    latent: frozenset[str] = frozenset()
    marked: frozenset[str] = frozenset()
    countable: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()


_structures: WeakKeyDictionary[Any, Structure] = WeakKeyDictionary()


def look(part: Callable[..., Any], x: Tensor) -> Structure:
    """Runs a model or a guide when it is first met, and changes nothing by it.

    Arguments:
        part: A module or a function.
        x: Datapoints, with shape `(datapoints, features)`.
    """
    owner = _owner(part)
    if (known := _structures.get(owner)) is not None:
        return known
    watch = Watch([owner])
    buffers = [(b, b.clone()) for b in owner.buffers()] if isinstance(owner, nn.Module) else []
    with seeded(0, x.device), isolated(), evaluation_mode(part), torch.no_grad():
        trace = poutine.trace(part).get_trace(x)
        for buffer, old in buffers:
            buffer.copy_(old)
    watch.restore()
    frames = [f for site in sample_sites(trace).values() for f in site["cond_indep_stack"] if f.vectorized]
    latent = latent_sites(trace)
    marked, countable = (
        frozenset(name for name, site in latent.items() if is_one(site)) for is_one in (is_marked, is_countable)
    )
    shared = frozenset(name for name, site in global_sites(trace).items() if not site["infer"].get("is_auxiliary"))
    _structures[owner] = found = Structure(
        max([1, *(-f.dim for f in frames)]), frozenset(latent), marked, countable, shared
    )
    return found


def _owner(part: Any) -> Any:
    """The module behind a method, also where some of its arguments are given, else the part itself."""
    return getattr(part.func if isinstance(part, partial) else part, "__self__", part)


def nesting(x: Tensor, *parts: Callable[..., Any]) -> int:
    """Returns how many dimensions the plates of programs take that run together."""
    return max(look(part, x).nesting for part in parts)


def is_marked(site: Site) -> bool:
    """Whether a site is marked to be summed out; one of several local draws (`num_samples`) is not."""
    return site["infer"].get("enumerate") in ("parallel", "sequential") and not site["infer"].get("num_samples")


def is_countable(site: Site) -> bool:
    """Whether the values of a site can be counted."""
    return bool(getattr(site["fn"], "has_enumerate_support", False))


def particle_plate(particles: int, nesting: int = 1) -> AbstractContextManager[Any]:
    """A plate of draws on the left of `"data"` and of the plates inside it; none where there is one draw."""
    return pyro.plate("particles", particles, dim=-1 - nesting) if particles > 1 else nullcontext()


def traces(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, particles: int = 1) -> tuple[Trace, Trace]:
    """Runs the guide on x, then the model on x with the guide's latent variables. Nothing is summed out.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint. More than one lie in a plate on the left of all others.

    Returns:
        The traces of model and guide.

    Raises:
        InputError: If several draws are wanted of a pair with global latent variables, of which one serves all rows.
    """
    if particles > 1 and (names := look(guide, x).shared | look(model, x).shared):
        raise InputError(
            f"site '{min(names)}' is global, and this draws for each datapoint alone: ask evaluate for bound and "
            "log p(x), and sample for draws"
        )
    with particle_plate(particles, nesting(x, guide, model) if particles > 1 else 1):
        guide_trace = poutine.trace(guide).get_trace(x)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x)
    return model_trace, guide_trace


class Place(NamedTuple):
    """Where the values of a site lie: a program has plates as dimensions, and all else has datapoints first.

    Arguments:
        inner: The sizes of the plates inside that of the datapoints which the site is in, by their dimensions.
        nesting: How many dimensions the plates of the program take.
        event_dim: How many dimensions a value has.
    """

    inner: dict[int, int]
    nesting: int
    event_dim: int

    @classmethod
    def of(cls, site: Site, nesting: int) -> "Place":
        """Finds the place of a site."""
        frames = [f for f in site["cond_indep_stack"] if f.vectorized and -nesting <= f.dim < -1]
        return cls({f.dim: f.size for f in sorted(frames, key=lambda f: f.dim)}, nesting, site["fn"].event_dim)

    def by_datapoint(self, value: Tensor, draws: int, datapoints: int) -> Tensor:
        """Brings values to the shape `(draws, datapoints, plates inside..., event...)`."""
        event = value.shape[value.dim() - self.event_dim :]
        value = value.expand(draws, *self._sizes, datapoints, *event).reshape(
            draws, *self.inner.values(), datapoints, *event
        )
        return value.movedim(1 + len(self.inner), 1)

    def in_plates(self, value: Tensor) -> Tensor:
        """Brings them back to the shape `(draws, plates inside..., datapoints, event...)`."""
        value = value.movedim(1, 1 + len(self.inner))
        return value.reshape(len(value), *self._sizes, *value.shape[1 + len(self.inner) :])

    @property
    def _sizes(self) -> list[int]:
        return [self.inner.get(dim, 1) for dim in range(-self.nesting, -1)]
