"""A quantity that changes by step, plain and compiled for 300 steps: the same numbers, or one warning that names it."""

import functools
import itertools
import logging
import os
import random
from collections import deque
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_vae import traced
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.mcem import MCEM
from pyro_vae.run import parts
from pyro_vae.split import Split

STEPS, FEW = 300, 40


@pytest.fixture
def interpreted(monkeypatch):
    """Runs traced functions as torch records them: what the compiler makes of the record is tested with `Traced`."""
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)


@pytest.fixture
def log(caplog):
    """The lines that the engine logs."""
    caplog.set_level(logging.WARNING, logger="pyro_vae")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "pyro_vae"]


def risen(step):
    """A weight that rises from 0.1 on."""
    return 0.1 + step / 70


def late(step):
    """A weight that changes once, and late enough that two checks have been passed: from 1 to 4."""
    return 4.0 if step > 25 else 1.0


class Linear(nn.Module):
    """z ~ N(0, I) with a weight on its term, x ~ N(W z, 1)."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Linear(2, 4)

    rise = staticmethod(risen)

    def weight(self):
        return 1.0

    def forward(self, x=None, size=None):
        weight = self.weight()
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            with poutine.scale(scale=weight):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.loc(z), 1.0).to_event(1), obs=x)


class Guide(nn.Module):
    def __init__(self):
        super().__init__()
        self.loc = nn.Linear(4, 2)
        self.log_scale = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(self.loc(x), self.log_scale.exp()).to_event(1))


# --- Models that count their steps, each in its own place -------------------------------------------------------------


class Attribute(Linear):
    step = 0

    def weight(self):
        self.step += 1
        return self.rise(self.step)


class Nested(Linear):
    def __init__(self):
        super().__init__()
        self.schedule = Schedule()

    def weight(self):
        return self.rise(self.schedule.next())


class Schedule:
    def __init__(self):
        self.step = 0

    def next(self):
        self.step += 1
        return self.step


class Slotted:
    __slots__ = ("step",)

    def __init__(self):
        self.step = 0

    def next(self):
        self.step += 1
        return self.step


class InSlots(Nested):
    def __init__(self):
        super().__init__()
        self.schedule = Slotted()


class InNamespace(Linear):
    def __init__(self):
        super().__init__()
        self.state = SimpleNamespace(step=0)

    def weight(self):
        self.state.step += 1
        return self.rise(self.state.step)


class InList(Linear):
    def __init__(self):
        super().__init__()
        self.state = [0]

    def weight(self):
        self.state[0] += 1
        return self.rise(self.state[0])


class Taken(Linear):
    """Weights that are taken from the front of a list."""

    def __init__(self):
        super().__init__()
        self.weights = [self.rise(step) for step in range(1, 2 * STEPS)]

    def weight(self):
        return self.weights.pop(0)


class InDeque(Taken):
    def __init__(self):
        super().__init__()
        self.weights = deque(self.weights)

    def weight(self):
        return self.weights.popleft()


class InTuple(Linear):
    def __init__(self):
        super().__init__()
        self.state = ([0], "steps")

    def weight(self):
        self.state[0][0] += 1
        return self.rise(self.state[0][0])


class OfArray(Linear):
    def __init__(self):
        super().__init__()
        self.state = np.zeros(1, dtype=np.int64)

    def weight(self):
        self.state[0] += 1
        return self.rise(int(self.state[0]))


class OfNumPy(Linear):
    def __init__(self):
        super().__init__()
        self.state = np.int64(0)

    def weight(self):
        self.state = self.state + 1
        return self.rise(int(self.state))


GLOBAL_STEP = 0
GLOBAL_STATE = {"step": 0}


class OfGlobal(Linear):
    def weight(self):
        global GLOBAL_STEP
        GLOBAL_STEP += 1
        return self.rise(GLOBAL_STEP)


def next_global():
    GLOBAL_STATE["step"] += 1
    return GLOBAL_STATE["step"]


class OfGlobalTable(Linear):
    def weight(self):
        return self.rise(next_global())


def counting(step=0):
    def count():
        nonlocal step
        step += 1
        return step

    return count


class OfClosure(Linear):
    def __init__(self):
        super().__init__()
        self.count = counting()

    def weight(self):
        return self.rise(self.count())


class OfPartial(Linear):
    def __init__(self):
        super().__init__()
        self.count = functools.partial(lambda state: state.append(1) or len(state), [])

    def weight(self):
        return self.rise(self.count())


class OfDefault(Linear):
    def weight(self, state=[0]):  # noqa: B006, as people write it
        state[0] += 1
        return self.rise(state[0])


class OfFunction(Linear):
    def weight(self):
        OfFunction.weight.steps = getattr(OfFunction.weight, "steps", 0) + 1
        return self.rise(OfFunction.weight.steps)


class OfClass(Linear):
    steps = 0

    def weight(self):
        OfClass.steps += 1
        return self.rise(OfClass.steps)


class OfBase(OfClass):
    pass


class OfIterator(Linear):
    def __init__(self):
        super().__init__()
        self.count = itertools.count(1)

    def weight(self):
        return self.rise(next(self.count))


class OfGenerator(Linear):
    def __init__(self):
        super().__init__()
        self.weights = (self.rise(step) for step in range(1, 2 * STEPS))

    def weight(self):
        return next(self.weights)


class OfListIterator(Taken):
    def __init__(self):
        super().__init__()
        self.weights = iter(self.weights)

    def weight(self):
        return next(self.weights)


class OfMap(OfListIterator):
    def __init__(self):
        super().__init__()
        self.weights = map(self.rise, range(1, 2 * STEPS))


class OfHiddenModule(Linear):
    """A module in a list, which torch does not know of."""

    def __init__(self):
        super().__init__()
        self.inner = [Counting()]

    def weight(self):
        return self.rise(self.inner[0]())


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = 0

    def forward(self):
        self.step += 1
        return self.step


class OfTensor(Linear):
    """A tensor that is no buffer, written into."""

    def __init__(self):
        super().__init__()
        self.state = torch.zeros(())

    def weight(self):
        self.state += 1
        return self.tensor_rise(self.state)

    def tensor_rise(self, step):
        return 0.1 + step / 70 if self.rise is risen else 1.0 + 3.0 * (step > 25)


class OfTensorInTable(OfTensor):
    def __init__(self):
        super().__init__()
        self.state = {"step": torch.zeros(())}

    def weight(self):
        self.state["step"] += 1
        return self.tensor_rise(self.state["step"])


class ReboundTensor(OfTensor):
    def weight(self):
        self.state = self.state + 1
        return self.tensor_rise(self.state)


class ReboundBuffer(OfTensor):
    def __init__(self):
        super().__init__()
        del self.state
        self.register_buffer("state", torch.zeros(()))

    def weight(self):
        self.state = self.state + 1
        return self.tensor_rise(self.state)


class Drawing(Linear):
    def weight(self):
        return 0.5 + random.random()


class DrawingSeldom(Linear):
    """Another weight at one step in a hundred."""

    def weight(self):
        return 9.0 if np.random.rand() < 0.01 else 1.0


class DrawingItsOwn(Linear):
    def __init__(self):
        super().__init__()
        self.random = random.Random(0)

    def weight(self):
        return 9.0 if self.random.random() < 0.01 else 1.0


WARNED = {
    Attribute: "Attribute.step",
    Nested: "Nested.schedule.step",
    InSlots: "InSlots.schedule.step",
    InNamespace: "InNamespace.state.step",
    InList: "InList.state.0",
    Taken: "Taken.weights",
    InDeque: "InDeque.weights",
    InTuple: "InTuple.state.0.0",
    OfArray: "OfArray.state",
    OfNumPy: "OfNumPy.state",
    OfGlobal: "test_what_changes.GLOBAL_STEP",
    OfGlobalTable: "test_what_changes.GLOBAL_STATE.step",
    OfClosure: "OfClosure.count.step",
    OfPartial: "OfPartial.count.args.0",
    OfDefault: "OfDefault.weight.0.0",
    OfFunction: "OfFunction.weight.steps",
    OfClass: "OfClass.steps",
    OfBase: "OfClass.steps",
    OfIterator: "OfIterator.count",
    OfGenerator: "OfGenerator.weights",
    OfListIterator: "OfListIterator.weights",
    OfMap: "OfMap.weights",
    OfHiddenModule: "OfHiddenModule.inner.0.step",
    OfTensor: "OfTensor.state",
    OfTensorInTable: "OfTensorInTable.state.step",
    ReboundTensor: "ReboundTensor.state",
    ReboundBuffer: "ReboundBuffer.state",
    Drawing: "random",
    DrawingSeldom: "numpy.random",
    DrawingItsOwn: "DrawingItsOwn.random",
}


# What cannot be put back where it was before a trial, so that the plain way goes on a call or two later.
ONE_WAY = {OfIterator, OfGenerator, OfListIterator, OfMap}


def _data():
    return Split(torch.randn(50, 4, generator=torch.Generator().manual_seed(5)))


def _trained(model, compile, learner=AEVB, steps=FEW, between=lambda learner, step: None, **settings):
    """The learner after so many steps of size 0.01."""
    global GLOBAL_STEP
    GLOBAL_STEP, GLOBAL_STATE["step"], OfClass.steps, OfFunction.weight.__dict__["steps"] = 0, 0, 0, 0
    OfDefault.weight.__defaults__[0][0] = 0
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    pair = model(), None if learner is MCEM else Guide()
    batch = {} if learner is MCEM else {"batch": 10}
    settings = {"step_size": 0.01, "optimizer": "sgd", **batch, **settings}
    trained = learner(*pair, _data(), compile=compile, **settings)
    torch.manual_seed(1)
    for step in range(steps):
        between(trained, step)
        trained.step()
    return trained


def _parameters(learner):
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()])


def _assert_equal(one, other):
    torch.testing.assert_close(_parameters(one), _parameters(other), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rise", [risen, late])
@pytest.mark.parametrize("model", WARNED)
def test_what_a_model_counts_is_found_wherever_it_counts(model, rise, interpreted, log, monkeypatch):
    monkeypatch.setattr(Linear, "rise", staticmethod(rise))
    compiled = _trained(model, compile=True)
    (line,) = log()
    assert f": {WARNED[model]}" in line
    assert "changes from call to call" in line
    assert not compiled.update.compiles
    if model not in ONE_WAY:
        _assert_equal(compiled, _trained(model, compile=False))


class OfBuffer(OfTensor):
    """A buffer that is written into, which a trace follows."""

    def __init__(self):
        super().__init__()
        del self.state
        self.register_buffer("state", torch.zeros(()))


class Constant(Linear):
    """What is kept and stays: a schedule, a table, a list that is made anew with the same in it, a copy of weights."""

    def __init__(self):
        super().__init__()
        self.schedule, self.table, self.tied = Schedule(), {"a": [1, 2.5]}, [self.loc.weight]
        self.activation, self.array, self.prior = nn.Tanh(), np.arange(5.0), dist.Normal(0.0, 1.0)

    def weight(self):
        self.table = {"a": [1, 2.5]}
        return float(self.array[2]) * self.table["a"][1]


# --- What a learner's step, or a notebook, sets from outside ----------------------------------------------------------


class Heated(Linear):
    def __init__(self):
        super().__init__()
        self.beta, self.table, self.shape = 1.0, {"beta": 1.0}, lambda z: z
        self.register_buffer("scale", torch.ones(()))
        self.activation = nn.Identity()

    def weight(self):
        return self.beta * self.table["beta"] * self.scale

    def forward(self, x=None, size=None):
        weight = self.weight()
        with pyro.plate("data", size if x is None else len(x), dim=-1):
            with poutine.scale(scale=weight):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = self.shape(self.activation(self.loc(z)))
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


def _set_attribute(learner, beta):
    learner.model.beta = beta


def _set_table(learner, beta):
    learner.model.table["beta"] = beta


def _replace_table(learner, beta):
    learner.model.table = {"beta": beta}


def _replace_buffer(learner, beta):
    learner.model.scale = torch.tensor(beta)


def _is_hot(beta):
    """From a step on: the 15th where it rises, the 26th where it changes once."""
    return 0.3 < beta < 1 or beta > 1


def _replace_module(learner, beta):
    learner.model.activation = nn.Tanh() if _is_hot(beta) else nn.Identity()


def _replace_function(learner, beta):
    learner.model.shape = torch.tanh if _is_hot(beta) else lambda z: z


def _fill_buffer(learner, beta):
    learner.model.scale.fill_(beta)


def _set_step_size(learner, beta):
    learner.update.optimizer.set_step_size(0.01 * beta)


SET = {
    _set_attribute: "Heated.beta",
    _set_table: "Heated.table.beta",
    _replace_table: "Heated.table.beta",
    _replace_buffer: "Heated.scale",
    _replace_module: "Heated.activation",
    _replace_function: "Heated.shape",
    _fill_buffer: None,
    _set_step_size: None,
}


@pytest.mark.parametrize("rise", [risen, late])
@pytest.mark.parametrize("change", SET)
def test_what_is_set_from_outside_is_followed_or_found(change, rise, interpreted, log):
    """Found as it changes: no step of those before was wrong, and none after."""

    def between(learner, step):
        change(learner, rise(step))

    compiled = _trained(Heated, compile=True, between=between)
    _assert_equal(compiled, _trained(Heated, compile=False, between=between))
    if SET[change] is None:
        assert log() == []
        assert compiled.update.compiles
    else:
        (line,) = log()
        assert f": {SET[change]} changes" in line
        assert "treated it as a constant" not in line


@pytest.mark.parametrize("model", [OfBuffer, Constant])
def test_what_stays_or_is_a_buffer_stays_compiled(model, interpreted, log):
    compiled = _trained(model, compile=True, steps=STEPS)
    assert log() == []
    assert compiled.update.compiles
    _assert_equal(compiled, _trained(model, compile=False, steps=STEPS))
    if model is OfBuffer:
        assert compiled.model.state == _trained(model, compile=False, steps=0).model.state + STEPS


class OfEnvironment(Linear):
    """A weight that lies where nobody can look for it."""

    def weight(self):
        return float(os.environ["PYRO_VAE_TEST_WEIGHT"])


def test_what_cannot_be_seen_is_found_at_the_next_check(interpreted, log, monkeypatch):
    """The checks are at the 2nd, 10th, 100th and 1,000th call, and after each evaluation, here at step 200."""

    def between(learner, step):
        monkeypatch.setenv("PYRO_VAE_TEST_WEIGHT", "1" if step < 150 else "4")
        if step == 200:
            traced.verify()

    monkeypatch.setenv("PYRO_VAE_TEST_WEIGHT", "1")
    compiled = _trained(OfEnvironment, compile=True, steps=STEPS, between=between)
    (line,) = log()
    assert "something outside its tensors changes from call to call" in line
    # It is compiled in the first step, and called by itself until the check.
    assert "its last 199 calls treated it as a constant" in line
    assert not compiled.update.compiles


# --- Every algorithm --------------------------------------------------------------------------------------------------


def _name(learner, settings):
    return "-".join([learner, *map(str, settings.values())])


ALGORITHMS = [
    ("aevb", {"step_size": 1e-3}),
    ("aevb", {"kl": "analytic", "particles": 2}),
    ("aevb", {"objective": "iwae", "particles": 3}),
    ("aevb", {"optimizer": "adam", "step_size": 1e-3}),
    ("wake_sleep", {"particles": 2, "insomnia": 0.5}),
    ("full_vb", {}),
    ("mcem", {"leapfrogs": 2, "updates": 1}),
    ("mcem", {"leapfrogs": 2, "updates": 1, "block": 20}),
]


def test_every_algorithm_of_the_shelf_is_here():
    assert {name for name, _ in ALGORITHMS} == set(parts.names("inference"))


@pytest.mark.parametrize("model", [Attribute, OfBuffer])
@pytest.mark.parametrize(("name", "settings"), ALGORITHMS, ids=[_name(*each) for each in ALGORITHMS])
def test_every_algorithm_follows_what_changes(name, settings, model, interpreted, log):
    """MCEM has no weights in its loss, and its model counts its calls all the same."""
    learner = parts.find("inference", name)
    plain, compiled = (
        _trained(model, compile, learner, STEPS if name != "mcem" else 100, **settings) for compile in (False, True)
    )
    _assert_equal(compiled, plain)
    if model is OfBuffer:
        assert log() == []
    else:
        (line,) = log()
        assert ".step changes from call to call" in line


def test_by_the_compiler_itself(log):
    ends = [_trained(OfBuffer, compile, steps=STEPS) for compile in (False, True)]
    _assert_equal(*ends)
    assert log() == []
    counted = [_trained(Attribute, compile, steps=STEPS) for compile in (False, True)]
    _assert_equal(*counted)
    (line,) = log()
    assert ": Attribute.step changes" in line
