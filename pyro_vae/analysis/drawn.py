"""Datapoints drawn from a trained model, as a table in the data's own units."""

__all__ = ["draw"]

from collections.abc import Mapping

import pandas as pd
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_vae.data.dataset import Dataset
from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS
from pyro_vae.sites import evaluation_mode, isolated, sample_sites


@torch.no_grad()
def draw(
    model: nn.Module, data: Dataset, number: int, seed: int = 0, latents: Mapping[str, Tensor] | None = None
) -> pd.DataFrame:
    """Draws x from p(x | z) for z from the prior, or given.

    Arguments:
        model: The generative model, called with rows of the data.
        data: The data set, which has the names of the cells.
        number: The number of datapoints.
        seed: The seed of the draws.
        latents: Latent variables by site, with shape `(size, ...)`: as many datapoints are drawn at each of them.

    Returns:
        A table with one datapoint in each row; cells without a name are called `x_1` and so on.
    """
    given = {name: z.repeat_interleave(number, 0) for name, z in (latents or {}).items()}
    number = next((len(z) for z in given.values()), number)
    drawn = []
    with seeded(seed, data.train.device):
        for start in range(0, number, ROWS):
            held = poutine.condition(model, {name: z[start : start + ROWS] for name, z in given.items()})
            with isolated(), evaluation_mode(model):
                trace = poutine.trace(held).get_trace(None, size=min(ROWS, number - start))
            drawn.append(sample_sites(trace)["x"]["value"].cpu())
    x = torch.cat(drawn).numpy()
    return pd.DataFrame(x, columns=list(data.names or [f"x_{n + 1}" for n in range(x.shape[1])]))
