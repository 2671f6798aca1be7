r"""Auto-Encoding Variational Bayes: stochastic gradient ascent on the bound (Algorithm 1).

.. math:: \mathcal{L}(\theta, \phi; x) = E_{q_\phi(z | x)} [\log p_\theta(x, z) - \log q_\phi(z | x)]

Each step draws a minibatch of M of the N datapoints and follows the gradient of
:math:`\sum_i \mathcal{L}(x_i) + \frac{M}{N} \log p(\theta, \phi)`, where the last term is the paper's
prior :math:`N(0, I)` on the weights (Section 5). This is `pyro.infer.SVI` with `Trace_ELBO` (estimator A)
or `TraceMeanField_ELBO` (estimator B), with the sum kept on the device.

The importance-weighted bound of K draws (Burda et al., 2016) may take the bound's place:

.. math:: \mathcal{L}_K(\theta, \phi; x) = E \log \frac{1}{K} \sum_{k=1}^K
    \frac{p_\theta(x, z_k)}{q_\phi(z_k | x)}, \quad z_k \sim q_\phi(z | x)

It is tighter, but rewards a q that covers the posterior more than one that resembles it.
"""

__all__ = ["AEVB"]

import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.checks import check_pair
from pyro_vae.elbo import elbo, iwae
from pyro_vae.errors import InputError
from pyro_vae.inference.base import MinibatchLearner
from pyro_vae.run.settings import KL
from pyro_vae.sites import evaluation_mode, isolated
from pyro_vae.split import Split
from pyro_vae.update import Update

_OBJECTIVES = ("elbo", "iwae")


class AEVB(MinibatchLearner):
    """Creates a learner that trains a model and its guide together.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        data: The training data.
        batch: The number of datapoints in a minibatch, M in the paper.
        step_size: The global step size.
        optimizer: `adagrad`, the paper's, or the name of one in `torch.optim`.
        kl: `sampled` is the paper's estimator A, `analytic` its estimator B.
        particles: The number of draws per datapoint, L in the paper, K in the importance-weighted bound.
        objective: `elbo` is the paper's, `iwae` the importance-weighted bound, which is the same with one particle.
        weight_prior: The standard deviation of the prior on the weights; `inf` is no prior.
        compile: Whether the update is traced and compiled.

    Attributes:
        loss: The last minibatch's negative objective in nats per datapoint, a scalar on the device.

    Raises:
        InputError: If model and guide do not fit each other or the data.
    """

    runs_on_ranks = True

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        data: Split,
        *,
        batch: int = 100,
        step_size: float = 0.02,
        optimizer: str = "adagrad",
        kl: str = "sampled",
        particles: int = 1,
        objective: str = "elbo",
        weight_prior: float = 1.0,
        compile: bool = False,
    ) -> None:
        self.model, self.guide, self.data = model, guide, data
        self.batch, self.particles, self.kl, self.objective = batch, particles, kl, objective
        self.rows = ranks.share(batch)
        sites = check_pair(model, guide, data.first(self.rows))
        self.reparameterized = all(site["fn"].has_rsample for site in sites.values())
        if kl not in KL:
            raise InputError(f"kl {kl} is unknown: choose from {', '.join(KL)}")
        if objective not in _OBJECTIVES:
            raise InputError(f"objective {objective} is unknown: choose from {', '.join(_OBJECTIVES)}")
        if objective == "iwae" and kl == "analytic":
            raise InputError("objective = iwae has no closed form within its logarithm: train it with kl = sampled")
        if not self.reparameterized and (kl == "analytic" or objective == "iwae"):
            wrong, right = ("kl = analytic", "kl = sampled") if kl == "analytic" else ("objective = iwae", "elbo")
            raise InputError(f"{wrong} needs a reparameterised guide: train {type(guide).__name__} with {right}")
        if kl == "analytic":
            with isolated(), evaluation_mode(model, guide), torch.no_grad():
                elbo(model, guide, data.first(2), analytic_kl=True)  # where the closed form is wrong, this refuses
        self.update = Update(
            self._loss,
            (model, guide),
            (model, guide),
            optimizer=optimizer,
            step_size=step_size,
            share=batch / data.total,
            weight_prior=weight_prior,
            compile=compile,
        )
        self.loss = torch.zeros((), device=data.device)
        ranks.draw_apart()

    def _loss(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The negative objective in nats, summed over a minibatch and per datapoint."""
        x = self.data.minibatch(self.rows, values)
        if self.objective == "iwae":
            loss = -iwae(self.model, self.guide, x, self.particles).sum()
        elif self.reparameterized:
            loss = -elbo(self.model, self.guide, x, self.particles, analytic_kl=self.kl == "analytic").sum()
        else:  # guides that cannot be reparameterised need the score function, which Pyro's own estimator adds
            estimator = Trace_ELBO(self.particles, max_plate_nesting=1, vectorize_particles=self.particles > 1)
            loss = estimator.differentiable_loss(self.model, self.guide, x)
        loss = loss * self.data.weight
        return loss, loss.detach() / self.rows
