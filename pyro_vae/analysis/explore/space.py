"""The latent variables of any model as one vector that a hand can move, and what the model makes of it."""

__all__ = ["INTERVAL", "Array", "Space"]

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_vae.device import generator_state, host_generators, seeded, set_generator_state, set_host_generators
from pyro_vae.elbo import ROWS
from pyro_vae.errors import InputError, told
from pyro_vae.generate import simulate_data
from pyro_vae.log_joint import bijection_to
from pyro_vae.run.run import Run
from pyro_vae.sites import Site, evaluation_mode, isolated, latent_sites, sample_sites

Array = NDArray[Any]
Generators = tuple[dict[str, Tensor], dict[str, Any]]

# Draws of the prior that tell its quantiles: twenty lie beyond each end of a slider.
_DRAWS = 4_000
_QUANTILES = (0.005, 0.995)
# Draws of p(x | z) that tell its interval of 90 %.
INTERVAL, _OF_INTERVAL = (0.05, 0.95), 200


@contextmanager
def quiet(run: Run, generators: Generators) -> Iterator[None]:
    """Looks at a pair: networks do not learn, generators stay as they were, and each call has the same numbers.

    Arguments:
        run: The run.
        generators: The states that the generators have inside; see `started`.

    Raises:
        InputError: If a user's part fails; in one line, where Pyro adds a table of shapes.
    """
    device = run.dataset.train.device
    before = generator_state(device), host_generators()
    try:
        set_generator_state(generators[0], device)
        set_host_generators(generators[1])
        with (
            told(f"drawing from {type(run.model).__name__}"),
            isolated(),
            evaluation_mode(run.model, run.guide),
            torch.no_grad(),
        ):
            yield
    except InputError as error:
        raise InputError(str(error).partition("\n")[0]) from error
    finally:
        set_generator_state(before[0], device)
        set_host_generators(before[1])


def started(run: Run) -> Generators:
    """The states of generators at a run's seed. Setting them takes a tenth of seeding, whose call torch writes down."""
    device = run.dataset.train.device
    with seeded(run.settings.seed, device):
        return generator_state(device), host_generators()


