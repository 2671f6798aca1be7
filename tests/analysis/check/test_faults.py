"""Parts with one fault each, as people make them, and the check that names each.

Every fault is a sound part with a few of its lines changed.
"""

from pathlib import Path

import pytest

from pyro_vae.analysis.check.check import check

IMPORTS = """
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro_vae.models.base import Model
from pyro_vae.guides.base import Guide
from pyro_vae.inference.base import MinibatchLearner
from pyro_vae.update import Update
from pyro.infer import Trace_ELBO
from torch import nn
from torch.distributions import constraints
"""

SOUND = {
    "model": """
class Own(Model):
    def __init__(self, features, latent, prior=None):
        super().__init__(latent, prior)
        self.decoder = nn.Sequential(nn.Linear(latent, 8), nn.Tanh(), nn.Linear(8, features))
        self.log_scale = nn.Parameter(torch.zeros(features))

    def likelihood(self, z):
        mean, scale = self.decoder(z), self.log_scale.exp()
        return dist.Normal(mean, scale).to_event(1)
""",
    "program": """
class Own(nn.Module):
    def __init__(self, features, latent):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(latent, features), nn.Linear(features, latent)
        self.latent = latent

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1))
            loc = self.decoder(z)
            pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.encoder(x), 0.5).to_event(1))
""",
    "prior": """
class Own(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent))
        self.log_scale = nn.Parameter(torch.zeros(latent))

    def forward(self):
        return dist.Normal(self.loc, self.log_scale.exp()).to_event(1)
""",
    "guide": """
class Own(Guide):
    def __init__(self, features, latent):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(features, 8), nn.Tanh())
        self.mean, self.log_scale = nn.Linear(8, latent), nn.Linear(8, latent)

    def posterior(self, x):
        h = self.hidden(x)
        return dist.Normal(self.mean(h), self.log_scale(h).exp()).to_event(1)
""",
    "inference": """
class Own(MinibatchLearner):
    def __init__(self, model, guide, data, *, batch=100, step_size=0.02, compile=False):
        self.model, self.guide, self.data, self.batch = model, guide, data, batch
        self.elbo, self.loss, self.taken = Trace_ELBO(max_plate_nesting=1), torch.zeros(()), 0
        self.update = Update(
            self._loss, (model, guide), (model, guide), optimizer="adam", step_size=step_size,
            share=batch / data.total, weight_prior=1.0, compile=compile,
        )

    def _loss(self, values):
        x = self.data.minibatch(self.batch, values)
        loss = self.elbo.differentiable_loss(self.model, self.guide, x)
        return loss, loss.detach() / self.batch
""",
}

_NORMAL = "return dist.Normal(mean, scale).to_event(1)"
_OWN_NORMAL = """
class Mine(dist.Normal):
    {}
"""


def _mine(method: str) -> str:
    return _OWN_NORMAL.format(method)


