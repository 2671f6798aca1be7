"""The contract of a model and its guide: how they run, what they give a datapoint, and what they keep."""

__all__ = [
    "SIZES",
    "batch_sizes",
    "calls",
    "distributions",
    "finite_bound",
    "gradients",
    "leading_dimensions",
    "log_joint",
    "observed_once",
    "repeatable",
    "saved",
    "stirred",
]

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_vae.analysis.check.verdict import Fault, Skipped
from pyro_vae.calls import check_draws, check_particles, densities
from pyro_vae.checks import looking
from pyro_vae.elbo import bound_terms
from pyro_vae.enumerated import sums_out
from pyro_vae.errors import reason
from pyro_vae.log_joint import LogJoint
from pyro_vae.plates import nesting, traces
from pyro_vae.python_state import Watch
from pyro_vae.sites import (
    evaluation_mode,
    global_sites,
    isolated,
    joint_log_prob,
    latent_sites,
    observed_sites,
    point_sites,
    sample_sites,
    site_log_prob,
)
from pyro_vae.words import listed, name_of

# Numbers of datapoints in a call: one, two, and one that nobody has in mind.
SIZES = (1, 2, 101)


@contextmanager
def stirred(modules: Iterable[nn.Module], std: float = 0.15, seed: int = 0) -> Iterator[None]:
    """Moves parameters inside the block away from where they start, where zeros and ones hide many a fault.

    Weights are moved by draws of at most that standard deviation, all others by shares of themselves, so that what must
    be positive stays so.
    """
    parameters = [p for p in nn.ModuleList(modules).parameters() if p.is_floating_point()]
    before = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for p in parameters:
                noise = torch.randn(p.shape, generator=generator).to(p)
                p.add_(noise * min(std, (p.numel() / len(p)) ** -0.5) if p.dim() > 1 else noise * p.abs() * 0.25)
        yield
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)


def _drawn(model: nn.Module, guide: nn.Module | None, x: Tensor) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The values of all unobserved sites, and the dimension of the datapoints of those that have one."""
    trace = poutine.trace(guide or model).get_trace(x)
    local = {name: site for name, site in sample_sites(trace).items() if not site["is_observed"]}
    values = {name: site["value"] for name, site in {**local, **global_sites(trace)}.items()}
    return values, {name: -1 - site["fn"].event_dim for name, site in local.items()}


def _own(part: nn.Module, values: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Those of some values that a part draws."""
    trace = poutine.trace(part).get_trace(x)
    return {name: value for name, value in values.items() if name in trace.nodes}


def _scores(part: nn.Module, x: Tensor) -> bool:
    """Whether given values have a density in a part: not where it draws others besides, or is a point."""
    trace = poutine.trace(part).get_trace(x)
    return not point_sites(trace) and not any(s["infer"].get("is_auxiliary") for s in sample_sites(trace).values())


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)


def observed_once(model: nn.Module, x: Tensor) -> None:
    """Looks for a second site that observes all the data, which then count twice."""
    with looking(model, None, x):
        sites = observed_sites(poutine.trace(model).get_trace(x))
    data = sites["x"]["value"]
    for name, site in sites.items():
        if name != "x" and site["value"].shape == data.shape and torch.equal(site["value"], data):
            raise Fault(
                f"{name_of(model)} observes the data twice, as 'x' and as '{name}': each counts in the bound",
                "leave one of them out",
            )


