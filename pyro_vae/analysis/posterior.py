r"""Draws of a fixed pair: HMC on :math:`p(z | x)`, the guide, and data predicted from the prior or the posterior.

The sites of model and guide are found in their traces. Draws come back as NumPy arrays, so that those of hundreds of
datapoints take no more memory than they must.
"""

__all__ = [
    "Arrays",
    "PosteriorDraws",
    "draw_posterior",
    "from_guide",
    "predict",
    "predict_prior",
    "require_bijections",
    "whitened",
]

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS
from pyro_vae.enumerated import draw as drawn
from pyro_vae.errors import InputError
from pyro_vae.generate import simulate_data
from pyro_vae.hmc import HMC
from pyro_vae.log_joint import LogJoint, bijection_to
from pyro_vae.plates import Place, nesting
from pyro_vae.sites import (
    Site,
    deterministic_sites,
    in_rows,
    latent_sites,
    observed_sites,
    sample_sites,
    site_log_prob,
)

Arrays = dict[str, NDArray[Any]]

# Draws of the guide that tell where the posterior may lie, and how wide it may be.
_PILOTS = 100

# A guide that is nearly a point must not stop the chains; one that is a point gives way to the prior.
_NARROWEST = 1e-3

# On the scale of the guide a posterior is nearly round, and short trajectories do. Measured on MNIST with 20 latents,
# 100 images, 4 x 200 draws, jitter 0.2: 5 steps give a median of 950 effective draws (362 at the quantile of 5 %) in
# 30 s, where on the scale of the prior 10 steps give 984 (221) in 57 s. In a round posterior all trajectories have one
# period: the wide jitter keeps them from coming back to where they began.
_LEAPFROGS, _JITTER = 5, 0.5


