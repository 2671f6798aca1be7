"""What must hold of a model and its guide before the long part starts."""

__all__ = ["check_pair", "check_prior", "check_sites", "looking", "require_no_globals", "weighted_terms"]

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_vae import ranks
from pyro_vae.calls import check_draws, check_particles, check_rows, check_score
from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.global_latents import fixed_points
from pyro_vae.log_joint import bijection_to
from pyro_vae.plates import is_countable, is_marked
from pyro_vae.programs import Program, check_generation
from pyro_vae.python_state import Watch
from pyro_vae.sites import (
    Site,
    evaluation_mode,
    global_sites,
    innermost,
    is_factor,
    isolated,
    latent_sites,
    observed_sites,
    sample_sites,
    site_log_prob,
    weighted_sites,
)
from pyro_vae.steps import at_step
from pyro_vae.summed_out import check_summed
from pyro_vae.words import AUTO, IN_PLATE, explained, has_pyro_samples, listed, name_of, require_modules, running

Sites = Mapping[str, Site]


def check_pair(model: nn.Module, guide: nn.Module | None, x: Tensor) -> Sites:
    """Runs a pair a few times, validated, so that what does not fit is said before the long part starts.

    Arguments:
        model: The generative model.
        guide: The recognition model; None where the algorithm has none.
        x: A few datapoints, with shape `(datapoints, features)`.

    Returns:
        The guide's latent sites by name; none without a guide.

    Raises:
        InputError: If one is no module, the pair cannot be run on x, or its sites or parameters are not what the engine
            needs. The message names the class and its file, the site and the mend.
    """
    require_modules(model, guide)
    with looking(model, guide, x):
        sites = check_sites(model, guide, x)
        check_generation(model, x)
        for part in (model, guide):
            if part is not None:
                check_draws(part, x)
        check_rows(model, guide, x)
        check_particles(model, guide, x)
    return sites


@contextmanager
def looking(model: nn.Module, guide: nn.Module | None, x: Tensor) -> Iterator[None]:
    """Lets a pair be run inside the block as the checks here do, which leave no trace of it: validated, evaluating."""
    aside = torch.random.fork_rng([x.device] if x.device.type == "cuda" else [])  # what a seed trains to stays the same
    with aside, isolated(validate=True), evaluation_mode(model, guide), torch.no_grad():
        yield


def check_sites(model: nn.Module, guide: nn.Module | None, x: Tensor) -> Sites:
    """Checks the sites, shapes, supports and parameters of a pair, inside of `looking`; see `check_pair`."""
    modules = [part for part in (model, guide) if part is not None]
    q_trace = Trace()
    if guide is not None:
        with running(guide, x):
            q_trace = poutine.trace(guide).get_trace(x)
    owned = _parameters(modules)  # after a first run: autoguides and lazy modules make theirs then
    # By itself first, so that shapes which do not fit are seen as such.
    with running(model, x):
        p_trace = poutine.trace(model).get_trace(x)
    _check_sites(model, guide, p_trace, q_trace, x)
    if guide is not None:
        _check_supports(model, guide, latent_sites(p_trace), latent_sites(q_trace))
        _check_auxiliary(guide, latent_sites(p_trace), sample_sites(q_trace), latent_sites(q_trace))
        if global_sites(p_trace) or global_sites(q_trace):
            _check_globals(model, guide, p_trace, q_trace, x)
    with running(model, x):
        p_trace = poutine.trace(poutine.replay(model, trace=q_trace)).get_trace(x)
    for part, trace in ((guide, q_trace), (model, p_trace)):
        for name, site in sample_sites(trace).items():
            check_score(part, name, site, x)
    check_summed(model, guide, x, latent_sites(p_trace), latent_sites(q_trace))
    _check_parameters(modules, owned, (p_trace, q_trace))
    with running(model, x):
        model(None, size=2)
    return latent_sites(q_trace)


