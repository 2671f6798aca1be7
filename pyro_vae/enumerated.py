r"""Discrete latent variables, summed out: what is left is exact in them.

A model marks a site by `infer={"enumerate": "parallel"}`, as for `pyro.infer.TraceEnum_ELBO`, and leaves it out of its
guide, or the guide marks it. Here programs run with such sites summed out (see `pyro_vae.sum_product`), or with them
drawn given all others.
"""

__all__ = ["Drawn", "conditioned", "draw", "one_by_one", "paired", "replayed", "sums_out"]

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import pyro
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_vae.plates import Place, is_countable, is_marked, look, nesting, particle_plate, traces
from pyro_vae.sites import joint_log_prob, latent_sites
from pyro_vae.sum_product import Posterior, Tables


def sums_out(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor) -> bool:
    """Whether a pair has sites that are summed out: its guide marks some, or lacks discrete ones of the model."""
    q, p = look(guide, x), look(model, x)
    return bool(q.marked or (p.marked | p.countable) - q.latent)


def paired(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, particles: int = 1) -> Tables:
    """Runs a pair with the guide's marked sites and the discrete ones that the model alone has summed out.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint.
    """
    first = -1 - nesting(x, guide, model) - (particles > 1)
    with particle_plate(particles, nesting(x, guide, model)):
        guide_trace = poutine.trace(EnumMessenger(first)(_marked(guide))).get_trace(x)
        # As in TraceEnum_ELBO: the model's dimensions go on where the guide's end.
        model_trace = _replayed(model, guide_trace, x, EnumMessenger())
    return Tables(model_trace, guide_trace, particles, len(x))


def replayed(model: Callable[..., Any], guide: Callable[..., Any], drawn: Trace, x: Tensor, particles: int) -> Tables:
    """Runs a model at what its guide has drawn, with the discrete sites that the model alone has summed out.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        drawn: The trace of the guide, in a plate of draws where there are several.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint.
    """
    first = -1 - nesting(x, guide, model) - (particles > 1)
    with particle_plate(particles, nesting(x, guide, model)):
        model_trace = _replayed(model, drawn, x, EnumMessenger(first))
    return Tables(model_trace, drawn, particles, len(x))


def one_by_one(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Looks up one value of each summed site in a run that holds them all, and runs the pair at these values alone.

    Returns:
        :math:`\log p - \log q` from both, with shape `(1, datapoints)`: they are the same where a program is right.
    """
    tables = paired(model, guide, x)
    values, found = tables.at_random()
    model_trace, guide_trace = (poutine.trace(poutine.condition(part, values)).get_trace(x) for part in (model, guide))
    return found, tables.density(model_trace, guide_trace)


def _replayed(model: Callable[..., Any], drawn: Trace, x: Tensor, summing: EnumMessenger) -> Trace:
    marked = summing(_marked(model, every=True, but=latent_sites(drawn).keys()))
    return poutine.trace(poutine.replay(marked, trace=drawn)).get_trace(x)


class Drawn(NamedTuple):
    """Draws of all latent variables of a pair, with log densities in nats, of shape `(particles, datapoints)`.

    Arguments:
        model_trace: The trace of the model. Discrete sites that it alone has are drawn given all others and x.
        guide_trace: The trace of the guide.
        log_p: :math:`\\log p(x, z)` of what the guide draws, with such sites summed out.
        log_q: :math:`\\log q(z | x)`.
        posteriors: What is known of such sites, given the others and x.
    """

    model_trace: Trace
    guide_trace: Trace
    log_p: Tensor
    log_q: Tensor
    posteriors: dict[str, Posterior]


def draw(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, particles: int = 1) -> Drawn:
    """Draws all latent variables of a pair.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint.
    """
    if not (look(model, x).countable - look(guide, x).latent):
        model_trace, guide_trace = traces(model, guide, x, particles)
        log_p, log_q = (joint_log_prob(trace).expand(particles, len(x)) for trace in (model_trace, guide_trace))
        return Drawn(model_trace, guide_trace, log_p, log_q, {})
    with particle_plate(particles, nesting(x, guide, model)):
        guide_trace = poutine.trace(guide).get_trace(x)
    tables = replayed(model, guide, guide_trace, x, particles)
    posteriors, whole = tables.posteriors(), guide_trace.copy()
    for name, site in tables.sites.items():
        place = Place.of(site, nesting(x, guide, model))
        value = place.in_plates(posteriors[name].values)
        value = value if particles > 1 else value.squeeze(0)
        whole.add_node(name, **{**site, "value": value, "infer": {}})
    with particle_plate(particles, nesting(x, guide, model)):
        model_trace = poutine.trace(poutine.replay(model, trace=whole)).get_trace(x)
    return Drawn(model_trace, guide_trace, tables.log_p(), tables.log_q(), posteriors)


def conditioned(
    model: Callable[..., Any], latents: Mapping[str, Tensor], x: Tensor, chains: int | None = None
) -> Tables:
    """Runs a model at given latent variables, with all other discrete ones summed out, whether they are marked or not.

    Arguments:
        model: The generative model.
        latents: Latent variables by site, with the shapes that the model gives them.
        x: The data, with shape `(datapoints, features)`.
        chains: How many of them there are of each datapoint, in a plate on the left; None is one, and no plate.
    """
    first = -1 - look(model, x).nesting
    plate: AbstractContextManager[Any] = nullcontext()
    if chains is not None:
        plate = pyro.plate("chains", chains, dim=first)
    given = poutine.condition(model, dict(latents))
    with plate, EnumMessenger(first - (chains is not None)):
        trace = poutine.trace(_marked(given, every=True)).get_trace(x)
    return Tables(trace, None, chains or 1, len(x))


def _marked(part: Callable[..., Any], every: bool = False, but: Collection[str] = ()) -> Callable[..., Any]:
    """A part whose marked sites are summed out under `EnumMessenger`, and every discrete one where that is asked.

    What is marked to be summed out in sequence is summed out in parallel: the sum is the same.
    """

    def config(site: Any) -> Any:
        chosen = site["type"] == "sample" and (is_marked(site) or (every and is_countable(site)))
        return {"enumerate": "parallel" if chosen and site["name"] not in but else None}

    configured: Callable[..., Any] = poutine.infer_config(part, config)
    return configured
