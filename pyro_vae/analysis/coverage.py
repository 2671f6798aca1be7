"""Do predictive intervals hold as many of the data as they say, cell by cell?"""

__all__ = ["coverage"]

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

_LEVELS = np.round(np.arange(0.1, 1.0, 0.1), 1)
_GROUPS = ("prior_predictive", "posterior_predictive")


def coverage(tree: xr.DataTree, seed: int = 0) -> dict[str, xr.Dataset]:
    """Counts how many of the data lie in central predictive intervals.

    An interval is one of ranks among the draws, ties broken at random, so that it means the same for counts and binary
    cells. Where the model is right, prior intervals of 90 % hold 90 % of the data. The latent variables behind
    posterior intervals have seen the very data that they are to hold: these hold more, and tell only of cells whose
    noise is wrong.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned.
        seed: The seed of what breaks ties.

    Returns:
        By observed site, `prior_predictive` and `posterior_predictive`: the share of data inside, with dimensions
        `level`, the share that an interval is to hold, and `feature`; `count`, the number of data of each feature.
    """
    found = {}
    for name, observed in tree["observed_data"].data_vars.items():
        data = observed.values.reshape(len(observed), -1)
        there = ~np.isnan(data.astype(np.float64))
        values: dict[str, Any] = {"count": ("feature", there.sum(0))}
        for group in _GROUPS:
            u = _ranks(data, tree[group].dataset[name].values, np.random.default_rng(seed))
            inside = np.abs(u - 0.5)[None] < _LEVELS[:, None, None] / 2
            with np.errstate(invalid="ignore"):  # a cell that is missing everywhere
                values[group] = (("level", "feature"), (inside & there).sum(1) / there.sum(0))
        found[str(name)] = xr.Dataset(values, {"level": _LEVELS})
    return found


def _ranks(data: NDArray[Any], draws: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    """Where each value lies among its draws, from 0 to 1."""
    below, equal = np.zeros(data.shape, np.int64), np.zeros(data.shape, np.int64)
    flat = draws.reshape(-1, *data.shape)
    for draw in flat:  # one at a time: comparing all of them takes hundreds of megabytes
        below += draw < data
        equal += draw == data
    return (below + rng.random(data.shape) * (equal + 1)) / (len(flat) + 1)
