r"""Draws of a fixed pair: HMC on :math:`p(z | x)`, the guide, and data predicted from the prior or the posterior.

The sites of model and guide are found in their traces. Draws come back as NumPy arrays, so that those of hundreds of
datapoints take no more memory than they must.
"""

__all__ = ["Latents", "from_guide", "predict", "predict_prior", "walk", "whitened"]

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import constraints

from pyro_vae.elbo import ROWS
from pyro_vae.hmc import HMC
from pyro_vae.log_joint import LogJoint
from pyro_vae.sites import joint_log_prob, sample_sites, site_log_prob, traces

Latents = dict[str, NDArray[Any]]

# Draws of the guide that tell where the posterior may lie, and how wide it may be.
_PILOTS = 100

# A guide that is a point, or nearly so, must not stop the chains.
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
    pilots = log_joint.start(max(chains, _PILOTS), guide)
    loc, scale = pilots.mean(0), pilots.std(0).clamp(min=_NARROWEST)

    def density(position: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = log_joint.with_gradient(loc + scale * position)
        return value, gradient * scale

    def gradient(position: Tensor) -> Tensor:
        return log_joint.gradient(loc + scale * position) * scale

    start = (pilots[:chains] - loc) / scale
    kernel = HMC(density, start, step_size=0.3, leapfrogs=_LEAPFROGS, jitter=_JITTER, gradient=gradient)
    return kernel, loc, scale


def walk(
    model: Callable[..., Any],
    guide: Callable[..., Any] | None,
    x: Tensor,
    *,
    chains: int,
    draws: int,
    warmup: int,
    compile: bool,
    advance: Callable[[float], None],
) -> tuple[Latents, Latents, Latents]:
    """Draws from the posterior of each datapoint by HMC.

    Arguments:
        model: The generative model.
        guide: The recognition model, where the chains start; None starts them from the prior.
        x: The data, with the datapoints along its first dimension.
        chains: The number of chains of each datapoint.
        draws: The number of draws of each chain.
        warmup: The number of transitions before them.
        compile: Whether gradients are traced and compiled.
        advance: Called now and then with the share of the work done since the last call.

    Returns:
        The latent sites, the sampler's statistics, and the log likelihoods in nats by observed site. All have shape
        `(chains, draws, datapoints, ...)`.
    """
    latents: Latents = {}
    stats: Latents = {}
    likelihood: Latents = {}
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
            _put(latents, shape, at, values)
            _put(likelihood, shape, at, _log_likelihood(model, values, some))
            step = kernel.log_step.exp().expand(chains, -1)
            _put(
                stats,
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
    return latents, stats, likelihood


def from_guide(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, draws: int) -> tuple[Latents, Latents]:
    r"""Draws from the guide, in one chain of independent draws.

    Returns:
        The latent sites, and `log_p` and `log_q`, :math:`\log p(x, z)` and :math:`\log q(z | x)` in nats. All have
        shape `(1, draws, datapoints, ...)`.
    """
    latents: Latents = {}
    stats: Latents = {}
    shape = (1, draws, len(x))
    for part in _blocks(len(x), 1):
        some = x[part]
        for at in _blocks(draws, len(some)):
            count = at.stop - at.start
            model_trace, guide_trace = traces(model, guide, some, count)
            one = (count, len(some))
            values = {
                name: site["value"].expand(*one, *site["fn"].event_shape)
                for name, site in sample_sites(guide_trace).items()
                if not site["infer"].get("is_auxiliary")
            }
            _put(latents, shape, (0, at, part), values)
            logs = {"log_p": joint_log_prob(model_trace), "log_q": joint_log_prob(guide_trace)}
            _put(stats, shape, (0, at, part), {name: value.double().expand(one) for name, value in logs.items()})
    return latents, stats


def predict(model: Callable[..., Any], x: Tensor, latents: Mapping[str, NDArray[Any]]) -> tuple[Latents, Latents]:
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
    data: Latents = {}
    means: dict[str, Tensor] = {}
    for chain, draw in np.ndindex(chains, draws):
        values = {name: torch.from_numpy(value[chain, draw]).to(x.device) for name, value in latents.items()}
        trace = poutine.trace(poutine.condition(poutine.uncondition(model), values)).get_trace(x)
        sites = {name: site for name, site in sample_sites(trace).items() if name not in values}
        _put(data, (chains, draws, len(x)), (chain, draw), {name: _compact(site) for name, site in sites.items()})
        for name, site in sites.items():
            try:
                mean = site["fn"].mean
            except NotImplementedError:
                continue
            means[name] = means.get(name, torch.zeros_like(mean)) + mean / (chains * draws)
    return data, {name: mean.cpu().numpy() for name, mean in means.items()}


def predict_prior(model: Callable[..., Any], x: Tensor, draws: int) -> tuple[Latents, Latents]:
    """Draws latent variables and data from the prior.

    Returns:
        The latent and the observed sites, with shape `(1, draws, datapoints, ...)`.
    """
    latents: Latents = {}
    data: Latents = {}
    shape = (1, draws, len(x))
    for draw in range(draws):
        trace = poutine.trace(poutine.uncondition(model)).get_trace(x)
        for name, site in sample_sites(trace).items():
            # `uncondition` remembers which sites were observed.
            where = data if "was_observed" in site["infer"] else latents
            _put(where, shape, (0, draw), {name: _compact(site)})
    return latents, data


def _blocks(size: int, each: int) -> Iterator[slice]:
    """Cuts a range into slices of about as many rows as should go through the networks at once."""
    step = max(1, ROWS // each)
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def _put(into: Latents, shape: Sequence[int], at: Any, values: Mapping[str, Tensor]) -> None:
    """Puts values in their place in the arrays, which are made at the first of them."""
    for name, value in values.items():
        array = value.detach().cpu().numpy()
        if name not in into:
            event = array.shape[np.empty(shape, bool)[at].ndim :]
            into[name] = np.empty((*shape, *event), array.dtype)
        into[name][at] = array


def _log_likelihood(model: Callable[..., Any], latents: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    chains = len(next(iter(latents.values())))
    with pyro.plate("chains", chains, dim=-2):
        trace: Trace = poutine.trace(poutine.condition(model, latents)).get_trace(x)
    sites = sample_sites(trace)
    return {name: site_log_prob(site).double() for name, site in sites.items() if name not in latents}


def _compact(site: Mapping[str, Any]) -> Tensor:
    """The value of a site; pixels that are 0 or 1 are kept as bytes."""
    support = site["fn"].support
    binary = getattr(support, "base_constraint", support) is constraints.boolean
    value: Tensor = site["value"]
    return value.to(torch.uint8) if binary else value
