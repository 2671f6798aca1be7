"""What if the likelihood were another? Compares densities with densities, and probabilities with probabilities.

python examples/swap_likelihood.py [SAMPLES]
"""

import sys

from pyro_vae import compare, train
from pyro_vae.cli.tables import print_comparison
from pyro_vae.errors import InputError

DENSITIES = ("continuous_bernoulli", "isotropic", "gaussian", "beta")
MASSES = ("discretized_logistic", "categorical")


def main(samples: float = 2e5, out: str = "runs/swap_likelihood") -> None:
    # Without a floor a pixel that is always 0 drives the Gaussian's density up; digits have 17 grey levels.
    own = {"gaussian": {"min_log_variance": -10.0}, **{name: {"levels": 17} for name in MASSES}}
    runs = {
        name: train(
            f"{out}/{name}", model=name, hidden=100, samples=samples, overwrite=True, set={"model": own.get(name, {})}
        )
        for name in (*DENSITIES, *MASSES)
    }
    for names in (DENSITIES, MASSES):
        print_comparison(compare([runs[name] for name in names], particles=100).table())
    try:
        compare([runs["beta"], runs["categorical"]])
    except InputError as refusal:
        print(refusal)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