class Space:
    """Creates the space of a run's latent variables: the sites of the model's trace, side by side in a vector.

    Arguments:
        run: The run.

    Raises:
        InputError: If the model cannot be drawn from, or a site has values that no slider reaches.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.generators = run, started(run)
        train = run.dataset.train
        # A model that asks for a label or for covariates gets those of one datapoint: drawn anew each time, they would
        # change the picture with nobody moving it.
        self.row = train.first(1) if train.beside and len(train) else None
        with self.quiet():
            trace = poutine.trace(run.model).get_trace(None, size=_DRAWS)
            observed = {"x"}
            if len(train):
                seen = sample_sites(simulate_data(run.model, train.first(1)))
                observed |= {name for name, site in seen.items() if "was_observed" in site["infer"]}
            found = {name: site for name, site in latent_sites(trace).items() if name not in observed}
            if not found:
                raise InputError(f"{type(run.model).__name__} has no latent variables to explore")
            self.sites = {name: _Coordinates(name, site) for name, site in found.items()}
            draws = torch.cat([self.sites[name].of(site["value"]) for name, site in found.items()], 1)
        sites = self.sites.values()
        self.prior: Array = draws.cpu().numpy()
        self.low, self.high = np.quantile(self.prior, _QUANTILES, axis=0)
        self.names = [name for site in sites for name in site.names]
        self.whole = np.concatenate([np.full(len(site.names), site.whole) for site in sites])
        self.least, self.most = (
            torch.cat([getattr(site, end) for site in sites]).cpu().numpy() for end in ("least", "most")
        )

    @property
    def size(self) -> int:
        """The number of latent variables."""
        return len(self.names)

    def quiet(self) -> AbstractContextManager[None]:
        """Looks at the pair, with the same random numbers each time; see `quiet`."""
        return quiet(self.run, self.generators)

    def at_row(self, row: Tensor) -> None:
        """Takes the label and the covariates of a row, with shape `(1, features)`, where the model asks for any."""
        self.row = None if self.row is None else row

    def vector(self, values: Mapping[str, Tensor]) -> Array:
        """Lays values by site side by side, with shape `(points, size)`; a site that is not there is at its median."""
        parts: list[Array] = []
        points = len(next(iter(values.values())))
        for name, site in self.sites.items():
            if name in values:
                parts.append(site.of(values[name]).cpu().numpy())
            else:
                at = sum(part.shape[1] for part in parts)
                median = np.median(self.prior[:, at : at + len(site.names)], axis=0)
                parts.append(np.broadcast_to(median, (points, len(median))))
        return np.concatenate(parts, 1)

    def latents(self, vectors: Array) -> dict[str, Tensor]:
        """Returns the values by site of vectors with shape `(points, size)`."""
        z = torch.tensor(vectors, dtype=torch.float32, device=self.run.dataset.train.device)
        parts = z.split([len(site.names) for site in self.sites.values()], 1)
        return {name: site.value(part) for (name, site), part in zip(self.sites.items(), parts, strict=True)}

    def means(self, vectors: Array) -> Tensor:
        """Returns means of p(x | z) at vectors with shape `(points, size)`, with shape `(points, features)`.

        A likelihood that has no mean is averaged over draws.
        """
        found = []
        for part in np.array_split(vectors, -(-len(vectors) // ROWS)):
            with self.quiet():
                likelihood = self._likelihood(part)
                try:
                    found.append(likelihood.mean)
                except NotImplementedError:
                    found.append(likelihood.sample(Size([_OF_INTERVAL])).float().mean(0))
        return torch.cat(found)

    def draws(self, vectors: Array) -> Tensor:
        """Draws from p(x | z) at vectors of shape `(points, size)`; returns shape `(draws, points, features)`."""
        with self.quiet():
            drawn: Tensor = self._likelihood(vectors).sample(Size([_OF_INTERVAL]))
            return drawn

    def _likelihood(self, vectors: Array) -> Any:
        model, latents = self.run.model, self.latents(vectors)
        if self.row is None:
            trace = poutine.trace(poutine.condition(model, latents)).get_trace(None, size=len(vectors))
        else:
            trace = simulate_data(model, self.row.expand(len(vectors), -1), latents)
        return sample_sites(trace)["x"]["fn"]


class _Coordinates:
    """The coordinates of one latent site.

    They are its own numbers where these move freely, the number of the class where it is one of several, and otherwise
    (a simplex, a sphere) unconstrained ones.
    """

    def __init__(self, name: str, site: Site) -> None:
        try:
            support: Any = site["fn"].support
            base = getattr(support, "base_constraint", support)
            self.whole, self.event = bool(base.is_discrete), site["fn"].event_shape
            self.of, self.value = self._maps(support, base, site["fn"].event_shape, site["value"].dtype)
            values = self.of(site["value"])
        except (NotImplementedError, AttributeError) as error:
            raise InputError(
                f"no slider moves site '{name}' of {type(site['fn']).__name__}: it tells no support that leads there "
                "from the real line; sample and evaluate remain"
            ) from error
        self.names = [f"{name}_{n + 1}" for n in range(values.shape[1])]
        free = base in (constraints.real, constraints.real_vector) or base.event_dim > 0
        ends = torch.stack([values.amin(0), values.amax(0)])
        self.least, self.most = ends + ends.new_tensor([[-torch.inf], [torch.inf]]) if free and not self.whole else ends

    def _maps(
        self, support: Any, base: Any, event: Size, kind: torch.dtype
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """From values to coordinates, with shape `(points, size)`, and back."""
        if base is constraints.one_hot:
            eye = torch.eye(event[-1])
            return (
                lambda value: value.argmax(-1).reshape(len(value), -1).float(),
                lambda z: eye.to(z.device)[self._inside(z).long()].reshape(len(z), *event).to(kind),
            )
        if base.event_dim == 0 or base is constraints.real_vector:
            return (
                lambda value: value.reshape(len(value), -1).float(),
                lambda z: self._inside(z).reshape(len(z), *event).to(kind),
            )
        transform = bijection_to(support)
        shape = transform.inverse_shape(event)
        return (
            lambda value: transform.inv(value).reshape(len(value), -1).float(),
            lambda z: transform(z.reshape(len(z), *shape)).to(kind),
        )

    def _inside(self, z: Tensor) -> Tensor:
        """Vectors between the ends of the site; whole where its values are."""
        inside = z.maximum(self.least).minimum(self.most)
        return inside.round() if self.whole else inside
