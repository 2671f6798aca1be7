"""What if the decoder were convolutional? A network of one's own in a model of one's own.

python examples/conv_decoder.py [SAMPLES]
pyro-vae train --model examples/conv_decoder.py --set model.channels=16
"""

__all__ = ["ConvModel"]

import math
import sys

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae import compare, train
from pyro_vae.cli.tables import print_comparison
from pyro_vae.errors import InputError
from pyro_vae.models.base import Model


class ConvModel(Model):
    """A Bernoulli model of square images, made of maps of a quarter of their size that grow twice."""

    def __init__(self, features: int, latent: int, prior: nn.Module | None = None, channels: int = 32) -> None:
        super().__init__(latent, prior)
        side = math.isqrt(features)
        if side**2 != features or side % 4:
            raise InputError(f"{features} pixels are no square image with a side that 4 divides: take another model")
        self.decoder = nn.Sequential(
            nn.Linear(latent, 2 * channels * (side // 4) ** 2),
            nn.Unflatten(-1, (2 * channels, side // 4, side // 4)),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, 1, 4, stride=2, padding=1),
            nn.Flatten(),
        )

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z)."""
        return dist.Bernoulli(logits=self.decoder(z), validate_args=False).to_event(1)  # grey values, as in the paper


def main(samples: float = 2e5, out: str = "runs/conv_decoder") -> None:
    runs = [
        train(f"{out}/{name}", model=model, samples=samples, overwrite=True)
        for name, model in (("perceptron", "bernoulli"), ("convolutional", __file__))
    ]
    print_comparison(compare(runs, particles=100).table())


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
