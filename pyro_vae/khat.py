"""The Pareto shape k-hat of importance weights: can their mean be trusted?"""

__all__ = ["pareto_khat"]

import math

import numpy as np
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Pareto smoothing fits the tail of min(K / 5, 3 sqrt(K)) weights and wants five of them.
_SMOOTHABLE = 25

# Log weights are sums and differences of float32 densities: they are right to a few units in the last place of these,
# and to 1e-3 nats at best.
_ULPS, _LEAST = 4, 1e-3


def pareto_khat(log_weights: Array, magnitude: Array | float = 0.0) -> Array:
    """Fits the Pareto shape k-hat of the largest importance weights: above 0.7 their mean cannot be trusted.

    Weights that are the same but for rounding have no tail. Ties are broken within the rounding, so that the fit sees
    what a sample with a density would be.

    Arguments:
        log_weights: Log weights, not negated, with shape `(draws, datapoints)`. Minus infinity is a weight of zero.
        magnitude: The size of the log densities that they are made of, in nats, with shape `(datapoints,)`.

    Returns:
        The shapes, with shape `(datapoints,)`: minus infinity where the largest weights are all the same, infinity
        where one of them outweighs all others by more than a number can hold, and `nan` below 25 draws and where a
        weight is not a number.

    References:
        Vehtari et al., Pareto Smoothed Importance Sampling (2024), https://arxiv.org/abs/1507.02646
    """
    draws, datapoints = log_weights.shape
    if draws < _SMOOTHABLE:
        return np.full(datapoints, np.nan)
    rounding = np.maximum(_LEAST, _ULPS * np.finfo(np.float32).eps * np.abs(magnitude))
    return np.array([_khat(*each) for each in zip(log_weights.T, np.broadcast_to(rounding, datapoints), strict=True)])


def _khat(log_w: Array, rounding: float) -> float:
    if np.isnan(log_w).any() or not math.isfinite(log_w.max()):
        return math.nan
    tail = math.ceil(min(len(log_w) / 5, 3 * math.sqrt(len(log_w))))
    largest = np.partition(log_w, -tail)[-tail:]
    if largest.max() - largest.min() < rounding:
        return -math.inf
    within = np.random.default_rng(0).uniform(-rounding / 2, rounding / 2, len(log_w))
    with np.errstate(all="ignore"):  # weights that underflow
        # psislw is made for leave-one-out and negates what it gets.
        shape = float(array_stats.psislw(-(log_w + within))[1])
    return math.inf if math.isnan(shape) else shape
