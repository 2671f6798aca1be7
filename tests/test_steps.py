"""`pyro_vae.step()` in a model, against Pyro's loop with a number that is counted by hand."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import nn

import pyro_vae
from pyro_vae.checks import weighted_terms
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.full_vb import FullVB
from pyro_vae.inference.mcem import MCEM
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.marginal import bound
from pyro_vae.steps import BEYOND, at_step

STEPS, BATCH = 20, 20


class _Annealed(nn.Module):
    """A weight of the prior and a temperature of the likelihood that both change over the first fifteen steps."""

    def __init__(self, number=pyro_vae.step):
        super().__init__()
        self.decoder = nn.Linear(2, 12)
        self.number = number

    def forward(self, x=None, size=None):
        share = (self.number() / 15).clamp(max=1)
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            with poutine.scale(scale=share):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = self.decoder(z) / (2 - share)
            return pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(1), obs=x)


@pytest.fixture
def interpreted(monkeypatch):
    """Runs traced functions as torch records them: what the compiler makes of the record is tested with `Traced`."""
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)


def _pair(**named):
    torch.manual_seed(0)
    return _Annealed(**named), GaussianGuide(12, 2, hidden=7)


def _learner(pixels, algorithm=AEVB, compile=True, **named):
    return algorithm(*_pair(), pixels, batch=BATCH, optimizer="Adam", step_size=1e-2,
                     compile=compile, **named)  # fmt: skip


def _go(learner, steps):
    for _ in range(steps):
        learner.step()


def _weights(learner):
    return [p.detach().clone() for part in (learner.model, learner.guide) for p in part.parameters()]


def _assert_same(found, expected, **bounds):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **bounds)


@pytest.mark.parametrize("compile", [False, True])
def test_it_counts_as_a_loop_by_hand(compile, pixels, interpreted):
    done = 0
    model, guide = _pair(number=lambda: torch.tensor(done))

    def p(x):
        pyro.module("model", model)
        return model(x)

    def q(x):
        pyro.module("guide", guide)
        return guide(x)

    with pyro.get_param_store().scope():
        svi = SVI(p, q, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO())
        torch.manual_seed(1)
        for done in range(1, STEPS + 1):  # noqa: B007 - the model reads it
            svi.step(pixels.minibatch(BATCH))
    learner = _learner(pixels, compile=compile, weight_prior=math.inf)
    torch.manual_seed(1)
    _go(learner, STEPS)
    assert learner.update.compiles is compile
    _assert_same(_weights(learner), [*model.parameters(), *guide.parameters()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algorithm", [AEVB, WakeSleep, FullVB])
def test_compiled_and_resumed_it_goes_on(algorithm, pixels, interpreted):
    plain, learner = _learner(pixels, algorithm, compile=False), _learner(pixels, algorithm)
    torch.manual_seed(1)
    _go(plain, 10)
    torch.manual_seed(1)
    _go(learner, 5)
    state = copy.deepcopy([part.state_dict() for part in (learner.model, learner.guide, learner)])
    _go(learner, 5)
    assert learner.steps.done == 10
    _assert_same(_weights(learner), _weights(plain), rtol=1e-3, atol=1e-5)

    def resumed():
        again = _learner(pixels, algorithm)
        for part, held in zip((again.model, again.guide, again), copy.deepcopy(state), strict=True):
            part.load_state_dict(held)
        _go(again, 5)
        return _weights(again)

    assert all(map(torch.equal, resumed(), _weights(learner)))
    state[-1]["steps"]["done"].fill_(100)
    assert not any(map(torch.equal, resumed()[:1], _weights(learner)))  # the number is part of what goes on


def test_elsewhere_what_is_annealed_is_at_its_end(pixels):
    assert pyro_vae.step() == BEYOND
    model, guide = _pair()
    ended = _Annealed(number=lambda: torch.tensor(15))
    ended.load_state_dict(model.state_dict())
    assert bound(model, guide, pixels, 10).mean == bound(ended, guide, pixels, 10).mean
    with at_step(torch.tensor(3)):
        assert pyro_vae.step() == 3
    assert pyro_vae.step() == BEYOND


def test_what_is_annealed_is_told_as_weighted(pixels):
    assert weighted_terms(*_pair(), pixels.first(2)) == ["z"]


def test_mcem_refuses_it(pixels):
    with pytest.raises(InputError, match=r"mcem has no pyro_vae.step\(\)"):
        MCEM(_Annealed(), None, pixels)
