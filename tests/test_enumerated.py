"""Discrete latent variables summed out: against sums over all of their values, closed forms, and Pyro's own estimator.

The mixture has y in {0, 1, 2} with probabilities PI, z given y ~ N(M_y, I_2) and x given z ~ N(W^T z, 0.5^2 I_3), so
that x given y ~ N(W^T M_y, C) with C = W^T W + 0.25 I: log p(x) is the log of a sum of three densities, and p(y | x) is
in proportion to its terms. The posterior of z given y is a Gaussian with the precision P = I + W W^T / 0.25 and the
mean P^-1 (M_y + W x / 0.25).
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import nn

from pyro_vae.elbo import bound_terms, elbo, log_weights
from pyro_vae.enumerated import conditioned, sums_out
from pyro_vae.errors import InputError
from pyro_vae.hmc import HMC, sample
from pyro_vae.inference.ais import AIS
from pyro_vae.inference.importance import Importance
from pyro_vae.log_joint import LogJoint
from pyro_vae.marginal import bound
from pyro_vae.split import Split

PI = torch.tensor([0.2, 0.3, 0.5])
M = torch.tensor([[-2.0, 0.0], [1.0, 2.0], [2.0, -1.0]])
W = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]])
PRECISION = torch.eye(2) + W @ W.T / 0.25
SUMMED = {"enumerate": "parallel"}


@pytest.fixture
def interpreted(monkeypatch):
    """Runs traced functions as torch records them, not compiled."""
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)


class Mixture(nn.Module):
    """The model of the module's first lines; it draws z given y."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(PI), infer=SUMMED)
            z = pyro.sample("z", dist.Normal(M[y], 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z @ W, 0.5).to_event(1), obs=x)


class Posterior(nn.Module):
    """p(y | x) p(z | y, x), where y is summed out in the guide."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=joint(x).T + self.logits), infer=SUMMED)
            loc = (M[y] + x @ W.T / 0.25) @ PRECISION.inverse()
            return pyro.sample("z", dist.MultivariateNormal(loc, precision_matrix=PRECISION))


class Marginal(nn.Module):
    """q(z | x), wider than the posterior, and no y."""

    def forward(self, x):
        loc = (joint(x).softmax(0).T @ M + x @ W.T / 0.25) @ PRECISION.inverse()
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


def joint(x):
    """log p(x, y), with shape (3, datapoints)."""
    parts = dist.MultivariateNormal(M @ W, W.T @ W + 0.25 * torch.eye(3))
    return PI.log()[:, None] + parts.log_prob(x[:, None]).T


def drawn(datapoints):
    torch.manual_seed(0)
    y = torch.multinomial(PI, datapoints, replacement=True)
    return (M[y] + torch.randn(datapoints, 2)) @ W + 0.5 * torch.randn(datapoints, 3)


@pytest.mark.parametrize("guide", [Posterior(), Marginal()], ids=["in the guide", "in the model"])
@pytest.mark.parametrize("particles", [1, 3])
def test_the_bound_is_pyros(guide, particles):
    # The same draws: what is left is float32 in another order.
    x = drawn(6)
    torch.manual_seed(1)
    ours = bound_terms(Mixture(), guide, x, particles)
    assert ours.shape == (particles, 6)
    torch.manual_seed(1)
    settings = {"num_particles": particles, "max_plate_nesting": 1, "vectorize_particles": particles > 1}
    loss = TraceEnum_ELBO(**settings).loss(Mixture(), guide, x)
    assert ours.mean(0).sum().item() == pytest.approx(-loss, rel=1e-5)


def test_with_the_posterior_bound_and_weights_are_the_marginal_density():
    # Every log weight is log p(x): over y it is a sum, given y the ratio p(x, y, z) / p(z | y, x) does not depend on z.
    x, log_px = drawn(50), joint(drawn(50)).logsumexp(0).double()
    torch.testing.assert_close(log_weights(Mixture(), Posterior(), x, 3), log_px.expand(3, -1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(elbo(Mixture(), Posterior(), x), log_px, rtol=1e-5, atol=1e-4)
    assert bound(Mixture(), Posterior(), Split(x), 2).mean == pytest.approx(log_px.mean().item(), abs=1e-4)


@pytest.mark.parametrize("compile", [False, True])
def test_importance_with_another_guide_comes_to_the_marginal_density(compile, interpreted):
    x, log_px = drawn(40), joint(drawn(40)).logsumexp(0).double()
    found = Importance(particles=2000, compile=compile).estimate(Mixture(), Marginal(), Split(x)).estimates
    # The standard error of the mean difference, and the bias of a logarithm of a mean, half its variance.
    assert found.values.mean().item() == pytest.approx(log_px.mean().item(), abs=3 * found.mean().se + 1e-3)
    assert found.mean().se < 0.01


class Nested(nn.Module):
    """Two parts of each datapoint, in a plate inside: c ~ Bernoulli(0.3) alone, y given c and z given y for each."""

    def forward(self, x=None, size=None):
        with pyro.plate("data", n := size if x is None else len(x), dim=-1):
            drawn = pyro.sample("x", dist.Normal(torch.zeros(n, 3), 1.0).to_event(1), obs=x)
            c = pyro.sample("c", dist.Bernoulli(torch.tensor(0.3)), infer=SUMMED).long()
            with pyro.plate("parts", 2, dim=-2):
                y = pyro.sample("y", dist.Categorical(torch.stack([PI, PI.flip(0)])[c]), infer=SUMMED)
                z = pyro.sample("z", dist.Normal(M[y, 0], 1.0))
                pyro.sample("part", dist.Normal(z, 0.5), obs=None if x is None else x[:, :2].T)
            return drawn


class OfParts(nn.Module):
    """q(z | x) for each part, and y given z in the model alone."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1), pyro.plate("parts", 2, dim=-2):
            return pyro.sample("z", dist.Normal(x[:, :2].T, 0.7))


