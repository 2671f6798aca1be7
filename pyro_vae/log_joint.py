r"""The log joint of a Pyro model per datapoint, over unconstrained latent variables.

Read from the model's trace: all latent sites inside the plate `"data"`, whatever their number, event shapes and
supports, lie side by side in one vector per datapoint. Discrete ones are summed out.
"""

__all__ = ["LogJoint", "bijection", "bijection_to"]

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Size, Tensor
from torch.distributions import Transform, biject_to
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint, independent
from torch.distributions.transforms import IndependentTransform

from pyro_vae.bayesian import has_random_weights
from pyro_vae.enumerated import conditioned
from pyro_vae.errors import InputError
from pyro_vae.hmc import with_gradient
from pyro_vae.plates import Place, is_countable, look, nesting
from pyro_vae.sites import Site, in_rows, latent_sites, sample_sites, site_log_prob
from pyro_vae.sum_product import Tables
from pyro_vae.traced import Traced


def bijection_to(support: Constraint) -> Transform:
    """Returns a bijection from the real numbers to a support; a mixture's, which torch lacks, is that of its parts.

    Raises:
        NotImplementedError: If there is none.
    """
    if isinstance(support, MixtureSameFamilyConstraint):
        return bijection_to(support.base_constraint)
    if isinstance(support, independent):
        return IndependentTransform(bijection_to(support.base_constraint), support.reinterpreted_batch_ndims)
    return biject_to(support)


