"""A plane through the latent space: the two latent variables that there are, or the data's principal components."""

__all__ = ["Plane", "activity", "ellipse"]

from dataclasses import dataclass

import numpy as np

from pyro_vae.analysis.explore.space import Array, Space

# Of a Gaussian in two dimensions, 90 % lie within sqrt(-2 log(0.1)) standard deviations.
_WITHIN = 2.146
_STEPS = 5


@dataclass(frozen=True)
class Plane:
    """A plane: the directions `basis`, orthonormal with shape `(2, size)`, from the vector `center` on.

    Arguments:
        basis: The directions. With a single latent variable the second one is nothing.
        center: The vector at its origin.
        labels: What the axes are.
        low: The least shown along each direction.
        high: The greatest.
    """

    basis: Array
    center: Array
    labels: tuple[str, str]
    low: Array
    high: Array

    @classmethod
    def of(cls, space: Space, vectors: Array | None, order: list[int]) -> "Plane":
        """Finds the plane in which the data are spread the most.

        Arguments:
            space: The latent variables.
            vectors: The data, with shape `(points, size)`; without, the plane is that of the two latent variables
                that change the most.
            order: Latent variables, those that change the most first.
        """
        size = space.size
        # The number of a class is no distance: there, sliders alone lead from one to another.
        free = [n for n in order if not space.whole[n]] or order
        basis = np.zeros((2, size))
        if vectors is None or len(free) <= 2:
            first = sorted(free[:2])
            basis[range(len(first)), first] = 1.0
            center = np.median(space.prior, axis=0)
            center[first] = 0.0
            labels = (space.names[first[0]], space.names[first[1]] if len(first) > 1 else "")
        else:
            finite = vectors[np.isfinite(vectors).all(1)]
            center = finite.mean(0)
            _, spread, rows = np.linalg.svd((finite - center)[:, free], full_matrices=False)
            # The sign of a component is anyone's choice: its largest part is positive.
            basis[:, free] = rows[:2] * np.sign(rows[:2][[0, 1], abs(rows[:2]).argmax(1)])[:, None]
            share = spread[:2] ** 2 / (spread**2).sum()
            one, two = (f"principal component {n + 1} ({share[n]:.0%} of the variance)" for n in range(2))
            labels = one, two
        shown = np.concatenate([space.prior, *([] if vectors is None else [vectors])]) - center
        low, high = np.nanquantile(shown @ basis.T, (0.003, 0.997), axis=0)
        if not basis[1].any():
            low[1], high[1] = -2.0, 2.0
        margin = 0.04 * (high - low)
        return cls(basis, center, labels, low - margin, high + margin)

    def on(self, vectors: Array) -> Array:
        """Projects vectors with shape `(points, size)` onto the plane, with shape `(points, 2)`."""
        return (vectors - self.center) @ self.basis.T

    def vectors(self, places: Array) -> Array:
        """The vectors of places on the plane, with shapes `(points, 2)` and `(points, size)`."""
        return self.center + places @ self.basis


def activity(space: Space, vectors: Array | None) -> list[int]:
    """The latent variables, those first that change the most: over the data, else the mean of p(x | z) over the prior.

    Arguments:
        space: The latent variables.
        vectors: The data, with shape `(points, size)`.
    """
    if vectors is not None:
        changes = np.nanvar(vectors, axis=0) / np.maximum(space.prior.var(axis=0), 1e-12)
    else:
        swept = np.tile(np.median(space.prior, axis=0), (space.size, _STEPS, 1))
        for n in range(space.size):
            swept[n, :, n] = np.linspace(space.low[n], space.high[n], _STEPS)
        means = space.means(swept.reshape(-1, space.size)).cpu().numpy()
        changes = means.reshape(space.size, _STEPS, -1).var(1).sum(1)
    return np.argsort(-changes, kind="stable").tolist()


def ellipse(places: Array) -> Array:
    """The ellipse that holds 90 % of a Gaussian with the mean and covariance of places, with shape `(points, 2)`."""
    angles = np.linspace(0.0, 2 * np.pi, 73)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    values, axes = np.linalg.eigh(np.cov(places.T))
    return places.mean(0) + _WITHIN * (circle * np.sqrt(values.clip(min=0.0))) @ axes.T
