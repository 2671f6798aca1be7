r"""Bounds from Pyro traces, per datapoint and without a read from the device (Sections 2.2 and 2.3).

Pyro's own estimators (`Trace_ELBO` and its kin) train: they sum over datapoints, weigh terms as `poutine.scale` says,
and are right for guides that cannot be reparameterised. What is here evaluates, datapoint by datapoint and unweighted,
which Pyro has nothing for; and trains by the importance-weighted bound.

Everything here goes through the sites of a model and its guide, never through their base classes, so
that a user's own pair, with whatever latent sites inside the plate `"data"`, is treated alike.
"""

__all__ = ["ROWS", "ImportanceWeightedELBO", "bound_terms", "elbo", "iwae", "log_weights"]

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer.elbo import ELBO
from pyro.infer.util import torch_item
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_vae.enumerated import paired, sums_out
from pyro_vae.errors import InputError
from pyro_vae.plates import look, traces
from pyro_vae.sites import joint_log_prob, latent_sites, sample_sites, site_log_prob

# Rows (datapoints times draws) that go through the networks at once: 13 MB of pixels on MNIST. More are no faster, and
# blocks of about 32 MB fragment the heap of glibc, until a process holds gigabytes.
ROWS = 4_096


def log_weights(
    model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, particles: int = 1, scaled: bool = False
) -> Tensor:
    r"""Draws :math:`\log p(x, z) - \log q(z | x)`, the paper's estimator A (Equation 6), in nats.

    Its mean over the particles estimates the bound, the log of the mean of its exponential bounds
    :math:`\log p(x)` more tightly. Sites that are marked to be summed out are; see `Tables.log_weights`.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint.
        scaled: Whether terms are weighted by the scales around their sites, as for training; see `site_log_prob`.

    Returns:
        The log weights, with shape `(particles, datapoints)`.

    Example:
        >>> import torch
        >>> from pyro_vae.elbo import log_weights
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> model, guide = BernoulliModel(6, 2, hidden=8), GaussianGuide(6, 2, hidden=8)
        >>> log_weights(model, guide, torch.rand(3, 6), particles=5).shape
        torch.Size([5, 3])
    """
    if (
        particles > 1 and look(guide, x).shared | look(model, x).shared
    ):  # a global latent variable has one value for all datapoints
        return torch.cat([log_weights(model, guide, x, 1, scaled) for _ in range(particles)])
    if sums_out(model, guide, x):
        return paired(model, guide, x, particles).log_weights(scaled)
    model_trace, guide_trace = traces(model, guide, x, particles)
    return (joint_log_prob(model_trace, scaled) - joint_log_prob(guide_trace, scaled)).expand(particles, len(x))


def bound_terms(model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, particles: int = 1) -> Tensor:
    """Draws whose mean is the bound: the log weights, but where the guide has sites that are summed out.

    Over those, the bound is the mean of log weights, and not the log of a sum of weights; see `Tables.bound`.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint.

    Returns:
        The draws in nats, with shape `(particles, datapoints)`.

    Example:
        >>> import torch
        >>> from pyro_vae.elbo import bound_terms
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> model, guide = BernoulliModel(6, 2, hidden=8), GaussianGuide(6, 2, hidden=8)
        >>> bound_terms(model, guide, torch.rand(3, 6), particles=5).shape
        torch.Size([5, 3])
    """
    if sums_out(model, guide, x):
        return paired(model, guide, x, particles).bound()
    return log_weights(model, guide, x, particles)


