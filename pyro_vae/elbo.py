r"""Bounds from Pyro traces, per datapoint and without a read from the device (Sections 2.2 and 2.3).

Everything here goes through the sites of a model and its guide, never through their base classes, so
that a user's own pair, with whatever latent sites inside the plate `"data"`, is treated alike.
"""

__all__ = ["check_pair", "elbo", "isolated", "log_weights", "sample_sites", "traces", "weight_prior"]

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_vae.errors import InputError

Site = dict[str, Any]


@contextmanager
def isolated(validate: bool = False) -> Iterator[None]:
    """Runs Pyro code apart from the global parameter store, which keeps the first tensor of a name.

    Arguments:
        validate: Whether distributions check their arguments and values, each a read from the device.
    """
    with pyro.get_param_store().scope(), pyro.validation_enabled(validate):
        yield


def traces(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, particles: int = 1) -> tuple[Trace, Trace]:
    """Runs the guide on x, then the model on x with the guide's latent variables.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint. More than one lie in a plate on the left of `"data"`.

    Returns:
        The traces of model and guide.
    """
    with pyro.plate("particles", particles, dim=-2) if particles > 1 else nullcontext():
        guide_trace = poutine.trace(guide).get_trace(x)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x)
    return model_trace, guide_trace


def sample_sites(trace: Trace) -> dict[str, Site]:
    """Returns the sample sites of a trace by name, without its plates."""
    nodes: Mapping[str, Any] = trace.nodes
    return {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
    }


def _log_prob(site: Site) -> Tensor:
    return scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])


def log_weights(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, particles: int = 1) -> Tensor:
    r"""Draws :math:`\log p(x, z) - \log q(z | x)`, the paper's estimator A (Equation 6), in nats.

    Its mean over the particles estimates the bound, the log of the mean of its exponential bounds
    :math:`\log p(x)` more tightly.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint.

    Returns:
        The log weights, with shape `(particles, datapoints)`.
    """
    model_trace, guide_trace = traces(model, guide, x, particles)
    log_p = sum(_log_prob(site) for site in sample_sites(model_trace).values())
    log_q = sum(_log_prob(site) for site in sample_sites(guide_trace).values())
    return torch.as_tensor(log_p - log_q).expand(particles, len(x))


def elbo(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    x: Tensor,
    particles: int = 1,
    analytic_kl: bool = False,
) -> Tensor:
    r"""Estimates the bound of each datapoint, in nats; reparameterised guides can be trained through it.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint, :math:`L` in the paper.
        analytic_kl: Whether :math:`KL(q(z | x) \| p(z))` is taken in closed form where Pyro has one: the
            paper's estimator B (Equation 7) instead of A (Equation 6).

    Returns:
        The bounds, with shape `(datapoints,)`.
    """
    if not analytic_kl:
        return log_weights(model, guide, x, particles).mean(0)
    model_trace, guide_trace = traces(model, guide, x, particles)
    q = sample_sites(guide_trace)
    terms = []
    for name, site in sample_sites(model_trace).items():
        if site["is_observed"]:
            terms.append(_log_prob(site))
            continue
        try:
            kl = kl_divergence(q[name]["fn"], site["fn"])
        except NotImplementedError:
            terms.append(_log_prob(site) - _log_prob(q[name]))
        else:
            terms.append(-scale_and_mask(kl, site["scale"], site["mask"]))
    return torch.as_tensor(sum(terms)).expand(particles, len(x)).mean(0)


def weight_prior(parameters: Iterable[Tensor], scale: float = 1.0) -> Tensor:
    r"""The log density of the paper's prior :math:`N(0, I)` on the weights, up to a constant, in nats.

    Weights are the parameters with two dimensions or more: as in the author's code, biases have none.

    Arguments:
        parameters: The parameters.
        scale: The prior's standard deviation; `inf` is no prior.
    """
    squares = [p.square().sum() for p in parameters if p.ndim > 1]
    return -0.5 / scale**2 * torch.stack(squares).sum() if squares else torch.zeros(())


def check_pair(model: nn.Module, guide: nn.Module, x: Tensor) -> tuple[Trace, Trace]:
    """Runs a pair once, validated, so that what does not fit is said before the long part starts.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: A few datapoints, with shape `(datapoints, features)`.

    Returns:
        The traces of model and guide.

    Raises:
        InputError: If the pair cannot be run on x, or its sites or parameters are not what the engine needs.
    """
    try:
        with isolated(validate=True):
            model_trace, guide_trace = traces(model, guide, x)
            p, q = sample_sites(model_trace), sample_sites(guide_trace)
            shapes = {name: _log_prob(site).shape for name, site in (*q.items(), *p.items())}
    except (ValueError, RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{type(model).__name__} and {type(guide).__name__} cannot be run on data of shape "
            f"{tuple(x.shape)}: {type(error).__name__}: {reason}"
        ) from error

    latent = {name for name, site in p.items() if not site["is_observed"]}
    if len(latent) == len(p):
        raise InputError(f"{type(model).__name__} observes nothing: give its data site obs=x")
    if latent != set(q):
        raise InputError(
            f"the latent sites of {type(model).__name__} are {sorted(latent)}, but "
            f"{type(guide).__name__} samples {sorted(q)}: give them the same names"
        )
    for name, site in (*q.items(), *p.items()):
        inside = any(frame.name == "data" for frame in site["cond_indep_stack"])
        if not inside or shapes[name] != (len(x),):
            raise InputError(
                f"site '{name}' must be sampled inside pyro.plate('data', n, dim=-1), with its other dimensions made "
                f"events by .to_event(1): its log-probabilities have shape {tuple(shapes[name])}, not {(len(x),)}"
            )
    owned = {id(parameter) for part in (model, guide) for parameter in part.parameters()}
    for trace in (model_trace, guide_trace):
        for name, node in trace.nodes.items():
            if node["type"] == "param" and id(_unconstrained(node["value"])) not in owned:
                raise InputError(
                    f"pyro.param '{name}' does not belong to a module: make it an nn.Parameter or a PyroParam"
                )
    return model_trace, guide_trace


def _unconstrained(value: Any) -> Any:
    return value.unconstrained() if hasattr(value, "unconstrained") else value