class PartsAndLabels(nn.Module):
    """q(c), and q(y) and q(z | y, x) for each part: c and y are summed out in the guide."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("c", dist.Bernoulli(torch.tensor(0.4)), infer=SUMMED)
            with pyro.plate("parts", 2, dim=-2):
                return self.parts(x)

    def parts(self, x):
        y = pyro.sample("y", dist.Categorical(logits=x[:, :2].T[..., None] * M[:, 0]), infer=SUMMED)
        return pyro.sample("z", dist.Normal((x[:, :2].T + M[y, 0]) / 2, 0.7))


class LabelsAlone(PartsAndLabels):
    """Without c, which the model is to sum out, with the labels of the parts as they are."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1), pyro.plate("parts", 2, dim=-2):
            return self.parts(x)


def nested_joint(x, z):
    """log p(x, z) by a sum over c and, for each part, over y; z with shape (2, datapoints)."""
    parts = dist.Normal(z, 0.5).log_prob(x[:, :2].T).sum(0) + dist.Normal(0.0, 1.0).log_prob(x).sum(1)
    over_c = []
    for c, p_c in ((0, 0.7), (1, 0.3)):
        pi = PI if c == 0 else PI.flip(0)
        of_parts = sum(pi[k] * dist.Normal(M[k, 0], 1.0).log_prob(z).exp() for k in range(3))
        over_c.append(math.log(p_c) + of_parts.log().sum(0))
    return (parts + torch.stack(over_c).logsumexp(0)).double()


