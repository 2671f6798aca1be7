r"""Are the density and the draws of a distribution those of one and the same distribution?

Cells that are independent are added up one by one, and so are all values of a few dimensions together: over the whole
support, by its bijection from the real numbers, on a grid that is laid where the draws are. More dimensions have an
identity: for any density r on the support

.. math:: E_{x \sim p} [ r(x) / p(x) ] = 1

if draws and density are one another's and p integrates to 1; where it integrates to Z, the mean is 1 / Z whatever r is.
"""

__all__ = ["Sums", "add_up", "cells", "match", "normalised"]

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from pyro.distributions import Delta, VonMises
from torch import Tensor
from torch.distributions import MultivariateNormal, constraints

from pyro_vae.analysis.check.verdict import Fault, Skipped
from pyro_vae.columns import Columns
from pyro_vae.log_joint import bijection_to
from pyro_vae.sites import innermost

# Grid points and draws, of all cells together; and of each axis where two belong together.
_POINTS, _DRAWS, _AXIS = 20_000, 10_000, 400
_TOGETHER = 2_000_000
# How far a sum may be from 1: float32 adds up 20,000 terms.
_OFF = 2e-3
# One sound part in a million fails: P(sup |F_n - F| > e) <= 2 exp(-2 n e^2), for any F (Massart, 1990).
_ALPHA = 1e-6
# Beyond this float32 has no numbers.
_FAR = 1e30
_CIRCLE = constraints.interval(-math.pi, math.pi)


class Sums(NamedTuple):
    """A distribution, added up.

    Arguments:
        total: The sum of its mass or the integral of its density, for each cell; once where cells belong together.
        error: The standard error of the total, 0 where it is no estimate.
        mean: The mean of the density, where it was added up; None where there is no grid.
        distance: How far the draws are from the density, in words of `limit`.
        limit: The greatest distance of draws that are those of the density.
    """

    total: Tensor
    error: Tensor
    mean: Tensor | None
    distance: Tensor
    limit: Tensor


def cells(distribution: Any) -> Iterator[Any]:
    """Takes a distribution apart: cells that are independent come as one distribution without an event."""
    base = innermost(distribution)
    if isinstance(base, Columns):
        for _, part in base.parts:
            yield from cells(part)
    else:
        yield base