def calls(model: nn.Module, guide: nn.Module | None, x: Tensor) -> str:
    """Runs a pair as training does, and looks what calls leave behind: in Python values, in generators, in the data."""
    parts = [part for part in (guide, model) if part is not None]
    with looking(model, guide, x):
        for part in parts:
            check_draws(part, x)
    watch, buffers = Watch(parts), [(b, b.clone()) for part in parts for b in part.buffers()]
    with torch.random.fork_rng([]), isolated(), torch.no_grad():
        for rows in (x, x[: len(x) // 2]):
            with suppress(Exception):  # that it runs on many and few, batch_sizes sees
                traces(model, guide, rows) if guide is not None else model(rows)
        names = watch.changes()
        for buffer, old in buffers:
            buffer.copy_(old)
    watch.restore()
    if names:
        raise Fault(
            f"{', '.join(names[:3])} changes from call to call, which compiled code takes for constant",
            "make it a buffer (register_buffer) that is written into, or do not keep it",
        )
    return "calls leave no Python value, generator or datapoint changed"


def repeatable(model: nn.Module, guide: nn.Module | None, x: Tensor) -> str:
    """Scores the same values twice: a density is a function of them, and draws are sites."""
    with looking(model, guide, x):
        values, _ = _drawn(model, guide, x)
        for part in (guide, model):
            if part is None or (part is guide and not _scores(part, x)):
                continue
            own = _own(part, values, x)
            one, other = densities(part, own, x), densities(part, own, x)
            if not torch.allclose(one, other, rtol=1e-5, atol=1e-5, equal_nan=True):
                row = int((one - other).abs().nan_to_num().argmax())
                raise Fault(
                    f"{name_of(part)} gives the same values {one[row].item():.3f} nats, and {other[row].item():.3f} "
                    "when it is asked again",
                    "draw by pyro.sample alone, and let nothing that counts calls into a density",
                )
    return "the same values have the same density, asked again"


def batch_sizes(model: nn.Module, guide: nn.Module | None, x: Tensor) -> str:
    """Scores datapoints in calls of 1, 2 and 101: what one is worth must not depend on those beside it.

    Arguments:
        model: The generative model.
        guide: The recognition model; None where there is none.
        x: 101 datapoints.
    """
    parts = [part for part in (guide, model) if part is not None]
    with looking(model, guide, x):
        for part in parts:
            with _many(part, len(x)):
                part(x)
        values, dims = _drawn(model, guide, x)
        for part in parts:
            if part is guide and not _scores(part, x):
                continue
            own = _own(part, values, x)
            among = densities(part, own, x)
            if len(among) != len(x):
                raise Fault(f"{name_of(part)} gives {len(x)} datapoints {len(among)} densities", "see shapes")
            for size in SIZES[:-1]:
                some = {n: v.narrow(dims[n], 0, size) if n in dims else v for n, v in own.items()}
                with _many(part, size):
                    alone = densities(part, some, x[:size])
                if alone.shape != (size,) or not _close(alone, among[:size]):
                    found = f"{alone.flatten()[0].item():.3f} nats in a call of {size}"
                    raise Fault(
                        f"{name_of(part)} gives a datapoint {found}, and {among[0].item():.3f} among {len(x)}",
                        "take no mean, maximum or softmax over the datapoints (dim 0): a datapoint must not depend on "
                        "those beside it",
                    )
    norms = {type(m).__name__ for part in parts for m in part.modules() if isinstance(m, _BatchNorm)}
    said = "a datapoint is worth the same in calls of 1, 2 and 101"
    return f"{said}, once trained: while it trains, {min(norms)} mixes the rows of a minibatch" if norms else said


@contextmanager
def _many(part: nn.Module, size: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a user's part may fail in any way
        raise Fault(
            f"{name_of(part)} does not run on {size} datapoints, after others: {reason(error)}",
            "compute everything from the x of each call, whose number of rows changes",
        ) from error


def leading_dimensions(model: nn.Module, guide: nn.Module | None, x: Tensor) -> str:
    """Draws two particles at once, which come as a dimension on the left, and each of them alone."""
    with looking(model, guide, x):
        check_particles(model, guide, x)
    return "two particles together are the two alone"


def finite_bound(model: nn.Module, guide: nn.Module | None, x: Tensor) -> str:
    """Takes the bound of all datapoints; without a guide, the log joint at draws from the prior."""
    with torch.random.fork_rng([]), isolated(), evaluation_mode(model, guide), torch.no_grad():
        values = _score(model, guide, x, 1)
        if bool(values.isfinite().all()):
            return f"the bound is {values.mean().item():.2f} nats per datapoint" if guide else "the log joint is finite"
        row = int((~values.isfinite()).flatten(0, -2).any(0).nonzero()[0])
        found = traces(model, guide, x) if guide is not None else [poutine.trace(model).get_trace(x)]
        sites = [
            name
            for trace in found
            for name, site in sample_sites(trace).items()
            if not bool(site_log_prob(site).isfinite().all())
        ]
    raise Fault(
        f"the bound of datapoint {row + 1} is not finite (sites: {listed(sites)})",
        "keep scales and probabilities away from 0, by a floor, softplus or logits, and x inside the support",
    )


def _score(model: nn.Module, guide: nn.Module | None, x: Tensor, particles: int) -> Tensor:
    if guide is not None:
        return bound_terms(model, guide, x, particles)
    return joint_log_prob(poutine.trace(model).get_trace(x)).view(1, -1)


def gradients(model: nn.Module, guide: nn.Module | None, x: Tensor) -> str:
    """Differentiates the bound: every parameter that learns has a gradient, at the start or a little away from it."""
    modules = [part for part in (model, guide) if part is not None]
    names = {
        name: parameter
        for part in modules
        for name, parameter in part.named_parameters(prefix=name_of(part))
        if parameter.requires_grad
    }
    buffers = [(buffer, buffer.clone()) for part in modules for buffer in part.buffers()]
    silent = set(names)
    for std in (0.0, 0.15):
        with torch.random.fork_rng([]), isolated(), stirred(modules, std) if std else isolated():
            torch.manual_seed(0)
            loss = _loss(model, guide, x)
            if not loss.requires_grad:
                continue
            found = torch.autograd.grad(loss, [*names.values()], allow_unused=True)
        for name, gradient in zip(names, found, strict=True):
            if gradient is None:
                continue
            if not std and not bool(gradient.isfinite().all()):
                raise Fault(
                    f"the gradient to {name} is not finite",
                    "beware of sqrt, log and norm at 0, and of torch.where, through which such a gradient passes",
                )
            if bool(gradient.count_nonzero()):
                silent.discard(name)
    with torch.no_grad():
        for buffer, old in buffers:
            buffer.copy_(old)
    if silent:
        raise Fault(
            f"no gradient reaches {', '.join(sorted(silent)[:3])}",
            "use it in forward, without detach, .data, .item() or torch.no_grad, or say requires_grad_(False)",
        )
    return f"all {len(names)} parameters have one" if names else "there is no parameter"


def _loss(model: nn.Module, guide: nn.Module | None, x: Tensor) -> Tensor:
    if guide is None:
        return -_score(model, None, x, 1).sum()
    if sums_out(model, guide, x):
        return -bound_terms(model, guide, x, 2).mean(0).sum()
    loss: Tensor = Trace_ELBO(max_plate_nesting=nesting(x, model, guide)).differentiable_loss(model, guide, x)
    return loss


def log_joint(model: nn.Module, x: Tensor) -> str:
    """Holds HMC's log joint against that of Pyro's trace, for each chain and datapoint alone, in nats.

    Arguments:
        model: The generative model.
        x: A few datapoints.
    """
    with torch.random.fork_rng([]), isolated(), evaluation_mode(model), torch.no_grad():
        torch.manual_seed(0)
        ours = LogJoint(model, x)
        position = ours.start(chains=3)
        joint, latents = ours(position), ours.latents(position)
        for k in range(3):
            for n in range(len(x)):
                values = {name: value[k, n : n + 1] for name, value in latents.items()}
                jacobian = sum(
                    ours.transforms[name].log_abs_det_jacobian(ours.transforms[name].inv(v), v).sum()
                    for name, v in values.items()
                )
                expected = (_of_trace(model, values, x[n : n + 1]) + jacobian).item()
                if not abs(joint[k, n].item() - expected) <= 1e-3 + 1e-4 * abs(expected):
                    raise Fault(
                        f"the log joint of datapoint {n + 1} is {joint[k, n].item():.4f} nats among others and chains, "
                        f"and {expected:.4f} in Pyro's trace of it alone",
                        "let a datapoint depend on its own latent variables and cells alone",
                    )
        value, gradient = ours.with_gradient(position)
        if not torch.equal(value, joint) or not bool(gradient.isfinite().all()):
            raise Fault("the gradient of the log joint is not finite, or its value another", "see gradients")
    return "HMC's log joint is that of Pyro's trace"


def _of_trace(model: nn.Module, values: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The trace's log density at given latent variables, added up over all values of one that is not given."""
    trace = poutine.trace(poutine.condition(model, dict(values))).get_trace(x)
    open_ = {name: site["fn"] for name, site in latent_sites(trace).items() if name not in values}
    if not open_:
        return joint_log_prob(trace).sum()
    name, distribution = next(iter(open_.items()))
    every = [_of_trace(model, {**values, name: value}, x) for value in distribution.enumerate_support()]
    return torch.stack(every).logsumexp(0)


def distributions(part: nn.Module, x: Tensor, names: Callable[[str], bool] = lambda name: True) -> dict[str, Any]:
    """Returns the distributions of a part's sites for one datapoint, as it is and stirred, by names for a reader.

    Arguments:
        part: A model or a guide.
        x: Datapoints.
        names: Which sites are wanted.
    """
    found: dict[str, Any] = {}
    for state, std in (("", 0.0), (", stirred", 0.15)):
        with looking(part, None, x), stirred([part], std):
            torch.manual_seed(0)
            with suppress(ValueError) if std else isolated(validate=True):  # stirred too much for its parameters
                trace = poutine.trace(part).get_trace(x[:1])
                for name, site in {**sample_sites(trace), **global_sites(trace)}.items():
                    if names(name) and not site["infer"].get("is_auxiliary") and site["fn"].event_shape is not None:
                        found[f"site '{name}'{state}"] = site["fn"]
    if not found:
        raise Skipped("it has no site of its own")
    return found


def saved(trained: tuple[nn.Module, nn.Module | None], fresh: tuple[nn.Module, nn.Module | None], x: Tensor) -> str:
    """Loads the state of a pair that has moved into another, built with another seed: both are the same then.

    Arguments:
        trained: A model and its guide.
        fresh: Another such pair.
        x: Datapoints.
    """
    _require_registered([part for part in trained if part is not None])
    for one, other in zip(trained, fresh, strict=True):
        if one is not None and other is not None:
            other.load_state_dict(one.state_dict())
    with looking(*trained, x):
        values, _ = _drawn(*trained, x)
        for one, other in zip(trained, fresh, strict=True):
            if one is None or other is None or (one is trained[1] and not _scores(one, x)):
                continue
            own = _own(one, values, x)
            before = densities(one, own, x)
            with evaluation_mode(other):
                after = densities(other, own, x)
            if not torch.allclose(before, after, rtol=1e-5, atol=1e-4, equal_nan=True):
                raise Fault(
                    f"{name_of(one)} gives {before[0].item():.3f} nats before it is saved and {after[0].item():.3f} "
                    "after it is loaded",
                    "hold all that it computes from in parameters and buffers (register_buffer), nets in an "
                    "nn.ModuleList",
                )
    return "what state_dict holds is all that there is"


def _require_registered(parts: list[nn.Module]) -> None:
    """Refuses what looks like a parameter and is none: no optimiser moves it, and no state_dict holds it."""
    known = {id(p) for part in parts for p in part.parameters()}
    for top in parts:
        for module in top.modules():
            for name, value in vars(module).items():
                if name.startswith("_"):
                    continue
                inside = (
                    value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
                )
                for each in inside:
                    tensors = list(each.parameters()) if isinstance(each, nn.Module) else [each]
                    if any(
                        isinstance(t, Tensor) and t.requires_grad and t.is_leaf and id(t) not in known for t in tensors
                    ):
                        raise Fault(
                            f"{type(module).__name__}.{name} wants a gradient and is no parameter of {name_of(top)}",
                            "make it an nn.Parameter, a list of nets an nn.ModuleList",
                        )
