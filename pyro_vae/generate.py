"""What a model makes of latent variables from the prior, from the guide, or given: means of p(x | z), and data."""

__all__ = [
    "analogies",
    "at",
    "by_site",
    "latent_names",
    "prior_means",
    "prior_quantiles",
    "reconstructions",
    "simulate_data",
    "unit_square",
]

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
from pyro_vae.plates import is_countable
from pyro_vae.rows import generating
from pyro_vae.sites import evaluation_mode, is_factor, isolated, latent_sites, sample_sites


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
def by_site(model: Callable[..., Any], rows: Tensor) -> dict[str, Tensor]:
    """Gives numbers side by side to the latent sites of a model, in the order in which it samples them.

    Discrete ones are left out, and are drawn.

    Arguments:
        model: The generative model.
        rows: Values of all latent variables, with shape `(size, latents)`.

    Returns:
        The latent variables by site, with shape `(size, ...)`.

    Raises:
        InputError: If there are more or fewer of them than the model has, or one is not in its site's support.
    """
    sites = _latent(model, len(rows), countable=False)
    sizes = {name: site["fn"].event_shape.numel() for name, site in sites.items()}
    if rows.shape[1] != sum(sizes.values()):
        raise InputError(f"{rows.shape[1]} latent variables are given, and the model has {sum(sizes.values())}")
    found = {}
    for (name, site), values in zip(sites.items(), rows.split([*sizes.values()], dim=1), strict=True):
        found[name] = values.reshape(len(rows), *site["fn"].event_shape)
        if not bool(site["fn"].support.check(found[name]).all()):
            raise InputError(f"latent variables of {name} are outside of their support, {site['fn'].support}")
    return found


@torch.no_grad()
def prior_quantiles(model: Callable[..., Any], shares: Tensor, draws: int = 10_000) -> Tensor:
    """Estimates quantiles of the prior of each latent variable from draws, which every prior has.

    Arguments:
        model: The generative model.
        shares: The shares of the prior's mass below.
        draws: The number of draws.

    Returns:
        The quantiles, with shape `(shares, latents)`, latent variables in the order of `by_site`.
    """
    flat = [site["value"].reshape(draws, -1) for site in _latent(model, draws, countable=False).values()]
    values = torch.cat(flat, dim=1)
    return values.quantile(shares.to(values), dim=0)


def latent_names(model: Callable[..., Any]) -> list[str]:
    """Returns the names of a model's latent sites, in the order in which it samples them."""
    return [*_latent(model, 1)]


def _latent(model: Callable[..., Any], size: int, countable: bool = True) -> dict[str, Any]:
    """The latent sites of draws from the model, with those whose values can be counted or without."""
    with _drawing(model), isolated(), evaluation_mode(model):
        sites = sample_sites(poutine.trace(model).get_trace(None, size=size))
    return {name: site for name, site in sites.items() if name != "x" and (countable or not is_countable(site))}


@torch.no_grad()
def analogies(model: nn.Module, guide: nn.Module | None, x: Tensor, classes: int) -> Tensor:
    """Returns means of p(x | z, label) with the z of a datapoint and each of the classes.

    Discrete latent variables, such as a class that is not known, are what the label says of them.

    Arguments:
        model: A generative model that takes a label.
        guide: The recognition model; None fits a Gaussian to the posterior of each datapoint.
        x: The datapoints, with shape `(datapoints, features)`, or the rows of a data set.
        classes: The number of classes.

    Returns:
        The means, with shape `(classes, datapoints, features)`.

    Raises:
        InputError: If the model takes no label.
    """
    with _drawing(model), isolated(), evaluation_mode(model, guide):
        q = fit_gaussian(model, x) if guide is None else guide
        sites = latent_sites(poutine.trace(q).get_trace(x))
    kept = {name: site["value"] for name, site in sites.items() if not site["fn"].support.is_discrete}
    images = []
    for label in range(classes):
        with generating(model, label):
            images.append(at(model, kept))
    return torch.stack(images)


@torch.no_grad()
def unit_square(model: Callable[..., Any], side: int) -> dict[str, Tensor]:
    """Maps a grid on the unit square through the prior's inverse CDF (Appendix A, Figure 4).

    The paper does not say where its grid ends; 0 and 1 lie at infinity, so these are midpoints of equal cells.

    Arguments:
        model: A generative model with a single latent site of two dimensions, beside discrete ones.
        side: The number of grid points along each dimension.

    Returns:
        The latent variables by site, with shape `(side * side, 2)`, row by row from the top, the second one upwards.

    Raises:
        InputError: If the model has other latent sites, or a prior without an inverse CDF.
    """
    found = _latent(model, side * side)
    latent = {name: site for name, site in found.items() if not site["fn"].support.is_discrete}
    shapes = {name: tuple(site["fn"].event_shape) for name, site in latent.items()}
    if list(shapes.values()) != [(2,)]:
        raise InputError(
            f"a manifold needs one latent site of 2 dimensions, not {shapes}: train with --latent 2, or draw samples"
        )
    ((name, site),) = latent.items()
    u = (torch.arange(side, device=site["value"].device) + 0.5) / side
    points = torch.stack(torch.meshgrid(u, u.flip(0), indexing="xy"), dim=-1).reshape(-1, 2)
    base = site["fn"]
    while isinstance(base, dist.Independent | dist.ExpandedDistribution):
        base = base.base_dist
    try:
        medians = base.icdf(torch.full_like(points, 0.5))
        if not torch.equal(medians, medians[:1].expand_as(medians)):  # it depends on another latent site, or a label
            raise InputError(
                f"a manifold needs one prior for all datapoints, and that of '{name}' varies: draw samples"
            )
        return {name: base.icdf(points)}
    except NotImplementedError as error:
        raise InputError(
            f"a manifold needs a prior with an inverse CDF, and {type(base).__name__} has none: draw samples"
        ) from error
