"""How do a step and an evaluation grow with the sizes of things, beside the matrix products that they are made of?

python examples/benchmark_scaling.py [ROUNDS [FOLDER]]

It wants a machine that does nothing else. Data are pixels at random: time does not depend on what is in them. A single
round is a smoke test with small sizes, uncompiled.
"""

import csv
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from benchmark import STEPS, Contestant, products_of, quartiles, race, steps_of
from matplotlib.ticker import NullFormatter

import pyro_vae
from pyro_vae.cli import keep_freed_memory
from pyro_vae.data import Dataset
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.importance import Importance
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.mixture_of_gaussians import MixtureOfGaussiansModel

OURS, FLOOR = "a step", "its matrix products"
PARTICLES = 1_000  # of an evaluation


class Sizes(NamedTuple):
    """What a step is of."""

    batch: int = 100
    features: int = 784
    hidden: int = 500
    latent: int = 20
    particles: int = 1
    components: int = 0
    """Of a mixture in the place of the prior, whose component is summed out."""
    datapoints: int = 5_000

    def data(self) -> Dataset:
        """Pixels at random."""
        shape = self.datapoints, self.features
        return pyro_vae.data(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))

    def pair(self) -> tuple[BernoulliModel, GaussianGuide]:
        """The paper's model, or the mixture, and the paper's guide."""
        torch.manual_seed(0)
        sizes = self.features, self.latent, self.hidden
        if self.components:
            return MixtureOfGaussiansModel(*sizes, components=self.components), GaussianGuide(*sizes)
        return BernoulliModel(*sizes), GaussianGuide(*sizes)

    def step(self, compile: bool) -> Contestant:
        """Our steps, with the paper's Adagrad and prior on the weights."""
        data = self.data().train
        return steps_of(AEVB(*self.pair(), data, batch=self.batch, particles=self.particles, compile=compile))

    def layers(self, encoded: int, decoded: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Inputs and weights of each layer, for so many rows through the guide and through the model."""
        guide = (self.features, self.hidden), (self.hidden, self.latent), (self.hidden, self.latent)
        model = (self.latent, self.hidden), (self.hidden, self.features)
        sizes = [*((encoded, *layer) for layer in guide), *((decoded, *layer) for layer in model)]
        return [(torch.randn(rows, inputs), torch.randn(inputs, outputs)) for rows, inputs, outputs in sizes]

    def products(self) -> Contestant:
        """The matrix products of as many steps: forward, and backward by weights and by inputs."""
        return products_of(self.layers(self.batch, self.batch * self.particles))


def evaluation(datapoints: int, sizes: Sizes, compile: bool) -> dict[str, Contestant]:
    """The importance estimates of so many datapoints, as `pyro-vae evaluate` has them, and the decoder's products."""
    model, guide = sizes.pair()
    split = sizes._replace(datapoints=2 * datapoints).data().train.head(datapoints)
    rows = 4_000  # as many as go through the networks at once
    decoder = sizes.layers(1, rows)[-2:]

    def multiply() -> None:
        for _ in range(datapoints * PARTICLES // rows):
            for x, w in decoder:
                x @ w

    return {OURS: lambda: Importance(PARTICLES, compile=compile).estimate(model, guide, split), FLOOR: multiply}


def growth(small: bool) -> Iterator[tuple[str, list[Sizes], list[int]]]:
    """What grows: its name, all sizes of each step, and those that it takes."""
    usual = Sizes(hidden=8, features=9, datapoints=200) if small else Sizes()
    for name, key, values in (
        ("datapoints in a minibatch", "batch", [25, 50, 100, 200, 400, 800]),
        ("features", "features", [98, 196, 392, 784, 1568, 3136]),
        ("hidden units", "hidden", [62, 125, 250, 500, 1000, 2000]),
        ("latent variables", "latent", [2, 5, 20, 50, 200]),
        ("particles", "particles", [1, 2, 5, 10, 20]),
        ("components summed out", "components", [2, 5, 10, 20, 50]),
        ("training datapoints", "datapoints", [1_000, 10_000, 50_000]),
    ):
        taken = values[:1] if small else values
        yield name, [usual._replace(**{key: value}) for value in taken], taken


def picture(tables: dict[str, dict[tuple[str, int], list[float]]], path: Path) -> None:
    """One panel for each of what grows: medians and quartiles of a step, and of its matrix products."""
    figure, axes = plt.subplots(2, 4, figsize=(7.2, 3.8), layout="constrained", sharey=True)
    for ax, (title, times) in zip(axes.flat, tables.items(), strict=False):
        for name, color, marker in ((OURS, "#0072B2", "o"), (FLOOR, "0.5", "s")):
            sizes, values = zip(*((size, value) for (what, size), value in times.items() if what == name), strict=True)
            low, middle, high = zip(*map(quartiles, values), strict=True)
            ax.plot(sizes, middle, color=color, marker=marker, markersize=3, linewidth=1, label=name)
            ax.fill_between(sizes, low, high, color=color, alpha=0.25, linewidth=0)
        ax.set_title(title, fontsize=8)
        ax.set_xscale("log")
        ax.set_xticks(sizes[::2], [f"{size:,}" for size in sizes[::2]])
        ax.set_yscale("log")
        ax.set_yticks((1, 10), ("1", "10"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("ms a step", fontsize=8)
    legend, labels = axes[0, 0].get_legend_handles_labels()
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(legend, labels, loc="center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=200)
    plt.close(figure)


def main(rounds: int = 15, folder: str = "benchmark") -> None:
    out, small = Path(folder), rounds == 1
    out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()  # as the command line does
    print(f"Milliseconds, medians of {rounds} rounds of {STEPS} steps, all sizes taking turns.\n")
    tables = {}
    for title, all_sizes, values in growth(small):
        contestants = {}
        for sizes, value in zip(all_sizes, values, strict=True):
            contestants |= {(OURS, value): sizes.step(not small), (FLOOR, value): sizes.products()}
        tables[title] = times = race(contestants, rounds)
        print(f"## {title}\n\n| {title} | {OURS}, ms | {FLOOR}, ms | ratio |\n|---|---|---|---|")
        for value in values:
            ours, floor = (times[name, value] for name in (OURS, FLOOR))
            ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
            print(f"| {value:,} | {statistics.median(ours):.2f} | {statistics.median(floor):.2f} | {ratio:.2f} |")
        print(flush=True)
    datapoints = 8 if small else 10_000
    times = race(evaluation(datapoints, Sizes(hidden=8) if small else Sizes(), not small), max(1, rounds // 5))
    ours, floor = ([STEPS / 1e3 * value for value in times[name]] for name in (OURS, FLOOR))  # a turn is one call
    ratio = statistics.median(a / b for a, b in zip(ours, floor, strict=True))
    print(f"## Evaluation of {datapoints:,} datapoints with {PARTICLES:,} particles\n")
    print(f"| evaluate, s | {FLOOR}, s | ratio |\n|---|---|---|")
    print(f"| {statistics.median(ours):.1f} | {statistics.median(floor):.1f} | {ratio:.2f} |")
    with (out / "scaling.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("over", "what", "size", "round", "milliseconds"))
        for title, times in tables.items():
            for (what, size), milliseconds in times.items():
                writer.writerows((title, what, size, n, round(value, 4)) for n, value in enumerate(milliseconds))
    picture(tables, out / "scaling.png")
    print(out / "scaling.png")


if __name__ == "__main__":
    rounds, *rest = sys.argv[1:] or ["15"]
    main(int(rounds), *rest)
