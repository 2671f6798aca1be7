"""What must hold of a model and its guide when they are called: with few or many datapoints, and for several draws."""

__all__ = ["check_draws", "check_particles", "check_rows", "check_score", "densities"]

from collections.abc import Mapping

import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_vae.enumerated import conditioned
from pyro_vae.errors import InputError
from pyro_vae.plates import look, nesting, particle_plate
from pyro_vae.sites import Site, global_sites, joint_log_prob, latent_sites, sample_sites, site_log_prob
from pyro_vae.words import AUTO, IN_PLATE, explained, name_of, running


def check_draws(part: nn.Module, x: Tensor) -> None:
    """Checks that a part neither sets the seed nor writes into the data."""
    before, ends = (x._version, x.requires_grad), []
    for seed in range(2):
        torch.manual_seed(seed)
        with running(part, x):
            part(x)
        ends.append(torch.get_rng_state())
    if (x._version, x.requires_grad) != before:
        raise InputError(f"{name_of(part)} changes the x that it is given: work on a copy, x = x.clone()")
    if torch.equal(*ends):
        raise InputError(
            f"{name_of(part)} sets the seed of torch in its forward, so that all draws are alike: leave it out"
        )


def check_rows(model: nn.Module, guide: nn.Module | None, x: Tensor) -> None:
    """Checks that a datapoint means the same alone and among others, whose number changes."""
    alone = x[:1] if len(x) > 1 else x.repeat(2, 1)
    for part in (guide, model):
        if part is None:
            continue
        try:
            sites = sample_sites(poutine.trace(part).get_trace(alone))
            fits = all(site_log_prob(site).shape == _plates(site, len(alone)) for site in sites.values())
        except Exception as error:  # a user's part may fail in any way
            raise InputError(_sized(part, x, alone, explained(error))) from error
        if not fits:
            raise InputError(_sized(part, x, alone, "its sites keep the shape of the others"))
    trace = poutine.trace(guide or model).get_trace(x)
    drawn = latent_sites(trace)
    shared = {name: site["value"] for name, site in global_sites(trace).items()}
    values, some = {name: site["value"] for name, site in drawn.items()} | shared, {**shared}
    for name, site in drawn.items():
        value, dim = site["value"], -1 - site["fn"].event_dim
        some[name] = value.narrow(dim, 0, len(alone)) if len(x) > 1 else value.repeat_interleave(2, dim)
    among = densities(model, values, x)[:1]
    apart = densities(model, some, alone)[:1]
    # What draws, or counts its calls, differs from itself: of that, nothing can be said here.
    if not _close(among, apart) and _close(among, densities(model, values, x)[:1]):
        raise InputError(
            f"{name_of(model)} gives a datapoint {apart.item():.3f} nats alone and {among.item():.3f} among others: a "
            "datapoint must not depend on those beside it"
        )


def _sized(part: nn.Module, x: Tensor, alone: Tensor, why: str) -> str:
    mend = "compute everything from the x of each call"
    if isinstance(part, AutoGuide):
        mend = AUTO
    return (
        f"{name_of(part)} runs on {len(x)} datapoints and not on {len(alone)}, but minibatches differ: {mend} ({why})"
    )


def check_particles(model: nn.Module, guide: nn.Module | None, x: Tensor) -> None:
    """Checks that two draws in a plate on the left are the two draws alone."""
    if look(model, x).shared:
        return  # draws come one at a time
    plates = nesting(x, model, guide or model)
    try:
        with particle_plate(2, plates):
            drawn = poutine.trace(guide or model).get_trace(x)
        if not (latent := latent_sites(drawn)):
            return
        shapes = [joint_log_prob(drawn).shape]
        values = {
            name: site["value"].expand(2, *site["value"].shape[-plates - site["fn"].event_dim :])
            for name, site in latent.items()
        }
        together = densities(model, values, x, 2)
        shapes.append(together.shape)
    except Exception as error:  # a user's part may fail in any way
        raise InputError(_leading(guide or model, model, explained(error))) from error
    if any(shape != (2, len(x)) for shape in shapes):
        raise InputError(_leading(guide or model, model, f"log densities have shape {tuple(shapes[-1])}"))
    apart = torch.stack([densities(model, {n: v[k] for n, v in values.items()}, x) for k in range(2)])
    if not _close(together, apart) and _close(together, densities(model, values, x, 2)):
        raise InputError(_leading(guide or model, model, "together their densities are others than apart"))


def _leading(guide: nn.Module, model: nn.Module, why: str) -> str:
    norms = [type(m).__name__ for part in (guide, model) for m in part.modules() if isinstance(m, _BatchNorm)]
    mend = f", and {norms[0]} takes one, (n, features): flatten and unflatten around it" if norms else ""
    return (
        f"{' or '.join(dict.fromkeys(map(name_of, (guide, model))))} cannot draw several particles: they come as "
        f"leading dimensions, (2, n, features), which networks must accept{mend} ({why})"
    )


def densities(model: nn.Module, latents: Mapping[str, Tensor], x: Tensor, particles: int = 1) -> Tensor:
    """Returns log densities per datapoint, in nats, of several draws on the left where there are particles.

    Arguments:
        model: A model, or a guide.
        latents: Its latent variables by site. Countable ones that are left out are summed out.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws.
    """
    if look(model, x).countable - latents.keys():
        found = conditioned(model, latents, x, particles if particles > 1 else None).log_p().float()
    else:
        with particle_plate(particles, look(model, x).nesting):
            found = joint_log_prob(poutine.trace(poutine.condition(model, dict(latents))).get_trace(x))
    return found if particles > 1 else found.view(-1)


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)


def check_score(part: nn.Module | None, name: str, site: Site, x: Tensor) -> None:
    """Checks that a site gives each datapoint one log-probability."""
    try:
        shape = site_log_prob(site).shape
    except Exception as error:  # a distribution of the user's may fail in any way
        raise InputError(f"site '{name}' of {name_of(part)} cannot score its values: {explained(error)}") from error
    if shape != (plates := _plates(site, len(x))):
        raise InputError(
            f"site '{name}' of {name_of(part)} {IN_PLATE}: its log-probabilities have shape {tuple(shape)}, "
            f"not {plates}"
        )


def _plates(site: Site, datapoints: int) -> tuple[int, ...]:
    """The shape of the plates around a site, that of the datapoints last."""
    sizes = {f.dim: f.size for f in site["cond_indep_stack"] if f.vectorized}
    return *(sizes.get(dim, 1) for dim in range(min(sizes), -1)), datapoints
