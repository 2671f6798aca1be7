# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Statistics of a trained model
#
# Is the guide close to the posterior? Do predictions look like the data? HMC draws from the exact posterior of a few
# digits, and ArviZ takes it from there.

# %%
import arviz as az
import matplotlib.pyplot as plt

import pyro_vae
from pyro_vae.analysis.diagnostics import guide, sampler

samples = 1e5
settings = {
    "data": "digits",
    "binarize": "threshold",
    "latent": 5,
    "hidden": 100,
    "optimizer": "Adam",
    "step_size": 3e-3,
    "samples": samples,
    "progress": False,
    "overwrite": True,
}
run = pyro_vae.train("runs/posterior", **settings)
run

# %% [markdown]
# ## Draw
#
# `to_arviz` takes any Pyro model and guide, and returns an ArviZ `DataTree`: draws by HMC, draws by the guide,
# predictions and their log densities. Each datapoint has chains of its own.

# %%
digits = 10
x = run.dataset.test.first(digits)
tree = pyro_vae.to_arviz(run.model, run.guide, x, image_shape=run.dataset.image_shape)
tree.posterior.sizes

# %% [markdown]
# ## Did the chains converge?
#
# R-hat near 1 and hundreds of effective draws say so.

# %%
judged = sampler(tree).merge(guide(tree))
judged[["rhat", "ess_bulk"]].to_dataframe().describe().loc[["min", "50%", "max"]]

# %% [markdown]
# ## Is the guide close?
#
# k-hat above 0.7 means that the guide misses mass of the posterior. `scale` is the guide's standard deviation over
# that of HMC: below 1 the guide is too sure.

# %%
judged[["khat", "scale"]].to_dataframe().describe().loc[["min", "50%", "max"]]

# %% [markdown]
# The datapoint with the largest k-hat, by HMC and by the guide:

# %%
worst = int(judged["khat"].values.argmax())
one = tree.sel(datapoint=worst)
az.summary(one, kind="stats", ci_prob=0.9, ci_kind="eti")

# %%
az.summary(one, group="guide_posterior", kind="stats", ci_prob=0.9, ci_kind="eti")

# %%
_ = az.plot_pair(one, var_names=["z"], coords={"z_dim_0": [0, 1, 2]}, marginal=True)

# %% [markdown]
# ## Do predictions look like the data?
#
# The number of white pixels of each digit, beside what its posterior predicts:

# %%
white = tree.posterior_predictive["x"].sum(["row", "column"])
mean, spread = white.mean(["chain", "draw"]), white.std(["chain", "draw"])
fig, axes = plt.subplots(figsize=(5, 4))
axes.errorbar(tree.observed_data["x"].sum(["row", "column"]), mean, spread, fmt="o")
axes.axline((25, 25), slope=1, color="grey")
axes.set(xlabel="white pixels of the digit", ylabel="predicted, with one standard deviation")
plt.show()

# %% [markdown]
# ## Is a more flexible guide closer?
#
# `full_rank` knows correlations between latent variables. Both runs are scored on the same digits: the decoder learns
# more from the guide that is closer.

# %%
correlated = pyro_vae.train("runs/full_rank", guide="full_rank", **settings)
pyro_vae.compare([run, correlated], particles=200)

# %% [markdown]
# `pyro-vae analyze runs/posterior` does all of this and more over many datapoints, calibrates sampler and guide on
# simulated data, and writes a report: [Statistical analysis with ArviZ](../arviz.md).
