r"""What another prior would make of a trained model, without training: the decoder stays as it is.

.. math:: \log p_{new}(x) - \log p_{old}(x) = \log E_{p_{old}(z | x)} \frac{p_{new}(z)}{p_{old}(z)}

The draws are HMC's. A decoder that is trained with the new prior can move its latent variables to where that has its
mass, and make more of it.

Under a prior with heavier tails than the old one's the ratio has no bound, and draws of the old posterior may miss what
counts. With draws of the new posterior as well, from which the ratio the other way is as good, the difference D of the
two log p(x) solves (Bennett, 1976; Meng & Wong, 1996)

.. math:: E_{p_{old}(z | x)} \, \sigma(r - D) = E_{p_{new}(z | x)} \, \sigma(D - r),
    \quad r = \log p_{new}(z) - \log p_{old}(z)

Either side is how far the two posteriors overlap, 1/2 where they are one. Where they hardly do, as the new prior lets
latent variables go to places that the old one has no draws of, such draws do not tell D.
"""

__all__ = ["Bridge", "Preview", "Swapped", "bridged", "from_ratios", "preview", "with_prior"]

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray
from pyro import plate, poutine
from scipy.special import expit
from torch import Tensor, nn

from pyro_vae.analysis.posterior import Arrays, draw_posterior, require_bijections
from pyro_vae.bayesian import has_random_weights
from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS
from pyro_vae.errors import InputError, require_whole, told
from pyro_vae.khat import pareto_khat
from pyro_vae.marginal import LOOKED_AT, Estimates, proposal
from pyro_vae.measure import measure
from pyro_vae.plates import Place, look
from pyro_vae.run import parts
from pyro_vae.run.prepared import build_prior
from pyro_vae.run.progress import Stages
from pyro_vae.run.run import Run
from pyro_vae.run.score import estimators, nan_to_none, require_scorable, score
from pyro_vae.run.trust import located
from pyro_vae.sites import Site, evaluation_mode, in_rows, isolated, latent_sites, site_log_prob
from pyro_vae.split import Split
from pyro_vae.traced import worth_compiling

# Halvings of an interval of some hundred nats, which leave less of it than rounding does.
_HALVINGS = 60

# The least overlap of two sets of draws that tell the difference of their log masses: of 2,000 draws, 20 then do.
_OVERLAP = 0.01

# Datapoints for which a new prior is drawn from, to see whether it reaches where the old one does not.
_PROBES = 1000


class Swapped(NamedTuple):
    """A copy of a model with another prior, everything else as it was trained.

    Arguments:
        model: The copy.
        prior: The prior in it, as it begins.
    """

    model: nn.Module
    prior: nn.Module


class Preview(NamedTuple):
    """What another prior makes of each datapoint.

    Arguments:
        estimates: By how much log p(x) is higher, in nats, with the errors of the draws.
        khat: The Pareto k-hat of the ratios of the priors; above 0.7 their mean cannot be trusted.
        ess: How many independent draws tell as much of that mean.
    """

    estimates: Estimates
    khat: NDArray[np.float64]
    ess: NDArray[np.float64]


class Bridge(NamedTuple):
    """What another prior makes of each datapoint, from draws of both posteriors.

    Arguments:
        estimates: By how much log p(x) is higher, in nats, with the errors of the draws.
        overlap: How far the posteriors overlap, from 0 to 1/2; below 0.01 the estimates are none.
    """

    estimates: Estimates
    overlap: NDArray[np.float64]


