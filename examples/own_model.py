"""What if the model had two layers of latent variables? A model and a guide of one's own, with sites of one's own.

python examples/own_model.py [SAMPLES]
pyro-vae train --model examples/own_model.py:TwoLayerModel --guide examples/own_model.py:TwoLayerGuide --latent 4
"""

__all__ = ["TwoLayerGuide", "TwoLayerModel"]

import sys

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_vae import compare, train
from pyro_vae.cli.tables import print_comparison
from pyro_vae.networks import hidden_layer, linear


class Conditional(nn.Module):
    """A diagonal Gaussian whose mean and log variance a perceptron finds."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden_layer(inputs, hidden)
        self.mean, self.log_variance = linear(hidden, outputs), linear(hidden, outputs)

    def forward(self, inputs: Tensor) -> dist.Distribution:
        h = self.hidden(inputs)
        return dist.Normal(self.mean(h), (0.5 * self.log_variance(h)).exp()).to_event(1)


class TwoLayerModel(PyroModule):
    """p(z2) p(z1 | z2) p(x | z1), with half as many variables in the upper layer z2 as in z1."""

    def __init__(self, features: int, latent: int, hidden: int = 500) -> None:
        super().__init__("model")
        self.register_buffer("zero", torch.zeros(max(1, latent // 2)), persistent=False)
        self.p_z1 = Conditional(len(self.zero), latent, hidden)
        self.decoder = nn.Sequential(hidden_layer(latent, hidden), linear(hidden, features, bias_std=0.0))

    def forward(self, x: Tensor | None = None, size: int | None = None) -> Tensor:
        """Samples z2, z1 and x, or scores x."""
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(self.zero, 1.0).to_event(1))
            z1 = pyro.sample("z1", self.p_z1(z2))
            likelihood = dist.Bernoulli(logits=self.decoder(z1), validate_args=False)  # grey values, as in the paper
            return pyro.sample("x", likelihood.to_event(1), obs=x)


class TwoLayerGuide(PyroModule):
    """q(z1 | x) q(z2 | z1): it meets the model in the names of the sites, and nowhere else."""

    def __init__(self, features: int, latent: int, hidden: int = 500) -> None:
        super().__init__("guide")
        self.q_z1 = Conditional(features, latent, hidden)
        self.q_z2 = Conditional(latent, max(1, latent // 2), hidden)

    def forward(self, x: Tensor) -> None:
        """Samples z1 and z2."""
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", self.q_z1(x))
            pyro.sample("z2", self.q_z2(z1))


def main(samples: float = 2e5, out: str = "runs/own_model") -> None:
    own = {"model": f"{__file__}:TwoLayerModel", "guide": f"{__file__}:TwoLayerGuide"}
    runs = [
        train(f"{out}/{name}", latent=4, hidden=100, samples=samples, overwrite=True, **parts)
        for name, parts in (("one", {}), ("two", own))
    ]
    print_comparison(compare(runs, particles=100).table())


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
