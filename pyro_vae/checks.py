"""What must hold of a model and its guide before the long part starts."""

__all__ = ["check_pair", "check_prior", "weighted_terms"]

import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_vae.device import seeded
from pyro_vae.errors import InputError, reason
from pyro_vae.log_joint import bijection_to
from pyro_vae.python_state import Watch
from pyro_vae.sites import (
    evaluation_mode,
    innermost,
    is_factor,
    isolated,
    joint_log_prob,
    latent_sites,
    observed_sites,
    particle_plate,
    sample_sites,
    site_log_prob,
    weighted_sites,
)

Site = dict[str, Any]
Sites = Mapping[str, Site]

_MEND = "must be sampled inside pyro.plate('data', n, dim=-1), with its other dimensions made events by .to_event(1)"
# What torch, Python and Pyro say of mistakes that are often made, and what mends them.
_MENDS = {
    "within the support (Boolean()) of the distribution Bernoulli": (
        "grey values are no 0 and 1: give --binarize threshold, or score them as the paper does, by "
        "dist.Bernoulli(logits=..., validate_args=False)"
    ),
    "object is not callable": (
        "take distributions from pyro.distributions, torch's own cannot be sampled by Pyro, and zuko's are wrapped by "
        "pyro.contrib.zuko.ZukoToPyro"
    ),
    "the same dtype": (
        "data are torch.float32: leave torch.set_default_dtype at that, or convert x, x.double(), in model and guide"
    ),
    "unexpected keyword argument 'size'": "a model is called as model(x), and as model(None, size=n) for n datapoints",
}
_AUTO = "an autoguide has parameters for each row: write one that computes them from x"
_SHAPE = re.compile(r"Shape mismatch inside plate\('data'\) at site (\S+) dim")


def check_pair(model: nn.Module, guide: nn.Module | None, x: Tensor) -> Sites:
    """Runs a pair a few times, validated, so that what does not fit is said before the long part starts.

    Arguments:
        model: The generative model.
        guide: The recognition model; None where the algorithm has none.
        x: A few datapoints, with shape `(datapoints, features)`.

    Returns:
        The guide's latent sites by name; none without a guide.

    Raises:
        InputError: If the pair cannot be run on x, or its sites or parameters are not what the engine needs. The
            message names the class and its file, the site and the mend.
    """
    modules = [part for part in (model, guide) if part is not None]
    aside = torch.random.fork_rng([x.device] if x.device.type == "cuda" else [])  # what a seed trains to stays the same
    with aside, isolated(validate=True), evaluation_mode(*modules), torch.no_grad():
        q_trace = Trace()
        if guide is not None:
            with _running(guide, x):
                q_trace = poutine.trace(guide).get_trace(x)
        owned = _parameters(modules)  # after a first run: autoguides and lazy modules make theirs then
        # By itself first, so that shapes which do not fit are seen as such.
        with _running(model, x):
            p_trace = poutine.trace(model).get_trace(x)
        _check_sites(model, guide, p_trace, q_trace, x)
        if guide is not None:
            _check_supports(model, guide, latent_sites(p_trace), latent_sites(q_trace))
            _check_auxiliary(guide, latent_sites(p_trace), q_trace)
        with _running(model, x):
            p_trace = poutine.trace(poutine.replay(model, trace=q_trace)).get_trace(x)
        for part, trace in ((guide, q_trace), (model, p_trace)):
            for name, site in sample_sites(trace).items():
                _check_score(part, name, site, x)
        _check_parameters(modules, owned, (p_trace, q_trace))
        with _running(model, x):
            model(None, size=2)
        for part in modules:
            _check_draws(part, x)
        _check_rows(model, guide, x)
        _check_particles(model, guide, x)
    return latent_sites(q_trace)


