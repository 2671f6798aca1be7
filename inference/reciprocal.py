r"""The paper's estimator of the marginal likelihood (Appendix D), for few latent variables.

.. math:: p(x) \approx \Bigl( \frac{1}{L} \sum_{l=1}^L \frac{q(z_l)}{p(z_l) \, p(x | z_l)} \Bigr)^{-1},
    \quad z_l \sim p(z | x)

HMC draws from the posterior; the density q is fitted to the first half of the draws, and the mean is over the second.
Where q is wider than the posterior, or the chains have not left their start, the estimate is too high. Where the
posterior has several modes, chains stay in theirs, and it is too low. Beyond four latent variables no density can be
fitted well enough, and the estimator declines.

The author's code estimates several datapoints at once with a wrong order of rows (`hmc_est.py`), which biases it down
by tenths of a nat; here each datapoint has its own chains and its own density.
"""

__all__ = ["Reciprocal"]

import math

import torch
from pyro.distributions import MultivariateNormal
from torch import Tensor, nn

from pyro_vae.errors import InputError, require_whole
from pyro_vae.hmc import HMC, sample
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import Marginal
from pyro_vae.sites import evaluation_mode, isolated
from pyro_vae.split import Split
from pyro_vae.watched import in_parts

# Rows (datapoints times chains) that go through the networks at once.
_ROWS = 4_000
_MOST_LATENTS = 4


class Reciprocal:
    """Creates the paper's estimator.

    Arguments:
        draws: The number of draws of each chain, half of them for the density and half for the mean.
        chains: The number of chains of each datapoint.
        warmup: The number of transitions before the draws, in which the step sizes are tuned.
        leapfrogs: The number of leapfrog steps in a transition.
        density: `kde` has a bandwidth inferred as in the author's code, `gaussian` a full covariance.
        force: Whether to go on above four latent variables.
        compile: Whether leapfrogs are traced and compiled.

    Raises:
        InputError: If there is no such density, or there are too few draws or chains.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.inference.reciprocal import Reciprocal
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits")
        >>> model = BernoulliModel(data.features, latent=2, hidden=8)
        >>> found = Reciprocal(draws=10, warmup=10).estimate(model, None, data.test.head(3))
        >>> found.log_px.shape
        torch.Size([3])
    """

    def __init__(
        self,
        draws: int = 200,
        chains: int = 4,
        warmup: int = 200,
        leapfrogs: int = 10,
        density: str = "kde",
        force: bool = False,
        compile: bool = False,
    ) -> None:
        if density not in _DENSITIES:
            raise InputError(f"density {density} is unknown: choose from {', '.join(_DENSITIES)}")
        # Each half of a chain has two draws at least, and the error is seen in the spread between chains.
        require_whole("draws", draws, 4)
        require_whole("chains", chains, 2)
        require_whole("warmup", warmup, 0)
        require_whole("leapfrogs", leapfrogs)
        self.draws, self.chains, self.warmup, self.leapfrogs = draws, chains, warmup, leapfrogs
        self.density, self.force, self.compile = density, force, compile

    def estimate(self, model: nn.Module, guide: nn.Module | None, split: Split) -> Marginal:
        """Estimates log p(x) of each datapoint of a split, in nats.

        Returns:
            The estimates, with standard errors from the spread between chains. Their detail is `acceptance`, the mean
            acceptance probability of each datapoint.

        Raises:
            InputError: If there are too many latent variables, HMC cannot move them, or the weights are random.
        """
        log_px, se, acceptance = [], [], []
        with isolated(), evaluation_mode(model):
            shared = LogJoint(model, split.first(1), self.compile)
        if shared.size > _MOST_LATENTS and not self.force:
            raise InputError(
                f"the reciprocal estimator is for {_MOST_LATENTS} latent variables at most, and the model has "
                f"{shared.size}: use importance or ais, or --force it"
            )
        for values in in_parts(split.values, max(1, _ROWS // self.chains), "reciprocal"):
            with isolated(), evaluation_mode(model, guide):
                log_joint = shared.on(split.read(values))
                start = log_joint.start(self.chains, guide)
                kernel = HMC(log_joint.with_gradient, start, leapfrogs=self.leapfrogs, gradient=log_joint.gradient)
                draws = sample(kernel, self.draws, self.warmup)
            half = self.draws // 2
            # (datapoints, chains, draws, size), so that a density sees the draws of all chains of a datapoint.
            position = draws.position.double().permute(2, 1, 0, 3)
            log_p = draws.log_density.permute(2, 1, 0)[..., half:]
            log_q = self._log_q(position[:, :, :half].flatten(1, 2), position[:, :, half:].flatten(1, 2))
            log_r = (log_q.view_as(log_p) - log_p).logsumexp(-1) - math.log(log_p.shape[-1])
            mean = log_r.logsumexp(1) - math.log(self.chains)
            log_px.append(-mean)
            se.append((log_r - mean.unsqueeze(1)).exp().std(1) / math.sqrt(self.chains))
            acceptance.append(draws.acceptance)
        return Marginal(torch.cat(log_px), torch.cat(se), {"acceptance": torch.cat(acceptance)})

    def _log_q(self, fit: Tensor, at: Tensor) -> Tensor:
        # A few datapoints at once: the KDE has a distance for each pair of draws.
        fitted = _DENSITIES[self.density]
        return torch.cat([fitted(a, b) for a, b in zip(fit.split(50), at.split(50), strict=True)])


def _gaussian(fit: Tensor, at: Tensor) -> Tensor:
    """Log density at `(datapoints, m, size)` of a Gaussian fitted to draws of shape `(datapoints, k, size)`."""
    fitted = MultivariateNormal(fit.mean(1, keepdim=True), scale_tril=_scale(fit).unsqueeze(1))
    return fitted.log_prob(at)


def _kde(fit: Tensor, at: Tensor) -> Tensor:
    """The same of a kernel density, whose bandwidth is chosen per datapoint on halves of the draws (`hmc_est.py`)."""
    k, size = fit.shape[1:]
    factors = k ** (-1 / (size + 4)) * torch.exp((torch.arange(10, device=fit.device) - 5) / 2)  # around Scott's rule
    train, held = fit[:, ::2], fit[:, 1::2]
    scores = torch.stack([_kernels(train, held, h.expand(len(fit))).sum(1) for h in factors])
    return _kernels(fit, at, factors[scores.argmax(0)])


def _kernels(fit: Tensor, at: Tensor, factor: Tensor) -> Tensor:
    k, size = fit.shape[1:]
    scale = _scale(fit)
    white = [torch.linalg.solve_triangular(scale, part.mT, upper=False).mT for part in (fit, at)]
    squares = torch.cdist(white[1], white[0]).square() / factor.view(-1, 1, 1) ** 2
    log_volume = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1) + size * factor.log()
    constant = math.log(k) + 0.5 * size * math.log(2 * math.pi)
    return (-0.5 * squares).logsumexp(-1) - log_volume.unsqueeze(1) - constant


def _scale(fit: Tensor) -> Tensor:
    """The Cholesky factor of the covariance of draws of shape `(datapoints, k, size)`."""
    centred = fit - fit.mean(1, keepdim=True)
    covariance = centred.mT @ centred / (fit.shape[1] - 1)
    # A chain that never moved has none: a tiny one lets its datapoint be seen as what it is, a poor estimate.
    return torch.linalg.cholesky(covariance + 1e-12 * torch.eye(fit.shape[2], dtype=fit.dtype, device=fit.device))


_DENSITIES = {"kde": _kde, "gaussian": _gaussian}