@torch.no_grad()
def add_up(distribution: Any, seed: int = 0) -> Sums:
    """Adds up one distribution of those of `cells`, and holds its draws against its density.

    Raises:
        Skipped: If it has no density, or its support has no bijection from the real numbers and no end.
        Fault: If its draws lie outside of its support, or its density is not a number in it.
    """
    if isinstance(distribution, Delta):
        raise Skipped("a point has no density")
    distribution = copy.copy(distribution)
    distribution._validate_args = False  # a grid reaches the ends of its support, and rounds beyond them
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        count = math.prod(distribution.batch_shape) * math.prod(distribution.event_shape)
        draws = distribution.sample((max(1000, min(_DRAWS, _TOGETHER // count)),))
    if not bool((allowed := distribution.support.check(draws)).all()):
        share = 1 - allowed.double().mean().item()
        raise Fault(
            f"{share:.0%} of its draws lie outside of its support, {distribution.support}",
            "correct the support of the distribution, or take one that draws inside",
        )
    if distribution.support.is_discrete:
        if distribution.event_shape:
            raise Skipped(f"there are too many values of {type(distribution).__name__} to count")
        return _counted(distribution, draws)
    try:
        # On a circle, torch tells all real numbers.
        transform = bijection_to(_CIRCLE if isinstance(distribution, VonMises) else distribution.support)
        u = transform.inv(draws)
    except NotImplementedError as error:
        raise Skipped(f"no bijection leads from the real numbers to its support, {distribution.support}") from error
    size = math.prod(u.shape[draws.dim() - len(distribution.event_shape) :])
    if not distribution.event_shape:
        return _integrated(distribution, transform, u.reshape(len(u), -1), 1, distribution.batch_shape)
    u = u.reshape(len(u), size)
    return (
        _integrated(distribution, transform, u, size, (*distribution.batch_shape, size))
        if size <= 2
        else _weighed(distribution, transform, u)
    )


def _counted(distribution: Any, draws: Tensor) -> Sums:
    """Adds up all values of a mass, or those up to far beyond its draws."""
    try:
        values = distribution.enumerate_support(expand=False).flatten()
    except NotImplementedError:
        values = torch.arange(max(4000.0, 4 * draws.max().item() + 1)).to(draws)
    shape = distribution.batch_shape
    x = values.view(-1, *(1 for _ in shape)).expand(len(values), *shape)
    weight = distribution.log_prob(x).double().exp().reshape(len(values), -1)
    reached = torch.searchsorted(
        _sorted(draws.double().reshape(len(draws), -1)),
        values.double().expand(weight.shape[1], -1).contiguous(),
        right=True,
    )
    return _held(weight, values.double().view(-1, 1), reached.T / len(draws), len(draws), shape)


def _integrated(distribution: Any, transform: Any, u: Tensor, size: int, shape: Any) -> Sums:
    """Adds up a density over one variable, of each cell, or over two that belong together."""
    columns = u.shape[1]
    n = _AXIS if size == 2 else max(1000, min(_POINTS, _TOGETHER // columns))
    # Midpoints of t in (-1, 1), then s = t / (1 - t^2) on the whole line, then to where the draws are.
    ends = (2 * torch.arange(n + 1, dtype=torch.float64) / n - 1)[1:-1]
    t = (2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1
    ordered = _sorted(u.double()).nan_to_num(0.0, 1e30, -1e30)
    low, middle, high = (ordered[:, int(share * len(u))] for share in (0.16, 0.5, 0.84))
    scale = ((high - low) / 2).clamp(min=1e-9)
    axes = middle + scale * (t / (1 - t**2)).unsqueeze(1)
    steps = (scale * ((1 + t**2) / (1 - t**2) ** 2).unsqueeze(1) * (2 / n)).log()
    if size == 2:
        grid = torch.stack(torch.meshgrid(axes[:, 0], axes[:, 1], indexing="ij"), -1).reshape(-1, 2)
        step = (steps[:, :1] + steps[:, 1]).flatten()
    else:
        grid, step = axes, steps if not distribution.event_shape else steps.flatten()
    leading = distribution.batch_shape if distribution.event_shape else ()
    event = shape if not distribution.event_shape else (*(1 for _ in leading), size)
    points = grid.reshape(len(grid), *event)
    weight = _of_values(lambda points: _weights(distribution, transform, points, step), points, u.dtype)
    weight = weight.reshape(len(grid), -1)
    x = transform(points).double().reshape(len(grid), -1)
    mean = torch.where(weight > 0, weight * x, 0.0).sum(0)
    if size == 2:  # the two margins
        weight = torch.stack([weight.view(n, n).sum(1), weight.view(n, n).sum(0)], 1)
    edges = middle + scale * (ends / (1 - ends**2)).unsqueeze(1)
    reached = torch.searchsorted(ordered, edges.T.contiguous(), right=True).T / len(u)
    sums = _held(weight, None, torch.cat([reached, torch.ones(1, columns)]), len(u), shape)
    return (
        sums._replace(mean=mean) if size == 1 else sums._replace(mean=mean, total=sums.total[:1], error=sums.error[:1])
    )


def _of_values(function: Callable[[Tensor], Tensor], points: Tensor, dtype: torch.dtype) -> Tensor:
    """Calls a density with float64, or, where networks in it know one type alone, with theirs."""
    try:
        return function(points)
    except RuntimeError:
        return function(points.to(dtype))


def _weights(distribution: Any, transform: Any, u: Tensor, step: Tensor) -> Tensor:
    x = transform(u)
    jacobian = transform.log_abs_det_jacobian(u, x).double()
    jacobian = jacobian.reshape(len(u), -1).sum(-1) if distribution.event_shape else jacobian.reshape(len(u), -1)
    jacobian = jacobian + step.reshape(jacobian.shape)
    log_p = distribution.log_prob(x).double().reshape(jacobian.shape)
    # Where x is rounded to an end of its support, a density may be infinite; there is next to no volume.
    nothing = (jacobian < (-33 if u.dtype == torch.float64 else -14)) | ~jacobian.isfinite()
    finite = x.abs() < _FAR
    nothing |= ~finite.reshape(*jacobian.shape, -1).all(-1)
    weight = torch.where(nothing, 0.0, (log_p + jacobian).exp())
    if bool((wrong := weight.isnan()).any()):
        value = x.reshape(len(u), -1)[wrong.reshape(len(u), -1).any(1)][0].flatten()[0].item()
        raise Fault(
            f"its density is not a number at {value:.4g}, which its support, {distribution.support}, allows",
            "correct the support of the distribution, or its log_prob there",
        )
    return weight


def _held(weight: Tensor, values: Tensor | None, reached: Tensor, draws: int, shape: Any) -> Sums:
    """Holds the share of draws up to each value against that of the mass, with shape `(values, cells)`."""
    total = weight.sum(0)
    distance = (weight.cumsum(0) / total - reached).abs().max(0).values
    limit = math.sqrt(math.log(2 / _ALPHA) / (2 * draws))
    mean = None if values is None else (weight * values).sum(0)
    return Sums(total, torch.zeros_like(total), mean, distance, torch.full_like(total, limit))


def _weighed(distribution: Any, transform: Any, u: Tensor) -> Sums:
    """Estimates the means of r(x) / p(x) of draws for several r: one in their middle, and others beside it."""
    x = transform(u.reshape(len(u), *(1 for _ in distribution.batch_shape), -1))
    jacobian = transform.log_abs_det_jacobian(u.reshape_as(x), x).reshape(len(u), -1).sum(-1)
    log_p = (distribution.log_prob(x).reshape(len(u)) + jacobian).double()
    if not bool(log_p.isfinite().all()):
        raise Fault("its density is not finite at its own draws", "correct its log_prob")
    u = u.double()
    covariance = torch.atleast_2d(u.T.cov()) + 1e-9 * torch.eye(u.shape[1], dtype=torch.float64)
    roots = torch.linalg.cholesky(covariance)
    shifts = [torch.zeros(u.shape[1], dtype=torch.float64), *(0.5 * roots.T), *(-0.5 * roots.T)]
    ratios = []
    for n, shift in enumerate(shifts):
        r = MultivariateNormal(u.mean(0) + shift, scale_tril=roots * (0.9 if n == 0 else 0.75))
        ratios.append((r.log_prob(u) - log_p).exp())
    means, errors = torch.stack([r.mean() for r in ratios]), torch.stack([r.std() / len(u) ** 0.5 for r in ratios])
    if errors[0] > 0.05 * means[0]:
        raise Skipped(f"{u.shape[1]} dimensions are too many for {len(u):,} draws to tell")
    middle = means[0]
    apart = (means[1:] / middle - 1).abs()
    limit = 5.5 * ((errors[1:] / means[1:]) ** 2 + (errors[0] / middle) ** 2).sqrt() + 0.02
    worst = (apart - limit).argmax()
    return Sums((1 / middle).view(1), (errors[0] / middle**2).view(1), None, apart[worst].view(1), limit[worst].view(1))


def _sorted(values: Tensor) -> Tensor:
    """The values of each column in order, with shape `(columns, values)`."""
    return values.sort(0).values.T.contiguous()


def normalised(sums: Sums) -> float:
    """Returns the sum that is farthest from 1.

    Raises:
        Fault: If it is not 1.
    """
    off = (sums.total - 1).abs() - 5.5 * sums.error
    worst = int(off.nan_to_num(math.inf).argmax())
    total = sums.total[worst].item()
    if not off[worst] <= _OFF + 0.02 * bool(sums.error[worst] > 0):
        raise Fault(
            f"its density adds up to {total:.4g}, not to 1{_cell(worst, sums)}",
            "divide by the normaliser, subtract its log in log_prob, or correct the support",
        )
    return total


def match(sums: Sums) -> float:
    """Returns how far draws are from the density, as a share of what is allowed.

    Raises:
        Fault: If it is more.
    """
    share = sums.distance / sums.limit
    worst = int(share.nan_to_num(math.inf).argmax())
    if not share[worst] <= 1:
        raise Fault(
            f"its draws are not those of its density: distributions differ by {sums.distance[worst].item():.3f}, and "
            f"{sums.limit[worst].item():.3f} is allowed{_cell(worst, sums)}",
            "use the same parameters, such as the scale, in sample and in log_prob",
        )
    return share[worst].item()


def _cell(number: int, sums: Sums) -> str:
    return f" (cell {number + 1})" if len(sums.total) > 1 else ""
