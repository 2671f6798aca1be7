"""A Gaussian of its own for every datapoint, where a model has no guide or its guide is to be judged."""

__all__ = ["fit_gaussian"]

import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import ExponentialLR

from pyro_vae.elbo import elbo
from pyro_vae.sites import isolated


def fit_gaussian(model: nn.Module, x: Tensor, steps: int = 300, step_size: float = 0.1) -> AutoNormal:
    """Fits a diagonal Gaussian per datapoint to the posterior, on the unconstrained latent variables.

    Arguments:
        model: The generative model, which stays as it is.
        x: The datapoints, with shape `(datapoints, features)`.
        steps: The number of Adam's steps on the bound.
        step_size: The first step size; it falls to a hundredth, by the same factor each step.

    Returns:
        A guide for these datapoints and no others.
    """
    with isolated(), torch.enable_grad():
        guide = AutoNormal(model)
        guide(x)  # makes its parameters
        parameters = list(guide.parameters())
        optimizer = optim.Adam(parameters, lr=step_size)
        schedule = ExponentialLR(optimizer, 0.01 ** (1 / steps))
        for _ in range(steps):
            optimizer.zero_grad()
            (-elbo(model, guide, x).sum()).backward(inputs=parameters)  # the model gets no gradients
            optimizer.step()
            schedule.step()
    return guide
