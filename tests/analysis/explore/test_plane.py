"""A plane through the latent space."""

import re
from types import SimpleNamespace

import numpy as np

from pyro_vae.analysis.explore.plane import Plane, activity, ellipse
from pyro_vae.analysis.explore.space import Space


def _space(size, rng, whole=()):
    draws = rng.normal(size=(4000, size))
    low, high = np.quantile(draws, (0.005, 0.995), axis=0)
    names, whole = [f"z_{n + 1}" for n in range(size)], np.isin(range(size), whole)
    return SimpleNamespace(size=size, prior=draws, low=low, high=high, names=names, whole=whole)


def test_two_latent_variables_are_the_plane():
    rng = np.random.default_rng(0)
    space = _space(2, rng)
    plane = Plane.of(space, rng.normal(size=(50, 2)), [1, 0])
    z = rng.normal(size=(7, 2))
    np.testing.assert_allclose(plane.on(z), z)
    assert plane.labels == ("z_1", "z_2")


def test_more_are_seen_along_the_directions_of_most_variance():
    rng = np.random.default_rng(0)
    # Standard deviations 3, 2, 1 and 1 along an orthonormal basis Q: the plane is that of its first two columns.
    q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    data = rng.normal(size=(20_000, 4)) * [3, 2, 1, 1] @ q.T + 5
    plane = Plane.of(_space(4, rng), data, [0, 1, 2, 3])
    # With 20,000 points the directions are known to about 1 / sqrt(20000) = 0.007 times 3 * 2 / (9 - 4) = 1.2.
    np.testing.assert_allclose(abs(plane.basis @ q[:, :2]), np.eye(2), atol=0.05)
    np.testing.assert_allclose(plane.basis @ plane.basis.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(plane.on(plane.vectors(np.array([[1.0, -2.0]]))), [[1.0, -2.0]], atol=1e-9)
    shares = [float(re.search(r"\((\d+)%", label)[1]) for label in plane.labels]
    np.testing.assert_allclose(shares, [100 * 9 / 15, 100 * 4 / 15], atol=2)


def test_one_latent_variable_lies_along_a_line():
    rng = np.random.default_rng(0)
    plane = Plane.of(_space(1, rng), rng.normal(size=(50, 1)), [0])
    np.testing.assert_allclose(plane.on(np.array([[0.4]])), [[0.4, 0.0]])
    np.testing.assert_allclose(plane.vectors(np.array([[0.4, 9.0]])), [[0.4]])


def test_the_number_of_a_class_is_no_direction():
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.integers(0, 10, (500, 1)), rng.normal(size=(500, 3))], 1)
    plane = Plane.of(_space(4, rng, whole=[0]), data, [0, 1, 2, 3])
    assert (plane.basis[:, 0] == 0).all()
    np.testing.assert_allclose(plane.basis @ plane.basis.T, np.eye(2), atol=1e-12)
    plane = Plane.of(_space(3, rng, whole=[1]), data[:, 1:], [1, 2, 0])
    assert plane.labels == ("z_1", "z_3")


def test_the_most_active_come_first(linear):
    rng = np.random.default_rng(0)
    assert activity(_space(3, rng), rng.normal(size=(999, 3)) * [0.1, 1.0, 0.5]) == [1, 2, 0]
    # Without data, by what moves x: the columns of W have the lengths 1.5 and 0.7.
    assert activity(Space(linear), None) == [0, 1]


def test_the_ellipse_holds_nine_tenths_of_a_gaussian():
    rng = np.random.default_rng(0)
    factor = np.array([[2.0, 0.0], [1.0, 0.5]])
    points = rng.normal(size=(100_000, 2)) @ factor.T + [3, -1]
    outline = ellipse(points)
    # In the coordinates in which the Gaussian is round, its ellipse is a circle of radius sqrt(-2 log 0.1).
    radius = np.linalg.norm(np.linalg.solve(factor, (outline - [3, -1]).T), axis=0)
    np.testing.assert_allclose(radius, np.sqrt(-2 * np.log(0.1)), rtol=0.03)
