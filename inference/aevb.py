r"""Auto-Encoding Variational Bayes: stochastic gradient ascent on the bound (Algorithm 1).

.. math:: \mathcal{L}(\theta, \phi; x) = E_{q_\phi(z | x)} [\log p_\theta(x, z) - \log q_\phi(z | x)]

Each step draws a minibatch of M of the N datapoints and follows the gradient of
:math:`\sum_i \mathcal{L}(x_i) + \frac{M}{N} \log p(\theta, \phi)`, where the last term is the paper's prior
:math:`N(0, I)` on the weights (Section 5). The bound is any estimator of Pyro's: `Trace_ELBO` is the paper's
estimator A, `TraceMeanField_ELBO` its estimator B; where discrete sites are marked to be summed out, `TraceEnum_ELBO`
takes the place of `Trace_ELBO`. Plain, a step is `pyro.infer.SVI.step`; compiled, it is the same
estimator's `differentiable_loss`, traced once.
"""

__all__ = ["AEVB"]

import functools
import logging
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, TraceTMC_ELBO
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.checks import check_pair, weighted_terms
from pyro_vae.elbo import ImportanceWeightedELBO
from pyro_vae.elbo import elbo as bound_of
from pyro_vae.enumerated import sums_out
from pyro_vae.errors import Count, InputError, Range, require_one_of
from pyro_vae.inference.base import MinibatchLearner
from pyro_vae.kl_warmup import KLWarmup
from pyro_vae.plates import is_countable, is_marked, look, nesting
from pyro_vae.schedules import step_sizes
from pyro_vae.sites import Site, evaluation_mode, isolated
from pyro_vae.split import Split
from pyro_vae.steps import Steps
from pyro_vae.update import Update

_logger = logging.getLogger("pyro_vae")


