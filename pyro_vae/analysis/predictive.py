"""How good is the model? Its predictions held against the data, and what its latent variables are used for."""

__all__ = ["activity", "calibration", "checks"]

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pyro_vae.analysis.diagnostics import flat

Array = NDArray[Any]

# Of all datapoints together, with shape (..., datapoints, features): one number for the data, one for each replication.
_STATISTICS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda x: x.mean((-2, -1)),
    "spread within a datapoint": lambda x: x.std(-1).mean(-1),
    "spread of the datapoints' means": lambda x: x.mean(-1).std(-1),
    "spread between datapoints": lambda x: x.std(-2).mean(-1),
    "share of values above 1/2": lambda x: (x > 0.5).mean((-2, -1)),
}
_BINS = 10


def checks(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Compares statistics of the data with those of data that the model predicts.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned, with one observed site.

    Returns:
        A row for each statistic and each of `prior_predictive` and `posterior_predictive`: `statistic`, `group`, its
        value `observed`, the `mean` and `sd` over replications, and `p`, the share of replications at or above the
        observed value.
    """
    data = _rows(_only(tree["observed_data"]).values[None])[0]
    found = []
    for group in ("prior_predictive", "posterior_predictive"):
        values = _only(tree[group]).values
        # One replication at a time: a float copy of all of them takes hundreds of megabytes.
        draws = (_rows(draw[None])[0] for draw in values.reshape(-1, *values.shape[2:]))
        found_in = np.array([[function(draw) for function in _STATISTICS.values()] for draw in draws])
        for (statistic, function), replicated in zip(_STATISTICS.items(), found_in.T, strict=True):
            observed = float(function(data))
            found.append(
                {
                    "statistic": statistic,
                    "group": group,
                    "observed": observed,
                    "mean": float(replicated.mean()),
                    "sd": float(replicated.std()),
                    "p": float((replicated >= observed).mean()),
                }
            )
    return found


def calibration(tree: xr.DataTree) -> xr.Dataset | None:
    """Holds the predicted means of the values, the probabilities of pixels, against the values.

    The latent variables have seen the very values that are predicted: the curve tells whether the decoder's means can
    be read as probabilities, not how well unseen pixels are predicted.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned, with one observed site.

    Returns:
        For each of ten bins of the predicted mean, from the least to the greatest: `predicted` and `observed`, the mean
        of both there, and the number of values `count`; None where the likelihood has no mean.
    """
    if "posterior_predictive_mean" not in tree.children:
        return None
    predicted = _only(tree["posterior_predictive_mean"]).values.ravel().astype(np.float64)
    observed = _only(tree["observed_data"]).values.ravel()
    low, high = predicted.min(), predicted.max()
    bins = np.clip(((predicted - low) / max(high - low, 1e-12) * _BINS).astype(int), 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, weights=values, minlength=_BINS) / counts for values in (predicted, observed)]
    return xr.Dataset({"predicted": ("bin", means[0]), "observed": ("bin", means[1]), "count": ("bin", counts)})


def activity(tree: xr.DataTree) -> xr.Dataset:
    r"""Tells which latent variables are used.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned.

    Returns:
        By `latent`, for HMC's draws and, with the prefix `guide_`, for the guide's: `variance_of_mean`, the variance of
        the posterior mean over the datapoints (a latent variable counts as active above 0.01; Burda et al., 2016), and
        `kl`, the mean over datapoints of :math:`KL(q(z_j | x) \| p(z_j))` in nats, of Gaussians with the same means and
        variances.
    """
    prior = flat(tree["prior"])
    center, spread = prior.mean((0, 1, 2), dtype=np.float64), prior.std((0, 1, 2), dtype=np.float64)
    values = {}
    for group, prefix in (("posterior", ""), ("guide_posterior", "guide_")):
        if group not in tree.children:
            continue
        draws = flat(tree[group])
        mean, sd = draws.mean((0, 1), dtype=np.float64), draws.std((0, 1), dtype=np.float64)
        values[f"{prefix}variance_of_mean"] = mean.var(0)
        ratio = (sd / spread) ** 2
        values[f"{prefix}kl"] = 0.5 * (ratio + ((mean - center) / spread) ** 2 - 1 - np.log(ratio)).mean(0)
    return xr.Dataset({name: ("latent", value) for name, value in values.items()})


def _only(group: Any) -> Any:
    """The one variable of a group."""
    (variable,) = group.data_vars.values()
    return variable


def _rows(x: Array) -> NDArray[np.float64]:
    """Data with shape (draws, datapoints, features), whatever the shape of a datapoint."""
    return x.reshape(*x.shape[:2], -1).astype(np.float64)