def require_no_globals(algorithm: str, model: nn.Module, x: Tensor) -> None:
    """Refuses global latent variables, which an algorithm does not train.

    Raises:
        InputError: If the model has some.
    """
    with isolated(), evaluation_mode(model), torch.no_grad(), seeded(0, x.device), running(model, x):
        names = global_sites(poutine.trace(model).get_trace(x))
    if names:
        raise InputError(
            f"site {listed(names)} of {name_of(model)} is global, which {algorithm} does not train: train by "
            "--inference aevb, or make it a pyro.param"
        )


def weighted_terms(model: nn.Module, guide: nn.Module | None, x: Tensor) -> list[str]:
    """Names the sites whose terms training weighs, by `poutine.scale` or a subsampling plate; nothing is changed."""
    modules = [part for part in (model, guide) if part is not None]
    watch, buffers = Watch(modules), [(b, b.clone()) for part in modules for b in part.buffers()]
    with isolated(), torch.no_grad(), seeded(0, x.device), at_step(torch.tensor(1)):
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
        raise InputError(f"{what} does not return a distribution when it is called: {explained(error)}") from error
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
            f"site 'x' of {name_of(model)} has an obs_mask, which makes latent variables of what is missing: mask its "
            "distribution by .mask() instead, or give missing cells as NaN"
        )
    if "x" not in observed:
        raise InputError(f"{name_of(model)} does not observe the data: sample a site 'x' with obs=x")
    if guide is not None:
        every_p, every_q = p | global_sites(p_trace), q | _without_auxiliary(global_sites(q_trace))
        for name in sorted(name for name in every_p.keys() - every_q.keys() if not is_marked(every_p[name])):
            countable = is_countable(every_p[name])
            raise InputError(
                f"{name_of(guide)} does not sample site '{name}' of {name_of(model)}: give it one of that name, it has "
                f"{listed(every_q)}{', or sum it out, --enumerate' if countable else ''}"
            )
        for name in every_q.keys() - every_p.keys():
            raise InputError(
                f"{name_of(guide)} samples site '{name}', which {name_of(model)} lacks: name it after one of its "
                f"latent sites, {listed(every_p)}, or leave it out (a draw of the guide's own says "
                "infer={'is_auxiliary': True})"
            )
        for name in every_q:
            if (name in p) != (name in q):
                raise InputError(_outside(guide if name in p else model, name))
    for part, trace in ((guide, q_trace), (model, p_trace)):
        for name, site in sample_sites(trace).items():
            frames = site["cond_indep_stack"]
            of_data = [f for f in frames if f.name == "data" or f.size == len(x)]
            if not of_data:
                raise InputError(_outside(part, name))
            if all(f.dim != -1 for f in of_data if f.vectorized):
                raise InputError(f"site '{name}' of {name_of(part)} {IN_PLATE}: its plate has another dimension")
    every_p, every_q = p | global_sites(p_trace), q | _without_auxiliary(global_sites(q_trace))
    for name in every_q:
        a, b = every_q[name]["fn"].event_shape, every_p[name]["fn"].event_shape
        if a != b:
            raise InputError(
                f"site '{name}' has event shape {tuple(a)} in {name_of(guide)} and {tuple(b)} in {name_of(model)}: "
                "give both the same"
            )
    event, cells = observed["x"]["fn"].event_shape, observed["x"]["value"].shape[1:]  # a row may have more than those
    if event != cells:
        raise InputError(
            f"site 'x' of {name_of(model)} has event shape {tuple(event)}, and a datapoint has {tuple(cells)}: "
            "give the likelihood as many features, and make them one event by .to_event(1)"
        )


