# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A model of your own
#
# A table of your own, a likelihood of your own, then a whole Pyro program. Here the table is made: waiting times at
# eight stages, driven by two hidden loads.

# %%
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

import pyro_vae
from pyro_vae.models.base import Model

rng = np.random.default_rng(0)
load = rng.normal(size=(1000, 2)) @ rng.normal(size=(2, 8))
stages = [f"stage_{n}" for n in range(8)]
waits = pd.DataFrame(rng.gamma(3.0, np.exp(load) / 3), columns=stages)
waits.round(2).head(3)

# %% [markdown]
# ## A likelihood from the shelf
#
# A DataFrame is data as it is. `normal` models real numbers; `scale="standard"` scales what the networks see, while
# bounds stay in the units of the data. `weight_prior=inf` leaves out the paper's prior on the weights, which pulls
# hard on small data.

# %%
samples = 5e4
settings = {
    "data": waits,
    "hidden": 50,
    "optimizer": "Adam",
    "set": {"inference": {"weight_prior": float("inf")}},
    "samples": samples,
    "progress": False,
    "overwrite": True,
}
normal = pyro_vae.train("runs/normal", model="normal", scale="standard", **settings)
normal


# %% [markdown]
# ## One method
#
# Waiting times are positive and skewed: a gamma fits better. The base class samples z and x; a subclass says what
# $p(x \mid z)$ is, one event of shape `(features,)`.


# %%
def net(inputs, hidden, outputs):
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


class GammaModel(Model):
    def __init__(self, features, latent, hidden=500, prior=None):
        super().__init__(latent, prior)
        self.decoder = net(latent, hidden, features)
        self.log_shape = nn.Parameter(torch.zeros(features))

    def likelihood(self, z):
        shape = self.log_shape.exp()
        return dist.Gamma(shape, shape / self.decoder(z).exp()).to_event(1)


gamma = pyro_vae.train("runs/gamma", model=GammaModel, **settings)
pyro_vae.compare([normal, gamma], particles=100)

# %% [markdown]
# Both are densities of the same numbers in the same units, so the difference means something.
#
# ## The whole program
#
# A class with the methods `model` and `guide`, as in Pyro's tutorial, needs no base class. This one has two kinds of
# latent variables, the load of a day and a rare disruption, which is discrete and summed out exactly.


# %%
class Disrupted(nn.Module):
    def __init__(self, features, latent, hidden=500):
        super().__init__()
        self.latent = latent
        self.decoder, self.encoder = net(latent, hidden, features), net(features, hidden, 2 * latent)
        self.log_shape = nn.Parameter(torch.zeros(features))
        self.slower = nn.Parameter(torch.ones(features))
        self.logit = nn.Parameter(torch.tensor(-2.0))

    def model(self, x):
        pyro.module("pair", self)
        with pyro.plate("days", len(x)):
            disrupted = pyro.sample("disrupted", dist.Bernoulli(logits=self.logit), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1))
            mean = (self.decoder(z) + disrupted.unsqueeze(-1) * self.slower).exp()
            shape = self.log_shape.exp()
            pyro.sample("waits", dist.Gamma(shape, shape / mean).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("pair", self)
        with pyro.plate("days", len(x)):
            mean, log_scale = self.encoder(x.log()).chunk(2, dim=-1)
            pyro.sample("z", dist.Normal(mean, log_scale.exp()).to_event(1))


disrupted = pyro_vae.train("runs/disrupted", model=Disrupted, **settings)
pyro_vae.compare([gamma, disrupted], particles=100)

# %% [markdown]
# The data were made without disruptions; a difference of a few standard errors is all that the second program should
# gain. From a file, the same class is `--model disrupted.py:Disrupted`, and `pyro-vae check` tests a part of yours
# before you trust it. [What a part may ask for](../../CONTRIBUTING.md) lists the rest.
