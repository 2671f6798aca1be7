"""Full variational Bayes against Bayesian linear regression, whose posterior is known, and against Pyro's own SVI."""

import copy
import json
import math
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call

from pyro_vae import train
from pyro_vae.bayesian import BayesianModel
from pyro_vae.data.dataset import Dataset
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.full_vb import FullVB
from pyro_vae.marginal import bound
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.gaussian import GaussianModel
from pyro_vae.run import parts
from pyro_vae.run.score import evaluate
from pyro_vae.sites import isolated
from pyro_vae.split import Split

NOISE = 0.5

# A row is (inputs, target): the inputs are N(0, I), the target is N(inputs . slope, 0.5^2). z has no part in it, and
# the guide is its prior, so that every bound is one of the regression alone.
REGRESSION = f"""
import pyro.distributions as dist
import torch
from torch import nn
from pyro_vae.models.base import Model

class RegressionModel(Model):
    def __init__(self, features, latent):
        super().__init__(latent)
        self.slope = nn.Parameter(torch.zeros(features - 1))

    def likelihood(self, z):
        last = torch.cat([self.slope, torch.tensor([{NOISE}])])
        scale_tril = torch.cat([torch.eye(len(last))[:-1], last.unsqueeze(0)])
        return dist.MultivariateNormal(torch.zeros(len(last)), scale_tril=scale_tril)
"""
PRIOR = """
import pyro.distributions as dist
import torch
from pyro_vae.guides.base import Guide

class PriorGuide(Guide):
    def __init__(self, features, latent):
        super().__init__()
        self.latent = latent

    def posterior(self, x):
        return dist.Normal(torch.zeros(self.latent), 1.0).to_event(1)
"""


class _Whole(Split):
    """A split whose minibatch is all of it, so that the draws of weights are all that is random."""

    def minibatch(self, size, values=None):
        return self.first()


class _Regression:
    """The files' model and guide, data for them, and the exact posterior N(m, P^-1) of the slopes.

    P = I + F^T F / s^2 and m = P^-1 F^T y / s^2 for inputs F and targets y.
    """

    def __init__(self, folder, n, orthogonal):
        for name, text in (("regression", REGRESSION), ("prior", PRIOR)):
            (folder / f"{name}.py").write_text(text)
        self.model = parts.find("model", str(folder / "regression.py"))(4, 1)
        self.guide = parts.find("guide", str(folder / "prior.py"))(4, 1)
        torch.manual_seed(n)
        self.inputs = torch.randn(n, 3)
        if orthogonal:  # columns of length 1, 0.5 and 0.2 times sqrt(N): F^T F is diagonal
            self.inputs = torch.linalg.qr(self.inputs)[0] * math.sqrt(n) * torch.tensor([1.0, 0.5, 0.2])
        else:
            self.inputs[:, 1] = 0.9 * self.inputs[:, 0] + math.sqrt(1 - 0.9**2) * self.inputs[:, 1]
        self.target = self.inputs @ torch.tensor([1.0, -0.5, 2.0]) + NOISE * torch.randn(n)
        self.x = torch.cat([self.inputs, self.target.unsqueeze(1)], dim=1)
        self.precision = torch.eye(3) + self.inputs.T @ self.inputs / NOISE**2
        self.mean = self.precision.inverse() @ self.inputs.T @ self.target / NOISE**2

    def log_evidence(self):
        """Without the slopes, the targets are N(0, s^2 I + F F^T)."""
        covariance = NOISE**2 * torch.eye(len(self.x)) + self.inputs @ self.inputs.T
        target = dist.MultivariateNormal(torch.zeros(len(self.x)), covariance).log_prob(self.target)
        return target + dist.Normal(0.0, 1.0).log_prob(self.inputs).sum()

    def best(self):
        """The best Gaussian with independent slopes: KL(q || N(m, P^-1)) is least at mean m and variances 1 / P_ii."""
        model = BayesianModel(self.model)
        with torch.no_grad():
            model.mean.slope.copy_(self.mean)
            model.log_scale["slope"].copy_(-self.precision.diagonal().log() / 2)
        return model


