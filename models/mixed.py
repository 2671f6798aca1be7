r"""A likelihood of tables, with a distribution for each kind of column (HI-VAE; Nazabal et al., 2018).

.. math:: p(x | z) = \prod_i p_{k(i)}(x_i | z), \quad h = \tanh(W_1 z + b_1)

Real columns are Gaussian, positive ones log-normal, counts Poisson, binary ones Bernoulli and categories categorical,
each with parameters that are affine in h.
"""

__all__ = ["MixedModel"]

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.columns import Categories, Columns
from pyro_vae.errors import Count, InputError
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model

_OUTPUTS = {"real": 2, "positive": 2, "count": 1, "binary": 1}


class MixedModel(Model):
    r"""Creates a model of columns of several kinds.

    The joint is a density where a column is real or positive, and a probability where none is. With `--scale`, real
    columns alone are scaled.

    Arguments:
        features: The number of columns.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        kinds: The kind of each column, `real`, `positive`, `count`, `binary`, or `category:K` of K categories, as the
            data set tells them; all real if omitted.
        min_log_variance: A floor under the log variance of real columns and of the logarithm of positive ones.

    Raises:
        InputError: If there is a kind too few, or an unknown one.

    Example:
        >>> from pyro_vae.models.mixed import MixedModel
        >>> model = MixedModel(features=3, latent=2, hidden=8, kinds=["real", "count", "category:4"])
        >>> model(size=5).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        prior: nn.Module | None = None,
        depth: Count = 1,
        activation: Activation = "tanh",
        kinds: Sequence[str] | None = None,
        min_log_variance: float = -8.0,
    ) -> None:
        super().__init__(latent, prior)
        kinds = ["real"] * features if kinds is None else [*kinds]
        if len(kinds) != features:
            raise InputError(f"kinds are {len(kinds)} of {features} columns: give one for each")
        self.min_log_variance = min_log_variance
        self.hidden = hidden_layer(latent, hidden, depth, activation)
        self.heads = nn.ModuleDict()
        places: list[int] = []
        for kind in dict.fromkeys(name.partition(":")[0] for name in kinds):
            columns = [n for n, name in enumerate(kinds) if name.partition(":")[0] == kind]
            places += columns
            outputs = _OUTPUTS.get(kind, 0)
            if kind == "category":
                sizes = torch.tensor([int(kinds[n].partition(":")[2]) for n in columns])
                self.register_buffer("sizes", sizes, persistent=False)
                outputs = int(sizes.max())
            if not outputs:
                raise InputError(f"kind {kind} is unknown: choose from {', '.join(_OUTPUTS)}, category:K")
            self.heads[kind] = linear(hidden, outputs * len(columns), bias_std=0.0)
            self.register_buffer(f"columns_{kind}", torch.tensor(columns), persistent=False)
        self.register_buffer("order", torch.tensor(places).argsort(), persistent=False)

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        h = self.hidden(z)
        parts = []
        for kind, head in self.heads.items():
            columns = getattr(self, f"columns_{kind}")
            parts.append((columns, self._distribution(kind, head(h).unflatten(-1, (len(columns), -1)))))
        return Columns(parts, self.order).to_event(1)

    def _distribution(self, kind: str, outputs: Tensor) -> Any:
        """The distribution of the columns of a kind, whose parameters lie along the last dimension of the outputs."""
        if kind == "category":
            return Categories(outputs, self.sizes)
        if kind == "binary":
            return dist.Bernoulli(logits=outputs[..., 0])
        if kind == "count":
            return dist.Poisson(outputs[..., 0].exp())
        scale = (0.5 * outputs[..., 1].clamp(min=self.min_log_variance)).exp()
        return (dist.Normal if kind == "real" else dist.LogNormal)(outputs[..., 0], scale)