def with_prior(run: Run, name: str, own: Mapping[str, Any] | None = None, seed: int = 0) -> Swapped:
    """Puts another prior into a copy of a run's model; weights that are random are at their mean.

    Arguments:
        run: The run.
        name: The prior, by name or path.
        own: Arguments of the prior.
        seed: The seed of what it draws when it is built.

    Raises:
        InputError: If there is no such prior, or the model has none in whose place it could stand.
    """
    model = _of(run)
    part, old = parts.find("prior", name), parts.find("prior", located(run.path, run.settings).prior)
    places = [place for place, module in model.named_modules() if isinstance(module, old)]
    if len(places) != 1:
        raise InputError(
            f"{run.path}: {type(model).__name__} has no module {old.__name__} that --prior {name} could take the place "
            "of: only a model with a prior of the shelf, or one that is given as prior=, can be previewed"
        )
    device = run.dataset.train.device
    with seeded(seed, device), told(f"copying {type(model).__name__}"):
        try:
            prior = build_prior(name, part, run.settings, run.dataset, run.guide, own or {}).to(device)
        except InputError as error:  # an argument was given with the prior's name
            raise InputError(str(error).replace("--set prior.", f"--set {name}.")) from error
        swapped = copy.deepcopy(model)
        swapped.set_submodule(places[0], prior)
    return Swapped(swapped, prior)


def from_ratios(log_ratios: NDArray[np.float64], magnitude: NDArray[np.float64] | float = 0.0) -> Preview:
    """Averages the ratios of two priors at draws of the posterior.

    Arguments:
        log_ratios: Their logarithms in nats, with shape `(chains, draws, datapoints)`.
        magnitude: The size of the log densities that they are made of, with shape `(datapoints,)`.
    """
    together = torch.from_numpy(log_ratios).flatten(0, 1)
    values = together.logsumexp(0) - math.log(len(together))
    weights = (together - values).exp().numpy().reshape(log_ratios.shape)  # of mean 1
    spread = weights.std((0, 1), ddof=1)
    with np.errstate(all="ignore"):  # weights may be all the same, or no numbers
        ess = np.asarray(array_stats.ess(weights, method="mean", chain_axis=0, draw_axis=1), np.float64)
        se = np.where(spread == 0, 0.0, spread / np.sqrt(ess))
    return Preview(Estimates(values, torch.from_numpy(se)), pareto_khat(together.numpy(), magnitude), ess)


def bridged(old: NDArray[np.float64], new: NDArray[np.float64]) -> Bridge:
    """Estimates how much higher log p(x) is from draws of both posteriors.

    Arguments:
        old: Log ratios of the new prior to the old one in nats, at draws of the old posterior, with shape
            `(chains, draws, datapoints)`.
        new: The same at draws of the new posterior.
    """
    low = np.minimum(old.min((0, 1), where=np.isfinite(old), initial=0.0), new.min((0, 1))) - 50
    high = np.maximum(old.max((0, 1)), new.max((0, 1))) + 50
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = expit(old - middle).mean((0, 1)) > expit(middle - new).mean((0, 1))
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    values = (low + high) / 2
    variance = slope = np.zeros_like(values)
    of_old, of_new = expit(old - values), expit(values - new)
    for shares in (of_old, of_new):
        with np.errstate(all="ignore"):  # shares may be all the same
            ess = array_stats.ess(shares, method="mean", chain_axis=0, draw_axis=1)
            variance = variance + np.where(shares.std((0, 1)) == 0, 0.0, shares.var((0, 1), ddof=1) / ess)
        slope = slope + (shares * (1 - shares)).mean((0, 1))
    with np.errstate(all="ignore"):  # without overlap there is no slope
        se = np.sqrt(variance) / slope
    return Bridge(Estimates(torch.from_numpy(values), torch.from_numpy(se)), of_old.mean((0, 1)))


