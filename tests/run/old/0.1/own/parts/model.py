import pyro.distributions as dist

from pyro_vae.models.bernoulli import BernoulliModel


class WideModel(BernoulliModel):
    """A model whose prior is wider than usual."""

    def prior(self) -> dist.Distribution:
        """Returns p(z), with event shape `(latent,)`."""
        return dist.Normal(self.decoder[0][0].weight.new_zeros(2), 2.0).to_event(1)
