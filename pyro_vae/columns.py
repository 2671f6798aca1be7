"""Cells of several kinds side by side: each has a distribution of its own."""

__all__ = ["Categories", "Columns"]

from collections.abc import Sequence
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import constraints


class Categories(dist.Categorical):
    """Creates categorical variables of different numbers of categories. Their mean and variance are those of numbers.

    Arguments:
        logits: Unnormalised log probabilities, with shape `(..., cells, most)`, those of no category at the end.
        sizes: The number of categories of each cell, with shape `(cells,)`.
    """

    def __init__(self, logits: Tensor, sizes: Tensor) -> None:
        self.sizes = sizes
        none = torch.arange(logits.shape[-1], device=logits.device) >= sizes.unsqueeze(-1)
        super().__init__(logits=logits.masked_fill(none, -1e9), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The numbers of the categories of each cell."""
        return constraints.integer_interval(0, self.sizes - 1)

    @property
    def mean(self) -> Tensor:
        """The mean number of a category."""
        return (self.probs * torch.arange(self.probs.shape[-1], device=self.probs.device)).sum(-1)

    @property
    def variance(self) -> Tensor:
        """The variance of that number."""
        squares = torch.arange(self.probs.shape[-1], device=self.probs.device) ** 2
        return (self.probs * squares).sum(-1) - self.mean**2


class Columns(dist.TorchDistribution):
    r"""Creates independent cells of several kinds.

    .. math:: \log p(x) = \sum_k \sum_{i \in C_k} \log p_k(x_i)

    Arguments:
        parts: For each kind the numbers of its columns and their distribution, with batch shape `(..., columns)`.
        order: The place of each column among those of the parts, one after the other.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, parts: Sequence[tuple[Tensor, Any]], order: Tensor) -> None:
        self.parts, self.order = parts, order
        leading = torch.broadcast_shapes(*(distribution.batch_shape[:-1] for _, distribution in parts))
        super().__init__(Size([*leading, len(order)]), validate_args=False)

    @property
    def support(self) -> Any:
        """What each column allows; real numbers where all of them do."""
        supports = [distribution.support for _, distribution in self.parts]
        if all(support is constraints.real for support in supports):
            return constraints.real
        return _SideBySide([columns for columns, _ in self.parts], supports)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density or probability of each cell, in nats, with the shape of the batch."""
        return self._together(
            [distribution.log_prob(value.index_select(-1, columns)) for columns, distribution in self.parts]
        )

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws cells."""
        with torch.no_grad():
            return self._together([distribution.sample(Size(sample_shape)) for _, distribution in self.parts])

    @property
    def mean(self) -> Tensor:
        """The mean of each cell."""
        return self._together([distribution.mean for _, distribution in self.parts])

    @property
    def variance(self) -> Tensor:
        """The variance of each cell."""
        return self._together([distribution.variance for _, distribution in self.parts])

    def _together(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([part.to(parts[0].dtype) for part in parts], dim=-1).index_select(-1, self.order)


class _SideBySide(constraints.Constraint):
    """Numbers that are each what the distribution of its column allows."""

    def __init__(self, columns: Sequence[Tensor], supports: Sequence[Any]) -> None:
        self.columns, self.supports = columns, supports
        self.is_discrete = all(support.is_discrete for support in supports)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        allowed = torch.ones_like(value, dtype=torch.bool)
        for columns, support in zip(self.columns, self.supports, strict=True):
            allowed[..., columns] = support.check(value.index_select(-1, columns))
        return allowed

    def __str__(self) -> str:
        return "what the kinds of its columns allow"
