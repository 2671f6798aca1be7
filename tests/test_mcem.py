"""Monte Carlo EM against probabilistic PCA, whose maximum likelihood is known; AEVB and wake-sleep beside it."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.mcem import MCEM
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.sites import isolated, joint_log_prob
from pyro_vae.split import Split


class _PPCA(nn.Module):
    """x ~ N(W z + b, s^2 I), all of it learned (Tipping & Bishop, 1999)."""

    def __init__(self, features, latent):
        super().__init__()
        self.latent, self.decoder = latent, nn.Linear(latent, features)
        self.log_noise = nn.Parameter(torch.zeros(()))

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.decoder(z), self.log_noise.exp()).to_event(1), obs=x)

    @torch.no_grad()
    def log_px(self, x):
        """x is Gaussian with mean b and covariance W W^T + s^2 I."""
        weight, noise = self.decoder.weight, (2 * self.log_noise).exp() * torch.eye(x.shape[1])
        return dist.MultivariateNormal(self.decoder.bias, weight @ weight.T + noise).log_prob(x).mean().item()


class _FullGuide(nn.Module):
    """A Gaussian with a linear mean and one covariance: the family of PPCA's posterior."""

    def __init__(self, features, latent):
        super().__init__()
        self.mean, self.factor = nn.Linear(features, latent), nn.Parameter(torch.eye(latent))

    def forward(self, x):
        factor = self.factor.tril(-1) + self.factor.diagonal().abs().diag()
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.MultivariateNormal(self.mean(x), scale_tril=factor))


