"""How good are the sampler and the guide, datapoint by datapoint? From the draws of `pyro_vae.to_arviz` alone."""

__all__ = ["flat", "guide", "sampler"]

import math
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray

from pyro_vae.khat import pareto_khat

Array = NDArray[np.float64]


def flat(group: Any) -> Array:
    """Returns the latent sites of a group side by side, with shape `(chain, draw, datapoint, latents)`.

    What is a function of them, by `pyro.deterministic`, is none of them, nor is what is discrete.
    """
    kept = [values for values in group.data_vars.values() if not {"deterministic", "discrete"} & values.attrs.keys()]
    arrays = [values.values for values in kept]
    return np.concatenate([array.reshape(*array.shape[:3], -1) for array in arrays], axis=-1)


def sampler(tree: xr.DataTree) -> xr.Dataset:
    """Judges the Markov chains of each datapoint, by its worst latent variable.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned.

    Returns:
        By datapoint: the largest split R-hat `rhat`, the least effective sample sizes `ess_bulk` and `ess_tail`, the
        least fraction of missing information `bfmi` over chains, `divergences` and the mean `acceptance`.

    References:
        Vehtari et al., Rank-normalization, folding, and localization (2021), https://arxiv.org/abs/1903.08008
    """
    axes = {"chain_axis": 0, "draw_axis": 1}
    z, stats = flat(tree["posterior"]), tree["sample_stats"]
    energy = np.asarray(stats["energy"]).transpose(2, 0, 1)
    return _by_datapoint(
        tree,
        rhat=array_stats.rhat(z, **axes).max(-1),
        ess_bulk=array_stats.ess(z, **axes).min(-1),
        ess_tail=array_stats.ess(z, method="tail", prob=(0.05, 0.95), **axes).min(-1),
        bfmi=np.array([array_stats.bfmi(each).min() for each in energy]),
        divergences=stats["diverging"].sum(("chain", "draw")).values,
        acceptance=stats["acceptance_rate"].mean(("chain", "draw")).values,
    )


def guide(tree: xr.DataTree) -> xr.Dataset:
    r"""Holds the guide against the posterior, which HMC has drawn from.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned.

    Returns:
        By datapoint: `khat`; `importance_ess`, the effective share of the importance weights, from 0 to 1; the `bound`
        and its `bound_se` in nats; `shift`, the largest difference of means, and `wasserstein`, the largest distance of
        a marginal, both in units of the posterior's standard deviation; `scale`, the geometric mean of the ratios of
        standard deviations, below 1 where the guide is too narrow; `kl`, :math:`KL(q \| p)` of Gaussians with the
        means and covariances of the draws, in nats, and `nan` where the draws do not span the latent space.
    """
    stats = tree["guide_sample_stats"]
    log_p, log_q = (np.asarray(stats[name])[0] for name in ("log_p", "log_q"))
    log_w = log_p - log_q
    weights = np.exp(log_w - log_w.max(0))
    pairs = zip(
        flat(tree["guide_posterior"])[0].swapaxes(0, 1),
        flat(tree["posterior"]).transpose(2, 0, 1, 3),
        strict=True,
    )
    moments = [_compare(q.astype(np.float64), p.astype(np.float64).reshape(q.shape)) for q, p in pairs]
    shift, scale, wasserstein, kl = np.array(moments).T
    return _by_datapoint(
        tree,
        khat=pareto_khat(log_w, np.abs(log_p).mean(0)),
        importance_ess=weights.sum(0) ** 2 / (weights**2).sum(0) / len(weights),
        bound=log_w.mean(0),
        bound_se=log_w.std(0, ddof=1) / math.sqrt(len(log_w)),
        shift=shift,
        scale=scale,
        wasserstein=wasserstein,
        kl=kl,
    )


def _compare(q: Array, p: Array) -> tuple[float, float, float, float]:
    """Compares as many draws of q and p, with shape `(draws, latents)`."""
    sd = p.std(0, ddof=1)
    difference = q.mean(0) - p.mean(0)
    # The optimal transport between as many draws on a line goes from each to that of the same rank.
    wasserstein = np.abs(np.sort(q, axis=0) - np.sort(p, axis=0)).mean(0) / sd
    cov_q, cov_p = (np.atleast_2d(np.cov(draws.T)) for draws in (q, p))
    if min(np.linalg.matrix_rank(cov) for cov in (cov_p, cov_q)) < len(sd):
        return np.abs(difference / sd).max(), np.nan, wasserstein.max(), np.nan
    solved = np.linalg.solve(cov_p, np.column_stack([cov_q, difference]))
    trace, square = np.trace(solved[:, :-1]), difference @ solved[:, -1]
    log_det = np.linalg.slogdet(cov_p)[1] - np.linalg.slogdet(cov_q)[1]
    kl = 0.5 * (trace - len(sd) + square + log_det)
    ratio = np.exp(np.log(q.std(0, ddof=1) / sd).mean())
    return np.abs(difference / sd).max(), ratio, wasserstein.max(), kl


def _by_datapoint(tree: xr.DataTree, **values: Any) -> xr.Dataset:
    coords = {"datapoint": tree["observed_data"]["datapoint"].values}
    return xr.Dataset({name: ("datapoint", value) for name, value in values.items()}, coords)
