r"""A model of images and their classes, of which most need not be known: M2 (Kingma et al., 2014, Section 2.1).

.. math:: y \sim \mathrm{Categorical}(1 / K), \quad z \sim N(0, I), \quad x | z, y \sim p(x | z, y)

A label that is there is observed, one that is missing is a latent variable, which is summed out.
"""

__all__ = ["SemiSupervisedModel"]

import pyro
import pyro.distributions as dist
from torch import Tensor

from pyro_vae.classes import CERTAIN, known, ones

from .conditional import ConditionalModel


class SemiSupervisedModel(ConditionalModel):
    """Creates the model M2: a conditional model whose labels may be missing; `TraceEnum_ELBO` trains it.

    Bounds and log p are those of p(x, label) for a datapoint whose label is known, and of p(x) for the others.
    `--guide semi_supervised` brings a classifier q(y | x); with a guide of z alone, y is summed out in the model.

    Its arguments are those of `ConditionalModel`.

    Example:
        >>> import torch
        >>> from pyro_vae.models.semi_supervised import SemiSupervisedModel
        >>> model = SemiSupervisedModel(features=6, latent=2, classes=10, hidden=8)
        >>> model(size=3, label=torch.tensor([0, 1, -1])).shape  # -1: not known
        torch.Size([3, 6])
    """

    def forward(self, x: Tensor | None = None, size: int | None = None, label: Tensor | None = None) -> Tensor:
        """Samples y, z and x inside the plate `"data"`, or scores x, and the labels that are known, where given.

        Arguments:
            x: The data, with shape `(datapoints, features)`.
            size: The number of datapoints to generate where there is no x.
            label: The number of the class of each datapoint, -1 where it is not known, with shape `(datapoints,)`.

        Returns:
            The data, with shape `(datapoints, features)`.
        """
        logits = next(self.decoder.parameters()).new_zeros(self.classes)
        if x is None and label is not None:  # generated datapoints have the class that is asked for
            logits = known(label, logits)
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            if x is not None and label is not None:
                is_label = dist.Categorical(logits=CERTAIN * ones(y, self.classes))
                pyro.sample("label", is_label.mask(label >= 0), obs=label.clamp(min=0))
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.likelihood(z, y), obs=x)
