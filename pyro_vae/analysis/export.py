"""Draws of a trained pair as an ArviZ `DataTree`, for any Pyro model and guide.

Each datapoint has Markov chains of its own, so that all groups share the dimension `datapoint`: `tree.sel(datapoint=7)`
is a tree of one datapoint, which every function of ArviZ takes.
"""

__all__ = ["per_datapoint", "to_arviz", "write"]

import math
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import arviz as az
import numpy as np
import pyro
import torch
import xarray as xr
from numpy.typing import NDArray
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_vae.analysis.posterior import (
    Arrays,
    PosteriorDraws,
    draw_posterior,
    from_guide,
    predict,
    predict_prior,
    require_bijections,
)
from pyro_vae.device import seeded
from pyro_vae.errors import InputError, RunError, reason, require_whole
from pyro_vae.plates import is_countable, traces
from pyro_vae.rows import there
from pyro_vae.run.folder import replace_file
from pyro_vae.sites import (
    Site,
    evaluation_mode,
    in_rows,
    isolated,
    latent_sites,
    observed_sites,
    point_sites,
    sample_sites,
    site_log_prob,
)

_SAMPLES = ["chain", "draw"]
_PROBABILITY = "_probability"
_IMAGE_DIMS = ["row", "column", "channel"]
_UNITS = {
    "lp": "nats",
    "energy": "nats",
    "acceptance_rate": "1",
    "step_size": "standard deviations of the guide",
    "log_p": "nats",
    "log_q": "nats",
}