def weighted_terms(model: nn.Module, guide: nn.Module | None, x: Tensor) -> list[str]:
    """Names the sites whose terms training weighs, by `poutine.scale` or a subsampling plate; nothing is changed."""
    modules = [part for part in (model, guide) if part is not None]
    watch, buffers = Watch(modules), [(b, b.clone()) for part in modules for b in part.buffers()]
    with isolated(), torch.no_grad(), seeded(0, x.device):
        found = [poutine.trace(part).get_trace(x) for part in modules]
        for buffer, old in buffers:  # running means of batch norm, a counter of steps
            buffer.copy_(old)
    watch.restore()
    return sorted({name for trace in found for name in weighted_sites(trace)})


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
            returned: Any = prior()
            shapes = tuple(returned.batch_shape), tuple(returned.event_shape)
    except Exception as error:  # a user's part may fail in any way
        raise InputError(f"{what} does not return a distribution when it is called: {_reason(error)}") from error
    if not callable(returned):
        mend = "pyro.contrib.zuko.ZukoToPyro" if type(returned).__module__.startswith("zuko") else "pyro.distributions"
        raise InputError(
            f"{what} returns {type(returned).__name__}, which Pyro cannot sample: "
            + (f"wrap it, {mend}(...)" if mend.endswith("Pyro") else f"take it from {mend}")
        )
    if shapes != ((), (latent,)):
        raise InputError(
            f"{what} returns site 'z' with batch shape {shapes[0]} and event shape {shapes[1]}: make it one event of "
            f"shape {(latent,)}, by .to_event(1) for example"
        )


def _check_sites(model: nn.Module, guide: nn.Module | None, p_trace: Trace, q_trace: Trace, x: Tensor) -> None:
    """Checks which sites there are, that they lie in the plate, and that their shapes agree."""
    observed, p, q = observed_sites(p_trace), latent_sites(p_trace), latent_sites(q_trace)
    if "x_observed" in observed:
        raise InputError(
            f"site 'x' of {_name(model)} has an obs_mask, which makes latent variables of what is missing: mask its "
            "distribution by .mask() instead, or give missing cells as NaN"
        )
    if "x" not in observed:
        raise InputError(f"{_name(model)} does not observe the data: sample a site 'x' with obs=x")
    if guide is not None:
        for name in p.keys() - q.keys():
            raise InputError(
                f"{_name(guide)} does not sample site '{name}' of {_name(model)}: give it one of that name, it has "
                f"{_listed(q)}"
            )
        for name in q.keys() - p.keys():
            raise InputError(
                f"{_name(guide)} samples site '{name}', which {_name(model)} lacks: name it after one of its latent "
                f"sites, {_listed(p)}, or leave it out (a draw of the guide's own says infer={{'is_auxiliary': True}})"
            )
    for part, trace in ((guide, q_trace), (model, p_trace)):
        for name, site in sample_sites(trace).items():
            if not any(frame.name == "data" or frame.size == len(x) for frame in site["cond_indep_stack"]):
                raise InputError(_outside(part, name))
    for name in q:
        a, b = q[name]["fn"].event_shape, p[name]["fn"].event_shape
        if a != b:
            raise InputError(
                f"site '{name}' has event shape {tuple(a)} in {_name(guide)} and {tuple(b)} in {_name(model)}: "
                "give both the same"
            )
    event, cells = observed["x"]["fn"].event_shape, observed["x"]["value"].shape[1:]  # a row may have more than those
    if event != cells:
        raise InputError(
            f"site 'x' of {_name(model)} has event shape {tuple(event)}, and a datapoint has {tuple(cells)}: "
            "give the likelihood as many features, and make them one event by .to_event(1)"
        )


def _outside(part: nn.Module | None, name: str) -> str:
    """What to say of a site that lies in no plate of the datapoints."""
    if isinstance(part, AutoGuide):
        return f"site '{name}' of {_name(part)} lies in no plate of the datapoints: {_AUTO}"
    if isinstance(part, AutoGuide):
        return (
            f"site '{name}' of {_name(part)} is one density of all rows of a minibatch, but minibatches differ: an "
            "autoguide has parameters for each row: write a guide that computes them from x"
        )
    if _has_random_weights(part):
        return (
            f"site '{name}' of {_name(part)} is a PyroSample, a weight that is random: make it an nn.Parameter, and "
            "train by --inference full_vb, which makes all weights random"
        )
    return f"site '{name}' of {_name(part)} {_MEND}: it lies in no plate of that name"


