"""A VAE as Pyro's tutorial writes one: a class whose methods `model` and `guide` make the pair.

Nothing in it is of this package, so that `pyro.infer.SVI` takes it as well. From the command line:

    pyro-vae train --data digits --model examples/tutorial_vae.py:VAE --set model.z_dim=10
    pyro-vae evaluate runs/digits-tutorial_vae-aevb-2 --trust
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    """Pixel means from latent variables."""

    def __init__(self, z_dim: int, hidden_dim: int, features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(z_dim, hidden_dim)
        self.fc21 = nn.Linear(hidden_dim, features)
        self.softplus = nn.Softplus()

    def forward(self, z: Tensor) -> Tensor:
        """Returns the means."""
        return torch.sigmoid(self.fc21(self.softplus(self.fc1(z))))


class Encoder(nn.Module):
    """Means and scales of latent variables from pixels."""

    def __init__(self, z_dim: int, hidden_dim: int, features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden_dim)
        self.fc21 = nn.Linear(hidden_dim, z_dim)
        self.fc22 = nn.Linear(hidden_dim, z_dim)
        self.softplus = nn.Softplus()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns means and scales."""
        hidden = self.softplus(self.fc1(x))
        return self.fc21(hidden), torch.exp(self.fc22(hidden))


class VAE(nn.Module):
    """The pair."""

    def __init__(self, features: int = 784, z_dim: int = 50, hidden_dim: int = 400, use_cuda: bool = False) -> None:
        super().__init__()
        self.encoder = Encoder(z_dim, hidden_dim, features)
        self.decoder = Decoder(z_dim, hidden_dim, features)
        if use_cuda:
            self.cuda()
        self.z_dim = z_dim

    def model(self, x: Tensor) -> Tensor:
        """Samples latent variables, and pixels given these."""
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z_loc = x.new_zeros(torch.Size((x.shape[0], self.z_dim)))
            z_scale = x.new_ones(torch.Size((x.shape[0], self.z_dim)))
            z = pyro.sample("latent", dist.Normal(z_loc, z_scale).to_event(1))
            loc_img = self.decoder(z)
            pyro.sample("obs", dist.Bernoulli(loc_img, validate_args=False).to_event(1), obs=x.flatten(1))
            return loc_img

    def guide(self, x: Tensor) -> None:
        """Samples latent variables given pixels."""
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            z_loc, z_scale = self.encoder(x)
            pyro.sample("latent", dist.Normal(z_loc, z_scale).to_event(1))


if __name__ == "__main__":
    import sys

    import pyro_vae

    samples = sys.argv[1] if len(sys.argv) > 1 else "2e5"
    settings = {"set": {"model": {"z_dim": 10}}, "optimizer": "adam", "step_size": 1e-3, "samples": samples}
    run = pyro_vae.train("runs/tutorial", model=f"{__file__}:VAE", overwrite=True, **settings)
    print(run.evaluate(particles=100))
