r"""Latent variables that all datapoints have in common, outside of the plate of the datapoints.

.. math:: p(w) \prod_i p(z_i) \, p(x_i | z_i, w), \quad q(w) \prod_i q(z_i | x_i, w)

They are to evaluation what random weights are (see `pyro_vae.bayesian`): draws of q(w) serve many datapoints, the bound
of the training data pays :math:`KL(q(w) \| p(w))` once, and that of test data is one of the predictive density.
"""

__all__ = ["WithGlobals", "fixed_points", "with_globals"]

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_vae.device import seeded
from pyro_vae.errors import InputError
from pyro_vae.plates import look
from pyro_vae.sites import Site, evaluation_mode, global_sites, innermost, isolated, site_log_prob
from pyro_vae.split import Split
from pyro_vae.words import listed

# Draws behind a divergence, which is divided by the number of training data.
_DRAWS = 100

# Datapoints that a model is looked at with.
_LOOKED_AT = 100


def with_globals(model: nn.Module, guide: nn.Module | None, split: Split) -> nn.Module:
    """Returns a model that draws its global latent variables from the guide; the model itself where it has none.

    Arguments:
        model: The generative model.
        guide: The recognition model; None where there is none.
        split: Datapoints, or where there are none, their shape.

    Raises:
        InputError: If it has some, and there is no guide to draw them.
    """
    if getattr(model, "random_weights", False):
        return model
    with seeded(0, split.device):  # dynamic binarisation draws the pixels
        x = split.first(_LOOKED_AT) if len(split) else torch.rand(2, split.values.shape[1], device=split.device)
    if not (names := look(model, x).shared):
        return model
    if guide is None:
        raise InputError(
            f"{type(model).__name__} has the global latent variable {listed(names)}, and no guide to draw it from"
        )
    return WithGlobals(model, guide, x[:2])


class WithGlobals(nn.Module):
    """Creates a model whose global latent variables come from its guide, anew with each call.

    Where a trace of the guide is replayed, they are those of that trace.

    Arguments:
        model: The generative model.
        guide: The recognition model.
        x: A few datapoints, which the guide is run on.
    """

    random_weights = True
    guide: Callable[..., Any]
    told = "global latent variables drawn"
    x: Tensor

    def __init__(self, model: nn.Module, guide: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.plain = model
        self.__dict__["guide"] = guide  # it is no part of the model, and has its own state
        self.register_buffer("x", x.clone(), persistent=False)

    @property
    def at_mean(self) -> nn.Module:
        """Refuses: of global latent variables there may be no mean.

        Raises:
            InputError: Always.
        """
        names = listed(look(self.plain, self.x).shared)
        raise InputError(
            f"analyze moves latent variables of each datapoint alone, and site {names} is global: ask evaluate for "
            "bound and log p(x), and sample for draws"
        )

    def draw(self) -> dict[str, Tensor]:
        """Draws global latent variables from the guide."""
        with evaluation_mode(self.guide), poutine.block():
            return {name: site["value"] for name, site in global_sites(self._guide_trace()).items()}

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Runs the model with global latent variables that are drawn for this call."""
        return self.with_weights(self.draw(), *inputs, **named)

    def drawn(self, *inputs: Any, **named: Any) -> Any:
        """Runs the model with global latent variables that are drawn for this call."""
        return self(*inputs, **named)

    def with_weights(self, weights: dict[str, Tensor], *inputs: Any, **named: Any) -> Any:
        """Runs the model with given global latent variables."""
        with _Giving(weights):
            return self.plain(*inputs, **named)

    @torch.no_grad()
    def divergence(self) -> Tensor:
        r"""Returns :math:`KL(q(w) \| p(w))`, a scalar in nats.

        It is in closed form where torch has one and else the mean over a hundred draws. A point, as of `AutoDelta`, has
        none and is left out: it is a parameter, and its prior a penalty of training.
        """
        with seeded(0, self.x.device), isolated(), evaluation_mode(self.guide, self.plain):
            found = []
            for _ in range(_DRAWS):
                guide_trace = self._guide_trace()
                model_trace = poutine.trace(poutine.replay(self.plain, trace=guide_trace)).get_trace(self.x)
                found.append((global_sites(guide_trace), global_sites(model_trace)))
        (first, _), (second, _) = found[:2]
        points = fixed_points(first, second)
        return torch.stack([_divergence(q, p, points) for q, p in found]).mean()

    def _guide_trace(self) -> Trace:
        return poutine.trace(self.guide).get_trace(self.x)


def fixed_points(one: Mapping[str, Site], other: Mapping[str, Site]) -> list[str]:
    """Returns the sites at which a guide is a point, the same in two runs, and no function of auxiliary draws."""
    return [
        name
        for name, site in one.items()
        if isinstance(innermost(site["fn"]), Delta) and torch.equal(site["value"], other[name]["value"])
    ]


def _divergence(q: Mapping[str, Site], p: Mapping[str, Site], points: list[str]) -> Tensor:
    """What one draw says of the divergence, in nats."""
    # In another order, a divergence is no expectation: see `pyro_vae.elbo.elbo`.
    closed = list(q) == list(p)
    total = torch.zeros((), dtype=torch.float64, device=next(iter(p.values()))["value"].device)
    for name in q.keys() - p.keys():  # auxiliary draws
        total += site_log_prob(q[name]).sum()
    for name in p.keys() - {*points}:
        if closed and not isinstance(innermost(q[name]["fn"]), Delta):
            try:
                total += kl_divergence(q[name]["fn"], p[name]["fn"]).sum()
                continue
            except NotImplementedError:
                pass
        total += (site_log_prob(q[name]) - site_log_prob(p[name])).sum()
    return total


class _Giving(Messenger):
    """Gives latent sites their values."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True