def _check_supports(model: nn.Module, guide: nn.Module, p: Sites, q: Sites) -> None:
    """Checks that the guide draws what the prior holds possible."""
    for name, site in q.items():
        if isinstance(site["fn"], Delta):
            continue
        try:
            prior, drawn = p[name]["fn"].support, site["fn"].support
        except NotImplementedError:  # a distribution that does not say
            continue
        (low, high), (lower, upper) = _range(prior), _range(drawn)
        # Of what has no ends that are known, a simplex for example, all reals are too many at any rate.
        possible = low <= lower and upper <= high if low == low else lower != -math.inf
        if prior.is_discrete != drawn.is_discrete or not (possible or lower != lower):
            raise InputError(
                f"site '{name}' of {_name(guide)} draws from {_support(drawn)}, and {_name(model)} has it in "
                f"{_support(prior)}: give the guide a distribution there, by TransformedDistribution for example"
            )


def _check_auxiliary(guide: nn.Module, p: Sites, q_trace: Trace) -> None:
    """Checks that latent variables are functions of auxiliary draws, one to one, so that these have their density.

    A draw besides would add its own entropy to the bound, which is none then.
    """
    latent = latent_sites(q_trace)
    auxiliary = {
        name: site
        for name, site in sample_sites(q_trace).items()
        if name not in latent and not site["is_observed"] and not is_factor(site)
    }
    if not auxiliary:
        return
    points = [name for name, site in latent.items() if isinstance(innermost(site["fn"]), Delta)]
    try:
        sizes = [bijection_to(p[n]["fn"].support).inverse_shape(p[n]["fn"].event_shape).numel() for n in points]
    except NotImplementedError:  # it cannot be told
        return
    if sum(sizes) != sum(site["fn"].event_shape.numel() for site in auxiliary.values()):
        raise InputError(
            f"{_name(guide)} has the auxiliary site {_listed(auxiliary)}, and its latent variables are no function of "
            "it, one to one: their density is unknown then, and with it the bound. Leave it out, or sample them as "
            "dist.Delta(f(u), log_density=-log_det, event_dim=1)"
        )


def _check_draws(part: nn.Module, x: Tensor) -> None:
    """Checks that a part neither sets the seed nor writes into the data."""
    before, ends = (x._version, x.requires_grad), []
    for seed in range(2):
        torch.manual_seed(seed)
        with _running(part, x):
            part(x)
        ends.append(torch.get_rng_state())
    if (x._version, x.requires_grad) != before:
        raise InputError(f"{_name(part)} changes the x that it is given: work on a copy, x = x.clone()")
    if torch.equal(*ends):
        raise InputError(
            f"{_name(part)} sets the seed of torch in its forward, so that all draws are alike: leave it out"
        )


