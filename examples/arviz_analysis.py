"""How do I look at a trained pair with ArviZ, one datapoint at a time and by my own functions?

python examples/arviz_analysis.py [SAMPLES [DATAPOINTS]]
"""

import sys
import warnings
from pathlib import Path

import arviz as az
import numpy as np

from pyro_vae import Run, to_arviz, train
from pyro_vae.analysis.diagnostics import guide, sampler
from pyro_vae.analysis.export import write


def trained(samples: float) -> Run:
    out = Path(f"runs/arviz-{samples:g}")
    if out.exists():
        return Run.open(out)
    return train(out, data="digits", binarize="dynamic", latent=5, hidden=100, samples=samples)


def main(samples: float = 5e5, datapoints: float = 20) -> None:
    run = trained(samples)
    x = run.dataset.test.first(int(datapoints))
    tree = to_arviz(run.model, run.guide, x, image_shape=run.dataset.image_shape)
    path = write(tree, run.path / "draws.nc")

    # From here on it is ArviZ's own: another process needs nothing of ours.
    tree = az.from_netcdf(path)
    judged = sampler(tree).merge(guide(tree))
    print(judged[["rhat", "ess_bulk", "khat", "scale", "kl"]].to_dataframe().head().round(3), end="\n\n")
    worst = int(judged["khat"].values.argmax())
    one = tree.sel(datapoint=worst)
    print(f"datapoint {worst} has the largest k-hat, {float(judged['khat'][worst]):.2f}: HMC, then the guide")
    for group in ("posterior", "guide_posterior"):
        print(az.summary(one, group=group, kind="stats", ci_prob=0.9, ci_kind="eti"), end="\n\n")
    for name, plot in {"rank": az.plot_rank, "trace": az.plot_trace_dist, "energy": az.plot_energy}.items():
        plot(one).savefig(run.path / f"{name}.png")

    # What leave-one-out can mean here: see docs/arviz.md.
    with warnings.catch_warnings(action="ignore"):  # ArviZ warns of just what is shown
        loo = az.loo(tree, var_name="x", pointwise=True)
    print(f"az.loo: k-hat above 0.7 at {np.mean(loo.pareto_k.values > 0.7):.0%} of the datapoints")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]))