def whitened(log_joint: LogJoint, guide: Callable[..., Any] | None, chains: int) -> tuple[HMC, Tensor, Tensor]:
    """Starts chains from the guide, in coordinates in which it has mean 0 and standard deviation 1.

    Arguments:
        log_joint: The log joint of the datapoints.
        guide: The recognition model; None takes the prior in its place.
        chains: The number of chains of each datapoint.

    Returns:
        The chains, and the means and standard deviations, with shape `(datapoints, size)`, that take their positions
        back to the log_joint's.
    """
    # Without a guide the model itself draws: its latent sites come from the prior.
    pilots = log_joint.start(max(chains, _PILOTS), guide or log_joint.model)
    loc, scale = pilots.mean(0), pilots.std(0).clamp(min=_NARROWEST)

    def density(position: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = log_joint.with_gradient(loc + scale * position)
        return value, gradient * scale

    def gradient(position: Tensor) -> Tensor:
        return log_joint.gradient(loc + scale * position) * scale

    start = (pilots[:chains] - loc) / scale
    kernel = HMC(density, start, step_size=0.3, leapfrogs=_LEAPFROGS, jitter=_JITTER, gradient=gradient)
    return kernel, loc, scale


class PosteriorDraws(NamedTuple):
    """Draws of HMC, each array with shape `(chains, draws, datapoints, ...)`.

    Arguments:
        latents: The latent sites. Discrete ones are summed out while HMC moves the others, and then drawn given these.
        deterministic: The sites of `pyro.deterministic`, at these latent variables.
        stats: The sampler's statistics.
        likelihood: The log likelihoods in nats, by observed site.
        prior: The log priors in nats, by latent site, each given those that it depends on.
        probabilities: Those of each value of the discrete sites, given all other latent variables and x.
        supports: The values of the discrete sites, with shape `(values, ...)`.
    """

    latents: Arrays
    deterministic: Arrays
    stats: Arrays
    likelihood: Arrays
    prior: Arrays
    probabilities: Arrays
    supports: Arrays


def require_bijections(model: Callable[..., Any], name: str, x: Tensor) -> None:
    """Checks that HMC can move every latent site, at once and not after minutes.

    Arguments:
        model: The generative model.
        name: What to call it.
        x: A few datapoints.

    Raises:
        InputError: If a support has no bijection from the real line, as those of discrete sites and of spheres.
    """
    try:
        LogJoint(model, x)
    except Exception as error:  # a user's distribution may have no support at all
        for site, content in latent_sites(poutine.trace(model).get_trace(x)).items():
            support: Any = "unknown"
            try:
                bijection_to(support := content["fn"].support)
            except Exception:
                raise InputError(
                    f"HMC cannot move site '{site}' of {name}: no bijection leads from the real line to its support "
                    f"{support}; evaluate (bound and importance, where there is a guide), compare and sample remain"
                ) from error
        raise


def draw_posterior(
    model: Callable[..., Any],
    guide: Callable[..., Any] | None,
    x: Tensor,
    *,
    chains: int,
    draws: int,
    warmup: int,
    compile: bool,
    advance: Callable[[float], None],
) -> PosteriorDraws:
    """Draws from the posterior of each datapoint by HMC.

    Arguments:
        model: The generative model.
        guide: The recognition model, a density, where the chains start; None starts them from the prior.
        x: The data, with the datapoints along its first dimension.
        chains: The number of chains of each datapoint.
        draws: The number of draws of each chain.
        warmup: The number of transitions before them.
        compile: Whether gradients are traced and compiled.
        advance: Called now and then with the share of the work done since the last call.
    """
    found = PosteriorDraws({}, {}, {}, {}, {}, {}, {})
    events = _deterministic_events(model, x)
    shape = (chains, draws, len(x))
    shared = None
    for part in _blocks(len(x), chains):
        some = x[part]
        shared = shared or LogJoint(model, some, compile)
        kernel, loc, scale = whitened(log_joint := shared.on(some), guide, chains)
        share = len(some) / len(x) / (warmup + draws)
        kernel.warm_up(warmup, partial(advance, share))
        for draw in range(draws):
            transition = kernel.transition()
            values = log_joint.latents(loc + scale * kernel.position)
            at = (slice(None), draw, part)
            given = log_joint.in_plates(values)
            if log_joint.summed:
                tables = log_joint.tables(values)
                for name, posterior in tables.posteriors().items():
                    values[name] = posterior.values
                    given[name] = Place.of(tables.sites[name], log_joint.nesting).in_plates(posterior.values)
                    found.supports[name] = posterior.support.cpu().numpy()
                    _put(found.probabilities, shape, at, {name: posterior.probabilities})
            _put(found.latents, shape, at, values)
            with pyro.plate("chains", chains, dim=-1 - log_joint.nesting):
                trace = poutine.trace(poutine.condition(model, given)).get_trace(some)
            # The latent sites, which are conditioned on, look like observed ones.
            logs = {name: in_rows(site, site_log_prob(site)).double() for name, site in observed_sites(trace).items()}
            _put(found.likelihood, shape, at, {name: value for name, value in logs.items() if name not in values})
            _put(found.prior, shape, at, {name: logs[name] for name in values})
            _put(found.deterministic, shape, at, _deterministic(trace, events, (chains, len(some))))
            step = kernel.log_step.exp().expand(chains, -1)
            _put(
                found.stats,
                shape,
                at,
                {
                    "lp": kernel.value,
                    "energy": transition.energy,
                    "acceptance_rate": transition.acceptance,
                    "diverging": transition.divergent,
                    "step_size": step,
                },
            )
            advance(share)
    return found


def from_guide(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, draws: int) -> tuple[Arrays, Arrays]:
    r"""Draws from the guide, in one chain of independent draws.

    Returns:
        The latent sites, and `log_p` and `log_q`, :math:`\log p(x, z)` and :math:`\log q(z | x)` in nats, that of
        auxiliary sites included. All have shape `(1, draws, datapoints, ...)`. Discrete sites that the guide lacks are
        no draws of it, and are summed out of `log_p`.
    """
    latents: Arrays = {}
    stats: Arrays = {}
    shape = (1, draws, len(x))
    for part in _blocks(len(x), 1):
        some = x[part]
        for at in _blocks(draws, len(some)):
            count = at.stop - at.start
            _, guide_trace, log_p, log_q, _ = drawn(model, guide, some, count)
            plates = nesting(some, model, guide)
            values = {
                name: Place.of(site, plates).by_datapoint(site["value"], count, len(some))
                for name, site in latent_sites(guide_trace).items()
            }
            _put(latents, shape, (0, at, part), values)
            _put(stats, shape, (0, at, part), {"log_p": log_p.double(), "log_q": log_q.double()})
    return latents, stats


def predict(model: Callable[..., Any], x: Tensor, latents: Mapping[str, NDArray[Any]]) -> tuple[Arrays, Arrays]:
    r"""Draws data from :math:`p(x | z)`, one set for each draw of the latent variables.

    Arguments:
        model: The generative model.
        x: The data, of which only the shape matters.
        latents: The latent sites, with shape `(chains, draws, datapoints, ...)`.

    Returns:
        The observed sites, with that shape, and the means of :math:`E[x | z]` over the draws, with shape
        `(datapoints, ...)`; none of a likelihood without a mean.
    """
    chains, draws = next(iter(latents.values())).shape[:2]
    data: Arrays = {}
    means: dict[str, Tensor] = {}
    places = _places(model, x)
    for chain, draw in np.ndindex(chains, draws):
        rows = {name: torch.from_numpy(value[chain, draw]).to(x.device) for name, value in latents.items()}
        values = {name: places[name].in_plates(value.unsqueeze(0)).squeeze(0) for name, value in rows.items()}
        sites = _data(simulate_data(model, x, values))
        _put(data, (chains, draws, len(x)), (chain, draw), {name: _compact(site) for name, site in sites.items()})
        for name, site in sites.items():
            try:
                mean = site["fn"].mean
            except NotImplementedError:
                continue
            means[name] = means.get(name, torch.zeros_like(mean)) + mean / (chains * draws)
    return data, {name: mean.cpu().numpy() for name, mean in means.items()}


def predict_prior(model: Callable[..., Any], x: Tensor, draws: int) -> tuple[Arrays, Arrays, Arrays]:
    """Draws latent variables and data from the prior.

    Returns:
        The latent sites, the deterministic ones and the observed ones, with shape `(1, draws, datapoints, ...)`.
    """
    latents: Arrays = {}
    deterministic: Arrays = {}
    data: Arrays = {}
    shape = (1, draws, len(x))
    events, places = _deterministic_events(model, x), _places(model, x)
    for draw in range(draws):
        trace = simulate_data(model, x)
        drawn = _data(trace)
        z = {name: site["value"] for name, site in latent_sites(trace).items() if name not in drawn}
        rows = {name: places[name].by_datapoint(value, 1, len(x)).squeeze(0) for name, value in z.items()}
        _put(latents, shape, (0, draw), rows)
        _put(deterministic, shape, (slice(None), draw), _deterministic(trace, events, (1, len(x))))
        _put(data, shape, (0, draw), {name: _compact(site) for name, site in drawn.items()})
    return latents, deterministic, data


def _places(model: Callable[..., Any], x: Tensor) -> dict[str, Place]:
    with seeded(0, x.device):
        latent = latent_sites(poutine.trace(model).get_trace(x))
    return {name: Place.of(site, nesting(x, model)) for name, site in latent.items()}


def _data(trace: Trace) -> dict[str, Site]:
    """The sites of `simulate_data` that are data."""
    return {name: site for name, site in sample_sites(trace).items() if "was_observed" in site["infer"]}


def _deterministic_events(model: Callable[..., Any], x: Tensor) -> dict[str, Size]:
    """The shape of each deterministic site for one datapoint, told from one and from two of them.

    A value that does not grow with the data belongs to all datapoints alike.
    """
    one, two = (
        {name: site["value"].shape for name, site in deterministic_sites(poutine.trace(model).get_trace(some)).items()}
        for some in (x[:1], torch.cat([x[:1], x[:1]]))
    )
    return {name: shape if shape == two[name] else shape[1:] for name, shape in one.items()}


def _deterministic(trace: Trace, events: Mapping[str, Size], shape: tuple[int, int]) -> dict[str, Tensor]:
    """The values of the deterministic sites, with shape `(chains, datapoints, ...)` where they are less, too."""
    values = {}
    for name, site in deterministic_sites(trace).items():
        value, missing = site["value"], 2 + len(events[name]) - site["value"].dim()
        values[name] = value.reshape((1,) * missing + value.shape).expand(*shape, *events[name])
    return values


def _blocks(size: int, each: int) -> Iterator[slice]:
    """Cuts a range into slices of about as many rows as should go through the networks at once."""
    step = max(1, ROWS // each)
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def _put(into: Arrays, shape: Sequence[int], at: Any, values: Mapping[str, Tensor]) -> None:
    """Puts values in their place in the arrays, which are made at the first of them."""
    for name, value in values.items():
        array = value.detach().cpu().numpy()
        if name not in into:
            event = array.shape[np.empty(shape, bool)[at].ndim :]
            into[name] = np.empty((*shape, *event), array.dtype)
        into[name][at] = array


def _compact(site: Mapping[str, Any]) -> Tensor:
    """The value of a site; pixels that are 0 or 1 are kept as bytes."""
    support = site["fn"].support
    binary = getattr(support, "base_constraint", support) is constraints.boolean
    value: Tensor = site["value"]
    return value.to(torch.uint8) if binary else value