def test_a_plate_inside_that_of_the_datapoints_is_multiplied_after_its_sums():
    x = drawn(5)
    torch.manual_seed(1)
    z = torch.randn(4, 2, 5)
    expected = torch.stack([nested_joint(x, each) for each in z])
    torch.testing.assert_close(conditioned(Nested(), {"z": z}, x, 4).log_p(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(conditioned(Nested(), {"z": z[0]}, x).log_p(), expected[:1], rtol=1e-5, atol=1e-5)
    torch.manual_seed(1)
    found = log_weights(Nested(), OfParts(), x, 3)
    torch.manual_seed(1)
    z = torch.stack([*dist.Normal(x[:, :2].T, 0.7).expand((3, 2, 5)).sample()])
    log_q = dist.Normal(x[:, :2].T, 0.7).log_prob(z).sum(1)
    expected = torch.stack([nested_joint(x, each) for each in z]) - log_q
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_sum_in_the_model_around_those_of_the_guide_is_refused():
    # Given the labels of two parts, c has a posterior for each pair of them: Pyro refuses it as well.
    with pytest.raises(InputError, match="site 'y' is summed out in the guide, inside a plate that site 'c'"):
        bound_terms(Nested(), LabelsAlone(), drawn(3))


def test_what_the_guide_sums_out_in_an_inner_plate_comes_to_the_marginal_density():
    # Given y, a part is N(M_y, 1.25); the weights are unbiased for p(x).
    x = drawn(5)
    of_parts = dist.Normal(M[:, 0, None, None], 1.25**0.5).log_prob(x[:, :2].T).exp()
    over_c = [
        math.log(p_c) + torch.einsum("k,kmn->mn", pi, of_parts).log().sum(0)
        for p_c, pi in ((0.7, PI), (0.3, PI.flip(0)))
    ]
    expected = torch.stack(over_c).logsumexp(0) + dist.Normal(0.0, 1.0).log_prob(x).sum(1)
    torch.manual_seed(1)
    log_w = log_weights(Nested(), PartsAndLabels(), x, 20_000)
    se = (log_w - log_w.logsumexp(0)).exp().std(0) * math.sqrt(20_000)  # of the mean weight, relatively
    estimate = log_w.logsumexp(0) - math.log(20_000)
    assert (estimate - expected).abs().le(4 * se).all()
    assert se.max() < 0.02
    torch.manual_seed(1)
    ours = bound_terms(Nested(), PartsAndLabels(), x, 3).mean(0).sum().item()
    torch.manual_seed(1)
    pyros = TraceEnum_ELBO(num_particles=3, max_plate_nesting=2, vectorize_particles=True)
    assert ours == pytest.approx(-pyros.loss(Nested(), PartsAndLabels(), x), rel=1e-5)


class Chain(nn.Module):
    """y1, y2 given y1, y3 given y2, and x_t given y_t: a hidden Markov model with three states and times."""

    transition = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            y = None
            for t in pyro.markov(range(3)):
                y = pyro.sample(f"y{t}", dist.Categorical(PI if y is None else self.transition[y]), infer=SUMMED)
                if t < 2:
                    pyro.sample(f"x{t}", dist.Normal(M[y, 0], 1.0), obs=None if x is None else x[:, t])
                else:
                    loc = M[y].sum(-1, keepdim=True).expand(*y.shape, 3)
                    drawn = pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)
            return drawn


class Nothing(nn.Module):
    """A guide that has nothing to draw."""

    def forward(self, x):
        pass


def chain_paths(x):
    """log p(x, y) of all 27 paths, with shape (3, 3, 3, datapoints)."""
    first, second = (dist.Normal(M[:, 0], 1.0).log_prob(x[:, t, None]).T for t in range(2))
    last = dist.Normal(M.sum(1)[:, None, None], 1.0).log_prob(x).sum(-1)
    move = Chain.transition.log()[..., None]
    return (PI.log()[:, None] + first)[:, None, None] + (move + second)[:, :, None] + move[None] + last[None, None]


def test_a_chain_alone_is_exact_and_needs_no_draws():
    x = drawn(6)
    expected = chain_paths(x).double().flatten(0, 2).logsumexp(0)
    assert sums_out(Chain(), Nothing(), x)
    for particles in (1, 2):
        found = log_weights(Chain(), Nothing(), x, particles)
        torch.testing.assert_close(found, expected.expand(particles, -1), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(conditioned(Chain(), {}, x).log_p()[0], expected, rtol=1e-6, atol=1e-5)


def test_sums_keep_what_lies_far_below_the_largest_term_of_a_table():
    # log(exp(-300) + exp(-200)): shifted by their own largest values, both products are zero in float32.
    class Apart(nn.Module):
        def forward(self, x=None, size=None):
            with pyro.plate("data", size if x is None else len(x), dim=-1):
                y = pyro.sample("y", dist.Categorical(logits=torch.tensor([0.0, -200.0])), infer=SUMMED)
                pyro.factor("f", torch.tensor([-300.0, 0.0])[y])
                return pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1), obs=x)

    x = drawn(2)
    expected = -200 + dist.Normal(0.0, 1.0).log_prob(x).sum(1).double()
    torch.testing.assert_close(log_weights(Apart(), Nothing(), x)[0], expected, rtol=1e-6, atol=1e-4)


