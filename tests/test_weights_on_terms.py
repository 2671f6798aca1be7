"""Weights on terms belong to training: whatever a model scales or subsamples, what is reported is of log p(x)."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_vae.cli.tables import print_evaluation
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.hmc import HMC, sample
from pyro_vae.inference.ais import AIS
from pyro_vae.inference.importance import Importance
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import Estimates, bound
from pyro_vae.run.score import evaluate
from pyro_vae.sites import isolated
from pyro_vae.split import Split

N, NOISE = 8, 0.7  # datapoints, and the deviation of x given z


class _Weighted(nn.Module):
    """p(z) = N(0, I), p(x|z) = N(W z + b, NOISE^2 I) of the cells that are not 0; weights and plate are of any kind."""

    def __init__(self, seed):
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)
        self.features, self.latent = 2 + seed % 3, 1 + seed % 2
        self.weight = self._normal(self.features, self.latent)
        self.bias = self._normal(self.features)
        scales = 10 ** torch.empty(3).uniform_(-1, 1, generator=self.random)
        # Three in ten scales are 1. One model in three has a plain plate, one subsamples alone, one with its guide.
        self.scales = [s.item() if torch.rand(1, generator=self.random) < 0.7 else 1.0 for s in scales]
        self.size = [None, 10 * N, 10 * N][seed % 3]

    def _normal(self, *shape):
        return torch.randn(*shape, generator=self.random)

    def plate(self, n, size):
        return pyro.plate("data", n, dim=-1) if size is None else pyro.plate("data", size, subsample_size=n, dim=-1)

    def forward(self, x=None, size=None):
        n = size if x is None else len(x)
        cells = torch.ones(n, self.features, dtype=torch.bool) if x is None else x != 0
        with self.plate(n, self.size):
            with poutine.scale(scale=self.scales[0]):
                z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            loc = z @ self.weight.T + self.bias
            with poutine.scale(scale=self.scales[1]), poutine.mask(mask=cells.any(-1)):
                return pyro.sample("x", dist.Normal(loc, NOISE).mask(cells).to_event(1), obs=x)

    def data(self):
        x = self(None, size=N)
        x[torch.rand(x.shape, generator=self.random) < 0.25] = 0
        x[0] = 0  # nothing is seen of it
        return x

    def exact(self, x):
        """log p(x) of the cells that are seen, and mean and covariance of z given them, one datapoint at a time."""
        rows = []
        for row in x:
            seen = row != 0
            W, rest = self.weight[seen], (row - self.bias)[seen]
            covariance = W @ W.T + NOISE**2 * torch.eye(len(W))
            log_p = dist.MultivariateNormal(torch.zeros(len(W)), covariance).log_prob(rest) if len(W) else 0.0
            posterior = (torch.eye(self.latent) + W.T @ W / NOISE**2).inverse()
            rows.append((torch.as_tensor(log_p), posterior @ W.T @ rest / NOISE**2, posterior))
        return [torch.stack(each) for each in zip(*rows, strict=True)]


class _WeightedGuide(nn.Module):
    """Beside the posterior and wider, so that importance weights are bounded; with a scale and a plate of its own."""

    def __init__(self, model, scale, size):
        super().__init__()
        self.exact, self.plate, self.scale, self.size = model.exact, model.plate, scale, size

    def forward(self, x):
        _, mean, covariance = self.exact(x)
        with self.plate(len(x), self.size), poutine.scale(scale=self.scale):
            q = dist.Normal(mean + 0.2, 1.4 * covariance.diagonal(dim1=-2, dim2=-1).sqrt())
            return pyro.sample("z", q.to_event(1))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_reported_is_of_log_px_unweighted(seed):
    torch.manual_seed(seed)
    model = _Weighted(seed)
    guide = _WeightedGuide(model, model.scales[2], model.size if seed % 3 == 2 else None)
    x = model.data()
    log_px, mean, covariance = model.exact(x)
    exact = log_px.mean().item()
    dataset = Dataset("toy", Split(x), Split(x), (1, model.features), "", "none")
    options = {"marginal": ("importance", "ais"), "set": {"ais": {"temperatures": 50, "chains": 40}}}
    found = evaluate(model, guide, dataset, **options)
    # The guide is beside the posterior, and the bound a KL below log p(x).
    assert found["bound"] + 3 * found["bound_se"] < exact
    for name in options["marginal"]:
        assert abs(found[name]["log_px"] - exact) < 3 * found[name]["se"], name
        assert found[name]["se"] < 0.1
    fitted = evaluate(model, guide, dataset, marginal=(), local=True)
    assert found["bound"] < fitted["bound"] < exact + 3 * fitted["bound_se"] + 1e-3

    sampled = model.size is not None
    weighted = [n for n, s in zip("zx", model.scales, strict=False) if s != 1 or sampled]
    if model.scales[2] != 1 and "z" not in weighted:
        weighted.append("z")
    assert found.get("weighted", []) == weighted

    with isolated():
        log_joint = LogJoint(model, x)
        kernel = HMC(log_joint.with_gradient, log_joint.start(100), leapfrogs=5)
        z = sample(kernel, draws=10, warmup=40).position
    # Chains are independent, and the spread of their means is the error: beyond 4.5 of 48 moments, 3e-4 by chance.
    centred = z - mean
    moments = torch.cat([centred, (centred.unsqueeze(-1) * centred.unsqueeze(-2) - covariance).flatten(-2)], -1).mean(0)
    assert (moments.mean(0) / (moments.std(0) / math.sqrt(100))).abs().max() < 4.5


def test_a_weight_is_told(capsys):
    model = _Weighted(1)
    model.scales = [3.0, 1.0, 1.0]
    model.size = None
    x = model.data()
    dataset = Dataset("toy", Split(x), Split(x), (1, model.features), "", "none")
    result = evaluate(model, _WeightedGuide(model, 1.0, None), dataset, particles=30)
    assert result["weighted"] == ["z"]
    print_evaluation(result)
    assert "weighted sites" in capsys.readouterr().out
    model.scales[0] = 1.0
    result = evaluate(model, _WeightedGuide(model, 1.0, None), dataset, particles=30)
    assert "weighted" not in result
    print_evaluation(result)
    assert "weighted" not in capsys.readouterr().out


class _Padded(nn.Module):
    """z ~ N(0, 1) and x ~ N(z, 1), for model and guide alike as if datapoints of zeros were not there."""

    def __init__(self, guide):
        super().__init__()
        self.guide = guide

    def forward(self, x=None, size=None):
        there = torch.ones(size, dtype=torch.bool) if x is None else (x != 0).any(-1)
        with pyro.plate("data", len(there), dim=-1), poutine.mask(mask=there):
            if self.guide:
                return pyro.sample("z", dist.Normal(x / 2, 0.5**0.5).to_event(1))
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def test_masks_stay_masks():
    x = torch.tensor([[0.0], [1.0], [-0.5], [0.0]])
    exact = dist.Normal(0.0, 2**0.5).log_prob(x).squeeze(-1) * (x != 0).squeeze(-1)
    model, guide, data = _Padded(False), _Padded(True), Split(x)
    found = Importance(50).estimate(model, guide, data)
    torch.testing.assert_close(found.log_px.float(), exact, atol=1e-5, rtol=0)  # the guide is the posterior
    assert bound(model, guide, data).mean == pytest.approx(exact.mean().item(), abs=1e-5)
    # A chain from a prior that is masked begins at no density.
    with pytest.raises(InputError, match="latent site 'z' is masked, which leaves it no prior: use importance"):
        AIS(temperatures=5, chains=2).estimate(model, guide, data)
    seen = AIS(temperatures=50, chains=40).estimate(model, guide, Split(x[1:3]))
    mean, se = Estimates(seen.log_px, seen.se).mean()
    assert abs(mean - exact[1:3].mean().item()) < 3 * se
