"""Models and guides of cells, as models and guides of the rows that the engine hands about.

A row is what a `Split` reads: the cells of a datapoint, then its label and its covariates where a part asks for them.
What a part takes by name it gets, missing cells are masked out of the site `"x"`, and where networks see scaled cells
the site still has its density, its draws and its mean in the data's own units.
"""

__all__ = ["GuideOfRows", "Layout", "ModelOfRows", "asks_for", "generating", "observed", "required", "there"]

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Independent, MaskedDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_vae.errors import InputError
from pyro_vae.programs import signature
from pyro_vae.rescaled import Rescaled
from pyro_vae.wrapped import Wrapped


@dataclass(frozen=True)
class Layout:
    """What the columns of a row are.

    Arguments:
        features: The number of cells, which come first.
        label: Whether a label follows, the number of a class, -1 where it is not known.
        covariates: How many covariates follow it.
        missing: Whether cells may be missing, which are not-a-number then.
        fill: A possible value of each cell, which stands in the places of missing ones, with shape `(features,)`.
        loc: What is taken off the cells before networks see them, with shape `(features,)`; None scales nothing.
        scale: What they are then divided by.
        examples: Labels and covariates that generated datapoints are given at random, with shape `(some, beside)`.
    """

    features: int
    label: bool = False
    covariates: int = 0
    missing: bool = False
    fill: Tensor | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None
    examples: Tensor | None = None

    @property
    def beside(self) -> int:
        """The number of columns that are no cells."""
        return int(self.label) + self.covariates


def asks_for(part: nn.Module, name: str) -> bool:
    """Whether a module takes an argument of this name when it is called."""
    return name in signature(part).parameters


def required(part: nn.Module, name: str) -> bool:
    """Whether it cannot be called without it."""
    return signature(part).parameters[name].default is inspect.Parameter.empty


def observed(distribution: Any, mask: Tensor | None) -> Any:
    """Masks the cells of a distribution that are not there, for a model that samples its site `"x"` by itself.

    Arguments:
        distribution: p(x | z), independent cells made one event by `.to_event(1)`.
        mask: The cells that are there, with shape `(datapoints, features)`; None are all of them.

    Returns:
        The distribution of the cells that are there: others count nothing in its log density.

    Raises:
        InputError: If its cells are not independent.

    Example:
        >>> import pyro.distributions as dist
        >>> import pyro_vae
        >>> import torch
        >>> there = torch.tensor([[True, True], [True, False]])
        >>> x = torch.tensor([[1.0, 2.0], [1.0, 9.0]])
        >>> pyro_vae.observed(dist.Normal(torch.zeros(2, 2), 1.0).to_event(1), there).log_prob(x)
        tensor([-4.3379, -1.4189])
    """
    if mask is None:
        return distribution
    if not isinstance(distribution, Independent) or distribution.base_dist.event_shape:
        raise InputError(
            f"cells of {type(distribution).__name__} cannot be masked one by one, and some are missing: make it "
            "independent cells with .to_event(1), or take an argument observed and score what is there"
        )
    return Independent(distribution.base_dist.mask(mask), distribution.reinterpreted_batch_ndims)


def there(distribution: Any) -> Tensor | None:
    """Returns which cells of a distribution that `observed` has masked are there; None where it has masked none."""
    while distribution is not None:
        if isinstance(distribution, Rescaled):
            return distribution.mask_of_cells
        if isinstance(distribution, MaskedDistribution):
            return torch.as_tensor(distribution._mask)
        distribution = getattr(distribution, "base_dist", None)
    return None


class _OwnUnits(Messenger):
    """Gives the site `"x"` of a model its mask, and its density in the data's own units."""

    def __init__(self, x: Tensor | None, mask: Tensor | None, masked: bool, rows: "_Rows") -> None:
        super().__init__()
        self.x, self.mask, self.masked, self.rows = x, mask, masked, rows

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] != "x":
            return
        if self.mask is not None and not self.masked:
            msg["fn"] = observed(msg["fn"], self.mask)
        if self.rows.rows_loc is not None:
            msg["fn"] = Rescaled(msg["fn"], self.rows.rows_loc, self.rows.rows_scale, self.mask)
            if msg["is_observed"]:
                msg["value"] = self.x


