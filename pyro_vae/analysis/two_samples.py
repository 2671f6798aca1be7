"""A classifier two-sample test of the guide against HMC, of all latent variables together (Lopez-Paz & Oquab, 2017).

A marginal may be right where the joint distribution is not. A classifier that tells the guide's draws from HMC's by
all latent variables at once is right in half of the cases where the two are one distribution, and always where they
have nothing in common.
"""

__all__ = ["accuracy"]

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from pyro_vae.analysis.diagnostics import flat

# Datapoints that are judged, and draws of each of their chains.
_DATAPOINTS, _DRAWS = 20, 250


def accuracy(tree: xr.DataTree) -> xr.DataArray:
    """Tells how often a classifier knows the guide's draws from HMC's, for the first datapoints.

    It is logistic in the latent variables, their squares and products, the best there is between Gaussians. It learns
    from all chains but one, and as many of the guide's draws, and is judged on the rest: draws that follow each other
    are on one side.

    Arguments:
        tree: What `pyro_vae.to_arviz` returned, with two chains or more.

    Returns:
        The share of draws that it knows, from one half to one, by `datapoint`; not-a-number from the 21st on.

    References:
        Lopez-Paz & Oquab, Revisiting Classifier Two-Sample Tests (2017), https://arxiv.org/abs/1610.06545
    """
    p, q = flat(tree["posterior"]), flat(tree["guide_posterior"])[0]
    chains, draws, datapoints, _ = p.shape
    kept = np.linspace(0, draws - 1, min(draws, _DRAWS)).round().astype(int)
    found = np.full(datapoints, np.nan)
    for n in range(min(_DATAPOINTS, datapoints)):
        theirs = q[: chains * draws, n].reshape(chains, draws, -1)
        found[n] = _known(p[:, kept, n].astype(np.float64), theirs[:, kept].astype(np.float64))
    coords = {"datapoint": tree["observed_data"]["datapoint"].values}
    return xr.DataArray(found, coords, name="known_apart")


def _known(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """The accuracy over the chains, each left out in turn, of draws with shape `(chains, draws, latents)`."""
    shares = []
    label = np.repeat([0, 1], p.shape[1])
    for out in range(len(p)):
        train = [np.concatenate(each) for each in (np.delete(p, out, 0), np.delete(q, out, 0))]
        classifier = make_pipeline(
            StandardScaler(),
            PolynomialFeatures(2, include_bias=False),
            StandardScaler(),
            LogisticRegression(max_iter=500),
        )
        classifier.fit(np.concatenate(train), np.repeat([0, 1], [len(each) for each in train]))
        shares.append(classifier.score(np.concatenate([p[out], q[out]]), label))
    return float(np.mean(shares))
