"""Likelihoods and posteriors that are written for `(n, ...)` have particles: together they are each of them alone."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from pyro_vae.checks import check_pair
from pyro_vae.elbo import elbo, log_weights
from pyro_vae.grey import DiscretizedLogistic
from pyro_vae.guides.base import Guide
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.leading import Unfolded, unfolded, with_leading
from pyro_vae.models.base import Model
from pyro_vae.sites import isolated
from pyro_vae.split import Split
from pyro_vae.traced import as_recorded

PARTICLES, ROWS, SIZE = 3, 4, 2
LEADING = torch.Size([PARTICLES, ROWS])


class ConvModel(Model):
    """Images of 4 x 4, in the way of a textbook."""

    def __init__(self, likelihood=lambda out: dist.Bernoulli(logits=out)):
        super().__init__(SIZE)
        self.decoder = nn.Sequential(
            nn.Linear(SIZE, 8),
            nn.Unflatten(1, (2, 2, 2)),
            nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1),
            nn.Flatten(),
        )
        self.of = likelihood

    def likelihood(self, z):
        return self.of(self.decoder(z)).to_event(1)


class ConvGuide(Guide):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 4, stride=2, padding=1), nn.Flatten(), nn.Linear(8, 2 * SIZE))

    def posterior(self, x):
        loc, log_scale = self.encoder(x.reshape(-1, 1, 4, 4)).chunk(2, -1)
        return dist.Normal(loc, log_scale.exp()).to_event(1)


def rows_of(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def images():
    return (rows_of(ROWS, 16) > 0).float()


@pytest.mark.parametrize(
    "likelihood",
    [
        lambda out: dist.Bernoulli(logits=out),
        lambda out: dist.Normal(out, 0.5),
        lambda out: dist.Beta(out.exp(), 1.0),
        lambda out: DiscretizedLogistic(out, torch.ones_like(out)),
    ],
)
def test_a_convolutional_likelihood_has_particles(likelihood, images):
    torch.manual_seed(0)
    model, z, x = ConvModel(likelihood), rows_of(PARTICLES, ROWS, SIZE), images.clamp(0.1, 0.9)
    if isinstance(likelihood(torch.zeros(1)), dist.Bernoulli):
        x = images
    found = with_leading(model, model.likelihood, z)
    assert (found.batch_shape, found.event_shape) == (LEADING, (16,))
    for k in range(PARTICLES):
        alone = model.likelihood(z[k])
        torch.testing.assert_close(found.log_prob(x)[k], alone.log_prob(x))
        if not isinstance(alone.base_dist, DiscretizedLogistic):
            torch.testing.assert_close(found.mean[k], alone.mean)
    assert found.sample((5,)).shape == (5, *LEADING, 16)


def test_a_pair_of_convolutions_trains_with_particles(images):
    torch.manual_seed(0)
    model, guide = ConvModel(), ConvGuide()
    check_pair(model, guide, images)
    with isolated():
        assert log_weights(model, guide, images, 5).shape == (5, ROWS)
        # A Gaussian stays one, so that its divergence has a closed form.
        assert elbo(model, guide, images, particles=2, analytic_kl=True).isfinite().all()
    q = with_leading(guide, guide.posterior, images.expand(PARTICLES, ROWS, 16))
    assert (
        kl_divergence(q, dist.Normal(torch.zeros(SIZE), 1.0).expand((*q.batch_shape, SIZE)).to_event(1)).shape
        == LEADING
    )
    ends = []
    for compile in (False, True):
        torch.manual_seed(1)
        model, guide = ConvModel(), ConvGuide()
        learner = AEVB(model, guide, Split(images), batch=3, particles=2, optimizer="adam", compile=compile)
        with as_recorded():
            for _ in range(3):
                learner.step()
        assert learner.update.compiles == compile
        ends.append(model.decoder[0].weight.detach())
    torch.testing.assert_close(*ends)


def test_batch_norm_is_never_given_particles_for_channels():
    # With as many datapoints as units, (particles, n, units) is to batch norm a batch of n channels, and no error.
    class Normed(Model):
        def __init__(self):
            super().__init__(SIZE)
            self.decoder = nn.Sequential(nn.Linear(SIZE, ROWS), nn.BatchNorm1d(ROWS), nn.Linear(ROWS, 3))

        def likelihood(self, z):
            return dist.Normal(self.decoder(z), 1.0).to_event(1)

    torch.manual_seed(0)
    model = Normed().eval()
    model.decoder[1].running_mean.copy_(torch.arange(ROWS))
    z = rows_of(PARTICLES, ROWS, SIZE)
    found = with_leading(model, model.likelihood, z)
    for k in range(PARTICLES):
        torch.testing.assert_close(found.mean[k], model.likelihood(z[k]).mean)


def test_what_takes_leading_dimensions_is_given_them():
    guide, seen = GaussianGuide(6, SIZE, hidden=5), []
    guide.mean.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    x = rows_of(PARTICLES, ROWS, 6)
    found = with_leading(guide, guide.posterior, x)
    expected = guide.posterior(x)
    assert seen[0] == (*LEADING, 5)
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.variance, expected.variance)
    with_leading(guide, guide.posterior, x[0])
    assert seen[-1] == (ROWS, 5)


def test_an_error_of_its_own_stays():
    def broken(z):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        with_leading(nn.Identity(), broken, rows_of(*LEADING, SIZE))


ROOT = torch.tensor([[1.0, 0.0], [0.5, 0.8]])
FLAT = rows_of(PARTICLES * ROWS, SIZE, seed=1)
KINDS = {
    "one event": dist.MultivariateNormal(FLAT, scale_tril=ROOT),
    "a mixture": dist.MixtureSameFamily(
        dist.Categorical(torch.ones(PARTICLES * ROWS, 2) / 2),
        dist.Normal(torch.stack([FLAT, -FLAT], -2), 1.0).to_event(1),
    ),
    "a simplex": dist.Dirichlet(FLAT.exp()),
    "categories": dist.Categorical(logits=FLAT),
    "a transformed one": dist.TransformedDistribution(dist.Normal(FLAT, 1.0), dist.transforms.ExpTransform()).to_event(
        1
    ),
    "heavy tails": dist.StudentT(3.0, FLAT, 1.0).to_event(1),
    "counts": dist.NegativeBinomial(FLAT.exp(), logits=torch.zeros(SIZE)).to_event(1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_distribution_unfolds(kind):
    base = KINDS[kind]
    found = unfolded(base, LEADING)
    assert (found.batch_shape, found.event_shape) == (LEADING, base.event_shape)
    torch.manual_seed(0)
    draws = base.sample((5,))
    torch.manual_seed(0)
    assert torch.equal(found.sample((5,)).flatten(1, 2), draws)
    # Values of all rows, with draws before them, and of those of one particle, for all.
    torch.testing.assert_close(found.log_prob(draws.unflatten(1, LEADING)).flatten(1), base.log_prob(draws))
    value = draws[0][:ROWS]
    expected = base.log_prob(value.repeat(PARTICLES, *[1] * (value.dim() - 1))).unflatten(0, LEADING)
    torch.testing.assert_close(found.log_prob(value), expected)
    assert found.has_rsample == base.has_rsample
    inside = found.base_dist if hasattr(found, "base_dist") and not isinstance(found, Unfolded) else found
    if kind in ("categories", "counts"):  # of one class as before, so that those who ask for it see it
        assert type(inside) is type(base.base_dist if kind == "counts" else base)


def test_what_is_alike_for_all_rows_stays():
    alike = dist.Normal(torch.zeros(SIZE), 1.0).to_event(1)
    assert unfolded(alike, LEADING).batch_shape == ()


def test_an_unfolded_distribution_has_what_its_base_has():
    out = rows_of(PARTICLES * ROWS, SIZE)
    logistic = unfolded(DiscretizedLogistic(out, torch.ones_like(out), 16), LEADING)
    assert logistic.levels == 16
    assert logistic.enumerate_support().shape == (16, *LEADING, SIZE)
    assert not hasattr(logistic, "log_mass")
