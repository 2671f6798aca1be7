"""Datapoints drawn from a trained model, as a table in the data's own units."""

__all__ = ["draw"]

import pandas as pd
import torch
from pyro import poutine
from torch import nn

from pyro_vae.data.dataset import Dataset
from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS
from pyro_vae.sites import evaluation_mode, isolated, sample_sites


@torch.no_grad()
def draw(model: nn.Module, data: Dataset, number: int, seed: int = 0) -> pd.DataFrame:
    """Draws x from p(x | z) for z from the prior.

    Arguments:
        model: The generative model, called with rows of the data.
        data: The data set, which has the names of the cells.
        number: The number of datapoints.
        seed: The seed of the draws.

    Returns:
        A table with one datapoint in each row; cells without a name are called `x_1` and so on.
    """
    drawn = []
    with seeded(seed, data.train.device):
        for start in range(0, number, ROWS):
            with isolated(), evaluation_mode(model):
                trace = poutine.trace(model).get_trace(None, size=min(ROWS, number - start))
            drawn.append(sample_sites(trace)["x"]["value"].cpu())
    x = torch.cat(drawn).numpy()
    return pd.DataFrame(x, columns=list(data.names or [f"x_{n + 1}" for n in range(x.shape[1])]))