class LogJoint:
    r"""Creates :math:`\log p(x, z)` and its parts as functions of unconstrained latent variables.

    Constrained sites go through Pyro's bijections, with the log of their Jacobian added to the prior.

    Arguments:
        model: The generative model.
        x: The data, with shape `(datapoints, features)`.
        compile: Whether gradients are traced and compiled.

    Raises:
        InputError: If the model's weights are random variables, or a latent site has a support without a bijection to
            the real numbers and values that cannot be counted, or is masked, or all of them are summed out.
    """

    def __init__(self, model: Callable[..., Any], x: Tensor, compile: bool = False) -> None:
        if (names := look(model, x).shared) or has_random_weights(model):
            what = f"site '{min(names)}' is global" if names else "here the weights are random"
            raise InputError(f"HMC moves latent variables of each datapoint alone, and {what}: use importance")
        self.model, self.x = model, x
        self.transforms: dict[str, Transform] = {}
        self.shapes: dict[str, Size] = {}
        self.places: dict[str, Place] = {}
        self.nesting = look(model, x).nesting
        latent = latent_sites(poutine.trace(model).get_trace(x))
        self.summed = [name for name, site in latent.items() if is_countable(site)]
        for name, site in latent.items():
            if name in self.summed:
                continue
            _require_unmasked(name, site)
            self.transforms[name] = transform = bijection(name, site)
            self.places[name] = place = Place.of(site, self.nesting)
            self.shapes[name] = Size([*place.inner.values(), *transform.inverse_shape(site["fn"].event_shape)])
        if not self.transforms:
            raise InputError(
                f"{type(model).__name__} has no latent variable but discrete ones, which are summed out: there is "
                "nothing that HMC could move: use importance, which is exact"
            )
        self.size = sum(shape.numel() for shape in self.shapes.values())
        self._both = Traced(self._with_gradient, model, compile=compile)
        self._gradient = Traced(self._gradient_alone, model, compile=compile)

    def on(self, x: Tensor) -> "LogJoint":
        """Returns the potential of other data, with the same compiled code.

        The traced functions take the data as an argument, and of this object they read what all data share.
        """
        other = copy.copy(self)
        other.x = x
        return other

    @torch.no_grad()
    def start(self, chains: int, guide: Callable[..., Any] | None = None) -> Tensor:
        """Draws starting points from the guide, or from the prior, with shape `(chains, datapoints, size)`."""
        parts = (self.model,) if guide is None else (self.model, guide)
        with pyro.plate("chains", chains, dim=-1 - nesting(self.x, *parts)):
            if guide is None:
                sites = sample_sites(poutine.trace(self.model).get_trace(self.x))
                for name in self.transforms:
                    _require_unmasked(name, sites[name])
            else:
                sites = sample_sites(poutine.trace(guide).get_trace(self.x))
        shape = chains, len(self.x)
        return self.unconstrained(
            {name: place.by_datapoint(sites[name]["value"], *shape) for name, place in self.places.items()}
        )

    def unconstrained(self, latents: Mapping[str, Tensor]) -> Tensor:
        """Returns the position of latent variables by site, the inverse of `latents`, with shape `(..., size)`.

        Discrete ones among them are left out.
        """
        flat = []
        for name, transform in self.transforms.items():
            position = transform.inv(latents[name])
            flat.append(position.reshape(*position.shape[: position.dim() - len(self.shapes[name])], -1))
        return torch.cat(flat, dim=-1)

    def latents(self, position: Tensor) -> dict[str, Tensor]:
        """Returns the latent variables by site at positions of shape `(chains, datapoints, size)`.

        They have the shape `(chains, datapoints, ...)`; `in_plates` brings them to that of the model's plates.
        """
        return {name: self.transforms[name](part) for name, part in self._split(position).items()}

    def in_plates(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns latent variables, by datapoint, in the shape of the model's plates."""
        return {name: self.places[name].in_plates(value) for name, value in latents.items()}

    def tables(self, latents: Mapping[str, Tensor], x: Tensor | None = None) -> Tables:
        """Runs the model at latent variables, by datapoint, with the discrete ones summed out."""
        chains = len(next(iter(latents.values())))
        return conditioned(self.model, self.in_plates(latents), self.x if x is None else x, chains)

    def parts(self, position: Tensor) -> tuple[Tensor, Tensor]:
        r"""Evaluates :math:`\log p(z)`, with the Jacobian, and :math:`\log p(x | z)`, in nats and float64.

        Arguments:
            position: Unconstrained latent variables, with shape `(chains, datapoints, size)`.

        Returns:
            Two tensors with shape `(chains, datapoints)`.
        """
        return self._parts(position, self.x)

    def _parts(self, position: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.latents(position)
        shape = position.shape[:-1]
        if self.summed:
            tables = self.tables(latents, x)
            prior = tables.log_p([*latents, *self.summed])
            likelihood = tables.log_p() - prior
        else:
            with pyro.plate("chains", len(position), dim=-1 - self.nesting):
                trace = poutine.trace(poutine.condition(self.model, self.in_plates(latents))).get_trace(x)
            prior = likelihood = position.new_zeros(shape, dtype=torch.float64)
            for name, site in sample_sites(trace).items():
                log_prob = in_rows(site, site_log_prob(site)).double()
                if name in latents:
                    prior = prior + log_prob
                else:
                    likelihood = likelihood + log_prob
        for name, part in self._split(position).items():
            jacobian = self.transforms[name].log_abs_det_jacobian(part, latents[name])
            prior = prior + jacobian.reshape(*shape, -1).sum(-1).double()
        return prior, likelihood

    def __call__(self, position: Tensor) -> Tensor:
        r"""Evaluates :math:`\log p(x, z)`; see `parts`."""
        prior, likelihood = self.parts(position)
        return prior + likelihood

    def with_gradient(self, position: Tensor, beta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Evaluates :math:`\log p(z) + \beta \log p(x | z)`, where :math:`\beta` is 1 if omitted, and its gradient.

        Arguments:
            position: Unconstrained latent variables, with shape `(chains, datapoints, size)`.
            beta: float64, with shape `(1,)`.

        Returns:
            The log density with shape `(chains, datapoints)`, in nats and float64, and the gradient.
        """
        value, gradient = self._both(position, self.x, self._beta(beta))
        return value, gradient

    def gradient(self, position: Tensor, beta: Tensor | None = None) -> Tensor:
        """Evaluates the gradient alone, which is cheaper where it is compiled; see `with_gradient`."""
        (gradient,) = self._gradient(position, self.x, self._beta(beta))
        return gradient

    def _beta(self, beta: Tensor | None) -> Tensor:
        return torch.ones(1, dtype=torch.float64, device=self.x.device) if beta is None else beta

    def _with_gradient(self, position: Tensor, x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        def tempered(position: Tensor) -> Tensor:
            prior, likelihood = self._parts(position, x)
            return prior + beta * likelihood

        return with_gradient(tempered)(position)

    def _gradient_alone(self, position: Tensor, x: Tensor, beta: Tensor) -> tuple[Tensor]:
        return (self._with_gradient(position, x, beta)[1],)

    def _split(self, position: Tensor) -> dict[str, Tensor]:
        pieces = position.split([shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            name: piece.reshape(piece.shape[:-1] + shape)
            for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }


def bijection(name: str, site: Site) -> Transform:
    """Returns the bijection from the real numbers to the support of a latent site.

    Arguments:
        name: The name of the site.
        site: The site.

    Raises:
        InputError: If there is none.
    """
    has = "a distribution that does not tell its support"
    try:
        has = f"the support {' '.join(str(support := site['fn'].support).split())[:80]}"
        return bijection_to(support)
    except (NotImplementedError, AttributeError) as error:
        raise InputError(
            f"site '{name}' has {has}, and HMC and fitted Gaussians need a bijection from the real numbers to it: use "
            "importance with a guide"
        ) from error


def _require_unmasked(name: str, site: Site) -> None:
    """Refuses a latent site without a prior at some datapoints: chains there would have no density to start from."""
    mask = site["mask"]
    if mask is not None and not torch.as_tensor(mask).all():
        raise InputError(f"latent site '{name}' is masked, which leaves it no prior: use importance, or mask x alone")
