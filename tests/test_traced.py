"""Compiled functions against plain ones: the same numbers, no reads from the device, and a way out."""

import logging
import math
import os
import random
import subprocess
import sys
from collections import Counter

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule
from torch import nn

from pyro_vae import traced
from pyro_vae.compiler import recorded
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.ais import AIS
from pyro_vae.inference.importance import Importance
from pyro_vae.inference.mcem import MCEM
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.marginal import bound
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.models.gaussian import GaussianModel
from pyro_vae.split import Split
from pyro_vae.traced import Traced, worth_compiling


@pytest.fixture
def log(caplog):
    """The lines that the engine logs."""
    caplog.set_level(logging.WARNING, logger="pyro_vae")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "pyro_vae"]


LEARNERS = {
    "aevb, A": (AEVB, BernoulliModel, {}),
    "aevb, B": (AEVB, GaussianModel, {"kl": "analytic", "particles": 2}),
    "aevb, iwae": (AEVB, BernoulliModel, {"objective": "iwae", "particles": 3}),
    "aevb, adam": (AEVB, BernoulliModel, {"optimizer": "adam", "step_size": 1e-3}),
    "wake_sleep": (WakeSleep, BernoulliModel, {}),
    "wake_sleep, reweighted": (WakeSleep, BernoulliModel, {"particles": 3, "insomnia": 0.5}),
    "mcem": (MCEM, BernoulliModel, {}),
}


def _learner(name, pixels, compile):
    algorithm, model, settings = LEARNERS[name]
    torch.manual_seed(0)
    pair = model(12, 2, hidden=7), None if algorithm is MCEM else GaussianGuide(12, 2, hidden=7)
    if algorithm is not MCEM:
        settings = {"batch": 20, **settings}
    return algorithm(*pair, pixels, compile=compile, **settings)


@pytest.mark.parametrize("name", LEARNERS)
def test_150_compiled_steps_are_the_plain_ones(name, pixels, log):
    # 101 of them are the optimiser's warm-up (10 for MCEM). float32 sums in another order differ by 1e-7, relatively,
    # and learning lets that grow.
    steps = 20 if name == "mcem" else 150
    ends = []
    for compile in (False, True):
        learner = _learner(name, pixels, compile)
        torch.manual_seed(1)
        for _ in range(steps):
            learner.step()
        ends.append((learner, torch.get_rng_state()))
    (plain, state), (compiled, same) = ends
    assert log() == []
    assert torch.equal(state, same)  # the same draws
    torch.testing.assert_close(compiled.loss, plain.loss, rtol=1e-3, atol=1e-3)
    for part in ("model", "guide"):
        if (module := getattr(plain, part)) is not None:
            moved = zip(module.parameters(), getattr(compiled, part).parameters(), strict=True)
            for p, q in moved:
                torch.testing.assert_close(q, p, rtol=1e-3, atol=1e-4)


def _counted(reads, method):
    old = getattr(torch.Tensor, method)

    def counted(self, *args):
        reads[method] += 1
        return old(self, *args)

    return counted


@pytest.mark.parametrize(
    ("name", "compile"),
    # Plain, AEVB is `SVI.step`, which returns its loss as a number.
    [("aevb, A", True), ("aevb, adam", True), *((n, c) for n in ("wake_sleep", "mcem") for c in (False, True))],
)
def test_a_step_reads_nothing_from_the_device(name, compile, pixels, monkeypatch):
    learner = _learner(name, pixels, compile)
    for _ in range(12):  # past the 10th, which is held against the plain one
        learner.step()
    reads = Counter()
    for method in ("item", "__bool__", "tolist", "__float__", "__int__", "numpy", "cpu"):
        monkeypatch.setattr(torch.Tensor, method, _counted(reads, method))
    for _ in range(3):
        learner.step()
    assert reads == Counter()
    assert bool(learner.loss.isfinite())
    assert reads == Counter({"__bool__": 1})  # the patch counts


def test_each_shape_is_compiled_once(monkeypatch):
    compilations = []
    monkeypatch.setattr(traced, "recorded", lambda *a: compilations.append(1) or recorded(*a))
    double = Traced(lambda x, factor: (x * factor,), compile=True)
    for rows in (3, 4, 3, 3, 4, 4, 3):
        assert torch.equal(double(torch.ones(rows), 2)[0], torch.full((rows,), 2.0))
    assert len(compilations) == 2
    assert torch.equal(double(torch.ones(3), 3)[0], torch.full((3,), 3.0))  # another number is another function
    assert len(compilations) == 3


