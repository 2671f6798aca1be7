"""A convolutional pair for colour images: model and guide, three channels, probabilities of 256 levels.

python examples/colour_images.py [SAMPLES [DATA]]
F=examples/colour_images.py; pyro-vae train --data cifar10 --model $F:ColourModel --guide $F:ColourGuide

Without DATA, gradients from one colour to another are drawn, so that nothing is downloaded.
"""

__all__ = ["ColourGuide", "ColourModel"]

import sys

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae import compare, train
from pyro_vae.cli.tables import print_comparison
from pyro_vae.errors import Count, InputError
from pyro_vae.grey import DiscretizedLogistic
from pyro_vae.guides.base import Guide
from pyro_vae.models.base import Model


def sides(image_shape: tuple[int, ...] | None) -> tuple[int, int, int]:
    """Height, width and channels of images whose sides 4 divides."""
    height, width, *colours = image_shape or (0, 0)
    if not height or height % 4 or width % 4:
        raise InputError(f"data of shape {image_shape} are no images with sides that 4 divides: give --resize 32x32")
    return height, width, *(colours or [1])


class ColourModel(Model):
    """A discretised logistic model, made of maps of a quarter of the images' size that grow twice."""

    def __init__(
        self,
        features: int,
        latent: int,
        image_shape: tuple[int, ...] | None,
        prior: nn.Module | None = None,
        channels: Count = 32,
    ) -> None:
        super().__init__(latent, prior)
        height, width, colours = sides(image_shape)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 2 * channels * (height // 4) * (width // 4)),
            nn.Unflatten(-1, (2 * channels, height // 4, width // 4)),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, colours, 4, stride=2, padding=1),
        )
        self.log_scale = nn.Parameter(torch.full((colours,), -2.0))  # of each colour

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z)."""
        maps = self.decoder(z).movedim(1, -1)  # a datapoint has its colours last
        mean = maps.sigmoid().flatten(1)
        scale = self.log_scale.clamp(min=-7.0).exp().expand(maps.shape[1:]).flatten().expand_as(mean)
        return DiscretizedLogistic(mean, scale, 256).to_event(1)


class ColourGuide(Guide):
    """A diagonal Gaussian, made of maps that shrink twice."""

    def __init__(self, features: int, latent: int, image_shape: tuple[int, ...] | None, channels: Count = 32) -> None:
        super().__init__()
        self.image = height, width, colours = sides(image_shape)
        self.encoder = nn.Sequential(
            nn.Conv2d(colours, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * (height // 4) * (width // 4), 2 * latent),
        )

    def posterior(self, x: Tensor) -> dist.Distribution:
        """Returns q(z | x)."""
        mean, log_scale = self.encoder(x.unflatten(1, self.image).movedim(-1, 1)).chunk(2, dim=-1)
        return dist.Normal(mean, log_scale.exp()).to_event(1)


def gradients(number: int = 600, side: int = 16) -> np.ndarray:
    """Images, each a gradient from one colour to another in some direction, with shape `(number, side, side, 3)`."""
    random = np.random.default_rng(0)
    ends, angle = random.random((2, number, 1, 1, 3)), random.uniform(0, np.pi, (number, 1, 1))
    along, down = np.meshgrid(*[np.linspace(-0.7, 0.7, side)] * 2)
    share = np.clip(0.5 + along * np.cos(angle) + down * np.sin(angle), 0, 1)[..., None]
    return (255 * (ends[0] + share * (ends[1] - ends[0]))).astype(np.uint8)


def main(samples: float = 1e5, data: str = "", out: str = "runs/colour_images") -> None:
    settings = {"latent": 8, "samples": samples, "optimizer": "adam", "step_size": 1e-3}
    if not data:
        np.save(data := "gradients.npy", gradients())
    pairs = {
        "perceptron": {"model": "discretized_logistic"},
        "convolutional": {"model": f"{__file__}:ColourModel", "guide": f"{__file__}:ColourGuide"},
    }
    runs = [train(f"{out}/{name}", data=data, overwrite=True, **settings, **pair) for name, pair in pairs.items()]
    print_comparison(compare(runs, particles=100).table())


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *sys.argv[2:])
