r"""The importance-weighted estimator of the marginal likelihood, with the guide as its proposal.

.. math:: \log p(x) \approx \log \frac{1}{K} \sum_{k=1}^K w_k, \quad w_k = \frac{p(x, z_k)}{q(z_k | x)},
    \quad z_k \sim q(z | x)

Its expectation is a lower bound that rises with K (Burda et al., 2016). The Pareto shape k-hat of the largest
weights tells whether the mean can be trusted: above 0.7 it cannot (Vehtari et al., 2024).
"""

__all__ = ["Importance"]

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pyro_vae.bayesian import has_random_weights
from pyro_vae.errors import require_whole
from pyro_vae.global_latents import with_globals
from pyro_vae.khat import pareto_khat
from pyro_vae.marginal import Marginal, batched, chunked_log_weights
from pyro_vae.split import Split

# Log weights that are looked at together, 512 KiB: for each look, dozens of functions are called.
_TOGETHER = 2**16


class Importance:
    """Creates the importance-weighted estimator.

    Arguments:
        particles: The number of draws per datapoint, K.
        compile: Whether the weights are traced and compiled.

    Attributes:
        needs_density: The guide must be a density, and no point.

    Raises:
        InputError: If there is no particle.

    Example:
        >>> import pyro_vae
        >>> from pyro_vae.guides.gaussian import GaussianGuide
        >>> from pyro_vae.inference.importance import Importance
        >>> from pyro_vae.models.bernoulli import BernoulliModel
        >>> data = pyro_vae.data("digits")
        >>> model = BernoulliModel(data.features, latent=2, hidden=8)
        >>> guide = GaussianGuide(data.features, latent=2, hidden=8)
        >>> found = Importance(particles=10).estimate(model, guide, data.test.head(3))
        >>> found.log_px.shape
        torch.Size([3])
    """

    needs_density = True

    def __init__(self, particles: int = 1000, compile: bool = False) -> None:
        require_whole("particles", particles)
        self.particles, self.compile = particles, compile

    def estimate(self, model: nn.Module, guide: nn.Module | None, split: Split) -> Marginal:
        """Estimates log p(x) of each datapoint of a split, in nats.

        Returns:
            The estimates. Their details are `particles` and `khat_over_0_7`, 1 for each datapoint whose k-hat is above
            0.7, 0 for the others, and `nan` where there is none (see `pyro_vae.khat`).

        Raises:
            InputError: If the guide is a point.
        """
        # Small tensors kept between the large ones that come and go would fragment the heap.
        log_px, se, over = torch.empty(3, len(split), dtype=torch.float64, device=split.device)
        model = with_globals(model, guide, split)
        moved = []
        done = 0
        for log_w in _joined(chunked_log_weights(model, guide, split, self.particles, self.compile)):
            part = slice(done, done := done + log_w.shape[1])
            log_px[part] = log_mean = log_w.logsumexp(0) - math.log(self.particles)
            # The delta method: the relative error of the mean weight.
            relative = (log_w - log_mean).exp()
            variance = (relative.square().mean(0) - 1).clamp(min=0)
            se[part] = (variance / (self.particles - 1)).sqrt() if self.particles > 1 else math.nan
            khat = torch.from_numpy(pareto_khat(log_w.cpu().numpy(), log_mean.abs().cpu().numpy()))
            over[part] = (khat > 0.7).double().where(~khat.isnan(), math.nan)
            if has_random_weights(model):
                moved.append(batched(relative - 1))
        shared = torch.cat(moved, dim=1) if moved else None
        return Marginal(log_px, se, {"particles": self.particles, "khat_over_0_7": over}, shared)


def _joined(chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    """Joins chunks of few datapoints, with shape `(particles, some)`. What it yields lasts until the next."""
    # In one place: chunks that wait between what comes and goes would fragment the heap, too.
    together, filled = torch.empty(0, 0), 0
    for chunk in chunks:
        if not filled:  # the first chunk is as wide as any
            together = chunk.new_empty(len(chunk), max(chunk.shape[1], _TOGETHER // len(chunk)))
        if filled + chunk.shape[1] > together.shape[1]:
            yield together[:, :filled]
            filled = 0
        together[:, filled : (filled := filled + chunk.shape[1])] = chunk
    yield together[:, :filled]
