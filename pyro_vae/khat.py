"""The Pareto shape k-hat of importance weights: can their mean be trusted?"""

__all__ = ["pareto_khat"]

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

Array = NDArray[np.float64]

# Pareto smoothing fits the tail of min(K / 5, 3 sqrt(K)) weights and wants five of them.
_SMOOTHABLE, _TAIL = 25, 5

# Log weights are sums and differences of float32 densities: they are right to a few units in the last place of these,
# and to 1e-3 nats at best.
_ULPS, _LEAST = 4, 1e-3

# The prior of the shape: as much as ten more draws say that it is 0.5.
_PRIOR, _PRIOR_DRAWS = 0.5, 10

# Datapoints that are fitted at once: their candidates stay in a core's cache.
_TOGETHER = 32


def pareto_khat(log_weights: Array, magnitude: Array | float = 0.0) -> Array:
    """Fits the Pareto shape k-hat of the largest importance weights: above 0.7 their mean cannot be trusted.

    The tail are the weights above a cutoff. Weights that are the same but for rounding are ties: those that tie with
    the cutoff are no part of the tail, and others are spread out within the rounding.

    Arguments:
        log_weights: Log weights, not negated, with shape `(draws, datapoints)`. Minus infinity is a weight of zero.
        magnitude: The size of the log densities that they are made of, in nats, with shape `(datapoints,)`.

    Returns:
        The shapes, with shape `(datapoints,)`: minus infinity where all of the tail is a tie; infinity where most of it
        is nothing beside the largest weight; `nan` below 25 draws, where a weight is not a number, and where fewer than
        five lie above a tie, which tell nothing.

    References:
        Vehtari et al., Pareto Smoothed Importance Sampling (2024), https://arxiv.org/abs/1507.02646
    """
    draws, datapoints = log_weights.shape
    khat = np.full(datapoints, np.nan)
    if draws < _SMOOTHABLE:
        return khat
    known = np.flatnonzero(np.isfinite(log_weights.max(0)))
    log_w = np.sort(log_weights.T[known])
    rounding = np.maximum(_LEAST, _ULPS * np.finfo(np.float32).eps * np.abs(magnitude))
    rounding = np.broadcast_to(rounding, datapoints)[known, None]
    largest = int(min(draws / 5, 3 * math.sqrt(draws)))
    tails = (log_w[:, -largest:] > log_w[:, [-largest - 1]] + rounding).sum(1)
    first = np.take_along_axis(log_w, -np.maximum(tails, 1)[:, None], 1)
    tied = (tails == 0) | ((tails >= _TAIL) & (log_w[:, [-1]] - first < rounding)[:, 0])
    khat[known[tied]] = -math.inf
    for tail in np.unique(tails[~tied & (tails >= _TAIL)]):
        rows = np.flatnonzero(~tied & (tails == tail))
        for some in np.split(rows, range(_TOGETHER, len(rows), _TOGETHER)):
            khat[known[some]] = _fit(log_w[some], rounding[some], tail)
    return khat


def _fit(log_w: Array, rounding: Array, n: int) -> Array:
    """Fits the shape of the n last of each row, which is sorted (Zhang and Stephens, 2009).

    A generalised Pareto density has a scale, here b, beside its shape, and for each b the likeliest shape has a closed
    form: candidates for b are weighed by their likelihoods, and the mean of b gives the shape.
    """
    log_w = np.sort(log_w + rounding * np.random.default_rng(0).uniform(-0.5, 0.5, log_w.shape[1]))
    weights = np.exp(log_w[:, -n - 1 :] - log_w[:, [-1]])
    exceeding = weights[:, 1:] - weights[:, [0]]
    least, quartile, largest = exceeding.T[[0, int(n / 4 + 0.5) - 1, -1], :, None]
    candidates = 30 + int(math.sqrt(n))
    with np.errstate(all="ignore"):  # weights that underflow
        grid = 1 - np.sqrt(candidates / (np.arange(candidates) + 0.5))
        b = 1 / largest + grid / (3 * quartile)
        shape = np.log1p(-b[:, :, None] * exceeding[:, None, :]).mean(2)
        b_mean = (b * softmax(n * (np.log(-b / shape) - shape), axis=1)).sum(1, keepdims=True)
        shape = np.log1p(-b_mean * exceeding).mean(1)
    shape = (n * shape + _PRIOR_DRAWS * _PRIOR) / (n + _PRIOR_DRAWS)
    return np.where((quartile <= least)[:, 0] | np.isnan(shape), math.inf, shape)
