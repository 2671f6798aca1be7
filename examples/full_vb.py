"""How much do the data say about the weights? Full variational Bayes beside AEVB, with few data and with many.

python examples/full_vb.py [SAMPLES]
"""

import sys

import torch

from pyro_vae import Run, generate, train
from pyro_vae.device import seeded


def trained(inference: str, size: int, samples: float) -> Run:
    settings = {"data": "digits", "binarize": "static", "hidden": 50, "kl": "analytic", "step_size": 0.1}
    out = f"runs/full-vb/{inference}-{size}"
    return train(out, inference=inference, train_size=size, samples=samples, overwrite=True, progress=False, **settings)


def spread(run: Run, images: int = 100, draws: int = 50) -> float:
    """How far mean images of given latent variables differ between draws of the weights: a standard deviation."""
    with seeded(0, run.dataset.train.device):
        z = {"z": torch.randn(images, run.settings.latent)}
        return torch.stack([generate.at(run.model.drawn, z) for _ in range(draws)]).std(0).mean().item()


def main(samples: float = 3e5) -> None:
    print("| training data | algorithm | train bound | test bound | log p(x) | KL of the weights | spread |")
    print("|---|---|---|---|---|---|---|")
    for size in (100, 1438):
        for inference in ("aevb", "full_vb"):
            run = trained(inference, size, samples)
            *_, train_bound, test_bound = run.rows[-1]
            result = run.evaluate(particles=200)
            bounds = f"{train_bound:.2f} | {test_bound:.2f} | {result['importance']['log_px']:.2f}"
            weights = f"{result['weights_kl']:.2f} | {spread(run):.3f}" if inference == "full_vb" else "|"
            print(f"| {size} | {inference} | {bounds} | {weights} |", flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
