r"""A Student-t likelihood of real values, with tails for outliers, as MIWAE has it (Mattei & Frellsen, 2019).

.. math:: p(x | z) = \prod_i t_{\nu_i}\Bigl(\frac{x_i - \mu_i}{s_i}\Bigr) \frac{1}{s_i}, \quad
    \mu = W_4 h + b_4, \quad \log s = W_5 h + b_5, \quad \nu = 2 + e^{W_6 h + b_6}
"""

__all__ = ["StudentTModel"]

import math

import pyro.distributions as dist
from torch import Tensor, nn

from pyro_vae.errors import Count
from pyro_vae.networks import Activation, hidden_layer, linear

from .base import Model


class StudentTModel(Model):
    r"""Creates a model of heavy tails, whose degrees of freedom start at 10 and stay above 2: there is a variance.

    Arguments:
        features: The number of cells.
        latent: The number of latent variables.
        hidden: The number of hidden units in each layer.
        prior: A module that returns p(z); :math:`N(0, I)` if omitted.
        depth: The number of hidden layers.
        activation: Their activation; see `pyro_vae.networks.hidden_layer`.
        min_log_scale: A floor under :math:`\log s`, in the units that networks see.

    Example:
        >>> from pyro_vae.models.student_t import StudentTModel
        >>> model = StudentTModel(features=6, latent=2, hidden=8)
        >>> model(size=3).shape
        torch.Size([3, 6])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        hidden: Count = 500,
        prior: nn.Module | None = None,
        depth: Count = 1,
        activation: Activation = "tanh",
        min_log_scale: float = -4.0,
    ) -> None:
        super().__init__(latent, prior)
        self.min_log_scale = min_log_scale
        self.hidden = hidden_layer(latent, hidden, depth, activation)
        self.mean = linear(hidden, features, bias_std=0.0)
        self.log_scale = linear(hidden, features, bias_std=0.0)
        self.log_df = linear(hidden, features, bias_std=0.0)
        nn.init.constant_(self.log_df.bias, math.log(8.0))

    def likelihood(self, z: Tensor) -> dist.Distribution:
        """Returns p(x | z), with event shape `(features,)`."""
        h = self.hidden(z)
        # Beyond e^7 degrees of freedom it is a Gaussian, and float32 loses what its logarithm of Gamma functions is.
        df = 2.0 + self.log_df(h).clamp(-7.0, 7.0).exp()
        return dist.StudentT(df, self.mean(h), self.log_scale(h).clamp(min=self.min_log_scale).exp()).to_event(1)
