r"""A model whose weights are random variables (Appendix F).

.. math:: p(\theta) = N(0, I), \quad q(\theta) = N(\mu, \mathrm{diag}\, \sigma^2)

:math:`\theta` are all parameters of a model that learn: its decoder's, and its prior's where that has any. Their names
and shapes are read from the module, so that any model file can be taken.
"""

__all__ = ["BayesianModel", "RandomWeights", "has_random_weights"]

from typing import Any, Protocol, TypeGuard

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_vae.swap import swapped


class RandomWeights(Protocol):
    """What a model is whose weights are random variables. It says so by `random_weights = True`."""

    random_weights: bool

    @property
    def at_mean(self) -> nn.Module:
        """The model with its weights at their mean."""

    def draw(self) -> dict[str, Tensor]:
        """Draws weights."""

    def divergence(self) -> Tensor:
        r"""Returns :math:`KL(q(\theta) \| p(\theta))`, a scalar in nats."""

    def log_ratio(self, weights: dict[str, Tensor]) -> Tensor:
        r"""Returns :math:`\log p(\theta) - \log q(\theta)` of drawn weights, a scalar in nats."""

    def with_weights(self, weights: dict[str, Tensor], *inputs: Any, **named: Any) -> Any:
        """Runs the model with given weights."""

    def drawn(self, *inputs: Any, **named: Any) -> Any:
        """Runs the model with weights that are drawn for this call."""


def has_random_weights(model: Any) -> TypeGuard[RandomWeights]:
    """Whether the weights of a model are random variables; where it says nothing of `random_weights`, they are not."""
    return bool(getattr(model, "random_weights", False))


class BayesianModel(nn.Module):
    r"""Creates a model with a Gaussian over the weights of another.

    Called as the other, it runs with the weights at their mean; `drawn` runs it with weights drawn from
    :math:`q(\theta)`.

    Arguments:
        model: The model. Its parameters become the means :math:`\mu`.
        scale: The first value of the standard deviations :math:`\sigma`.
    """

    random_weights = True

    def __init__(self, model: nn.Module, scale: float = 0.01) -> None:
        super().__init__()
        self.mean = model
        self.log_scale = nn.ParameterDict()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                # No name in torch has a dot in it.
                self.log_scale[name.replace(".", "/")] = nn.Parameter(torch.full_like(parameter, scale).log())

    @property
    def at_mean(self) -> nn.Module:
        """The model with its weights at their mean."""
        return self.mean

    def posterior(self) -> dict[str, dist.Normal]:
        r"""Returns :math:`q(\theta)` by the names of the parameters."""
        means = dict(self.mean.named_parameters())
        scales = {key.replace("/", "."): log_scale.exp() for key, log_scale in self.log_scale.items()}
        return {name: dist.Normal(means[name], scale) for name, scale in scales.items()}

    def draw(self) -> dict[str, Tensor]:
        """Draws weights from their posterior; gradients reach its means and standard deviations."""
        return {name: q.rsample() for name, q in self.posterior().items()}

    def log_ratio(self, weights: dict[str, Tensor]) -> Tensor:
        r"""Returns :math:`\log p(\theta) - \log q(\theta)` of drawn weights, a scalar in nats."""
        terms = (
            (_prior(q).log_prob(weights[name]) - q.log_prob(weights[name])).sum()
            for name, q in self.posterior().items()
        )
        return torch.as_tensor(sum(terms))

    def divergence(self) -> Tensor:
        r"""Returns :math:`KL(q(\theta) \| p(\theta))`, a scalar in nats."""
        return torch.as_tensor(sum(kl_divergence(q, _prior(q)).sum() for q in self.posterior().values()))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Runs the model with its weights at their mean."""
        return self.mean(*inputs, **named)

    def with_weights(self, weights: dict[str, Tensor], *inputs: Any, **named: Any) -> Any:
        """Runs the model with given weights, by their names."""
        # Pyro warns of weights that need no gradient, and its store would keep the first value of a constrained one.
        weights = {name: w if w.requires_grad else w.detach().requires_grad_() for name, w in weights.items()}
        with pyro.get_param_store().scope(), swapped(self.mean, weights):
            return self.mean(*inputs, **named)

    def drawn(self, *inputs: Any, **named: Any) -> Any:
        """Runs the model with weights that are drawn for this call."""
        return self.with_weights(self.draw(), *inputs, **named)


def _prior(q: dist.Normal) -> dist.Normal:
    return dist.Normal(torch.zeros_like(q.loc), torch.ones_like(q.scale))
