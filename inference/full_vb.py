r"""Full variational Bayes: Gaussians over the latent variables and over the model's weights (Appendix F).

.. math:: \log p(X) \geq N \, E_{q(\theta)} \Bigl[ \frac{1}{N} \sum_{i=1}^N \mathcal{L}(\theta, \phi; x_i) \Bigr]
    - KL(q(\theta) \| p(\theta)), \quad p(\theta) = N(0, I), \quad q(\theta) = N(\mu, \mathrm{diag}\, \sigma^2)

Each step draws a minibatch of M of the N datapoints and weights :math:`\theta = \mu + \sigma \zeta`, and follows the
gradient of the bound times M / N. With everything sampled it is the paper's Equation 22, with both divergences in
closed form its Equation 24. One draw of the weights serves the whole minibatch: the mean is the paper's, which draws
them anew for every datapoint, the variance is larger, and the cost is that of AEVB.
"""

__all__ = ["FullVB"]

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from pyro_vae.bayesian import BayesianModel
from pyro_vae.checks import check_pair, require_no_globals
from pyro_vae.elbo import elbo
from pyro_vae.enumerated import sums_out
from pyro_vae.errors import Count, InputError, Range, require_one_of
from pyro_vae.inference.base import MinibatchLearner
from pyro_vae.kl_warmup import KLWarmup
from pyro_vae.plates import is_marked, nesting
from pyro_vae.schedules import step_sizes
from pyro_vae.sites import evaluation_mode, isolated
from pyro_vae.split import Split
from pyro_vae.steps import Steps
from pyro_vae.update import Update


class FullVB(MinibatchLearner):
    """Creates a learner that trains a Gaussian over the weights of a model together with its guide.

    Arguments:
        model: The generative model, any one; its parameters are where the means start.
        guide: The recognition model. Its weights have no distribution.
        data: The training data.
        batch: The number of datapoints in a minibatch, M in the paper.
        step_size: The global step size.
        optimizer: `adagrad`, the paper's, or the name of one in `torch.optim`.
        kl: `sampled` is Equation 22, `analytic` Equation 24.
        particles: The number of draws of weights, and with each of them of a latent variable per datapoint, L in the
            paper.
        kl_warmup: The datapoint evaluations over which the terms of the latent variables come to count once, from 0 on;
            see `pyro_vae.kl_warmup`.
        schedule: A class of `torch.optim.lr_scheduler` that the step size follows, by name; see `pyro_vae.schedules`.
        schedule_options: Its arguments.
        samples: The budget in datapoint evaluations, which a schedule is laid out over.
        compile: Whether the update is traced and compiled.

    Attributes:
        model: The model with its Gaussian, a `pyro_vae.bayesian.BayesianModel`.
        loss: The last minibatch's negative bound in nats per datapoint, a scalar on the device. The weights' divergence
            is a part of it, divided by N.

    Raises:
        InputError: If model and guide do not fit each other or the data, or the guide cannot be reparameterised.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.inference.full_vb import FullVB
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits", train_size=200)
        >>> model, guide = BernoulliModel(data.features, 2, hidden=8), GaussianGuide(data.features, 2, hidden=8)
        >>> learner = FullVB(model, guide, data.train)
        >>> learner.step()  # datapoint evaluations
        100
    """

    wraps_model = BayesianModel

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        data: Split,
        *,
        batch: Count = 100,
        step_size: Annotated[float, Range(above=0)] = 0.02,
        optimizer: str = "adagrad",
        kl: Literal["sampled", "analytic"] = "sampled",
        particles: Count = 1,
        kl_warmup: Annotated[float, Range(above=0)] | None = None,
        schedule: str | None = None,
        schedule_options: Mapping[str, Any] | None = None,
        samples: int | None = None,
        compile: bool = False,
    ) -> None:
        self.model = model if isinstance(model, BayesianModel) else BayesianModel(model)
        self.guide, self.data = guide, data
        self.batch = self.rows = batch
        self.warmup_of_kl, self.steps = KLWarmup(kl_warmup, data.device), Steps(data.device)
        self.particles, self.analytic = particles, kl == "analytic"
        require_one_of("kl", kl, ("sampled", "analytic"))
        require_no_globals("full_vb", self.model.mean, x := data.first(batch))
        sites = check_pair(self.model.mean, guide, x)
        sampled = TraceEnum_ELBO if sums_out(self.model.mean, guide, x) else Trace_ELBO
        estimator = TraceMeanField_ELBO if self.analytic else sampled
        self.elbo = estimator(max_plate_nesting=nesting(x, self.model.mean, guide))
        if not all(site["fn"].has_rsample or is_marked(site) for site in sites.values()):
            raise InputError(
                f"full_vb needs a reparameterised guide: train {type(guide).__name__} with --inference aevb"
            )
        with isolated(), evaluation_mode(self.model, guide), torch.no_grad():
            # Where the closed form is wrong, or the weights cannot be drawn, this fails before the long part.
            elbo(self.model.drawn, guide, data.first(2), analytic_kl=self.analytic)
        self.update = Update(
            self._loss,
            (self.model, guide, self.warmup_of_kl, self.steps),
            (self.model, guide),
            optimizer=optimizer,
            step_size=step_size,
            share=batch / len(data),
            weight_prior=torch.inf,  # the weights' own prior is in the loss, and the guide has none
            compile=compile,
            schedule=step_sizes(schedule, schedule_options, samples and math.ceil(samples / batch)),
        )
        self.loss = torch.zeros((), device=data.device)

    def _loss(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The negative bound in nats, times M / N and divided by N."""
        x = self.data.minibatch(self.batch, values)
        with self.steps.during(), self.warmup_of_kl.during(self.batch):
            draws = torch.stack([self._bound(x) for _ in range(self.particles)])
        loss = -draws.mean()
        return loss, loss.detach() / self.batch

    def _bound(self, x: Tensor) -> Tensor:
        weights = self.model.draw()
        of_data = -self.elbo.differentiable_loss(partial(self.model.with_weights, weights), self.guide, x)
        of_weights = -self.model.divergence() if self.analytic else self.model.log_ratio(weights)
        return of_data + self.batch / len(self.data) * of_weights
