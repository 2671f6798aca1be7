"""A Gaussian of its own for every datapoint, where a model has no guide or its guide is to be judged."""

__all__ = ["LocalGaussian", "fit_gaussian"]

from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn, optim
from torch.distributions import Transform
from torch.optim.lr_scheduler import ExponentialLR

from pyro_vae.elbo import elbo
from pyro_vae.log_joint import bijection
from pyro_vae.plates import is_countable
from pyro_vae.sites import evaluation_mode, isolated, latent_sites


class LocalGaussian(nn.Module):
    """Creates a guide with a diagonal Gaussian per datapoint, on the unconstrained latent variables.

    Discrete ones it leaves out: they are summed out. It is Pyro's `AutoNormal` for as many datapoints as there are,
    where that has one Gaussian for each row of a plate's full size and takes any of them for a datapoint where the
    plate subsamples.

    Arguments:
        model: The generative model.
        x: The datapoints, with shape `(datapoints, features)`.

    Raises:
        InputError: If a site has a support without a bijection to the real numbers.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.sites: dict[str, tuple[Transform, int, tuple[Any, ...]]] = {}
        self.loc, self.log_scale = nn.ParameterDict(), nn.ParameterDict()
        for name, site in latent_sites(poutine.trace(model).get_trace(x)).items():
            if is_countable(site):
                continue  # it is summed out
            transform = bijection(name, site)
            frames = tuple(frame for frame in site["cond_indep_stack"] if frame.vectorized and frame.dim < -1)
            sizes = {frame.dim: frame.size for frame in frames}
            inner = (sizes.get(dim, 1) for dim in range(min(sizes, default=-1), -1))
            shape = (*inner, len(x), *transform.inverse_shape(site["fn"].event_shape))
            self.sites[name] = (transform, site["fn"].event_dim, frames)
            key = name.replace(".", "/")  # no name in torch has a dot in it
            self.loc[key] = nn.Parameter(x.new_zeros(shape))
            self.log_scale[key] = nn.Parameter(x.new_full(shape, 0.1).log())

    def normal(self, name: str) -> dist.TorchDistribution:
        """Returns the Gaussian of a site, unconstrained."""
        loc, log_scale = (part[name.replace(".", "/")] for part in (self.loc, self.log_scale))
        plates = -min((frame.dim for frame in self.sites[name][2]), default=-1)
        return dist.Normal(loc, log_scale.exp()).to_event(loc.dim() - plates)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Draws the latent variables of all datapoints, by site."""
        values = {}
        with pyro.plate("data", len(x), dim=-1):
            for name, (transform, event_dim, frames) in self.sites.items():
                with ExitStack() as plates:
                    for frame in frames:
                        plates.enter_context(pyro.plate(frame.name, frame.size, dim=frame.dim))
                    unconstrained = pyro.sample(
                        f"{name}_unconstrained", self.normal(name), infer={"is_auxiliary": True}
                    )
                    value = transform(unconstrained)
                    jacobian = transform.log_abs_det_jacobian(unconstrained, value)
                    jacobian = jacobian.reshape(*jacobian.shape[: value.dim() - event_dim], -1).sum(-1)
                    point = dist.Delta(value, log_density=-jacobian, event_dim=event_dim)
                    values[name] = pyro.sample(name, point)
        return values


def fit_gaussian(model: nn.Module, x: Tensor, steps: int = 300, step_size: float = 0.1) -> LocalGaussian:
    """Fits a diagonal Gaussian per datapoint to the posterior, on the unconstrained latent variables.

    Arguments:
        model: The generative model, which stays as it is.
        x: The datapoints, with shape `(datapoints, features)`.
        steps: The number of Adam's steps on the bound.
        step_size: The first step size; it falls to a hundredth, by the same factor each step.

    Returns:
        A guide for these datapoints and no others.

    Raises:
        InputError: If a site has a support without a bijection to the real numbers.
    """
    with isolated(), evaluation_mode(model), torch.enable_grad():
        guide = LocalGaussian(model, x)
        parameters = list(guide.parameters())
        if not parameters:  # all is summed out
            return guide
        optimizer = optim.Adam(parameters, lr=step_size)
        schedule = ExponentialLR(optimizer, 0.01 ** (1 / steps))
        for _ in range(steps):
            optimizer.zero_grad()
            (-elbo(model, guide, x).sum()).backward(inputs=parameters)  # the model gets no gradients
            optimizer.step()
            schedule.step()
    return guide