class AEVB(MinibatchLearner):
    """Creates a learner that trains a model and its guide together.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        data: The training data.
        batch: The number of datapoints in a minibatch, M in the paper.
        step_size: The global step size.
        optimizer: `adagrad`, the paper's, or the name of one in `torch.optim` or `pyro.optim`.
        elbo: Makes the estimator of the bound: a class of `pyro.infer`, or any subclass of `pyro.infer.ELBO`.
        kl: `sampled` leaves the estimator as it is, the paper's estimator A; `analytic` is the short word for
            `TraceMeanField_ELBO`, its estimator B.
        particles: The number of draws per datapoint, L in the paper, K in the importance-weighted bound.
        objective: `elbo` is the paper's, `iwae` (Burda et al., 2016) is short for `ImportanceWeightedELBO`, which is
            tighter with more particles, but rewards a q that covers the posterior more than one that resembles it.
        weight_prior: The standard deviation of the prior on the weights; `inf` is no prior.
        kl_warmup: The datapoint evaluations over which the terms of the latent variables come to count once, from 0 on;
            see `pyro_vae.kl_warmup`.
        schedule: A class of `torch.optim.lr_scheduler` that the step size follows, by name; see `pyro_vae.schedules`.
        schedule_options: Its arguments.
        samples: The budget in datapoint evaluations, which a schedule is laid out over.
        compile: Whether the update is traced and compiled.

    Attributes:
        loss: The last minibatch's negative objective in nats per datapoint, a scalar on the device.

    Raises:
        InputError: If model and guide do not fit each other, the data or the estimator.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.inference.aevb import AEVB
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits", train_size=200)
        >>> model, guide = BernoulliModel(data.features, 2, hidden=8), GaussianGuide(data.features, 2, hidden=8)
        >>> learner = AEVB(model, guide, data.train)
        >>> learner.step()  # datapoint evaluations
        100
    """

    runs_on_ranks = True

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        data: Split,
        *,
        batch: Count = 100,
        step_size: Annotated[float, Range(above=0)] = 0.02,
        optimizer: str = "adagrad",
        elbo: Callable[..., ELBO] = Trace_ELBO,
        kl: Literal["sampled", "analytic"] = "sampled",
        particles: Count = 1,
        objective: Literal["elbo", "iwae"] = "elbo",
        weight_prior: Annotated[float, Range(above=0, finite=False)] = 1.0,
        kl_warmup: Annotated[float, Range(above=0)] | None = None,
        schedule: str | None = None,
        schedule_options: Mapping[str, Any] | None = None,
        samples: int | None = None,
        compile: bool = False,
    ) -> None:
        self.model, self.guide, self.data = model, guide, data
        self.warmup_of_kl, self.steps = KLWarmup(kl_warmup, data.device), Steps(data.device)
        self.batch, self.particles = batch, particles
        self.rows = ranks.share(batch)
        sites = check_pair(model, guide, data.first(self.rows))
        x = data.first(self.rows)
        estimator = _estimator(elbo, kl, objective, sums_out(model, guide, x))
        if estimator is ImportanceWeightedELBO and (marked := look(guide, x).marked):
            raise InputError(
                f"objective = iwae sums site '{min(marked)}' out of its weights, and leaves the probabilities that "
                f"{type(guide).__name__} gives it untrained: train by TraceEnum_ELBO, or mark it in the model alone"
            )
        shared = look(model, x).shared
        if estimator is ImportanceWeightedELBO and shared:
            raise InputError(
                f"objective = iwae weighs the draws of each datapoint, and site '{min(shared)}' is global: leave it out"
            )
        if estimator in (TraceMeanField_ELBO, ImportanceWeightedELBO):
            word = "kl = analytic" if estimator is TraceMeanField_ELBO else "objective = iwae"
            if not all(site["fn"].has_rsample for site in sites.values()):
                raise InputError(f"{word} needs a reparameterised guide: train {type(guide).__name__} by Trace_ELBO")
        if estimator is TraceMeanField_ELBO:
            with isolated(), evaluation_mode(model, guide), torch.no_grad():
                bound_of(model, guide, data.first(2), analytic_kl=True)  # where the closed form is wrong, this refuses
        _say_what_is_drawn(guide, sites)
        if shared and batch < data.total and "x" not in weighted_terms(model, guide, x):
            _logger.warning(
                "site '%s' is global, and each minibatch counts its terms as a whole: write pyro.plate('data', %d, "
                "subsample_size=len(x))",
                min(shared),
                data.total,
            )
        # A global latent variable with particles on the left is no shape that programs are written for.
        self.elbo: Any = _built(estimator, particles, nesting(x, model, guide), vectorize=particles > 1 and not shared)
        self.update = Update(
            self._loss,
            (model, guide, self.warmup_of_kl, self.steps),
            (model, guide),
            optimizer=optimizer,
            step_size=step_size,
            share=batch / data.total,
            weight_prior=weight_prior,
            compile=compile and _is_differentiable(self.elbo),
            schedule=step_sizes(schedule, schedule_options, samples and math.ceil(samples / batch)),
        )
        self.svi = SVI(self._model, self._guide, self.update.for_svi(), loss=self.elbo)
        self.loss = torch.zeros((), device=data.device)
        ranks.draw_apart()

    def step(self) -> int:
        """Performs one update on a new minibatch.

        Returns:
            Its cost in datapoint evaluations, the size of the minibatch.
        """
        if self.update.compiles:
            return super().step()
        with isolated(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Encountered NaN")  # what is not finite ends a run, with its name
            warnings.filterwarnings("ignore", ".*was not registered in the param store")  # it is not to learn
            with self.steps.during(), self.warmup_of_kl.during(self.batch):
                loss = self.svi.step(self.data.minibatch(self.rows))
        total = sum(loss) if isinstance(loss, tuple) else loss  # Pyro's reweighted wake-sleep has two
        self.loss = torch.tensor(total / self.rows, device=self.data.device)
        return self.batch

    def _model(self, x: Tensor) -> Any:
        pyro.module("model", self.model)
        with poutine.scale(scale=self.data.weight):
            return self.model(x)

    def _guide(self, x: Tensor) -> Any:
        pyro.module("guide", self.guide)
        with poutine.scale(scale=self.data.weight):
            return self.guide(x)

    def _loss(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The negative objective in nats, summed over a minibatch and per datapoint."""
        x = self.data.minibatch(self.rows, values)
        with self.steps.during(), self.warmup_of_kl.during(self.batch):
            loss = self.elbo.differentiable_loss(self.model, self.guide, x) * self.data.weight
        return loss, (loss.detach() / self.rows).float()


def _estimator(elbo: Callable[..., ELBO], kl: str, objective: str, summed: bool) -> Callable[..., ELBO]:
    """The one estimator that three words may ask for, and the sites that are summed out."""
    require_one_of("kl", kl, ("sampled", "analytic"))
    require_one_of("objective", objective, ("elbo", "iwae"))
    if objective == "iwae" and kl == "analytic":
        raise InputError("objective = iwae has no closed form within its logarithm: train it with kl = sampled")
    asked = {"analytic": TraceMeanField_ELBO, "iwae": ImportanceWeightedELBO}
    for word, short in (("kl = analytic", asked.get(kl)), ("objective = iwae", asked.get(objective))):
        if short is not None:
            if elbo not in (Trace_ELBO, short):
                raise InputError(f"{word} stands for {short.__name__}: leave out one of it and elbo = {_name(elbo)}")
            return short
    if not summed:
        return elbo
    if elbo is Trace_ELBO:
        return TraceEnum_ELBO
    kinds = getattr(_own(elbo), "__mro__", ())
    of_pyro = next((kind for kind in kinds if kind.__module__.startswith("pyro.infer.") and kind is not ELBO), None)
    if of_pyro is not None and not issubclass(of_pyro, TraceEnum_ELBO | TraceTMC_ELBO):
        raise InputError(
            f"elbo = {_name(elbo)} cannot sum out the sites that are marked to be: leave it out for TraceEnum_ELBO, or "
            "derive it from that"
        )
    return elbo


def _say_what_is_drawn(guide: nn.Module, sites: Mapping[str, Site]) -> None:
    drawn = [name for name, site in sites.items() if is_countable(site) and not is_marked(site)]
    if drawn:
        _logger.warning(
            "%s draws the discrete site %s: gradients are noisy (--elbo TraceGraph_ELBO has Pyro's baselines), and "
            "the bound and encode take draws of it: give --enumerate to sum it out",
            type(guide).__name__,
            ", ".join(map(repr, drawn)),
        )


def _built(estimator: Callable[..., ELBO], particles: int, plates: int, vectorize: bool) -> ELBO:
    try:
        built = estimator(num_particles=particles, max_plate_nesting=plates, vectorize_particles=vectorize)
    except Exception as error:  # a user's class may fail in any way
        raise InputError(f"elbo {_name(estimator)} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(built, ELBO):
        raise InputError(f"elbo {_name(estimator)} is not an estimator: make it a subclass of pyro.infer.ELBO")
    return built


def _is_differentiable(elbo: ELBO) -> bool:
    if hasattr(elbo, "differentiable_loss"):
        return True
    _logger.warning("%s has no differentiable_loss: its steps run uncompiled", type(elbo).__name__)
    return False


def _own(estimator: Callable[..., ELBO]) -> Callable[..., ELBO]:
    return estimator.func if isinstance(estimator, functools.partial) else estimator


def _name(estimator: Callable[..., ELBO]) -> str:
    own = _own(estimator)
    return getattr(own, "__name__", repr(own))
