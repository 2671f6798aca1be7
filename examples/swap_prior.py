"""What if the prior were another? Trains a model with each prior of the shelf, compares them, and draws them.

python examples/swap_prior.py [SAMPLES]
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from pyro_vae import Run, compare, train
from pyro_vae.cli.tables import print_comparison
from pyro_vae.run import parts


def main(samples: float = 2e5, out: str = "runs/swap_prior") -> None:
    names = sorted(parts.names("prior"), key=lambda name: name != "normal")  # the paper's first: it is compared with
    runs = [train(f"{out}/{name}", prior=name, hidden=100, samples=samples, overwrite=True) for name in names]
    print_comparison(compare(runs, particles=100).table())

    path = Path(out) / "priors.png"
    draw(dict(zip(names, runs, strict=True)), path)
    print(path)


def draw(runs: dict[str, Run], path: Path) -> None:
    """Draws each trained prior, all on one scale, which a few draws of the heaviest tails leave."""
    with torch.no_grad():
        draws = {name: run.model.prior().sample((2000,)) for name, run in runs.items()}
    end = max(z.abs().quantile(0.998).item() for z in draws.values())
    figure = Figure(figsize=(7.2, 0.3 + 7.2 / 3 * -(-len(runs) // 3)), layout="constrained")
    grid = figure.subplots(-(-len(runs) // 3), 3, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(runs) :]:
        axes.set_axis_off()
    for axes, (name, z) in zip(grid.flat, draws.items(), strict=False):
        axes.axhline(0, color="0.85", lw=0.8, zorder=0)
        axes.axvline(0, color="0.85", lw=0.8, zorder=0)
        axes.plot(*z.T, ".", ms=1.5, mew=0, color="#0072B2")
        axes.set(title=name, xlim=(-end, end), ylim=(-end, end), aspect="equal")
    figure.supxlabel("$z_1$")
    figure.supylabel("$z_2$")
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
