r"""Annealed importance sampling of the marginal likelihood, good at any number of latent variables (Neal, 2001).

A chain walks from the prior to the posterior through :math:`p_t(z) \propto p(z) \, p(x | z)^{\beta_t}` with one HMC
transition at each of T temperatures, and collects the weight

.. math:: \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log p(x | z_{t-1}), \quad E[w] = p(x)

The log of the mean weight over chains is a lower bound in expectation, as for importance sampling.
"""

__all__ = ["AIS"]

import math

import torch
from torch import Tensor, nn

from pyro_vae.annealing import ROWS, up
from pyro_vae.errors import require_whole
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import Marginal
from pyro_vae.sites import evaluation_mode, isolated
from pyro_vae.split import Split
from pyro_vae.watched import in_parts


class AIS:
    """Creates the estimator.

    Arguments:
        temperatures: The number of temperatures T.
        chains: The number of chains of each datapoint.
        leapfrogs: The number of leapfrog steps in a transition. Few of them at many temperatures are the better deal:
            with 20 latents the variance of log w is 0.8 with 3 at 700 temperatures, 3.3 with 8 at 300.
        compile: Whether leapfrogs are traced and compiled.

    Raises:
        InputError: If there are too few of them.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.inference.ais import AIS
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits")
        >>> model = BernoulliModel(data.features, latent=2, hidden=8)
        >>> found = AIS(temperatures=10).estimate(model, None, data.test.head(3))
        >>> found.log_px.shape
        torch.Size([3])
    """

    def __init__(self, temperatures: int = 1000, chains: int = 8, leapfrogs: int = 3, compile: bool = False) -> None:
        require_whole("temperatures", temperatures)
        require_whole("chains", chains, 2)
        require_whole("leapfrogs", leapfrogs)
        self.temperatures, self.chains, self.leapfrogs = temperatures, chains, leapfrogs
        self.compile = compile

    def estimate(self, model: nn.Module, guide: nn.Module | None, split: Split) -> Marginal:
        """Estimates log p(x) of each datapoint of a split, in nats. The guide is not used.

        Returns:
            The estimates. Their details are `temperatures` and `acceptance`, the mean acceptance probability of each
            datapoint.

        Raises:
            InputError: If HMC cannot move the latent variables, or the weights are random.
        """
        log_px, se, acceptance = [], [], []
        with isolated(), evaluation_mode(model):
            shared = LogJoint(model, split.first(1), self.compile)
        for values in in_parts(split.values, max(1, ROWS // self.chains), "ais"):
            with isolated(), evaluation_mode(model):
                log_joint = shared.on(split.read(values))
                _, log_w, accepted, _ = up(log_joint, self.temperatures, self.chains, self.leapfrogs)
            mean = log_w.logsumexp(0) - math.log(self.chains)
            log_px.append(mean)
            se.append((log_w - mean).exp().std(0) / math.sqrt(self.chains))
            acceptance.append(accepted)
        details: dict[str, float | Tensor] = {"temperatures": self.temperatures, "acceptance": torch.cat(acceptance)}
        return Marginal(torch.cat(log_px), torch.cat(se), details)
