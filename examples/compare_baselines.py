"""How do the paper's baselines compare with AEVB on one and the same model?

python examples/compare_baselines.py [SAMPLES]
"""

import sys

from pyro_vae import compare, train
from pyro_vae.cli.tables import print_comparison

ALGORITHMS = {"aevb": {}, "wake_sleep": {}, "mcem": {"step_size": 0.1}}


def main(samples: float = 2e5, out: str = "runs/baselines") -> None:
    runs = [
        train(f"{out}/{name}", inference=name, hidden=100, train_size=1000, samples=samples, overwrite=True, **own)
        for name, own in ALGORITHMS.items()
    ]
    # MCEM has no guide: its model is judged by a Gaussian fitted to the posterior of each datapoint.
    print_comparison(compare(runs, particles=100, limit=100).table())


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