def _range(support: Any) -> tuple[float, float]:
    """The least and greatest value of a support, not a number where it does not say."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support in (constraints.real, constraints.real_vector):
        return -math.inf, math.inf
    ends = [getattr(support, name, None) for name in ("lower_bound", "upper_bound")]
    if ends == [None, None]:
        return math.nan, math.nan
    low, high = ends
    return (
        -math.inf if low is None else float(torch.as_tensor(low).max()),
        math.inf if high is None else float(torch.as_tensor(high).min()),
    )


def _support(support: Any) -> str:
    low, high = _range(support)
    if low != low:
        return str(getattr(support, "base_constraint", support)).strip("()")
    return "all reals" if (low, high) == (-math.inf, math.inf) else f"({low:g}, {high:g})"


def _check_parameters(modules: list[nn.Module], owned: dict[str, int], found: Iterable[Trace]) -> None:
    """Checks that parameters belong to the modules, each under a name of its own."""
    if _parameters(modules) != owned:
        names = " and ".join(map(_name, modules))
        raise InputError(f"{names} share the name of a PyroParam: name them apart, super().__init__('guide')")
    for trace in found:
        for name, node in trace.nodes.items():
            if node["type"] == "param" and id(_unconstrained(node["value"])) not in owned.values():
                raise InputError(
                    f"pyro.param '{name}' does not belong to a module: make it an nn.Parameter or a PyroParam"
                )


def _check_rows(model: nn.Module, guide: nn.Module | None, x: Tensor) -> None:
    """Checks that a datapoint means the same alone and among others, whose number changes."""
    alone = x[:1] if len(x) > 1 else x.repeat(2, 1)
    for part in (guide, model):
        if part is None:
            continue
        try:
            sites = sample_sites(poutine.trace(part).get_trace(alone))
            fits = all(site_log_prob(site).shape == (len(alone),) for site in sites.values())
        except Exception as error:  # a user's part may fail in any way
            raise InputError(_sized(part, x, alone, _reason(error))) from error
        if not fits:
            raise InputError(_sized(part, x, alone, "its sites keep the shape of the others"))
    values = {name: site["value"] for name, site in latent_sites(poutine.trace(guide or model).get_trace(x)).items()}
    some = {
        name: value[: len(alone)] if len(x) > 1 else value.repeat_interleave(2, 0) for name, value in values.items()
    }
    among = _densities(model, values, x)[:1]
    apart = _densities(model, some, alone)[:1]
    # What draws, or counts its calls, differs from itself: of that, nothing can be said here.
    if not _close(among, apart) and _close(among, _densities(model, values, x)[:1]):
        raise InputError(
            f"{_name(model)} gives a datapoint {apart.item():.3f} nats alone and {among.item():.3f} among others: a "
            "datapoint must not depend on those beside it"
        )


def _sized(part: nn.Module, x: Tensor, alone: Tensor, why: str) -> str:
    mend = "compute everything from the x of each call"
    if isinstance(part, AutoGuide):
        mend = _AUTO
    return f"{_name(part)} runs on {len(x)} datapoints and not on {len(alone)}, but minibatches differ: {mend} ({why})"


def _check_particles(model: nn.Module, guide: nn.Module | None, x: Tensor) -> None:
    """Checks that two draws in a plate on the left are the two draws alone."""
    try:
        with particle_plate(2):
            drawn = poutine.trace(guide or model).get_trace(x)
            shapes = [joint_log_prob(drawn).shape]
            values = {
                name: site["value"].expand(2, *site["value"].shape[-1 - site["fn"].event_dim :])
                for name, site in latent_sites(drawn).items()
            }
            together = _densities(model, values, x)
            shapes.append(together.shape)
    except Exception as error:  # a user's part may fail in any way
        raise InputError(_leading(guide or model, model, _reason(error))) from error
    if any(shape != (2, len(x)) for shape in shapes):
        raise InputError(_leading(guide or model, model, f"log densities have shape {tuple(shapes[-1])}"))
    apart = torch.stack([_densities(model, {n: v[k] for n, v in values.items()}, x) for k in range(2)])
    if not _close(together, apart) and _close(together, _densities(model, values, x)):
        raise InputError(_leading(guide or model, model, "together their densities are others than apart"))


def _leading(guide: nn.Module, model: nn.Module, why: str) -> str:
    norms = [type(m).__name__ for part in (guide, model) for m in part.modules() if isinstance(m, _BatchNorm)]
    mend = f", and {norms[0]} takes one, (n, features): flatten and unflatten around it" if norms else ""
    return (
        f"{' or '.join(dict.fromkeys(map(_name, (guide, model))))} cannot draw several particles: they come as leading "
        f"dimensions, (2, n, features), which networks must accept{mend} ({why})"
    )


def _densities(model: nn.Module, latents: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return joint_log_prob(poutine.trace(poutine.condition(model, dict(latents))).get_trace(x))


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)


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
    except (Exception, SystemExit) as error:  # a user's part may fail in any way
        # Pyro names the site whose shape the plate does not bear.
        outside = _SHAPE.search(str(error))
        if outside:
            raise InputError(f"site '{outside[1]}' of {_name(part)} {_MEND}: {_reason(error)}") from error
        mend = ". Its PyroSample weights are random: make them nn.Parameters, and train by --inference full_vb"
        raise InputError(
            f"{_name(part)} cannot be run on data of shape {tuple(x.shape)}: {_reason(error)}"
            f"{mend if _has_random_weights(part) else ''}"
        ) from error


def _has_random_weights(part: nn.Module | None) -> bool:
    return part is not None and any(getattr(module, "_pyro_samples", None) for module in part.modules())


def _name(part: nn.Module | None) -> str:
    """The class of a part with its file, as `FILE.py:CLASS`."""
    kind = type(part)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return f"{Path(file).name}:{kind.__name__}" if file else kind.__name__


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _reason(error: BaseException) -> str:
    text = reason(error)
    return text + next((f": {mend}" for said, mend in _MENDS.items() if said in text), "")


def _parameters(modules: list[nn.Module]) -> dict[str, int]:
    return {f"{n}.{name}": id(p) for n, part in enumerate(modules) for name, p in part.named_parameters()}


def _unconstrained(value: Any) -> Any:
    return value.unconstrained() if hasattr(value, "unconstrained") else value