# name: (kind, what is put before the class, {what is replaced: by what}, the check, a word of what it says)
FAULTS: dict[str, tuple[str, str, dict[str, str], str, str]] = {
    "a support without its draws": (
        "model",
        _mine("support = constraints.positive"),
        {_NORMAL: "return Mine(mean, scale, validate_args=False).to_event(1)"},
        "support",
        "allows numbers above 0, and the model itself draws -",
    ),
    "a support that is too wide": (
        "model",
        _mine(
            "def log_prob(self, value):\n"
            "        return (value / self.scale).log() - 2 * self.scale.log() + dist.Normal(0, 1).log_prob(value)\n"
            "    def rsample(self, sample_shape=()):\n"
            "        return super().rsample(sample_shape).abs()"
        ),
        {_NORMAL: "return Mine(mean, scale).to_event(1)"},
        "integrates to 1",
        "is not a number at -",
    ),
    "a density without its normaliser": (
        "model",
        _mine("def log_prob(self, value):\n        return -0.5 * ((value - self.loc) / self.scale) ** 2"),
        {_NORMAL: "return Mine(mean, scale).to_event(1)"},
        "integrates to 1",
        "adds up to 2.",
    ),
    "a density that ignores the scale": (
        "model",
        _mine("def log_prob(self, value):\n        return dist.Normal(self.loc, 1.0).log_prob(value)"),
        {_NORMAL: "return Mine(mean, 3 * scale).to_event(1)"},
        "draws",
        "its draws are not those of its density",
    ),
    "draws of another prior": (
        "prior",
        "",
        {
            "return dist.Normal(self.loc, self.log_scale.exp()).to_event(1)": (
                "d = dist.Normal(self.loc, self.log_scale.exp())\n"
                "        d.rsample = lambda shape=(): self.loc + 2 * torch.randn(*shape, *self.loc.shape)\n"
                "        d.sample = d.rsample\n"
                "        return Shifted(self.loc, self.log_scale.exp()).to_event(1)"
            ),
            "class Own": (
                "class Shifted(dist.Normal):\n"
                "    def rsample(self, sample_shape=torch.Size()):\n"
                "        return super().rsample(sample_shape) + 1.0\n"
                "    def sample(self, sample_shape=torch.Size()):\n"
                "        return super().sample(sample_shape) + 1.0\n\n\nclass Own"
            ),
        },
        "draws",
        "its draws are not those of its density",
    ),
    "a density that draws": (
        "model",
        _mine("def log_prob(self, value):\n        return super().log_prob(value) + torch.randn(())"),
        {_NORMAL: "return Mine(mean, scale).to_event(1)"},
        "repeatable",
        "when it is asked again",
    ),
    "a detached decoder": (
        "model",
        "",
        {"self.decoder(z)": "self.decoder(z).detach()"},
        "gradients",
        "no gradient reaches",
    ),
    "a parameter that is not used": (
        "guide",
        "",
        {"self.mean(h)": "nn.functional.linear(h, self.mean.weight)"},
        "gradients",
        "mean.bias",
    ),
    "a scale that is no parameter": (
        "model",
        "",
        {
            "self.log_scale = nn.Parameter(torch.zeros(features))": (
                "self.log_scale = torch.zeros(features, requires_grad=True)"
            )
        },
        "saved",
        "Own.log_scale wants a gradient and is no parameter",
    ),
    "nets in a plain list": (
        "model",
        "",
        {
            "self.decoder = nn.Sequential(nn.Linear(latent, 8), nn.Tanh(), nn.Linear(8, features))": (
                "self.nets = [nn.Linear(latent, features)]"
            ),
            "self.decoder(z)": "self.nets[0](z)",
        },
        "saved",
        "Own.nets wants a gradient",
    ),
    "a random matrix that is not saved": (
        "model",
        "",
        {
            "super().__init__(latent, prior)": (
                "super().__init__(latent, prior)\n        self.mix = torch.randn(latent, latent)"
            ),
            "self.decoder(z)": "self.decoder(z @ self.mix)",
        },
        "saved",
        "after it is loaded",
    ),
    "a counter that weighs the density": (
        "model",
        "",
        {
            "super().__init__(latent, prior)": "super().__init__(latent, prior)\n        self.calls = 0",
            "mean, scale =": "self.calls += 1\n        mean, scale =",
            "self.log_scale.exp()": "self.log_scale.exp() * (1 + 1e-7 * self.calls)",
        },
        "calls",
        "Own.calls changes from call to call",
    ),
    "a state that many share": (
        "model",
        "SEEN = []\n",
        {"mean, scale =": "SEEN.append(len(z))\n        mean, scale ="},
        "calls",
        "SEEN",
    ),
    "a value that is kept for the next call": (
        "guide",
        "",
        {
            "super().__init__()": "super().__init__()\n        self.last = None",
            "h = self.hidden(x)": (
                "h = self.hidden(x)\n        old, self.last = self.last, h.mean().item()\n"
                "        h = h if old is None else h + 0.1 * old"
            ),
        },
        "calls",
        "Own.last",
    ),
    "numpy in the decoder": (
        "model",
        "",
        {"self.decoder(z)": "self.decoder(torch.as_tensor(np.tanh(z.detach().numpy())))"},
        "compiled",
        "uncompiled",
    ),
    "a branch on the data": (
        "guide",
        "",
        {"h = self.hidden(x)": "h = self.hidden(x) if x.sum() > -1e9 else self.hidden(-x)"},
        "compiled",
        "uncompiled",
    ),
    "softmax over the datapoints": (
        "guide",
        "",
        {"h = self.hidden(x)": "h = self.hidden(x).softmax(0)"},
        "batch sizes",
        "among 101",
    ),
    "a mean over the minibatch": (
        "program",
        "",
        {"loc = self.decoder(z)": "loc = self.decoder(z - z.mean(-2, keepdim=True))"},
        "batch sizes",
        "among 101",
    ),
    "a shape of the first minibatch": (
        "guide",
        "",
        {
            "super().__init__()": "super().__init__()\n        self.noise = None",
            "h = self.hidden(x)": (
                "self.noise = torch.zeros(len(x), 8) if self.noise is None else self.noise\n"
                "        h = self.hidden(x) + self.noise"
            ),
        },
        "batch sizes",
        "does not run on 101 datapoints",
    ),
    "cells that are no event": (
        "model",
        "",
        {_NORMAL: "return dist.Normal(mean, scale)"},
        "shapes",
        "to_event(1)",
    ),
    "a prior whose variables are no event": (
        "prior",
        "",
        {".to_event(1)": ""},
        "builds",
        "event of shape (2,)",
    ),
    "too few cells": (
        "model",
        "",
        {_NORMAL: "return dist.Normal(mean[..., 1:], scale[1:]).to_event(1)"},
        "shapes",
        "event shape (11,)",
    ),
    "particles folded into datapoints": (
        "program",
        "",
        {"loc = self.decoder(z)": "loc = self.decoder(z.reshape(-1, self.latent))"},
        "leading dimensions",
        "leading dimensions",
    ),
    "a guide without a site": (
        "program",
        "",
        {'z = pyro.sample("z", dist.Normal(self.encoder(x)': 'z = pyro.sample("w", dist.Normal(self.encoder(x)'},
        "shapes",
        "does not sample site 'z'",
    ),
    "a guide with a site too many": (
        "program",
        "",
        {
            'z = pyro.sample("z", dist.Normal(self.encoder(x), 0.5).to_event(1))': (
                'z = pyro.sample("z", dist.Normal(self.encoder(x), 0.5).to_event(1))\n'
                '            pyro.sample("w", dist.Normal(z, 1.0).to_event(1))'
            )
        },
        "shapes",
        "samples site 'w'",
    ),
    "the data observed twice": (
        "program",
        "",
        {
            'pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)': (
                'pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=x)\n'
                '            pyro.sample("again", dist.Normal(loc, 0.5).to_event(1), obs=x)'
            )
        },
        "shapes",
        "observes the data twice",
    ),
    "latent variables that look at the data": (
        "program",
        "",
        {"dist.Normal(x.new_zeros(self.latent), 1.0)": "dist.Normal(x[..., : self.latent], 1.0)"},
        "generation",
        "from the data",
    ),
    "noise that is no site": (
        "program",
        "",
        {"loc = self.decoder(z)": "loc = self.decoder(z) + torch.randn(())"},
        "repeatable",
        "when it is asked again",
    ),
    "a density of nothing": (
        "model",
        "",
        {_NORMAL: "return dist.Normal(mean, (scale - 1).abs() + 0 * mean, validate_args=False).to_event(1)"},
        "finite bound",
        "is not finite",
    ),
    "a seed in the forward": (
        "guide",
        "",
        {"h = self.hidden(x)": "torch.manual_seed(0)\n        h = self.hidden(x)"},
        "calls",
        "sets the seed",
    ),
    "an algorithm that counts steps": (
        "inference",
        "",
        {
            "    def _loss": "    def step(self):\n        super().step()\n        return 1\n\n    def _loss",
        },
        "counts",
        "datapoint evaluations",
    ),
    "an algorithm whose counter is not saved": (
        "inference",
        "",
        {
            "    def _loss": (
                "    def step(self):\n        self.taken += 1\n        self.data.read(self.data.values[:1])\n"
                "        for _ in range(self.taken % 3):\n            torch.randn(1)\n"
                "        return super().step()\n\n    def _loss"
            ),
        },
        "resumes",
        "lead elsewhere",
    ),
    "an algorithm that climbs": (
        "inference",
        "",
        {"return loss, loss.detach()": "return -loss, loss.detach()"},
        "learns",
        "samples",
    ),
    "an algorithm that leaves the guide out": (
        "inference",
        "",
        {"(model, guide), (model, guide)": "(model, guide), (model,)"},
        "learns",
        "has not moved",
    ),
    "a loss that keeps its graph": (
        "inference",
        "",
        {"return loss, loss.detach() / self.batch": "return loss, loss / self.batch"},
        "steps",
        "with its graph",
    ),
}