@pytest.mark.parametrize(("orthogonal", "kl"), [(True, "analytic"), (False, "sampled")])
def test_learns_the_posterior_of_a_linear_regression(tmp_path, orthogonal, kl):
    # A Gaussian with independent slopes has the exact mean. Its variances are 1 / P_ii: with orthogonal inputs, where P
    # is diagonal, these are the exact marginal variances (P^-1)_ii; with correlated ones they are smaller.
    exact = _Regression(tmp_path, 60, orthogonal)
    marginal, best = exact.precision.inverse().diagonal().sqrt(), exact.precision.diagonal().rsqrt()
    assert torch.allclose(marginal, best) is orthogonal
    learner = FullVB(exact.model, exact.guide, _Whole(exact.x), batch=60, optimizer="adam", step_size=0.05, kl=kl)
    torch.manual_seed(0)
    trail = []
    for n in range(800):
        learner.update.optimizer.set_step_size(0.05 if n < 200 else 0.01)
        learner.step()
        if n >= 300:
            q = learner.model.posterior()["slope"]
            trail.append(torch.stack([q.loc.detach(), q.scale.detach()]))
    # The mean over the last 500 steps errs by some 3 % of a standard deviation (three times that is allowed).
    mean, scale = torch.stack(trail).mean(0)
    assert ((mean - exact.mean).abs() < 0.1 * best).all()
    torch.testing.assert_close(scale, best, rtol=0.1, atol=0)
    if not orthogonal:
        assert (scale[:2] < 0.6 * marginal[:2]).all()  # sqrt(1 - 0.9^2) = 0.44 of the exact ones


def test_the_bound_is_the_evidence_where_the_posterior_is_in_the_family(tmp_path):
    # With orthogonal inputs and q(slope) = p(slope | data), each draw of Equation 22 is log p(data), by Bayes' rule.
    exact = _Regression(tmp_path, 60, orthogonal=True)
    model, data = exact.best(), _Whole(exact.x)
    learner = FullVB(model, exact.guide, data, batch=60)
    with isolated(), torch.no_grad():
        for _ in range(5):
            torch.testing.assert_close(-learner._loss(data.values)[0], exact.log_evidence(), atol=2e-3, rtol=0)
    dataset = Dataset("x", data, data, (1, 4), "", "none")
    found = evaluate(model, exact.guide, dataset, split="train", particles=100, marginal=())
    assert abs(found["bound"] - exact.log_evidence() / 60) < 4 * found["bound_se"]
    # With correlated inputs the family lacks it, and the bound stays below by KL(q || p(slope | data)).
    exact = _Regression(tmp_path, 60, orthogonal=False)
    model, data = exact.best(), _Whole(exact.x)
    found = evaluate(model, exact.guide, Dataset("x", data, data, (1, 4), "", "none"), split="train", marginal=())
    q = dist.MultivariateNormal(exact.mean, exact.precision.diagonal().reciprocal().diag())
    gap = torch.distributions.kl_divergence(q, dist.MultivariateNormal(exact.mean, precision_matrix=exact.precision))
    assert gap > 0.5
    assert abs(found["bound"] - (exact.log_evidence() - gap) / 60) < 4 * found["bound_se"]


def test_with_many_data_the_bound_tends_to_the_plain_one(tmp_path):
    # log p(data) = log p(data | m) + log p(m) - log N(m; m, P^-1) = log p(data | m) - (|m|^2 + log det P) / 2: per
    # datapoint, the plain bound at the posterior's mean exceeds that of full variational Bayes by O(log N / N).
    gaps = []
    for n in (10, 100, 1000):
        exact = _Regression(tmp_path, n, orthogonal=True)
        model, split = exact.best(), Split(exact.x)
        dataset = Dataset("x", split, split, (1, 4), "", "none")
        full = evaluate(model, exact.guide, dataset, split="train", particles=100, marginal=())
        plain = bound(model.mean, exact.guide, split)
        gap = (exact.mean.square().sum() + exact.precision.logdet()).item() / (2 * n)
        assert abs(plain.mean - full["bound"] - gap) < 4 * full["bound_se"]
        gaps.append(plain.mean - full["bound"])
    # |m|^2 is 5, log det P is 3 log(N / s^2) + 2 log(0.1): 0.6, 0.09 and 0.013 nats per datapoint.
    assert gaps[0] > 0.4 > gaps[1] > 0.05 > 0.02 > gaps[2] > 0