def test_what_is_left_has_its_posterior_and_is_drawn_from_it():
    # At z, p(y | x, z) = p(y | z), in proportion to PI_y N(z; M_y, I). 4,000 draws: a share's error is below 0.008.
    x = drawn(2)
    torch.manual_seed(1)
    z = torch.randn(1, 2, 2)
    (found,) = conditioned(Mixture(), {"z": z}, x, 1).posteriors().values()
    logits = PI.log() + dist.Normal(M, 1.0).log_prob(z[0][:, None]).sum(-1)
    torch.testing.assert_close(found.probabilities[0], logits.softmax(-1).double(), rtol=1e-5, atol=1e-6)
    many = conditioned(Mixture(), {"z": z.expand(4000, -1, -1)}, x, 4000).posteriors()["y"].values
    shares = torch.nn.functional.one_hot(many, 3).double().mean(0)
    assert (shares - found.probabilities[0]).abs().max() < 0.03


def test_draws_of_a_chain_are_draws_of_its_paths():
    x = drawn(1)
    paths = chain_paths(x).double().flatten().softmax(0)
    torch.manual_seed(1)
    found = conditioned(Chain(), {}, x.expand(20_000, -1)).posteriors()
    y = torch.stack([found[f"y{t}"].values[0] for t in range(3)])
    shares = torch.bincount(y[0] * 9 + y[1] * 3 + y[2], minlength=27) / 20_000
    assert (shares - paths).abs().max() < 4 * math.sqrt(0.25 / 20_000)
    of_first = paths.view(3, 9).sum(1)
    torch.testing.assert_close(found["y0"].probabilities[0, 0], of_first, rtol=1e-5, atol=1e-6)


def test_annealing_sums_out_what_hmc_cannot_move():
    x, log_px = drawn(30), joint(drawn(30)).logsumexp(0).double()
    torch.manual_seed(1)
    found = AIS(temperatures=60, chains=16).estimate(Mixture(), None, Split(x)).estimates
    # The log of a mean is low by half its variance: 3 standard errors of the mean over datapoints, and that.
    assert found.values.mean().item() == pytest.approx(log_px.mean().item(), abs=3 * found.mean().se + 0.02)
    assert found.mean().se < 0.05


def test_the_log_joint_is_that_of_z_alone_and_can_be_traced(interpreted):
    # log p(x, z) = log sum_y PI_y N(z; M_y, I) + log N(x; W^T z, 0.25 I), and its gradient.
    x = drawn(4)
    torch.manual_seed(1)
    z = torch.randn(3, 4, 2, requires_grad=True)
    prior = (PI.log() + dist.Normal(M, 1.0).log_prob(z[:, :, None]).sum(-1)).logsumexp(-1)
    expected = prior + dist.Normal(z @ W, 0.5).log_prob(x).sum(-1)
    (gradient,) = torch.autograd.grad(expected.sum(), z)
    for compile in (False, True):
        log_joint = LogJoint(Mixture(), x, compile)
        value, found = log_joint.with_gradient(z.detach())
        torch.testing.assert_close(value, expected.double(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)
        assert log_joint._both.compile is compile


def test_hmc_draws_from_the_posterior_of_z_and_gives_that_of_y():
    # Means of p(y | x, z) over draws of z come to p(y | x); modes are near enough for chains to change between them.
    x = drawn(20)
    torch.manual_seed(1)
    log_joint = LogJoint(Mixture(), x)
    kernel = HMC(log_joint.with_gradient, log_joint.start(1000, Posterior()), leapfrogs=4)
    draws = sample(kernel, 15, 15)
    means = torch.stack(
        [log_joint.tables(log_joint.latents(at)).posteriors()["y"].probabilities.mean(0) for at in draws.position]
    ).mean(0)
    assert (means - joint(x).softmax(0).T).abs().max() < 0.01