def written(kind, before="", changes=None):
    """Writes a part of a kind, with changes."""
    code = SOUND[kind]
    for old, new in (changes or {}).items():
        assert old in code
        code = code.replace(old, new)
    Path("own.py").write_text(IMPORTS + before + code, encoding="utf-8")
    return "own.py:Own"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_by_its_check(name):
    kind, before, changes, expected, word = FAULTS[name]
    report = check(written(kind, before, changes), only=[expected], shape=(3, 4))
    found = {each.check: each for each in report.verdicts}[expected]
    assert found.verdict == "fails", found
    assert word in f"{found.finding}: {found.mend}"
    assert report.failed == [expected]


@pytest.mark.parametrize("kind", SOUND)
def test_the_same_part_without_a_fault_passes(kind):
    skip = ("compiled", "calibration") if kind in ("prior", "guide") else ()  # those of the others stand for them
    report = check(written(kind), shape=(12,), skip=skip)
    assert not report.failed, report.verdicts
    assert {each.check for each in report.verdicts if each.verdict == "skipped"} <= {*skip}


def test_what_follows_from_a_fault_is_not_told_as_another():
    kind, before, changes, expected, _ = FAULTS["a mean over the minibatch"]
    report = check(written(kind, before, changes), shape=(12,))
    assert report.failed == [expected]
    found = {each.check: each for each in report.verdicts}
    assert found["compiled"][1:3] == ("skipped", "mend batch sizes first")
    kind, before, changes, *_ = FAULTS["cells that are no event"]
    report = check(written(kind, before, changes), shape=(12,))
    assert report.failed == ["shapes"]
    assert {each.verdict for each in report.verdicts[3:]} == {"skipped"}


