"""KL annealing against Pyro's own `poutine.scale`, with a weight that is computed by hand."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.full_vb import FullVB
from pyro_vae.models.bernoulli import BernoulliModel

STEPS, BATCH, WARMUP = 20, 20, 300


class _Scaled(nn.Module):
    """A model with one latent site, weighed as its user wrote it and, where there is a weight, by that."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 12)
        self.weight = 1.0

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            with poutine.scale(scale=0.5 * self.weight):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.deterministic("twice", 2 * z, event_dim=1)
            pyro.factor("liked", -z.square().sum(-1))
            logits = self.decoder(z)
            return pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(1), obs=x)


@pytest.fixture
def interpreted(monkeypatch):
    """Runs traced functions as torch records them: what the compiler makes of the record is tested with `Traced`."""
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)


def _pair():
    torch.manual_seed(0)
    return _Scaled(), GaussianGuide(12, 2, hidden=7)


@pytest.mark.parametrize("estimator", [Trace_ELBO, TraceMeanField_ELBO])
def test_is_poutine_scale_on_what_is_drawn_plain_and_traced(estimator, pixels, interpreted):
    model, guide = _pair()
    weight = 1.0

    def p(x):
        pyro.module("model", model)
        model.weight = weight
        return model(x)

    def q(x):
        pyro.module("guide", guide)
        with poutine.scale(scale=weight):
            return guide(x)

    with pyro.get_param_store().scope():
        svi = SVI(p, q, pyro.optim.Adam({"lr": 1e-3}), estimator())
        torch.manual_seed(1)
        for n in range(STEPS):
            # 0 at first, a fifteenth more with each minibatch, and 1 from the sixteenth on.
            weight = min(1.0, n * BATCH / WARMUP) or 1e-30  # Pyro refuses 0
            svi.step(pixels.minibatch(BATCH))
    expected = [*model.parameters(), *guide.parameters()]
    for compile in (False, True):
        learner = AEVB(
            *_pair(),
            pixels,
            batch=BATCH,
            elbo=estimator,
            optimizer="Adam",
            step_size=1e-3,
            weight_prior=math.inf,
            kl_warmup=WARMUP,
            compile=compile,
        )
        torch.manual_seed(1)
        for _ in range(STEPS):
            learner.step()
        assert learner.update.compiles is compile
        assert learner.warmup_of_kl.seen == STEPS * BATCH
        for a, b in zip([*learner.model.parameters(), *learner.guide.parameters()], expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def _loss(learner):
    """The loss of the next step, without one."""
    torch.manual_seed(1)
    return learner.update.loss(learner.data.values)[1]


@pytest.mark.parametrize("algorithm", [AEVB, FullVB])
def test_the_weight_rises_in_a_line_to_that_of_the_bound(algorithm, pixels):
    torch.manual_seed(0)
    guide = GaussianGuide(12, 2, hidden=7)
    torch.nn.init.constant_(guide.mean.bias, 3.0)  # a KL of 9 nats
    learner = algorithm(BernoulliModel(12, 2, hidden=7), guide, pixels, batch=20, kl_warmup=100)
    # The loss is linear in the weight: with those of 0 and 1, that of 40 evaluations of 100 is known.
    losses = []
    for seen in (0, 40, 100, 1000):
        learner.warmup_of_kl.seen.fill_(seen)
        losses.append(_loss(learner).item())
    none, some, whole, late = losses
    # log q - log p = 9 + 3 (e_1 + e_2) with e from N(0, 1): of a mean of 20, an error of 3 sqrt(2 / 20) = 1.
    assert whole == pytest.approx(none + 9, abs=4)
    assert some == pytest.approx(none + 0.4 * (whole - none), rel=1e-5)
    assert late == whole
    assert learner.warmup_of_kl.seen == 1020


def test_the_importance_weighted_objective_has_weights_as_well(pixels):
    torch.manual_seed(0)
    pair = BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    learner = AEVB(*pair, pixels, batch=20, objective="iwae", particles=3, kl_warmup=100)
    # Without weights on what is drawn, the loss is that of the mean over draws of p(x|z).
    torch.manual_seed(1)
    x = pixels.minibatch(20)
    with pyro.plate("particles", 3, dim=-2):
        q = poutine.trace(pair[1]).get_trace(x)
    z = q.nodes["z"]["value"]
    expected = -(pair[0].likelihood(z).log_prob(x).double().logsumexp(0) - math.log(3)).mean()
    assert _loss(learner).item() == pytest.approx(expected.item(), rel=1e-5)
