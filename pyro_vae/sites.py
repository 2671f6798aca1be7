"""Pyro traces as the engine reads them: the sites of a model and its guide, and their log densities per datapoint."""

__all__ = [
    "OWN",
    "Site",
    "deterministic_sites",
    "evaluation_mode",
    "global_sites",
    "in_rows",
    "innermost",
    "is_factor",
    "isolated",
    "joint_log_prob",
    "latent_sites",
    "observed_sites",
    "point_sites",
    "sample_sites",
    "site_log_prob",
    "weighted_sites",
]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta, ExpandedDistribution, Independent, MaskedDistribution, Unit
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

Site = dict[str, Any]

# The engine's own plates, left of all of a program's.
OWN = ("particles", "chains")


@contextmanager
def isolated(validate: bool = False) -> Iterator[None]:
    """Runs Pyro code apart from the global parameter store, which keeps the first tensor of a name.

    Arguments:
        validate: Whether distributions check their arguments and values, each a read from the device.
    """
    with pyro.get_param_store().scope(), pyro.validation_enabled(validate):
        yield


@contextmanager
def evaluation_mode(*modules: Any) -> Iterator[None]:
    """Puts modules into evaluation mode, so that looking at them changes nothing (batch norm, dropout)."""
    owners = (getattr(module, "__self__", module) for module in modules)  # of a method, such as one that draws weights
    training = [(part, part.training) for m in owners if isinstance(m, nn.Module) for part in m.modules()]
    try:
        for part, _ in training:
            part.training = False
        yield
    finally:
        for part, mode in training:
            part.training = mode


def sample_sites(trace: Trace) -> dict[str, Site]:
    """Returns the sites of a trace that have a log density, by name: latent, auxiliary and observed ones, and factors.

    Plates and `pyro.deterministic`, which are sample sites to Pyro, are none. Neither are `global_sites`, which no
    datapoint has a density of.
    """
    return {name: site for name, site in _drawn_sites(trace).items() if not _is_global(site)}


def global_sites(trace: Trace) -> dict[str, Site]:
    """Returns the latent and auxiliary sites of a trace that lie in no plate and are one event, by name."""
    return {name: site for name, site in _drawn_sites(trace).items() if _is_global(site)}


def _drawn_sites(trace: Trace) -> dict[str, Site]:
    nodes: Mapping[str, Any] = trace.nodes
    return {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample"
        and not poutine.util.site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    }


def _is_global(site: Site) -> bool:
    if site["is_observed"] or is_factor(site) or any(frame.vectorized for frame in site["cond_indep_stack"]):
        return False
    return not site["fn"].batch_shape


def latent_sites(trace: Trace) -> dict[str, Site]:
    """Returns the latent sites of a trace by name, without a guide's auxiliary ones."""
    return {
        name: site
        for name, site in sample_sites(trace).items()
        if not site["is_observed"] and not site["infer"].get("is_auxiliary")
    }


def observed_sites(trace: Trace) -> dict[str, Site]:
    """Returns the sites of a trace that hold data, by name; `pyro.factor` makes no such site."""
    return {name: site for name, site in sample_sites(trace).items() if site["is_observed"] and not is_factor(site)}


def deterministic_sites(trace: Trace) -> dict[str, Site]:
    """Returns the `pyro.deterministic` sites of a trace by name."""
    nodes: Mapping[str, Any] = trace.nodes
    return {
        name: site for name, site in nodes.items() if site["type"] == "sample" and site["infer"].get("_deterministic")
    }


def is_factor(site: Site) -> bool:
    """Whether a site is a `pyro.factor`: it has a log density and no value."""
    return isinstance(innermost(site["fn"]), Unit)


def point_sites(guide_trace: Trace) -> list[str]:
    """Returns the latent sites at which a guide is a point and no density, as for MAP estimates.

    A `Delta` that is a function of auxiliary draws, as Pyro's autoguides write it, stands for the density of those.
    """
    if any(site["infer"].get("is_auxiliary") and not is_factor(site) for site in sample_sites(guide_trace).values()):
        return []
    return [name for name, site in latent_sites(guide_trace).items() if isinstance(innermost(site["fn"]), Delta)]


def weighted_sites(trace: Trace) -> list[str]:
    """Returns the sites whose log density counts other than once, by `poutine.scale` or a subsampling plate."""
    return [name for name, site in sample_sites(trace).items() if not bool(torch.as_tensor(site["scale"] == 1.0).all())]


def site_log_prob(site: Site, scaled: bool = False) -> Tensor:
    """Returns the log density of a site's value, masked, in nats.

    Arguments:
        site: The site.
        scaled: Whether it is weighted by the scales around it. They belong to what training minimises (`poutine.scale`,
            KL warm-up, subsampling plates), and never to what is reported as a bound or as log p(x).
    """
    return scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"] if scaled else 1.0, site["mask"])


def in_rows(site: Site, log_prob: Tensor) -> Tensor:
    """Adds up what plates inside that of the datapoints hold.

    Arguments:
        site: The site.
        log_prob: Its log density, with the shape of its plates.

    Returns:
        The log density, with shape `(datapoints,)`, or `(draws, datapoints)`, where `draws` may be 1.
    """
    frames = [f for f in site["cond_indep_stack"] if f.vectorized and f.name not in OWN and f.dim < -1]
    inner = [f.dim for f in frames if -f.dim <= log_prob.dim()]
    total = log_prob.sum(inner, keepdim=True) if inner else log_prob
    return total.flatten(0, -2) if total.dim() > 2 else total


def joint_log_prob(trace: Trace, scaled: bool = False) -> Tensor:
    """Sums the log densities of all sample sites of a trace, in nats, with shape `(draws, datapoints)`, or less."""
    sites = sample_sites(trace).values()
    return torch.as_tensor(sum(in_rows(site, site_log_prob(site, scaled)) for site in sites))


def innermost(distribution: Any) -> Any:
    """The distribution inside what plates, `to_event` and `mask` have wrapped around it."""
    while isinstance(distribution, Independent | ExpandedDistribution | MaskedDistribution):
        distribution = distribution.base_dist
    return distribution