def to_arviz(
    model: Callable[..., Any],
    guide: Callable[..., Any] | None,
    x: Tensor,
    *,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 200,
    predictive: int = 100,
    image_shape: tuple[int, ...] | None = None,
    seed: int = 0,
    compile: bool = False,
    attrs: Mapping[str, Any] | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> xr.DataTree:
    r"""Draws from the posterior, the guide and the predictive distributions of a trained pair.

    Model and guide are called with x. Their parameters are fixed: what is drawn are the latent sites, one set for each
    datapoint, which must lie in a plate of dimension -1. The groups:

    - `posterior`: the latent sites by name, drawn by HMC, with shape `(chain, draw, datapoint, ...)`, and what
      `pyro.deterministic` makes of them, marked by the attribute `deterministic`. Discrete sites, marked by `discrete`,
      are summed out while HMC moves the others, and drawn given these; `SITE_probability` are the probabilities that
      they were drawn by, with the site's values as the coordinate `SITE_value`. Their means are :math:`p(y | x)`.
    - `sample_stats`: `lp` and `energy` in nats, of the unconstrained latent variables, `acceptance_rate`, `diverging`,
      and `step_size` in units of the guide's standard deviations.
    - `log_likelihood`: :math:`\log p(x | z)` in nats by observed site, with shape `(chain, draw, datapoint)`.
    - `log_prior`: :math:`\log p(z)` in nats by latent site, with that shape, for `az.psense_summary`.
    - `guide_posterior`: the latent sites, drawn from the guide in one chain of `chains * draws`. A guide that is a
      point (`Delta`) has no density, so that its groups are left out; the attribute `guide_left_out` says so.
    - `guide_sample_stats`: `log_p`, :math:`\log p(x, z)`, and `log_q`, :math:`\log q(z | x)`, in nats.
    - `posterior_predictive`, `prior`, `prior_predictive`: draws for datapoints of the same number; `prior` holds the
      latent and the deterministic sites.
    - `posterior_predictive_mean`: the posterior mean of :math:`E[x | z]`, where the likelihood has a mean.
    - `observed_data`: the observed sites, not-a-number where a cell is missing.

    Dimensions of a site's event are called `SITE_dim_0` and so on; those of an image are `row` and `column`. Variables
    that have units name them by the attribute `units`. `pyro.factor` counts in `lp`, and is no site of any group.

    Arguments:
        model: The generative model, a module or a function.
        guide: The recognition model; without one that has a density its groups are left out, and chains start from the
            prior.
        x: The data, with the datapoints along its first dimension.
        chains: The number of Markov chains of each datapoint.
        draws: The number of draws of each chain.
        warmup: The number of transitions before them, in which step sizes are tuned.
        predictive: The number of predictive draws, as many of each chain.
        image_shape: Height and width of a datapoint, and perhaps its channels.
        seed: The seed of all draws, which leave torch's own generators as they were.
        compile: Whether gradients are traced and compiled.
        attrs: Attributes of the tree, beside those that name the libraries, the model and the guide.
        advance: Called now and then with the share of the chains' work done since the last call.

    Returns:
        The tree.

    Raises:
        InputError: If a number is too small, the pair cannot be run on x, its sites do not fit, HMC cannot move one of
            them, or its parameters lie in Pyro's parameter store alone.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits")
        >>> model, guide = BernoulliModel(data.features, 2, hidden=8), GaussianGuide(data.features, 2, hidden=8)
        >>> tree = pyro_vae.to_arviz(model, guide, data.test.first(2), draws=10, warmup=10, predictive=5)
        >>> dict(tree.posterior.sizes)
        {'chain': 4, 'draw': 10, 'datapoint': 2, 'z_dim_0': 2}
    """
    for name, value, least in (("chains", chains, 1), ("draws", draws, 4), ("warmup", warmup, 0)):
        require_whole(name, value, least)
    if not chains <= predictive <= chains * draws:
        raise InputError(f"predictive {predictive} is not possible: give a number from {chains} to {chains * draws}")
    # The module of a method is its object.
    modules = [getattr(part, "__self__", part) for part in (model, guide)]
    with seeded(seed, x.device), evaluation_mode(*modules), torch.no_grad():
        observed, points = _sites(model, guide, x)
        density = None if points else guide
        with isolated():
            drawn = draw_posterior(
                model, density, x, chains=chains, draws=draws, warmup=warmup, compile=compile, advance=advance
            )
            groups = {
                "posterior": drawn.latents | drawn.deterministic | _probabilities(drawn),
                "sample_stats": drawn.stats,
                "log_likelihood": drawn.likelihood,
                "log_prior": drawn.prior,
            }
            if density is not None:
                z, groups["guide_sample_stats"] = from_guide(model, density, x, chains * draws)
                groups["guide_posterior"] = {
                    name: z[name] for name in drawn.latents if name in z
                }  # in the model's order
            kept = np.linspace(0, draws - 1, predictive // chains).round().astype(int)
            thinned = {name: values[:, kept] for name, values in drawn.latents.items()}
            groups["posterior_predictive"], means = predict(model, x, thinned)
            z, made, groups["prior_predictive"] = predict_prior(model, x, chains * len(kept))
            groups["prior"] = z | made
    data = {name: _observed_values(site) for name, site in observed.items()}
    size = math.prod(image_shape) if image_shape else 0
    images = {name: image_shape for name, site in observed.items() if site["fn"].event_shape == (size,)}
    datasets = {
        name: _dataset(values, images, kept if name == "posterior_predictive" else None, supports=drawn.supports)
        for name, values in groups.items()
    }
    datasets["observed_data"] = _dataset(data, images, sampled=False)
    if means:
        datasets["posterior_predictive_mean"] = _dataset(means, images, sampled=False)
    for group, dataset in datasets.items():
        for site, variable in dataset.data_vars.items():
            name = str(site)
            if group in ("posterior", "prior") and name in drawn.deterministic | _probabilities(drawn):
                variable.attrs["deterministic"] = "a function of the latent variables"
            if group in ("posterior", "prior", "guide_posterior") and name in drawn.supports:
                variable.attrs["discrete"] = "HMC sums it out; it is drawn given all other latent variables"
            if group in ("log_likelihood", "log_prior"):
                variable.attrs["units"] = "nats"
            elif group.endswith("sample_stats") and name in _UNITS:
                variable.attrs["units"] = _UNITS[name]
    tree = xr.DataTree.from_dict(datasets)
    named: dict[str, Any] = {"model": _name(model), "guide": _name(guide), "seed": seed}
    named |= {"chains": chains, "draws": draws, "warmup": warmup}
    if points:
        named["guide_left_out"] = (
            f"{_name(guide)} is a point at {', '.join(map(repr, points))}, and a point has no density: what holds the "
            "guide against the posterior is left out, and chains start from the prior"
        )
    tree.attrs = az.make_attrs({**named, **(attrs or {})}, inference_library=pyro)
    return tree


def write(tree: xr.DataTree, path: Path) -> Path:
    """Writes a tree beside its place and renames it; `az.from_netcdf` or `az.from_zarr` read it.

    Arguments:
        tree: The tree.
        path: A file `.nc`, or a folder `.zarr`.

    Returns:
        The path.
    """
    if path.suffix != ".zarr":
        replace_file(path, lambda beside: tree.to_netcdf(beside, engine="h5netcdf"))
        return path
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(OSError):  # a stranger may have put a link there, which would be followed
        beside.unlink()
    try:
        # Format 2 can say in one place what it holds, and every reader knows it.
        tree.to_zarr(beside, mode="w", zarr_format=2)
        shutil.rmtree(path, ignore_errors=True)
        beside.rename(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def per_datapoint(
    tree: xr.DataTree, statistic: Callable[[xr.DataArray, list[str]], xr.DataArray] = xr.DataArray.mean
) -> xr.DataTree:
    """Brings data and predictions to one number for each datapoint, at the draws that have predictions.

    That is what ArviZ's PIT plots work on: `az.plot_ppc_pit(per_datapoint(tree))`, and `az.plot_loo_pit`, which weights
    the predictive draws by the log likelihood of the same draws.

    Arguments:
        tree: What `to_arviz` returned, or `az.from_netcdf` has read.
        statistic: Takes data and the dimensions of a datapoint, returns the data without them. The mean if omitted.

    Returns:
        A tree with the groups `posterior`, `sample_stats`, `log_likelihood`, `posterior_predictive` and
        `observed_data`.
    """
    kept = tree["posterior_predictive"]["draw"]
    groups = {name: tree[name].to_dataset().sel(draw=kept) for name in ("posterior", "sample_stats", "log_likelihood")}
    for name in ("posterior_predictive", "observed_data"):
        values = tree[name].to_dataset()
        groups[name] = values.map(
            lambda each: statistic(each, [d for d in map(str, each.dims) if d not in (*_SAMPLES, "datapoint")])
        )
    return xr.DataTree.from_dict(groups)


def _sites(model: Callable[..., Any], guide: Callable[..., Any] | None, x: Tensor) -> tuple[dict[str, Site], list[str]]:
    """The observed sites of a pair, and those at which the guide is a point, after a look at all of its sites."""
    try:
        # The parameter store as it is, and an empty one: what depends on it does not belong to a module.
        store = pyro.get_param_store()
        with torch.random.fork_rng(), store.scope(store.get_state()), pyro.validation_enabled(False):
            found, log_probs = _traced(model, guide, x)
        with isolated():
            _, again = _traced(model, guide, x)
    except Exception as error:  # a user's part may fail in any way
        raise InputError(f"{_name(model)} cannot be run on data of shape {tuple(x.shape)}: {reason(error)}") from error
    if not all(map(torch.equal, log_probs, again)):
        with isolated(), torch.random.fork_rng():
            state = torch.get_rng_state()
            repeated = [_densities_from(state, model, guide, x) for _ in range(2)]
        if not all(map(torch.equal, *repeated)):
            raise InputError(
                f"{_name(model)} or its guide gives the same draws another density at each call: what it draws must be "
                "pyro.sample sites, and what it counts must not change in evaluation mode"
            )
        raise InputError(
            f"{_name(model)} or its guide draws on pyro.param values that belong to no module: make them nn.Parameters"
        )
    latent, observed = latent_sites(found[0]), observed_sites(found[0])
    if not latent or not observed:
        raise InputError(f"{_name(model)} needs latent and observed sites: it has {sorted(latent)}, {sorted(observed)}")
    with isolated():
        require_bijections(model, _name(model), x[:2])
    if guide is not None:
        q = latent_sites(found[1])
        left = {name for name, site in latent.items() if not is_countable(site)}
        if not left <= q.keys() <= latent.keys():
            raise InputError(
                f"the latent sites of {_name(model)} are {sorted(latent)}, but {_name(guide)} samples {sorted(q)}: "
                "give them the same names"
            )
    if any(value.shape != (len(x),) for value in log_probs):
        raise InputError(
            f"{_name(model)} or its guide has sites outside a plate of {len(x)} datapoints of dimension -1: put them "
            "inside, with .to_event for their other dimensions"
        )
    return observed, [] if guide is None else point_sites(found[1])


def _observed_values(site: Site) -> NDArray[Any]:
    """The data of a site, not-a-number where a cell is missing."""
    mask = there(site["fn"])
    value = site["value"] if mask is None else torch.where(mask, site["value"], math.nan)
    return value.cpu().numpy()


def _densities_from(state: Tensor, model: Callable[..., Any], guide: Any, x: Tensor) -> list[Tensor]:
    torch.set_rng_state(state)
    return _traced(model, guide, x)[1]


def _traced(model: Callable[..., Any], guide: Callable[..., Any] | None, x: Tensor) -> tuple[list[Trace], list[Tensor]]:
    """The trace of the model and, where there is one, of the guide, and the log densities of all of their sites."""
    found = [poutine.trace(model).get_trace(x)] if guide is None else list(traces(model, guide, x))
    sites = [site for trace in found for site in sample_sites(trace).values()]
    return found, [in_rows(site, site_log_prob(site)).view(-1) for site in sites]


def _dataset(
    values: Arrays,
    images: Mapping[str, tuple[int, ...] | None],
    draws: Any = None,
    sampled: bool = True,
    supports: Mapping[str, Any] = MappingProxyType({}),
) -> xr.Dataset:
    """A group: its arrays begin with chain and draw, where they are sampled, and the datapoint."""
    leading = 3 if sampled else 1
    shaped, dims = {}, {}
    coords = {} if draws is None else {"draw": draws}
    for name, value in values.items():
        image = images.get(name) if value.ndim > leading else None
        shaped[name] = value.reshape(*value.shape[:leading], *image) if image else value
        event = _IMAGE_DIMS[: len(image)] if image else [f"{name}_dim_{n}" for n in range(value.ndim - leading)]
        dims[name] = ["datapoint", *event]
        if (site := name.removesuffix(_PROBABILITY)) != name and site in supports:
            dims[name][-1] = f"{site}_value"
            support = supports[site]
            coords[f"{site}_value"] = support if support.ndim == 1 else np.arange(len(support))
    return az.dict_to_dataset(
        shaped,
        dims=dims,
        coords=coords,
        sample_dims=_SAMPLES if sampled else [],
        inference_library=pyro,
        check_conventions=False,  # a few predictive draws of many chains are no mistake
    )


def _probabilities(drawn: PosteriorDraws) -> Arrays:
    return {f"{name}{_PROBABILITY}": values for name, values in drawn.probabilities.items()}


def _name(part: Any) -> str:
    """The class of a module, the name of a function."""
    return "" if part is None else getattr(part, "__qualname__", type(part).__name__)
