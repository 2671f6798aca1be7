r"""Latent variables of data, as a table: what the guide says of each datapoint, and how far it may be trusted."""

__all__ = ["encode"]

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pyro_vae.device import seeded
from pyro_vae.elbo import ROWS
from pyro_vae.enumerated import draw, paired, sums_out
from pyro_vae.khat import pareto_khat
from pyro_vae.local import fit_gaussian
from pyro_vae.plates import Place, is_countable, nesting
from pyro_vae.sites import evaluation_mode, isolated, latent_sites
from pyro_vae.split import Split

# Datapoints that share the steps which fit a Gaussian to each of them.
_TOGETHER = 1_000


@torch.no_grad()
def encode(
    model: nn.Module,
    guide: nn.Module | None,
    split: Split,
    *,
    classes: tuple[str, ...] = (),
    particles: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Tells where the posterior of each datapoint lies.

    Arguments:
        model: The generative model.
        guide: The recognition model; None fits a Gaussian to the posterior of each datapoint.
        split: The datapoints.
        classes: The names of the classes that their labels number.
        particles: The number of draws per datapoint, for the bound, :math:`\log p(x)`, k-hat, and the moments of sites
            whose distribution does not tell them.
        seed: The seed of the draws.

    Returns:
        A table with one datapoint in each row: `SITE_1` and so on, the means of the latent variables of each site,
        `SITE_1_sd` and so on, their standard deviations under q; of a discrete site, `SITE`, its most probable value,
        and `SITE_p_VALUE`, the probability of each; `label` where there is one, `bound` and `log_px` in nats, and
        `khat`, which above 0.7 says that `log_px` is not to be trusted (nothing below 25 particles). The probabilities
        are the guide's, :math:`q(y | x)`, and of a site that the model alone has the means of :math:`p(y | x, z)` over
        draws z of the guide. Values that are vectors are numbered from 0.
    """
    columns: dict[str, list[Tensor]] = {}
    size = _TOGETHER if guide is None else max(1, ROWS // particles)
    with seeded(seed, split.device):
        for values in split.values.split(size):
            x = split.read(values)
            q = fit_gaussian(model, x) if guide is None else guide
            with isolated(), evaluation_mode(model, q):
                drawn = draw(model, q, x, particles)
                plates = nesting(x, model, q)
                terms = log_w = (drawn.log_p - drawn.log_q).double()
                if sums_out(model, q, x):
                    tables = paired(model, q, x, particles)
                    terms, log_w = tables.bound(), tables.log_weights()
            for name, posterior in drawn.posteriors.items():
                _add(columns, name, posterior.probabilities.mean(0), posterior.support)
            for name, site in latent_sites(drawn.guide_trace).items():
                place = Place.of(site, plates)
                if is_countable(site):
                    support = site["fn"].enumerate_support(expand=False)
                    each = [
                        place._replace(event_dim=0).by_datapoint(p, particles, len(x))
                        for p in site["fn"].log_prob(support).exp()
                    ]
                    probabilities = torch.stack(each, dim=-1).double().mean(0)
                    _add(columns, name, probabilities, support.reshape(len(support), *site["fn"].event_shape))
                    continue
                draws = place.by_datapoint(site["value"], particles, len(x)).reshape(particles, len(x), -1)
                mean, sd = _moments(site["fn"], draws)
                for part, suffix in ((mean, ""), (sd, "_sd")):
                    for n, column in enumerate(part.unbind(-1)):
                        columns.setdefault(f"{name}_{n + 1}{suffix}", []).append(column)
            columns.setdefault("bound", []).append(terms.mean(0))
            columns.setdefault("log_px", []).append(log_w.logsumexp(0) - math.log(particles))
            columns.setdefault("khat", []).append(torch.from_numpy(pareto_khat(log_w.cpu().numpy())))
    found = {name: torch.cat(parts).cpu().numpy() for name, parts in columns.items()}
    last = {name: found.pop(name) for name in ("bound", "log_px", "khat")}
    if split.labels is not None:
        numbers = split.labels.cpu().numpy()
        names = np.array([*classes, None], dtype=object)
        found["label"] = names[numbers] if classes else numbers
    return pd.DataFrame({**found, **last})


def _add(columns: dict[str, list[Tensor]], name: str, probabilities: Tensor, support: Tensor) -> None:
    """Adds the probabilities of a discrete site, with shape `(datapoints, plates inside..., values)`."""
    values = support.tolist() if support.dim() == 1 else range(len(support))
    parts = probabilities.flatten(1, -2).unbind(1) if probabilities.dim() > 2 else [probabilities]
    for n, part in enumerate(parts):
        own = name if len(parts) == 1 else f"{name}_{n + 1}"
        best = part.argmax(-1)
        columns.setdefault(own, []).append(support[best] if support.dim() == 1 else best)
        for value, column in zip(values, part.unbind(-1), strict=True):
            columns.setdefault(f"{own}_p_{value:g}", []).append(column)


def _moments(distribution: object, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of a site, its distribution's own or those of draws."""
    try:
        mean, sd = distribution.mean, distribution.stddev  # type: ignore[attr-defined]
    except (NotImplementedError, AttributeError):
        mean = sd = draws.new_full((), torch.nan)
    if mean.dim() == 0 or not (mean.isfinite().all() and sd.isfinite().all()):
        return draws.mean(0), draws.std(0)
    # A guide does not look at the particles: they have one mean, unless it depends on another site.
    event = len(distribution.event_shape)  # type: ignore[attr-defined]
    mean, sd = (part.reshape(*part.shape[: part.dim() - event], -1).expand(draws.shape) for part in (mean, sd))
    if torch.equal(mean[0], mean[-1]) and torch.equal(sd[0], sd[-1]):
        return mean[0], sd[0]
    return mean.mean(0), (sd.square().mean(0) + mean.var(0)).sqrt()