@torch.no_grad()
def preview(
    run: Run,
    priors: Sequence[str],
    *,
    split: str = "test",
    limit: int | None = 200,
    chains: int = 4,
    draws: int = 500,
    warmup: int = 200,
    bridge: bool = False,
    marginal: Sequence[str] = (),
    set: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    compile: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Predicts what other priors would make of a run, its decoder fixed.

    Arguments:
        run: The run.
        priors: The priors, by name or path.
        split: `train` or `test`.
        limit: Take the first datapoints only.
        chains: The number of Markov chains of each datapoint.
        draws: The number of draws of each chain.
        warmup: The number of transitions before them.
        bridge: Whether to draw from the posteriors under the new priors as well, for those with heavier tails.
        marginal: Estimators of log p(x) to hold the predictions against, with the decoder fixed, by name or path.
        set: Arguments of the priors and of the estimators, by their names.
        seed: The seed of all draws.
        compile: `on`, `off`, or `auto`, which compiles what is worth it.
        progress: Whether to report progress on standard error.

    Returns:
        `run`, `prior`, `data`, `binarize`, `cells`, `measure`, `split`, `datapoints` and `priors`, of which each has
        `prior`; `learns`, whether it has parameters, which are as they begin; `difference`, by how much log p(x) is
        higher in nats per datapoint, `difference_se`, which holds the choice of datapoints as well, and `draws_se`,
        which does not; of the old posterior's draws `khat_over_0_7`, the share of datapoints, and `ess`, the least
        effective number of 95 % of them; with `bridge` `apart`, the share of datapoints whose two posteriors are too
        far apart to tell a difference, which all differences of that prior leave out; and under the name of each
        estimator the same differences. What no datapoint tells is None.

    Raises:
        InputError: If there is no such split, prior or estimator, HMC cannot move the latent variables, or a prior
            reaches where the run's has no mass: draws under that say nothing of it.
    """
    require_scorable(split, 1)
    for name, value, least in (("chains", chains, 1), ("draws", draws, 4), ("warmup", warmup, 0)):
        require_whole(name, value, least)
    own = dict(set or {})
    swapped = {name: with_prior(run, name, own.pop(name, None), seed) for name in priors}
    model, device, stages = _of(run), run.dataset.train.device, Stages(progress)
    with seeded(seed, device):  # dynamic binarisation draws the pixels
        x = getattr(run.dataset, split).head(limit).first()
    compiled = worth_compiling(compile, len(x) * chains * (warmup + draws))
    chosen = estimators(marginal, own, compile=compiled)
    guide = proposal(run.guide, x[:LOOKED_AT])
    drawing = stages.stage(f"drawing from the posterior of {len(x)} datapoints")
    with told(f"the preview of {type(model).__name__}"), evaluation_mode(model, guide, *_models(swapped)), isolated():
        kind = measure(model, getattr(run.dataset, split))
        require_bijections(model, type(model).__name__, x[:2])
        with seeded(seed, device):
            for name, (other, _) in swapped.items():
                _require_within(model, other, x[:1].expand(_PROBES, -1), name)
        with seeded(seed, device), drawing as advance:
            drawn = draw_posterior(
                model, guide, x, chains=chains, draws=draws, warmup=warmup, compile=compiled, advance=advance
            )
        old = np.sum([*drawn.prior.values()], axis=0)
        with stages.stage("weighing the draws"):
            ratios = {name: _log_prior(other, x, drawn.latents) - old for name, (other, _) in swapped.items()}
        both = {}
        for name, (other, _) in swapped.items() if bridge else ():
            again = stages.stage(f"drawing from the posterior under {name}")
            with seeded(seed, device), again as advance:
                theirs = draw_posterior(
                    other, guide, x, chains=chains, draws=draws, warmup=warmup, compile=compiled, advance=advance
                )
            new = np.sum([*theirs.prior.values()], axis=0)
            both[name] = bridged(ratios[name], new - _log_prior(model, x, theirs.latents))
    scored = {}
    if chosen:
        with stages.stage(f"estimating log p(x) by {', '.join(chosen)}, with the decoder fixed"):
            for name, each in ("", model), *((name, other) for name, (other, _) in swapped.items()):
                scored[name] = score(each, guide, Split(x), chosen, particles=0, seed=seed).marginals
    rows = []
    for name, (_, prior) in swapped.items():
        estimates, khat, ess = from_ratios(ratios[name], np.abs(old).mean((0, 1)))
        row: dict[str, Any] = {"prior": name, "learns": any(True for _ in prior.parameters())}
        told_of = torch.ones(len(x), dtype=torch.bool)
        if name in both:
            estimates, overlap = both[name]
            told_of = torch.from_numpy(overlap >= _OVERLAP)
            row["apart"] = 1 - told_of.double().mean().item()
        nothing = Estimates(*torch.zeros(2, len(x), dtype=torch.float64))
        row |= _means(estimates, nothing, told_of)
        row |= {"khat_over_0_7": float((khat > 0.7).mean()), "ess": float(np.quantile(ess, 0.05))}
        row |= {each: _means(scored[name][each].estimates, scored[""][each].estimates, told_of) for each in chosen}
        rows.append(nan_to_none(row))
    return {
        "run": str(run.path),
        "prior": run.settings.prior,
        "data": run.dataset.name,
        "binarize": run.dataset.binarize,
        "cells": " ".join(reversed(run.dataset.cells)),
        "measure": kind,
        "split": split,
        "datapoints": len(x),
        "priors": rows,
    }


def _of(run: Run) -> Any:
    return run.model.at_mean if has_random_weights(run.model) else run.model


def _models(swapped: Mapping[str, Swapped]) -> list[nn.Module]:
    return [each.model for each in swapped.values()]


def _means(new: Estimates, old: Estimates, told_of: Tensor) -> dict[str, float]:
    """The mean difference over some datapoints, with its error, and the part of this that the draws make."""
    if not told_of.any():
        return dict.fromkeys(("difference", "difference_se", "draws_se"), math.nan)
    new, old = (Estimates(each.values[told_of], each.se[told_of]) for each in (new, old))
    difference, se = new.minus(old)
    of_draws = math.sqrt(new.mean().se ** 2 + old.mean().se ** 2)
    return {"difference": difference, "difference_se": se, "draws_se": of_draws}


def _latent(model: nn.Module, x: Tensor) -> dict[str, Site]:
    return latent_sites(poutine.trace(model).get_trace(x))


def _require_within(old: nn.Module, new: nn.Module, x: Tensor, name: str) -> None:
    """Refuses a prior that draws what the old one cannot."""
    theirs = _latent(old, x)
    for site, drawn in _latent(new, x).items():
        support = theirs[site]["fn"].support
        if not bool(support.check(drawn["value"]).all()):
            raise InputError(
                f"--prior {name} reaches where the run's prior has no mass, and draws under that say nothing of it: "
                "train with it"
            )


def _log_prior(model: nn.Module, x: Tensor, latents: Arrays) -> NDArray[np.float64]:
    """The log prior of draws in nats, with shape `(chains, draws, datapoints)`; minus infinity outside its support."""
    chains, draws = next(iter(latents.values())).shape[:2]
    nesting = look(model, x).nesting
    places = {name: Place.of(site, nesting) for name, site in _latent(model, x).items()}
    flat = {name: torch.from_numpy(values).to(x.device).flatten(0, 1) for name, values in latents.items()}
    found = []
    for some in torch.arange(chains * draws, device=x.device).split(max(1, ROWS // len(x))):
        given = {name: places[name].in_plates(values[some]) for name, values in flat.items()}
        with plate("chains", len(some), dim=-1 - nesting):
            trace = poutine.trace(poutine.condition(model, given)).get_trace(x)
        sites: Any = {name: trace.nodes[name] for name in given}
        inside = {name: site["fn"].support.check(site["value"]) for name, site in sites.items()}
        terms = [
            in_rows(site, torch.where(inside[name], site_log_prob(site), -math.inf)).double()
            for name, site in sites.items()
        ]
        found.append(torch.stack(terms).sum(0))
    return torch.cat(found).cpu().numpy().reshape(chains, draws, len(x))
