"""The Pareto shape of importance weights, of a known tail and of hand-made weights that have none."""

import math

import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from pyro_vae.khat import pareto_khat


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0])
def test_it_is_the_shape_of_a_pareto_tail(shape):
    # exp(k E) with E ~ Exp(1) is Pareto with shape k. The fit sees the 3 sqrt(10,000) = 300 largest weights: its
    # standard error is (1 + k) / sqrt(300), 0.12 at most.
    log_w = shape * np.random.default_rng(0).exponential(size=10_000)
    assert pareto_khat(log_w[:, None])[0] == pytest.approx(shape, abs=0.36)


def _with_a_tail_of(values):
    """A thousand log weights, of which the 94 largest, 3 sqrt(1000) rounded down, are a tail."""
    rest = np.linspace(-3, -2, 1000 - len(values))
    return np.concatenate([values, rest])


def test_weights_that_tie_have_no_tail():
    same = np.zeros(1000)
    rounded = np.random.default_rng(0).integers(0, 2, 1000) * 2.0**-11  # two neighbours of float32 at 8,000
    tail = _with_a_tail_of(np.zeros(94))
    assert (pareto_khat(np.stack([same, rounded, tail], 1)) == -math.inf).all()


def test_a_few_distinct_values_are_bounded_weights():
    # All of the tail ties, or ties with the cutoff, but for fifty draws that tie. Of weights 1 and e, each of them seen
    # as often, the fit has k < 0, and its prior of ten draws at 0.5 lifts it by 0.5 * 10 / 104 at most.
    three = np.random.default_rng(0).integers(0, 3, 1000).astype(float)
    fifty = np.concatenate([np.zeros(950), np.ones(50)])
    two = _with_a_tail_of(np.repeat([0.0, 1.0], 47))
    khat = pareto_khat(np.stack([three, fifty, two], 1))
    assert khat[:2].tolist() == [-math.inf] * 2
    assert khat[2] < 0.05


def test_a_few_weights_above_a_tie_tell_nothing():
    one, four = (np.concatenate([np.zeros(1000 - n), 20.0 + np.arange(n)]) for n in (1, 4))
    assert np.isnan(pareto_khat(np.stack([one, four], 1))).all()


def test_a_weight_beside_which_others_are_nothing_is_all_tail():
    # exp(-745) is the smallest number above 0: of log weights that differ by thousands, most weights underflow.
    log_w = 5_000 * np.random.default_rng(0).normal(size=1000)
    assert pareto_khat(log_w[:, None])[0] == math.inf


def test_rounding_grows_with_the_densities():
    # At 18,000 nats float32 densities lie 2^-9 = 0.002 apart: sums of pixels err by a few of these steps, and what is
    # within 4 * 18,000 / 2^23 = 0.0086 is a tie. Beside densities of 10 nats the same weights have a tail.
    steps = np.repeat(np.arange(5), [60, 20, 10, 6, 4]) * 2.0**-9
    log_w = np.stack([steps, steps], 1)
    khat = pareto_khat(log_w, np.array([18_000.0, 10.0]))
    assert khat[0] == -math.inf
    assert math.isfinite(khat[1])


def test_a_datapoint_without_a_number_is_alone():
    draws = np.random.default_rng(0).normal(size=(200, 5))
    draws[3, 1] = np.nan
    draws[:, 2] = -np.inf
    draws[4, 3] = np.inf
    draws[5:50, 4] = -np.inf  # weights of zero, where the guide leaves the prior's support
    khat = pareto_khat(draws)
    assert np.isnan(khat).tolist() == [False, True, True, True, False]
    assert khat[4] < 0.7
    assert np.isnan(pareto_khat(draws[:24])).all()


def test_nothing_that_finite_weights_can_be_warns_or_fails():
    rng = np.random.default_rng(0)
    kinds = [
        lambda k: rng.normal(size=k) * 10.0 ** rng.uniform(-6, 4),
        lambda k: rng.integers(0, rng.integers(1, 9), k) * 10.0 ** rng.uniform(-6, 3),
        lambda k: np.where(rng.random(k) < rng.random(), -np.inf, rng.normal(size=k)),
        lambda k: (rng.normal(size=k) * 0.01 - 18_000).astype(np.float32).astype(float),
    ]
    for n in range(400):
        draws = int(rng.integers(25, 400))
        khat = pareto_khat(kinds[n % 4](draws)[:, None], 10.0 ** rng.uniform(0, 5))
        assert khat.shape == (1,)


def test_it_is_that_of_arviz():
    # Of a hundred datapoints each. ArviZ gets what is spread out within the rounding, and is told how long the tail is
    # without what ties with the cutoff: it takes the 3 sqrt(draws / efficiency) largest, rounded down.
    rng = np.random.default_rng(0)
    for draws in (40, 225, 1_000, 5_000):
        log_w = rng.normal(size=(draws, 100)) * rng.uniform(1, 6, 100)
        expected = []
        for column in np.sort(log_w, 0).T:
            cutoff = column[-int(min(draws / 5, 3 * math.sqrt(draws))) - 1]
            efficiency = 9 * draws / ((column > cutoff + 1e-3).sum() + 0.5) ** 2
            spread = column + 1e-3 * np.random.default_rng(0).uniform(-0.5, 0.5, draws)
            expected.append(array_stats.psislw(-spread, r_eff=efficiency)[1])
        assert pareto_khat(log_w) == pytest.approx(np.array(expected), abs=1e-9)


def test_a_weight_is_all_tail_where_others_just_underflow():
    # The quartile of the tail is exp(-742) of the largest weight, a number whose inverse overflows.
    log_w = _with_a_tail_of(np.concatenate([np.linspace(-743, -741, 93), [0.0]]))
    log_w[94:] -= 1_500
    assert pareto_khat(log_w[:, None])[0] == math.inf