def test_batch_norm_is_said(folder):
    changes = {"nn.Linear(features, 8), nn.Tanh()": "nn.Linear(features, 8), Rows()"}
    rows = (
        "class Rows(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.norm = nn.BatchNorm1d(8)\n    def forward(self, h):\n"
        "        return self.norm(h.reshape(-1, 8)).reshape(h.shape)\n"
    )
    report = check(written("guide", rows, changes), only=["batch sizes"], shape=(12,))
    assert "while it trains, BatchNorm1d mixes the rows of a minibatch" in report.verdicts[-1].finding
    assert not report.failed


def test_a_bias_before_batch_norm_is_no_fault_of_the_compiler():
    # Its gradient is rounding errors, of which Adam makes whole steps: it differs, and nothing that depends on it.
    norm = {
        "nn.Linear(latent, 8), nn.Tanh()": "nn.Linear(latent, 8), nn.BatchNorm1d(8), nn.Tanh()",
    }
    report = check(written("model", "", norm), only=["compiled", "batch sizes"], shape=(12,))
    assert not report.failed, report.verdicts


def test_a_point_is_judged_as_far_as_it_has_a_density():
    point = {"dist.Normal(self.mean(h), self.log_scale(h).exp())": "dist.Delta(self.mean(h) + self.log_scale(h))"}
    report = check(written("guide", "", point), skip=["compiled"], shape=(12,))
    assert not report.failed, report.verdicts
    skipped = {each.check: each.finding for each in report.verdicts if each.verdict == "skipped"}
    assert "a point has no density" in skipped["integrates to 1"]


def test_a_factor_is_no_fault_of_calibration():
    weighed = {
        "loc = self.decoder(z)": "pyro.factor('weight', -2 * z.square().sum(-1))\n            loc = self.decoder(z)"
    }
    report = check(written("program", "", weighed), only=["calibration"], shape=(12,))
    assert report.verdicts[-1].verdict == "skipped"
    assert "site 'weight' is a pyro.factor" in report.verdicts[-1].finding