def _wide(model):
    """A model whose weights are no longer next to nothing, with scales of all sizes."""
    wide = BayesianModel(model)
    for mean, log_scale in zip(model.parameters(), wide.log_scale.values(), strict=True):
        nn.init.normal_(mean, std=0.3)
        nn.init.normal_(log_scale, -2.0, 0.5)
    return wide


def test_equations_22_and_24_agree_in_the_mean(pixels):
    torch.manual_seed(0)
    model, guide = _wide(BernoulliModel(12, 2, hidden=3)), GaussianGuide(12, 2, hidden=3)
    draws, values, gradients = 200, {}, {}
    for kl in ("sampled", "analytic"):
        learner = FullVB(model, guide, _Whole(pixels.first()), batch=60, kl=kl)
        with isolated():
            losses = [learner._loss(pixels.values)[0] for _ in range(draws)]
            taken = [torch.autograd.grad(loss, learner.update.parameters) for loss in losses]
        values[kl] = torch.stack(losses).detach()
        gradients[kl] = torch.stack([torch.cat([g.flatten() for g in each]) for each in taken])
    for found, bound_on_z in ((values, 4.0), (gradients, 5.0)):  # 187 gradients: beyond 5 errors 1e-4 by chance
        a, b = found["sampled"], found["analytic"]
        error = ((a.var(0) + b.var(0)) / draws).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < bound_on_z * error + 1e-6).all()
    assert values["analytic"].var() < values["sampled"].var()


