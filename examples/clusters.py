"""Do clusters of digits come by themselves? A Gaussian-mixture VAE beside the paper's model, without labels.

python examples/clusters.py [SAMPLES [SEEDS [DATA [FOLDER]]]]

Both have the same networks, optimiser and budget. A datapoint's cluster is the component y that is likeliest at the
mean of q(z | x); the paper's model has none, and k-means makes as many of those means. Clusters are given the classes
that fit best, by the Hungarian method, and it is counted how many datapoints are in their class's cluster.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

import pyro_vae

COMPONENTS = 10
MIXTURE = {"model": "mixture_of_gaussians", "elbo": "TraceEnum_ELBO"}
SETTINGS = {"latent": 10, "optimizer": "adam", "step_size": 1e-3, "binarize": "dynamic"}


def accuracy(clusters: np.ndarray, classes: np.ndarray) -> float:
    """The share of datapoints whose cluster is that of their class, under the best assignment of one to the other."""
    together = np.zeros((clusters.max() + 1, classes.max() + 1))
    np.add.at(together, (clusters, classes), 1)
    return together[linear_sum_assignment(together, maximize=True)].sum() / len(classes)


@torch.no_grad()
def clusters(run: pyro_vae.Run, seed: int) -> np.ndarray:
    mean = run.guide.posterior(run.dataset.test.first()).mean
    if hasattr(run.model, "responsibilities"):
        return run.model.responsibilities(mean).argmax(-1).numpy()
    return KMeans(COMPONENTS, n_init=10, random_state=seed).fit_predict(mean.numpy())


def main(samples: float = 5e5, seeds: float = 2, data: str = "mnist", folder: str = "runs/clusters") -> None:
    own = {"model": {"components": COMPONENTS}}
    kinds = {
        "mixture_of_gaussians": {**MIXTURE, "set": own},
        "mixture_of_gaussians-annealed": {**MIXTURE, "set": {**own, "inference": {"kl_warmup": samples / 2}}},
        "bernoulli": {"model": "bernoulli"},
    }
    rows = []
    for seed in range(int(seeds)):
        for name, kind in kinds.items():
            out = Path(folder) / f"{name}-{seed}"
            run = pyro_vae.train(out, resume=out.exists(), data=data, samples=samples, seed=seed, **SETTINGS, **kind)
            share = accuracy(clusters(run, seed), run.dataset.test.labels.numpy())
            found = run.evaluate(particles=500, limit=1000, seed=seed)["importance"]
            rows.append((name, seed, 100 * share, found["log_px"], found["se"]))
            print("{}, seed {}: accuracy {:.1f} %, log p(x) {:.2f} +- {:.2f} nats".format(*rows[-1]), flush=True)
    print("", "| | accuracy | log p(x), importance |", "|---|---|---|", sep="\n")
    for name in kinds:
        shares, log_px = zip(*((row[2], row[3]) for row in rows if row[0] == name), strict=True)
        listed = ", ".join(f"{share:.1f}" for share in shares)
        print(f"| {name} | {np.mean(shares):.1f} % ({listed}) | {np.mean(log_px):.2f} |")


if __name__ == "__main__":
    numbers, texts = sys.argv[1:3], sys.argv[3:]
    main(*map(float, numbers), *texts)
