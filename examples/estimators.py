"""Can the estimates of log p(x) be trusted? Three of them, and the integral over a grid of three latent variables.

python examples/estimators.py [SAMPLES [IMAGES]]
"""

import csv
import math
import sys
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import softplus

import pyro_vae
from pyro_vae.data.dataset import data_dir
from pyro_vae.device import seeded
from pyro_vae.inference.ais import AIS
from pyro_vae.inference.importance import Importance
from pyro_vae.inference.reciprocal import Reciprocal
from pyro_vae.models.bernoulli import BernoulliModel

INTEGRATED = 20  # images
BOX = 6.0  # the prior's mass beyond it is 6e-9


def trained(samples: float) -> pyro_vae.Run:
    data = "mnist" if (data_dir() / "MNIST").is_dir() else "digits"
    print(f"data: {data}" + ("" if data == "mnist" else ", since there is no MNIST in $PYRO_VAE_DATA"))
    out = Path(f"runs/estimators-{data}-{samples:g}")
    if out.exists():
        return pyro_vae.Run.open(out)
    settings = {"data": data, "latent": 3, "hidden": 100, "samples": samples, "kl": "analytic", "step_size": 0.02}
    return pyro_vae.train(out, **settings)


@torch.no_grad()
def quadrature(model: BernoulliModel, x: Tensor, spacing: float) -> Tensor:
    """Integrates p(x, z) of each image over a grid whose cells are halved, where there is mass, until it converges."""
    model = deepcopy(model).double()  # float32 sums of 784 terms would be seen
    axis = torch.arange(-BOX, BOX, spacing, dtype=torch.float64) + spacing / 2
    octants = torch.cartesian_prod(*[torch.tensor([-0.25, 0.25], dtype=torch.float64)] * 3)
    box = torch.cartesian_prod(axis, axis, axis)  # all of the prior, so that no mode is missed
    estimates, changes, finest = [], [], spacing
    for image, values in zip(x, log_joint(model, box, x).T, strict=True):
        z, h, estimate, change = box, spacing, log_integral(values, spacing), math.inf
        while change > 1e-4:
            z = (z[values > values.max() - 30].unsqueeze(1) + h * octants).flatten(0, 1)
            h /= 2
            values = log_joint(model, z, image.unsqueeze(0)).squeeze(1)
            change = (log_integral(values, h) - estimate).abs().item()
            estimate = log_integral(values, h)
        estimates.append(estimate)
        changes.append(change)
        finest = min(finest, h)
    print(f"grid: finest spacing {finest:g}, largest change at an image's last halving {max(changes):.1e} nats")
    return torch.stack(estimates)


def log_integral(values: Tensor, spacing: float) -> Tensor:
    return values.logsumexp(0) + 3 * math.log(spacing)


def log_joint(model: BernoulliModel, z: Tensor, x: Tensor) -> Tensor:
    """Log p(x, z) by the paper's formula, for all pairs of points and images."""
    return torch.cat([_log_joint(model, some, x.double()) for some in z.split(10_000)])


def _log_joint(model: BernoulliModel, z: Tensor, x: Tensor) -> Tensor:
    logits = model.decoder(z)
    log_likelihood = logits @ x.T - softplus(logits).sum(1, keepdim=True)
    return log_likelihood - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1, keepdim=True)


def main(samples: float = 1e6, images: float = 1000) -> None:
    run = trained(samples)
    split = run.dataset.test.head(int(images))
    few = slice(INTEGRATED)
    if samples >= 1e5:
        spacing = 0.1
        parts = {"importance": Importance, "reciprocal": Reciprocal, "ais": AIS}
        estimators = {name: estimator(compile=True) for name, estimator in parts.items()}
    else:
        print("a small budget: short chains and a coarse grid")
        spacing = 0.5
        estimators = {"importance": Importance(100), "reciprocal": Reciprocal(40, warmup=40), "ais": AIS(20)}
    exact = quadrature(run.model, split.first(INTEGRATED), spacing)
    columns = {"quadrature": exact}
    rows = [f"| quadrature | | | {exact.mean():.3f} | | |"]
    for name, estimator in estimators.items():
        with seeded(0, split.device):
            log_px, se, *_ = estimator.estimate(run.model, run.guide, split)
        columns[name] = log_px[few]
        error = log_px[few] - exact
        se = se.square().sum().sqrt() / len(se)
        rows.append(
            f"| {name} | {log_px.mean():.3f} | {se:.3f} | {log_px[few].mean():.3f} | {error.mean():+.3f} "
            f"| {error.abs().max():.3f} |"
        )
        print(rows[-1], flush=True)
    title = f"| log p(x), nats | first {len(split):,} test images | s.e. | first {len(exact)} "
    print("", f"{title}| minus quadrature | largest |", "|---" * 6 + "|", *rows, sep="\n")
    with (run.path / "estimators.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *columns])
        for n, values in enumerate(zip(*columns.values(), strict=True)):
            writer.writerow([n, *(f"{value:.4f}" for value in values)])
    print(f"\n{run.path / 'estimators.csv'}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]))
