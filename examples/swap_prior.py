"""What if the prior were another? Trains a model with each prior of the shelf, compares them, and draws them.

python examples/swap_prior.py [SAMPLES]
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from pyro_vae import compare, train
from pyro_vae.cli.tables import print_comparison
from pyro_vae.run import parts


def main(samples: float = 2e5, out: str = "runs/swap_prior") -> None:
    names = sorted(parts.names("prior"), key=lambda name: name != "normal")  # the paper's first: it is compared with
    runs = [train(f"{out}/{name}", prior=name, hidden=100, samples=samples, overwrite=True) for name in names]
    print_comparison(compare(runs, particles=100).table())

    figure = Figure(figsize=(2.4 * len(runs), 2.6), layout="constrained")
    for run, name, axes in zip(runs, names, figure.subplots(1, len(runs)), strict=True):
        with torch.no_grad():
            z = run.model.prior().sample((2000,))
        axes.plot(*z.T, ".", ms=1)
        axes.set(title=name)
        axes.set_aspect("equal", adjustable="datalim")
    path = Path(out) / "priors.png"
    figure.savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
