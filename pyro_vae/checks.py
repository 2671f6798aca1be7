"""What must hold of a model and its guide before the long part starts."""

__all__ = ["check_pair", "check_prior"]

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.sites import evaluation_mode, isolated, joint_log_prob, particle_plate, sample_sites, site_log_prob

Site = dict[str, Any]
Sites = Mapping[str, Site]

_MEND = "must be sampled inside pyro.plate('data', n, dim=-1), with its other dimensions made events by .to_event(1)"
_SHAPE = re.compile(r"Shape mismatch inside plate\('data'\) at site (\S+) dim")


def check_pair(model: nn.Module, guide: nn.Module | None, x: Tensor) -> dict[str, Any]:
    """Runs a pair once, validated, so that what does not fit is said before the long part starts.

    Arguments:
        model: The generative model.
        guide: The recognition model; None where the algorithm has none.
        x: A few datapoints, with shape `(datapoints, features)`.

    Returns:
        The guide's sample sites by name; none without a guide.

    Raises:
        InputError: If the pair cannot be run on x, or its sites or parameters are not what the engine needs. The
            message names the class and its file, the site and the mend.
    """
    modules = [part for part in (model, guide) if part is not None]
    names = " and ".join(map(_name, modules))
    owned = _parameters(modules)
    q_trace = Trace()
    with isolated(validate=True), evaluation_mode(*modules), torch.no_grad():
        if guide is not None:
            with _running(guide, x):
                q_trace = poutine.trace(guide).get_trace(x)
        q = sample_sites(q_trace)
        # By itself first, so that shapes which do not fit are seen as such; and aside, so that no draw is used up.
        with _running(model, x), seeded(0, x.device):
            p = sample_sites(poutine.trace(model).get_trace(x))
        _check_sites(model, guide, p, q, x)
        with _running(model, x):
            p_trace = poutine.trace(poutine.replay(model, trace=q_trace)).get_trace(x)
        p = sample_sites(p_trace)
        for part, sites in ((guide, q), (model, p)):
            for name, site in sites.items():
                _check_score(part, name, site, x)

    if _parameters(modules) != owned:
        raise InputError(f"{names} share the name of a PyroParam: name them apart, super().__init__('guide')")
    for trace in (p_trace, q_trace):
        for name, node in trace.nodes.items():
            if node["type"] == "param" and id(_unconstrained(node["value"])) not in owned.values():
                raise InputError(
                    f"pyro.param '{name}' does not belong to a module: make it an nn.Parameter or a PyroParam"
                )
    with isolated(validate=True), evaluation_mode(*modules), torch.no_grad():
        with _running(model, x):
            model(None, size=2)
        for part in modules:
            with _running(part, x), particle_plate(2):
                several = joint_log_prob(poutine.trace(part).get_trace(x)).shape
            if several != (2, len(x)):
                raise InputError(
                    f"{_name(part)} cannot draw several particles: let the networks accept any leading dimensions"
                )
    return q


def check_prior(prior: nn.Module, what: str, latent: int) -> None:
    """Checks that a ready prior is one event of so many latent variables.

    Arguments:
        prior: The prior.
        what: What to call it.
        latent: The number of latent variables.

    Raises:
        InputError: If it is not, or it cannot be called.
    """
    try:
        with isolated(), torch.no_grad():
            shapes = tuple(prior().batch_shape), tuple(prior().event_shape)
    except Exception as error:  # a user's part may fail in any way
        raise InputError(f"{what} does not return a distribution when it is called: {_reason(error)}") from error
    if shapes != ((), (latent,)):
        raise InputError(
            f"{what} returns site 'z' with batch shape {shapes[0]} and event shape {shapes[1]}: make it one event of "
            f"shape {(latent,)}, by .to_event(1) for example"
        )


def _check_sites(model: nn.Module, guide: nn.Module | None, p: Sites, q: Sites, x: Tensor) -> None:
    """Checks which sites there are, that they lie in the plate, and that their shapes agree."""
    if "x" not in p or not p["x"]["is_observed"]:
        raise InputError(f"{_name(model)} does not observe the data: sample a site 'x' with obs=x")
    latent = [name for name, site in p.items() if not site["is_observed"]]
    if guide is not None:
        for name in latent:
            if name not in q:
                raise InputError(
                    f"{_name(guide)} does not sample site '{name}' of {_name(model)}: give it one of that name, "
                    f"it has {_listed(q)}"
                )
        for name in q:
            if name not in latent:
                raise InputError(
                    f"{_name(guide)} samples site '{name}', which {_name(model)} lacks: name it after one of its "
                    f"latent sites, {_listed(latent)}, or leave it out"
                )
    for part, sites in ((guide, q), (model, p)):
        for name, site in sites.items():
            if not any(frame.name == "data" for frame in site["cond_indep_stack"]):
                raise InputError(f"site '{name}' of {_name(part)} {_MEND}: it lies in no plate of that name")
    for name in q:
        a, b = q[name]["fn"].event_shape, p[name]["fn"].event_shape
        if a != b:
            raise InputError(
                f"site '{name}' has event shape {tuple(a)} in {_name(guide)} and {tuple(b)} in {_name(model)}: "
                "give both the same"
            )
    event, cells = p["x"]["fn"].event_shape, p["x"]["value"].shape[1:]  # beside which a row may have a label
    if event != cells:
        raise InputError(
            f"site 'x' of {_name(model)} has event shape {tuple(event)}, and a datapoint has {tuple(cells)}: "
            "give the likelihood as many pixels, and make them one event by .to_event(1)"
        )


def _check_score(part: nn.Module | None, name: str, site: Site, x: Tensor) -> None:
    """Checks that a site gives each datapoint one log-probability."""
    try:
        shape = site_log_prob(site).shape
    except Exception as error:  # a distribution of the user's may fail in any way
        raise InputError(f"site '{name}' of {_name(part)} cannot score its values: {_reason(error)}") from error
    if shape != (len(x),):
        raise InputError(
            f"site '{name}' of {_name(part)} {_MEND}: its log-probabilities have shape {tuple(shape)}, not {(len(x),)}"
        )


@contextmanager
def _running(part: nn.Module, x: Tensor) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a user's part may fail in any way
        # Pyro names the site whose shape the plate does not bear.
        outside = _SHAPE.search(str(error))
        if outside:
            raise InputError(f"site '{outside[1]}' of {_name(part)} {_MEND}: {_reason(error)}") from error
        raise InputError(f"{_name(part)} cannot be run on data of shape {tuple(x.shape)}: {_reason(error)}") from error


def _name(part: nn.Module | None) -> str:
    """The class of a part with its file, as `FILE.py:CLASS`."""
    kind = type(part)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return f"{Path(file).name}:{kind.__name__}" if file else kind.__name__


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _parameters(modules: list[nn.Module]) -> dict[str, int]:
    return {f"{n}.{name}": id(p) for n, part in enumerate(modules) for name, p in part.named_parameters()}


def _unconstrained(value: Any) -> Any:
    return value.unconstrained() if hasattr(value, "unconstrained") else value
