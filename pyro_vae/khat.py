"""The Pareto shape k-hat of importance weights: can their mean be trusted?"""

__all__ = ["pareto_khat"]

import math

import numpy as np
from arviz_stats.base.array import array_stats
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Pareto smoothing fits the tail of min(K / 5, 3 sqrt(K)) weights and wants five of them.
_SMOOTHABLE = 25

# Log weights that are no farther apart, in nats, differ by the rounding of float32 densities: they have no tail.
_ROUNDING = 1e-3


def pareto_khat(log_weights: Array) -> Array:
    """Fits the Pareto shape k-hat of the largest importance weights: above 0.7 their mean cannot be trusted.

    Arguments:
        log_weights: Log weights, not negated, with shape `(draws, datapoints)`.

    Returns:
        The shapes, `nan` below 25 draws and minus infinity where all weights are the same, with shape `(datapoints,)`.

    References:
        Vehtari et al., Pareto Smoothed Importance Sampling (2024), https://arxiv.org/abs/1507.02646
    """
    if len(log_weights) < _SMOOTHABLE:
        return np.full(log_weights.shape[1], np.nan)
    return np.array([_khat(column) for column in log_weights.T])


def _khat(log_w: Array) -> float:
    if np.ptp(log_w) < _ROUNDING:  # all weights are the same: the guide is the posterior
        return -math.inf
    # psislw is made for leave-one-out and negates what it gets.
    return float(array_stats.psislw(-log_w)[1])
