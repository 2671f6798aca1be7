"""Which likelihood of counts? Digits as numbers from 0 to 16, and counts whose distribution is known.

python examples/counts.py [SAMPLES]

All three are probabilities of the same events, so that they stand in one table. Counts drawn from a negative binomial
model cannot be told better than by their entropy: minus the mean log probability of the model that they come from.
"""

import sys

import numpy as np
import torch
from pyro.distributions import NegativeBinomial

import pyro_vae

MODELS = {"poisson": {}, "negative_binomial": {}, "binomial": {"total_count": 16}}


def drawn(size: int, features: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Counts from a known negative binomial model with one latent variable, and log p(x) by quadrature over it."""
    torch.manual_seed(1)
    slope, level, r = 0.6 * torch.randn(features), torch.linspace(0.5, 2.5, features), torch.tensor(3.0)

    def likelihood(z: torch.Tensor) -> NegativeBinomial:
        return NegativeBinomial(r, logits=level + z.unsqueeze(-1) * slope - r.log())

    x = likelihood(torch.randn(size)).sample()
    # A Gaussian integral by 100 points of Gauss and Hermite.
    points, weights = np.polynomial.hermite_e.hermegauss(100)
    log_p = likelihood(torch.from_numpy(points)).log_prob(x.unsqueeze(1).double()).sum(-1)
    log_weights = torch.from_numpy(np.log(weights / weights.sum()))
    return x.numpy().astype(np.int64), (log_p + log_weights).logsumexp(-1).numpy()


def main(samples: float = 5e5, out: str = "runs/counts") -> None:
    runs = [
        pyro_vae.train(
            f"{out}/{name}",
            data="digits",
            divisor=1,
            model=name,
            hidden=200,
            latent=10,
            samples=samples,
            overwrite=True,
            set={"model": own},
        )
        for name, own in MODELS.items()
    ]
    table = pyro_vae.compare(runs, particles=500).table()
    print("| model | bound | log p(x) | s.e. | bits per cell |", "|---|---|---|---|---|", sep="\n")
    for name, row in zip(MODELS, table["runs"], strict=True):
        found = row["importance"]
        print(
            f"| {name} | {row['bound']:.2f} | {found['log_px']:.2f} | {found['se']:.2f} | {found['bits_per_dim']:.3f} |"
        )

    x, log_px = drawn(20_000 if samples >= 1e5 else 500)
    np.save(f"{out}/drawn.npy", x)
    run = pyro_vae.train(
        f"{out}/known",
        data=f"{out}/drawn.npy",
        model="negative_binomial",
        hidden=50,
        latent=1,
        samples=2 * samples,
        optimizer="Adam",
        step_size=0.002,
        overwrite=True,
    )
    found = run.evaluate(particles=500)["importance"]["log_px"]
    known = log_px[run.dataset.rows[1]].mean()
    print(
        f"test counts: log p(x) {found:.3f} nats, under the model that they come from {known:.3f}: {known - found:+.3f}"
    )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