class _Decoder(PyroModule):
    """A model whose likelihood is given by a function of (self, z)."""

    def __init__(self, decode):
        super().__init__("model")
        self.decode = decode
        self.linear, self.norm = nn.Linear(2, 12), nn.BatchNorm1d(12)

    def forward(self, x=None, size=None):
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            logits = self.decode(self, z)
            return pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(1), obs=x)


def _branching(self, z):
    return self.linear(z if self.linear.weight.sum() > 0 else -z)


def _capricious(self, z):
    return self.linear(z) + random.random()


@pytest.mark.parametrize("decode", [_branching, _capricious])
def test_what_cannot_be_traced_runs_uncompiled_with_a_line_of_log(decode, pixels, log):
    ends = []
    for compile in (False, True):
        torch.manual_seed(0)
        random.seed(0)
        model, guide = _Decoder(decode), GaussianGuide(12, 2, hidden=7)
        learner = AEVB(model, guide, pixels, batch=20, optimizer="sgd", step_size=1e-3, compile=compile)
        for _ in range(3):
            learner.step()
        ends.append((learner, torch.get_rng_state()))
    (line,) = log()
    assert "runs uncompiled: " in line
    assert "\n" not in line
    (plain, state), (other, same) = ends
    assert torch.equal(state, same)
    if decode is _branching:
        for p, q in zip(plain.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(p, q)


def test_without_a_compiler_it_runs_uncompiled(pixels, log):
    from torch._inductor import config

    learner = _learner("aevb, A", pixels, compile=True)
    with config.patch({"cpp.cxx": (None, "/no/compiler/here"), "fx_graph_cache": False}):
        for _ in range(3):
            learner.step()
    (line,) = log()
    assert "runs uncompiled: " in line
    assert learner.update.optimizer.group["steps"] == 3


def test_batch_norm_keeps_its_running_statistics(pixels, log):
    statistics = []
    for compile in (False, True):
        torch.manual_seed(0)
        model = _Decoder(lambda self, z: self.norm(self.linear(z).reshape(-1, 12)).reshape(*z.shape[:-1], 12))
        learner = AEVB(model, GaussianGuide(12, 2, hidden=7), pixels, batch=20, compile=compile)
        for _ in range(6):
            learner.step()
        statistics.append([model.norm.running_mean, model.norm.running_var, model.norm.num_batches_tracked.float()])
    assert log() == []
    torch.testing.assert_close(statistics[1], statistics[0])
    assert statistics[1][2] == 6


@pytest.mark.filterwarnings("ignore:.*was not registered in the param store")  # Pyro's, about its own store
def test_frozen_parameters_stay(pixels):
    learner = _learner("aevb, A", pixels, compile=True)
    frozen = learner.model.decoder[0][0].weight.requires_grad_(False)
    torch.manual_seed(0)
    learner = AEVB(learner.model, learner.guide, pixels, batch=20, optimizer="adam", compile=True)
    before = [p.detach().clone() for p in learner.model.parameters()]
    for _ in range(4):
        learner.step()
    moved = [not torch.equal(p, q) for p, q in zip(before, learner.model.parameters(), strict=True)]
    assert moved == [p is not frozen for p in learner.model.parameters()]


@pytest.mark.parametrize("estimator", [lambda c: Importance(50, compile=c), lambda c: AIS(20, 2, compile=c)])
def test_estimators_compiled_give_the_plain_numbers(estimator, oracle, log):
    results = []
    for compile in (False, True):
        torch.manual_seed(0)
        results.append(estimator(compile).estimate(oracle.model, oracle.guide, oracle.split))
    assert log() == []
    torch.testing.assert_close(results[1].log_px, results[0].log_px, rtol=1e-4, atol=1e-4)


def test_the_bound_compiled_is_the_plain_one(pixels):
    model, guide = BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)
    many = Split(pixels.values.repeat(1000, 1), pixels.divisor)  # four chunks, three of one shape
    plain, compiled = (bound(model, guide, many, compile=compile) for compile in (False, True))
    assert compiled.mean == pytest.approx(plain.mean, rel=1e-5)
    assert math.isnan(compiled.se)


@pytest.mark.parametrize(
    ("choice", "budget", "expected"),
    [("on", 1, True), ("off", 10**9, False), ("auto", 2e5, False), ("auto", 1e6, True)],
)
def test_auto_decides_by_the_budget(choice, budget, expected):
    assert worth_compiling(choice, budget) is expected


