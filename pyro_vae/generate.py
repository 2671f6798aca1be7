"""What a model makes of latent variables from the prior, from the guide, or given: means of p(x | z), and data."""

__all__ = ["at", "prior_means", "reconstructions", "simulate_data", "unit_square"]

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from torch import Tensor, nn

from pyro_vae.enumerated import draw
from pyro_vae.errors import InputError, told
from pyro_vae.local import fit_gaussian
from pyro_vae.sites import evaluation_mode, is_factor, isolated, sample_sites


def _drawing(model: Callable[..., Any]) -> AbstractContextManager[None]:
    return told(f"drawing from {getattr(model, '__qualname__', type(model).__name__)}")


def _observed_mean(trace: Trace) -> Tensor:
    likelihood = sample_sites(trace)["x"]["fn"]
    try:
        return likelihood.mean
    except NotImplementedError as error:
        raise InputError(
            f"a picture needs a likelihood with a mean, and {type(likelihood).__name__} has none"
        ) from error


@torch.no_grad()
def prior_means(model: Callable[..., Any], size: int) -> Tensor:
    """Returns means of p(x | z) for draws z from the prior, with shape `(size, features)` (Figure 5)."""
    with _drawing(model), isolated(), evaluation_mode(model):
        return _observed_mean(poutine.trace(model).get_trace(None, size=size))


@torch.no_grad()
def reconstructions(model: nn.Module, guide: nn.Module | None, x: Tensor) -> Tensor:
    """Returns means of p(x | z) for draws z from q(z | x), with the shape of x, `(datapoints, features)`.

    Without a guide, q is a Gaussian fitted to the posterior of each datapoint.
    """
    with _drawing(model), isolated(), evaluation_mode(model, guide):
        q = fit_gaussian(model, x) if guide is None else guide
        return _observed_mean(draw(model, q, x).model_trace)


@torch.no_grad()
def at(model: Callable[..., Any], latents: dict[str, Tensor]) -> Tensor:
    """Returns means of p(x | z) at given latent variables.

    Arguments:
        model: The generative model.
        latents: Values by site, with shape `(size, ...)`.

    Returns:
        The means, with shape `(size, features)`.
    """
    size = len(next(iter(latents.values())))
    with _drawing(model), isolated(), evaluation_mode(model):
        return _observed_mean(poutine.trace(poutine.condition(model, latents)).get_trace(None, size=size))


class _Unobserved(UnconditionMessenger):
    """Draws what is observed anew, but leaves alone what only looks like data: `pyro.deterministic` and `factor`."""

    def _pyro_sample(self, msg: Any) -> None:
        if not (msg["infer"].get("_deterministic") or is_factor(msg)):
            super()._pyro_sample(msg)


def simulate_data(model: Callable[..., Any], x: Tensor, latents: Mapping[str, Tensor] | None = None) -> Trace:
    """Runs a model on the shape of x with its data drawn anew; such sites have `was_observed` in their `infer`.

    Arguments:
        model: The generative model.
        x: The data, of which only the shape matters.
        latents: The latent sites; drawn from the prior if omitted.
    """
    return poutine.trace(poutine.condition(_Unobserved()(model), dict(latents or {}))).get_trace(x)


@torch.no_grad()
def unit_square(model: Callable[..., Any], side: int) -> dict[str, Tensor]:
    """Maps a grid on the unit square through the prior's inverse CDF (Appendix A, Figure 4).

    The paper does not say where its grid ends; 0 and 1 lie at infinity, so these are midpoints of equal cells.

    Arguments:
        model: A generative model with a single latent site of two dimensions.
        side: The number of grid points along each dimension.

    Returns:
        The latent variables by site, with shape `(side * side, 2)`, row by row from the top.

    Raises:
        InputError: If the model has other latent sites, or a prior without an inverse CDF.
    """
    with _drawing(model), isolated(), evaluation_mode(model):
        sites = sample_sites(poutine.trace(model).get_trace(None, size=1))
    latent = {name: site for name, site in sites.items() if name != "x"}
    shapes = {name: tuple(site["fn"].event_shape) for name, site in latent.items()}
    if list(shapes.values()) != [(2,)]:
        raise InputError(
            f"a manifold needs one latent site of 2 dimensions, not {shapes}: train with --latent 2, or draw samples"
        )
    ((name, site),) = latent.items()
    u = (torch.arange(side, device=site["value"].device) + 0.5) / side
    points = torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1).reshape(-1, 2)
    base = site["fn"]
    while isinstance(base, dist.Independent | dist.ExpandedDistribution):
        base = base.base_dist
    try:
        return {name: base.icdf(points)}
    except NotImplementedError as error:
        raise InputError(
            f"a manifold needs a prior with an inverse CDF, and {type(base).__name__} has none: draw samples"
        ) from error
