"""The Pareto shape k-hat of importance weights: can their mean be trusted?"""

__all__ = ["pareto_khat"]

import math

import numpy as np
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Pareto smoothing fits the tail of min(K / 5, 3 sqrt(K)) weights and wants five of them.
_SMOOTHABLE, _TAIL = 25, 5

# Log weights are sums and differences of float32 densities: they are right to a few units in the last place of these,
# and to 1e-3 nats at best.
_ULPS, _LEAST = 4, 1e-3


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
    if draws < _SMOOTHABLE:
        return np.full(datapoints, np.nan)
    rounding = np.maximum(_LEAST, _ULPS * np.finfo(np.float32).eps * np.abs(magnitude))
    columns = zip(log_weights.T, np.broadcast_to(rounding, datapoints), strict=True)
    return np.array([_khat(np.sort(column), step) for column, step in columns])


def _khat(log_w: Array, rounding: float) -> float:
    if not np.isfinite(log_w[-1]):  # nan is sorted to the end
        return math.nan
    size = len(log_w)
    cutoff = log_w[-int(min(size / 5, 3 * math.sqrt(size))) - 1]
    tail = log_w[log_w > cutoff + rounding]
    if len(tail) == 0 or (len(tail) >= _TAIL and tail[-1] - tail[0] < rounding):
        return -math.inf
    if len(tail) < _TAIL:
        return math.nan
    within = np.random.default_rng(0).uniform(-rounding / 2, rounding / 2, size)
    efficiency = 9 * size / (len(tail) + 0.5) ** 2  # so that 3 sqrt(size / efficiency), rounded down, is this tail
    with np.errstate(all="ignore"):  # weights that underflow
        # psislw is made for leave-one-out and negates what it gets.
        shape = float(array_stats.psislw(-(log_w + within), r_eff=efficiency)[1])
    return math.inf if math.isnan(shape) else shape
