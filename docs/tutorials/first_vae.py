# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first VAE
#
# Train the paper's model on 8x8 digits, look at what it has learnt, and ask whether another prior is better. The
# digits come with scikit-learn; nothing is downloaded.

# %%
import pyro_vae
from pyro_vae import figures

# %% [markdown]
# ## Train
#
# The model is $p(z)\,p(x \mid z)$ with two latent variables and a Bernoulli for each pixel, the guide a diagonal
# Gaussian $q(z \mid x)$. The bound counts in nats per datapoint, and *samples* are datapoints evaluated, as in the
# paper.

# %%
samples = 1e5
settings = {
    "data": "digits",
    "hidden": 100,
    "kl": "analytic",
    "optimizer": "Adam",
    "step_size": 3e-3,
    "samples": samples,
    "progress": False,
    "overwrite": True,
}
run = pyro_vae.train("runs/normal", **settings)
run

# %% [markdown]
# Everything is in the folder `runs/normal`: `pyro_vae.Run.open("runs/normal")` brings it back, and so does every
# command, `pyro-vae evaluate runs/normal` for example. The bounds on the way are a DataFrame:

# %%
run.metrics.tail(3)

# %% [markdown]
# ## Look
#
# Each function returns a matplotlib figure, and saves it where `path=` says. Where the guide puts the test digits,
# coloured by a label that neither model nor guide has seen:

# %%
figures.latent(run)

# %% [markdown]
# The mean image along a path from one test digit to another:

# %%
figures.interpolate(run, 3, 7)

# %% [markdown]
# ## Evaluate
#
# The bound is $\log p(x)$ minus what the guide misses. The importance-weighted estimate closes most of that gap; its
# `khat_over_0_7` is the share of datapoints at which it cannot be trusted.

# %%
result = run.evaluate(particles=200)
log_px = result["importance"]
print(f"bound {result['bound']:.2f}, log p(x) {log_px['log_px']:.2f} nats per datapoint")
print(f"k-hat above 0.7 at {log_px['khat_over_0_7']:.0%} of the datapoints")

# %% [markdown]
# ## Swap the prior
#
# One argument swaps the prior; `pyro-vae parts` lists what there is. Both runs are scored on the same test digits,
# and the difference comes with its standard error, paired digit by digit.

# %%
other = pyro_vae.train("runs/laplace", prior="laplace", **settings)
pyro_vae.compare([run, other], particles=200)

# %% [markdown]
# These are two runs. Another seed may rank them the other way: [Compare honestly](../comparing.md).