@pytest.mark.parametrize("model_class", [BernoulliModel, GaussianModel])
@pytest.mark.parametrize(("kl", "elbo"), [("sampled", Trace_ELBO), ("analytic", TraceMeanField_ELBO)])
def test_twenty_steps_are_those_of_pyro_svi(pixels, model_class, kl, elbo):
    # The same as a Pyro program: weights are sites outside the plate, and a minibatch counts for all N datapoints.
    torch.manual_seed(0)
    plain, guide = model_class(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    model = _wide(plain)
    start, pyro_model, pyro_guide = copy.deepcopy(model), copy.deepcopy(plain), copy.deepcopy(guide)
    step_size, share = 1e-3, 10 / 60
    learner = FullVB(model, guide, pixels, batch=10, optimizer="sgd", step_size=step_size, kl=kl)
    torch.manual_seed(2)
    for _ in range(20):
        learner.step()

    def joint(x):
        weights = {
            name: pyro.sample(f"weights/{name}", dist.Normal(torch.zeros_like(q.loc), 1.0).to_event(q.loc.ndim))
            for name, q in start.posterior().items()
        }
        # PyroModule calls what stands in its parameters' places parameters, which weights that were drawn are not.
        with poutine.scale(scale=1 / share), poutine.block(hide_types=["param"]):
            functional_call(pyro_model, weights, (x,))

    def posterior(x):
        for name, q in start.posterior().items():
            loc, log_scale = (
                pyro.param(f"{what}/{name}", value.detach())
                for what, value in (("loc", q.loc), ("log_scale", q.scale.log()))
            )
            pyro.sample(f"weights/{name}", dist.Normal(loc, log_scale.exp()).to_event(q.loc.ndim))
        with poutine.scale(scale=1 / share):
            pyro_guide(x)

    torch.manual_seed(2)
    with pyro.get_param_store().scope():
        svi = SVI(joint, posterior, pyro.optim.SGD({"lr": step_size * share}), elbo())
        for _ in range(20):
            svi.step(pixels.minibatch(10))
        theirs = {name: pyro.param(name).detach() for name in pyro.get_param_store()}
    for name, q in model.posterior().items():
        torch.testing.assert_close(q.loc, theirs[f"loc/{name}"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(q.scale.log(), theirs[f"log_scale/{name}"], atol=1e-5, rtol=1e-4)
    for p, q in zip(guide.parameters(), pyro_guide.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-4)


def test_state_dict_carries_all_that_the_next_step_needs(pixels):
    torch.manual_seed(0)
    modules = BayesianModel(BernoulliModel(12, 2, hidden=7)), GaussianGuide(12, 2, hidden=7)
    learner = FullVB(*modules, pixels, batch=10, step_size=0.1)
    for _ in range(110):  # past the warm-up
        learner.step()
    others = copy.deepcopy(modules)
    other = FullVB(*others, pixels, batch=10, step_size=0.1)
    state = copy.deepcopy(learner.state_dict())
    learner.step()
    after = [p.detach().clone() for module in modules for p in module.parameters()]
    other.load_state_dict(state)
    other.step()
    for p, q in zip(after, (p for module in others for p in module.parameters()), strict=True):
        assert torch.equal(p, q)


class _RejectionGuide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", NonreparameterizedNormal(torch.zeros(2), 1.0).to_event(1))


@pytest.mark.parametrize(
    ("guide", "settings", "message"),
    [
        (_RejectionGuide(), {}, "full_vb needs a reparameterised guide: train _RejectionGuide with --inference aevb"),
        (GaussianGuide(12, 2, hidden=7), {"kl": "exact"}, "kl exact is unknown: choose from sampled, analytic"),
    ],
)
def test_what_cannot_be_trained_is_refused(pixels, guide, settings, message):
    with pytest.raises(InputError, match=message):
        FullVB(BernoulliModel(12, 2, hidden=7), guide, pixels, **settings)


def test_a_resumed_run_is_bitwise_one_that_never_ended_plain_or_compiled(tmp_path, caplog):
    # With minibatches of 20, the optimiser's warm-up ends after 2,020 samples.
    settings = {"inference": "full_vb", "kl": "analytic", "hidden": 10, "batch": 20, "progress": False}
    ends = {}
    for compile in ("off", "on"):
        for out, samples in (("whole", 2600), ("part", 2300)):
            train(tmp_path / compile / out, samples=samples, compile=compile, **settings)
        train(tmp_path / compile / "part", resume=True, samples=2600, progress=False)
        whole, part = (load_file(tmp_path / compile / out / "weights.safetensors") for out in ("whole", "part"))
        assert {"model.mean.decoder.1.weight", "model.log_scale.decoder/1/weight"} < whole.keys() == part.keys()
        assert all(torch.equal(part[name], value) for name, value in whole.items())
        assert not (whole["model.log_scale.decoder/1/weight"] == math.log(0.01)).any()
        ends[compile] = whole
    assert [record.getMessage() for record in caplog.records if record.name == "pyro_vae"] == []  # nothing went plain
    for name, value in ends["off"].items():
        torch.testing.assert_close(ends["on"][name], value, rtol=1e-3, atol=1e-4)


def test_it_is_a_run_like_any_other(cli, tmp_path):
    options = ["--hidden", 10, "--batch", 20, "--samples", 2600]
    assert cli("train", "--inference", "full_vb", *options, "--out", "run").status == 0
    (tmp_path / "run").rename(tmp_path / "moved")  # the folder alone is enough
    results = {}
    for split in ("train", "test"):
        found = cli("evaluate", "moved", "--split", split, "--particles", 30, "--json")
        assert found.status == 0, found.err
        results[split] = json.loads(found.out)
    _, _, train, test = Path("moved/metrics.csv").read_text().splitlines()[-1].split(",")
    for split, recorded in (("train", train), ("test", test)):
        assert results[split]["bound"] == pytest.approx(float(recorded), abs=0.5)
        assert results[split]["weights_kl"] > 1
        assert results[split]["importance"]["log_px"] > results[split]["bound"]
    table = cli("evaluate", "moved", "--particles", 30, "--limit", 20).out
    assert "KL of the weights" in table
    assert "paid by the training data" in table
    assert cli("sample", "moved", "--out", "again.png").status == 0
    refused = cli("evaluate", "moved", "--marginal", "ais", "--limit", 2)
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "the weights are random: use importance" in refused.err