def _scans(size=200):
    """Datapoints with two strong directions and a weaker one, which are no PPCA model of two latents."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([2.0, 1.5, 0.8, 0.5, 0.5, 0.4])
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    return scales * torch.randn(size, 6, generator=generator) @ rotation + 1.0


def _best_log_px(x, latent):
    # With eigenvalues l_1 >= ... >= l_d of the sample covariance S, the optimum has s^2 = mean of the last d - q and
    # W = U (L - s^2)^(1/2); there C = W W^T + s^2 I has eigenvalues l_1 ... l_q, s^2 ... s^2, and tr(C^-1 S) = d.
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    noise = eigenvalues[latent:].mean()
    features = x.shape[1]
    log_det = eigenvalues[:latent].log().sum() + (features - latent) * noise.log()
    return -0.5 * (features * math.log(2 * math.pi) + log_det + features).item()


def _train(learner, steps, step_sizes):
    """Trains, with each step size in turn, and returns log p(x) on the way."""
    log_px = []
    updates = [learner.wake, learner.sleep] if isinstance(learner, WakeSleep) else [learner.update]
    for step_size in step_sizes:
        for update in updates:
            update.optimizer.set_step_size(step_size)
        for _ in range(steps):
            learner.step()
            if isinstance(learner, MCEM):
                log_px.append(learner.model.log_px(learner.data.values))
    return [*log_px, learner.model.log_px(learner.data.values)]


def test_the_closed_form_is_the_optimum():
    # The closed form itself, against the exact density at the parameters that it names.
    x = _scans()
    model = _PPCA(6, 2)
    eigenvalues, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    noise = eigenvalues[:4].mean()
    with torch.no_grad():
        model.decoder.weight.copy_(vectors[:, 4:] * (eigenvalues[4:] - noise).sqrt())
        model.decoder.bias.copy_(x.mean(0))
        model.log_noise.copy_(0.5 * noise.log())
    assert model.log_px(x) == pytest.approx(_best_log_px(x, 2), abs=1e-4)


@pytest.mark.parametrize("block", [None, 100])
def test_finds_the_maximum_likelihood_of_ppca(block):
    torch.manual_seed(0)
    x = _scans()
    model = _PPCA(6, 2)
    learner = MCEM(model, None, Split(x), optimizer="adam", block=block, weight_prior=math.inf)
    log_px = _train(learner, steps=60 if block is None else 80, step_sizes=[0.03, 0.005])
    best = _best_log_px(x, 2)
    assert max(log_px) < best + 1e-4
    assert log_px[-1] > best - 0.05
    assert learner.acceptance > 0.5
    if block is None:
        # It rises, but for the noise of its draws.
        smooth = torch.tensor(log_px).unfold(0, 10, 10).mean(1)
        assert (smooth.diff() > -0.02).all()


def test_aevb_finds_it_too():
    torch.manual_seed(0)
    x = _scans()
    model = _PPCA(6, 2)
    learner = AEVB(model, _FullGuide(6, 2), Split(x), batch=200, optimizer="adam", weight_prior=math.inf)
    log_px = _train(learner, steps=350, step_sizes=[0.03, 0.005])
    assert _best_log_px(x, 2) - 0.05 < log_px[-1] < _best_log_px(x, 2) + 1e-4


def test_wake_sleep_finds_it_too():
    torch.manual_seed(0)
    x = _scans()
    model = _PPCA(6, 2)
    learner = WakeSleep(model, _FullGuide(6, 2), Split(x), batch=200, optimizer="adam", weight_prior=math.inf)
    log_px = _train(learner, steps=350, step_sizes=[0.03, 0.005])
    assert _best_log_px(x, 2) - 0.05 < log_px[-1] < _best_log_px(x, 2) + 1e-4


@pytest.mark.parametrize(("block", "cost"), [(None, 15 * 60), (25, 15 * 25)])
def test_an_iteration_costs_ten_leapfrogs_and_five_updates(pixels, block, cost):
    learner = MCEM(BernoulliModel(12, 2, hidden=7), None, pixels, block=block)
    assert learner.step() == cost
    assert MCEM(BernoulliModel(12, 2, hidden=7), None, pixels, leapfrogs=3, updates=2).step() == 5 * 60


def test_a_transition_then_five_updates_of_the_whole_data(pixels):
    # With plain gradient steps the last of two updates is lr times the gradient of sum log p(x, z) + log p(w) at the
    # chains' positions.
    torch.manual_seed(0)
    model = BernoulliModel(12, 2, hidden=7)
    learner = MCEM(model, None, pixels, optimizer="sgd", step_size=1e-3, updates=2)
    one = MCEM(before := copy.deepcopy(model), None, pixels, optimizer="sgd", step_size=1e-3, updates=1)
    start = learner.position.clone()
    one.position = learner.position.clone()
    for trained in (learner, one):
        torch.manual_seed(1)
        trained.step()
    assert torch.equal(learner.position, one.position)
    assert (learner.position != start).any(-1).float().mean() > 0.7  # acceptance is 0.9 and more: small steps at first
    with isolated():
        log_joint = joint_log_prob(
            poutine.trace(poutine.condition(before, {"z": one.position[0]})).get_trace(pixels.first())
        )
    weights = sum(p.square().sum() for p in before.parameters() if p.ndim > 1)
    gradients = torch.autograd.grad(log_joint.sum() - 0.5 * weights, list(before.parameters()))
    for after, p, gradient in zip(model.parameters(), before.parameters(), gradients, strict=True):
        torch.testing.assert_close(after - p, 1e-3 * gradient, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(learner.loss, -log_joint.detach().mean(), check_dtype=False)


def test_blocks_are_visited_in_turn(pixels):
    torch.manual_seed(0)
    learner = MCEM(BernoulliModel(12, 2, hidden=7), None, pixels, block=25)
    moved = []
    for _ in range(4):
        before = learner.position.clone()
        learner.step()
        moved.append((learner.position != before).any(-1)[0].nonzero().flatten().tolist())
    blocks = [set(range(25)), set(range(25, 50)), {*range(50, 60), *range(15)}, set(range(15, 40))]
    assert all(set(rows) <= block and len(rows) > 15 for rows, block in zip(moved, blocks, strict=True))


def test_rows_that_go_through_the_networks_at_once_change_nothing(pixels, monkeypatch):
    # The draws of a chunk come in another order, but gradients at given positions are the same.
    torch.manual_seed(0)
    models = [BernoulliModel(12, 2, hidden=7)]
    models.append(copy.deepcopy(models[0]))
    whole, chunked = (MCEM(model, None, pixels, optimizer="sgd", step_size=1e-4, leapfrogs=1) for model in models)
    chunked.position = whole.position.clone()
    for learner, rows in ((whole, 10_000), (chunked, 7)):
        monkeypatch.setattr("pyro_vae.inference.mcem._ROWS", rows)
        learner.log_step.fill_(-30.0)  # chains that stand still
        learner.step()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-5)
    assert chunked.loss == pytest.approx(whole.loss.item(), rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"shared_step": False}, {"block": 25}])
def test_state_dict_carries_chains_and_step_sizes(pixels, settings):
    torch.manual_seed(0)
    model = BernoulliModel(12, 2, hidden=7)
    learner = MCEM(model, None, pixels, **settings)
    for _ in range(4):
        learner.step()
    other_model = copy.deepcopy(model)
    other = MCEM(other_model, None, pixels, **settings)
    state = copy.deepcopy(learner.state_dict())
    for _ in range(2):
        learner.step()
    other.load_state_dict(state)
    for _ in range(2):
        other.step()
    assert torch.equal(other.position, learner.position)
    assert torch.equal(other.log_step, learner.log_step)
    for p, q in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_each_chain_may_tune_its_own_step():
    # One model for half the data with noise 1, for the other with noise 0.01: steps that differ by two orders.
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(2))

        def forward(self, x=None, size=None):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                noise = 1.0 if x is None else torch.where(x[:, :1] > 0.5, 1.0, 0.01)
                return pyro.sample("x", dist.Normal(z + self.loc, noise).to_event(1), obs=x)

    torch.manual_seed(0)
    x = torch.cat([torch.rand(20, 2) / 2, 0.5 + torch.rand(20, 2) / 2])
    learner = MCEM(Model(), None, Split(x), shared_step=False, optimizer="adam", step_size=1e-4)
    learner.log_step = torch.full((40,), math.log(0.1))
    acceptance = []
    for _ in range(100):
        learner.step()
        acceptance.append(learner.acceptance)
    fine, coarse = learner.log_step.exp().view(2, 20).mean(1)
    assert 30 < coarse / fine < 300
    assert learner.log_step.unique().numel() > 30
    assert torch.stack(acceptance[50:]).mean().item() == pytest.approx(0.9, abs=0.03)


def test_what_cannot_be_trained_is_refused(pixels):
    model = BernoulliModel(12, 2, hidden=7)
    with pytest.raises(InputError, match="mcem needs data that stay as they are: give --binarize static"):
        MCEM(model, None, Split(pixels.values, divisor=256, dynamic=True))
    for settings in ({"leapfrogs": 0}, {"updates": 0}, {"block": 2.5}, {"block": 0}, {"block": True}):
        (name,) = settings
        with pytest.raises(InputError, match=f"^{name} {settings[name]} is not possible"):
            MCEM(model, None, pixels, **settings)
    with pytest.raises(InputError, match="block 61 is more than the 60 training datapoints: lower it"):
        MCEM(model, None, pixels, block=61)


class _TwoLayerModel(nn.Module):
    """z2 ~ N(0, I) with three coordinates, z1 given z2 a single number, x given z1 learned."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(12))

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2.sum(-1), 1.0))
            return pyro.sample("x", dist.Normal(self.loc + z1.unsqueeze(-1), 4.0).to_event(1), obs=x)


def test_two_latent_sites_train():
    # x is N(loc, 16 I + 4 1 1^T), as Var z1 = 3 + 1: the best loc is the mean of the data.
    torch.manual_seed(0)
    with torch.no_grad():
        x = _TwoLayerModel()(None, size=300) + torch.arange(12.0)
    model = _TwoLayerModel()
    learner = MCEM(model, None, Split(x), optimizer="adam", step_size=0.3, weight_prior=math.inf)
    assert learner.position.shape == (1, 300, 4)
    for step_size in (0.3, 0.02):
        learner.update.optimizer.set_step_size(step_size)
        for _ in range(40):
            learner.step()
    covariance = 16 * torch.eye(12) + 4 * torch.ones(12, 12)
    with torch.no_grad():
        best, found = (dist.MultivariateNormal(loc, covariance).log_prob(x).mean() for loc in (x.mean(0), model.loc))
    assert best - 0.05 < found <= best + 1e-4