class _Rows(Wrapped):
    """A part that is called with rows."""

    # Each may be None; a buffer's type does not say when. The part may have names like `loc` of its own.
    rows_loc: Any
    rows_scale: Any
    rows_fill: Any
    rows_examples: Any

    def __init__(self, part: nn.Module, layout: Layout) -> None:
        super().__init__(part)
        self._layout = layout
        self._asked = {name: asks_for(part, name) for name in ("label", "covariates", "observed")}
        for name in ("loc", "scale", "fill", "examples"):
            self.register_buffer(f"rows_{name}", getattr(layout, name), persistent=False)

    def _taken(self, rows: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """The cells of rows, which of them are there, None where all are, and what the part takes by name."""
        cells, beside = rows[..., : self._layout.features], rows[..., self._layout.features :]
        mask = ~cells.isnan() if self._layout.missing else None
        return cells, mask, self._named(beside, torch.ones_like(cells, dtype=torch.bool) if mask is None else mask)

    def _named(self, beside: Tensor | None, mask: Tensor | None) -> dict[str, Any]:
        named: dict[str, Any] = {"observed": mask} if self._asked["observed"] else {}
        if beside is None or not self._layout.beside:
            return named
        if beside.shape[-1] != self._layout.beside:
            raise InputError(
                "datapoints without their label and covariates are given to a part that asks for them: draw them by "
                "model(None, size=n, beside=...), and put these columns beside their cells"
            )
        if self._asked["label"] and self._layout.label:
            named["label"] = beside[..., 0].long()
        if self._asked["covariates"] and self._layout.covariates:
            named["covariates"] = beside[..., int(self._layout.label) :]
        return named

    def _scaled(self, cells: Tensor) -> Tensor:
        return cells if self.rows_loc is None else (cells - self.rows_loc) / self.rows_scale


class ModelOfRows(_Rows):
    """Creates a generative model of rows from one of cells.

    Arguments:
        part: The model.
        layout: What the columns of a row are.
    """

    def forward(self, x: Tensor | None = None, size: int | None = None, beside: Tensor | None = None) -> Any:
        """Runs the model on rows, or generates datapoints.

        Arguments:
            x: The rows.
            size: The number of datapoints to generate where there are none.
            beside: Their labels and covariates, with shape `(size, beside)`; those of training datapoints, drawn at
                random, if omitted.
        """
        if x is None:
            examples = self.rows_examples
            if beside is None and examples is not None:
                beside = examples[torch.randint(len(examples), (size or 1,), device=examples.device)]
            if beside is None and self._layout.beside:
                raise InputError("datapoints with labels or covariates are generated from those of the training data")
            with _OwnUnits(None, None, True, self):
                return self.part(None, size=size, **self._named(beside, None))
        cells, mask, named = self._taken(x)
        whole = cells if mask is None else torch.where(mask, cells, self.rows_fill)
        with _OwnUnits(whole, mask, self._asked["observed"], self):
            return self.part(self._scaled(whole), **named)


@contextmanager
def generating(model: nn.Module, label: int) -> Iterator[None]:
    """Has a model generate datapoints of one class inside the block, with covariates of such, where it takes any.

    Arguments:
        model: The model, as a run has it.
        label: The number of the class.

    Raises:
        InputError: If the model takes no label.
    """
    parts = [part for part in model.modules() if isinstance(part, ModelOfRows)]
    parts = [part for part in parts if part._asked["label"] and part._layout.label and part.rows_examples is not None]
    if not parts:
        raise InputError("--label does not apply to a model that takes no label: leave it out")
    before = [part.rows_examples for part in parts]
    try:
        for part in parts:
            own = part.rows_examples[part.rows_examples[:, 0] == label]
            part.rows_examples = own.clone() if len(own) else part.rows_examples.clone()
            part.rows_examples[:, 0] = label
        yield
    finally:
        for part, examples in zip(parts, before, strict=True):
            part.rows_examples = examples


class GuideOfRows(_Rows):
    """Creates a guide of rows from one of cells, which sees 0 in the place of a missing one.

    Arguments:
        part: The guide.
        layout: What the columns of a row are.
    """

    def forward(self, x: Tensor) -> Any:
        """Runs the guide on rows."""
        cells, mask, named = self._taken(x)
        scaled = self._scaled(cells)
        return self.part(scaled if mask is None else torch.where(mask, scaled, 0.0), **named)