def _check_globals(model: nn.Module, guide: nn.Module, p_trace: Trace, q_trace: Trace, x: Tensor) -> None:
    """Checks that global latent variables are those of all datapoints, whichever are in a minibatch."""
    shared, locals_of_q = global_sites(p_trace), latent_sites(q_trace)
    names = listed(shared)
    if not shared:  # draws of the guide's own
        raise InputError(_outside(guide, next(iter(global_sites(q_trace)))))
    _check_supports(model, guide, shared, _without_auxiliary(global_sites(q_trace)))
    if ranks.count() > 1:
        raise InputError(f"site {names} of {name_of(model)} is global: train it without torchrun")
    for name, site in (latent_sites(p_trace) | shared).items():
        if is_marked(site) or (name not in shared and name not in locals_of_q):
            raise InputError(
                f"site '{name}' of {name_of(model)} is summed out, which it cannot be where site {names} is global: "
                f"have the guide draw it, or make {names} a pyro.param"
            )
    alone = x[:1] if len(x) > 1 else x.repeat(2, 1)
    for part, trace in ((guide, q_trace), (model, p_trace)):
        with running(part, x):
            again = global_sites(poutine.trace(_holding(part, trace)).get_trace(alone))
        for name, site in global_sites(trace).items():
            if name not in again or not _alike(site, again[name]):
                raise InputError(
                    f"site '{name}' of {name_of(part)} is global, and changes with the rows that it is given: make it "
                    f"the same for all datapoints, or sample it inside pyro.plate('data', n, dim=-1)"
                )
    with running(guide, x):
        other = global_sites(poutine.trace(guide).get_trace(x))
    points = fixed_points(every := global_sites(q_trace), other)
    drawn = {name: site for name, site in every.items() if name not in points}
    _check_auxiliary(guide, shared, drawn, _without_auxiliary(drawn))


def _holding(part: nn.Module, trace: Trace) -> Any:
    """A part with the global draws of a trace, which stay latent."""
    held = trace.copy()
    for name in [*trace.nodes]:
        if name not in global_sites(trace):
            held.remove_node(name)
    return poutine.replay(part, trace=held)


def _alike(one: Site, other: Site) -> bool:
    if one["fn"].event_shape != other["fn"].event_shape or other["fn"].batch_shape:
        return False
    return torch.allclose(site_log_prob(one), site_log_prob(other), rtol=1e-4, atol=1e-4, equal_nan=True)


def _without_auxiliary(sites: Sites) -> dict[str, Site]:
    return {name: site for name, site in sites.items() if not site["infer"].get("is_auxiliary")}


def _outside(part: nn.Module | None, name: str) -> str:
    """What to say of a site that lies in no plate of the datapoints."""
    if isinstance(part, AutoGuide):
        return f"site '{name}' of {name_of(part)} lies in no plate of the datapoints: {AUTO}"
    if has_pyro_samples(part) or isinstance(part, Program):
        return (
            f"site '{name}' of {name_of(part)} lies in no plate of the datapoints, and not as one event outside of all "
            "plates either: make it one by .to_event(), where it is of all datapoints, or sample it inside "
            "pyro.plate('data', n, dim=-1) where each has one"
        )
    return f"site '{name}' of {name_of(part)} {IN_PLATE}: it lies in no plate of that name"


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
                f"site '{name}' of {name_of(guide)} draws from {_support(drawn)}, and {name_of(model)} has it in "
                f"{_support(prior)}: give the guide a distribution there, by TransformedDistribution for example"
            )


def _check_auxiliary(guide: nn.Module, p: Sites, q: Sites, latent: Sites) -> None:
    """Checks that latent variables are functions of auxiliary draws, one to one, so that these have their density.

    A draw besides would add its own entropy to the bound, which is none then.
    """
    auxiliary = {
        name: site for name, site in q.items() if name not in latent and not site["is_observed"] and not is_factor(site)
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
            f"{name_of(guide)} has the auxiliary site {listed(auxiliary)}, and its latent variables are no function of "
            "it, one to one: their density is unknown then, and with it the bound. Leave it out, or sample them as "
            "dist.Delta(f(u), log_density=-log_det, event_dim=1)"
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
        names = " and ".join(map(name_of, modules))
        raise InputError(f"{names} share the name of a PyroParam: name them apart, super().__init__('guide')")
    for trace in found:
        for name, node in trace.nodes.items():
            if node["type"] == "param" and id(_unconstrained(node["value"])) not in owned.values():
                raise InputError(
                    f"pyro.param '{name}' does not belong to a module: make it an nn.Parameter or a PyroParam"
                )


def _parameters(modules: list[nn.Module]) -> dict[str, int]:
    return {f"{n}.{name}": id(p) for n, part in enumerate(modules) for name, p in part.named_parameters()}


def _unconstrained(value: Any) -> Any:
    return value.unconstrained() if hasattr(value, "unconstrained") else value
