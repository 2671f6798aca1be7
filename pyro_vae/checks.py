"""What must hold of a model and its guide before the long part starts."""

__all__ = ["check_pair"]

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from pyro_vae.elbo import (
    evaluation_mode,
    isolated,
    joint_log_prob,
    particle_plate,
    sample_sites,
    site_log_prob,
    traces,
)
from pyro_vae.errors import InputError


def check_pair(model: nn.Module, guide: nn.Module | None, x: Tensor) -> dict[str, Any]:
    """Runs a pair once, validated, so that what does not fit is said before the long part starts.

    Arguments:
        model: The generative model.
        guide: The recognition model; None where the algorithm has none.
        x: A few datapoints, with shape `(datapoints, features)`.

    Returns:
        The guide's sample sites by name; none without a guide.

    Raises:
        InputError: If the pair cannot be run on x, or its sites or parameters are not what the engine needs.
    """
    modules = [part for part in (model, guide) if part is not None]
    names = " and ".join(type(part).__name__ for part in modules)
    owned = _parameters(modules)
    with _running(names, x), isolated(validate=True), evaluation_mode(*modules), torch.no_grad():
        if guide is None:
            model_trace, guide_trace = poutine.trace(model).get_trace(x), Trace()
        else:
            model_trace, guide_trace = traces(model, guide, x)
        p, q = sample_sites(model_trace), sample_sites(guide_trace)
        shapes = {name: site_log_prob(site).shape for name, site in (*q.items(), *p.items())}

    latent = {name for name, site in p.items() if not site["is_observed"]}
    if "x" not in p or "x" in latent:
        raise InputError(f"{type(model).__name__} does not observe the data: sample a site 'x' with obs=x")
    if guide is not None and latent != set(q):
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
    if _parameters(modules) != owned:
        raise InputError(f"{names} share the name of a PyroParam: name them apart, super().__init__('guide')")
    for trace in (model_trace, guide_trace):
        for name, node in trace.nodes.items():
            if node["type"] == "param" and id(_unconstrained(node["value"])) not in owned.values():
                raise InputError(
                    f"pyro.param '{name}' does not belong to a module: make it an nn.Parameter or a PyroParam"
                )
    with _running(names, x), isolated(validate=True), evaluation_mode(*modules), torch.no_grad():
        model(None, size=2)
        with particle_plate(2):
            several = [joint_log_prob(poutine.trace(part).get_trace(x)).shape for part in modules]
    if any(shape != (2, len(x)) for shape in several):
        raise InputError(f"{names} cannot draw several particles: let the networks accept any leading dimensions")
    return q


@contextmanager
def _running(names: str, x: Tensor) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a user's part may fail in any way
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{names} cannot be run on data of shape {tuple(x.shape)}: {type(error).__name__}: {reason}"
        ) from error


def _parameters(modules: list[nn.Module]) -> dict[str, int]:
    return {f"{n}.{name}": id(p) for n, part in enumerate(modules) for name, p in part.named_parameters()}


def _unconstrained(value: Any) -> Any:
    return value.unconstrained() if hasattr(value, "unconstrained") else value