def test_a_module_of_two_owners_keeps_its_tensors():
    # torch's functional_call leaves the tensors of the call in a module that it comes by twice.
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2)
            self.second = self.first

        def forward(self, x):
            return self.second(self.first(x))

    module = Twice()
    own = module.first.weight
    function = Traced(lambda x: (module(x).detach(),), module, compile=True)
    assert function.can_be_traced(torch.ones(1, 2))
    assert module.first.weight is own


def _compiled(function, *inputs):
    """What a compiled function makes of tensors, which must be right at its first call for it to stay compiled."""
    traced = Traced(lambda *inputs: tuple(y.detach() for y in function(*inputs)), compile=True)
    outputs = traced(*inputs)
    assert traced.settled
    return outputs


def _log_sigmoids(x, wide):
    y = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.logsigmoid(y).sum(), y)
    entropy = nn.functional.binary_cross_entropy_with_logits(wide, wide.sigmoid(), reduction="none")
    return nn.functional.logsigmoid(x), slope, entropy


def test_the_log_of_a_sigmoid_is_right_to_the_last_bits():
    # From -100, where it is its argument, to 87, where it is -exp(-87), near the least normal number: exp, a quotient,
    # products and a series err by half a unit in the last place each, or one: together by less than four, 2^-21.
    x = torch.cat([torch.linspace(-100, 87, 20_001), torch.tensor([-math.inf, math.inf])])
    wide = torch.linspace(-40, 40, 1_001, dtype=torch.float64)
    found, slope, entropy = _compiled(_log_sigmoids, x, wide)
    exact = nn.functional.logsigmoid(x.double())
    torch.testing.assert_close(found[:-2].double(), exact[:-2], rtol=2.0**-21, atol=0)
    assert found[-2:].tolist() == [-math.inf, 0]
    torch.testing.assert_close(slope, torch.sigmoid(-x.double()).float(), rtol=1e-6, atol=1e-30)
    # In double precision: -p log p - (1 - p) log(1 - p), made of terms of 40 at most, which err by 2^-53 or twice that.
    p = wide.sigmoid()
    expected = -p * nn.functional.logsigmoid(wide) - (1 - p) * nn.functional.logsigmoid(-wide)
    torch.testing.assert_close(entropy, expected, rtol=1e-12, atol=4e-14)


def _doubled_through_a_view(y):
    seen = y.expand(1, 2)
    y.mul_(2)
    return seen[0]


def _log_after_a_change(x):
    y = x.exp()
    x += 5
    return y.log()


def test_the_log_of_a_scale_is_what_a_network_gave_and_other_logs_stay():
    def logs(x, zero, whole):
        return (
            x.exp().log(),
            x.exp().expand(2, 3).log(),
            whole.exp().log(),  # in floating point
            (zero.exp() + 1).log(),
            zero.exp().mul_(2).log(),  # it changes in between, in its place
            _doubled_through_a_view(zero.exp()).log(),
            _log_after_a_change(zero.clone()),  # what it came from changes
        )

    # exp(100) is infinite and exp(-200) is 0 in float32: their logs would be infinite.
    x = torch.tensor([100.0, -200.0, 1.0])
    plain, expanded, whole, *others = _compiled(logs, x, torch.zeros(2), torch.tensor([1, 2]))
    assert torch.equal(plain, x)
    assert torch.equal(expanded, x.expand(2, 3))
    torch.testing.assert_close(whole, torch.tensor([1.0, 2.0]))
    for found, expected in zip(others, (math.log(2), math.log(2), math.log(2), 0.0), strict=True):
        torch.testing.assert_close(found, torch.full((2,), expected))


_ON_A_PROCESSOR = """
import torch
from tests.test_traced import _compiled

_compiled(lambda x: (x.exp().sum(1),), torch.linspace(-3, 3, 4_000).view(100, 40))
print(torch.backends.cpu.get_cpu_capability())
"""


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="no vectors to do without")
def test_processors_that_differ_may_share_a_cache_of_compiled_code():
    found = []
    for beside in ({}, {"ATEN_CPU_CAPABILITY": "default"}):  # torch's own switch, as if there were no vectors
        command = [sys.executable, "-c", _ON_A_PROCESSOR]
        run = subprocess.run(command, env={**os.environ, **beside}, capture_output=True, text=True, check=True)
        found.append(run.stdout.strip())
    assert found == [torch.backends.cpu.get_cpu_capability(), "DEFAULT"]
