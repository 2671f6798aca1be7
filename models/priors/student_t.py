r"""Independent Student-t variables: heavier tails than the normal prior.

.. math:: p(z) \propto \prod_j (1 + z_j^2 / \nu)^{-(\nu + 1) / 2}
"""

__all__ = ["StudentTPrior"]

import math
from typing import Annotated

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_vae.errors import Range


class StudentTPrior(nn.Module):
    r"""Creates a Student-t prior with mean 0 and scale 1, which learns how heavy the tails of each latent variable are.

    Arguments:
        latent: The number of latent variables.
        df: The degrees of freedom :math:`\nu` to start from. They are learnt, and stay above 1, where there is a mean.

    Example:
        >>> from pyro_vae.models.priors.student_t import StudentTPrior
        >>> prior = StudentTPrior(latent=2, df=5.0)
        >>> prior().sample((5,)).shape
        torch.Size([5, 2])
    """

    zero: Tensor

    def __init__(self, latent: int, df: Annotated[float, Range(above=1)] = 5.0) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        self.log_excess = nn.Parameter(torch.full((latent,), math.log(df - 1)))

    def forward(self) -> dist.Distribution:
        """Returns p(z), with event shape `(latent,)`."""
        return dist.StudentT(1 + self.log_excess.exp(), self.zero, 1.0).to_event(1)