def elbo(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    x: Tensor,
    particles: int = 1,
    analytic_kl: bool = False,
) -> Tensor:
    r"""Estimates the bound of each datapoint, in nats; reparameterised guides can be trained through it.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint, :math:`L` in the paper.
        analytic_kl: Whether :math:`KL(q(z | x) \| p(z))` is taken in closed form where Pyro has one: the
            paper's estimator B (Equation 7) instead of A (Equation 6).

    Returns:
        The bounds, with shape `(datapoints,)`.

    Raises:
        InputError: If a closed form is wanted and the guide samples its sites in another order than the model.

    Example:
        >>> import torch
        >>> from pyro_vae.elbo import elbo
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> model, guide = BernoulliModel(6, 2, hidden=8), GaussianGuide(6, 2, hidden=8)
        >>> elbo(model, guide, torch.rand(3, 6), analytic_kl=True).shape
        torch.Size([3])
    """
    if not analytic_kl:
        return bound_terms(model, guide, x, particles).mean(0)
    if sums_out(model, guide, x):
        raise InputError("kl = analytic has no closed form where sites are summed out: train with kl = sampled")
    model_trace, guide_trace = traces(model, guide, x, particles)
    q = latent_sites(guide_trace)
    latent = [name for name in sample_sites(model_trace) if name in q]
    if latent != list(q):
        # KL(q(z1|x) || p(z1|z2)) is no expectation over z1 where z2 was drawn given z1.
        raise InputError(f"kl = analytic needs guide and model to sample in one order, not {list(q)} and {latent}")
    terms = [-site_log_prob(site) for name, site in sample_sites(guide_trace).items() if name not in q]
    for name, site in sample_sites(model_trace).items():
        if site["is_observed"] or name not in q:
            terms.append(site_log_prob(site))
            continue
        try:
            kl = kl_divergence(q[name]["fn"], site["fn"])
        except NotImplementedError:
            terms.append(site_log_prob(site) - site_log_prob(q[name]))
        else:
            terms.append(-scale_and_mask(kl, 1.0, site["mask"]))
    return torch.as_tensor(sum(terms)).expand(particles, len(x)).mean(0)


def iwae(
    model: Callable[..., Any], guide: Callable[..., Any], x: Tensor, particles: int = 1, scaled: bool = False
) -> Tensor:
    r"""Estimates the importance-weighted bound of each datapoint, in nats (Burda et al., 2016, Equation 8).

    .. math:: \mathcal{L}_K(x) = E \log \frac{1}{K} \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k | x)}, \quad z_k \sim q(z | x)

    It rises from the bound at :math:`K = 1` to :math:`\log p(x)`. The draws of a datapoint are weighed against each
    other and not against those of its neighbours.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: The data, with shape `(datapoints, features)`.
        particles: The number of draws per datapoint, K.
        scaled: Whether terms are weighted by the scales around their sites; see `site_log_prob`.

    Returns:
        The bounds, float64 with shape `(datapoints,)`.

    Example:
        >>> import torch
        >>> from pyro_vae.elbo import iwae
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> model, guide = BernoulliModel(6, 2, hidden=8), GaussianGuide(6, 2, hidden=8)
        >>> iwae(model, guide, torch.rand(3, 6), particles=5).shape
        torch.Size([3])
    """
    return log_weights(model, guide, x, particles, scaled).double().logsumexp(0) - math.log(particles)


class ImportanceWeightedELBO(ELBO):
    """Creates the importance-weighted bound as an estimator of Pyro's, for reparameterised guides; see `iwae`.

    Example:
        >>> import torch
        >>> from pyro_vae.elbo import ImportanceWeightedELBO
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> model, guide = BernoulliModel(6, 2, hidden=8), GaussianGuide(6, 2, hidden=8)
        >>> ImportanceWeightedELBO(num_particles=5).differentiable_loss(model, guide, torch.rand(3, 6)).shape
        torch.Size([])
    """

    def differentiable_loss(self, model: Callable[..., Any], guide: Callable[..., Any], x: Tensor) -> Tensor:
        """Returns the negative bound, in nats and summed over datapoints."""
        return -iwae(model, guide, x, self.num_particles, scaled=True).sum()

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], x: Tensor) -> float:
        """Returns the negative bound as a number."""
        return torch_item(self.differentiable_loss(model, guide, x))

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], x: Tensor) -> float:
        """Returns the negative bound as a number, and adds its gradients to those of the parameters."""
        loss = self.differentiable_loss(model, guide, x)
        loss.backward()
        return torch_item(loss)

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError("its draws come in one trace: call differentiable_loss")
