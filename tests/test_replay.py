"""Recorded cycles, on a stand-in for a CUDA graph: what it records is not performed, and is repeated when launched."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_vae.replay import Replay, capture
from pyro_vae.run.fit import fit


class _Recorder(TorchDispatchMode):
    """As a CUDA graph does, keeps each operation with its tensors, and writes into the same ones when it is launched.

    A new tensor must have a shape while it is recorded, so that its operation runs; what changes a tensor does not.
    """

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        if func._schema.is_mutable:
            self.calls.append((func, args, kwargs, None))
            return args[0]
        made = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, made))
        return made

    def replay(self):
        for func, args, kwargs, made in self.calls:
            result = func(*args, **kwargs)
            if made is not None:
                made.copy_(result)


@pytest.fixture
def graphs(monkeypatch):
    """The stand-ins that were made."""
    made = []

    def create():
        made.append(_Recorder())
        return made[-1]

    @contextmanager
    def recording(graph):
        with graph:
            yield

    monkeypatch.setattr("torch.cuda.CUDAGraph", create)
    monkeypatch.setattr("torch.cuda.graph", recording)
    return made


class _Decaying:
    """A weight that each cycle multiplies by 0.9, at a loss of its square before; a cycle costs 10."""

    settled = True

    def __init__(self, device="cpu"):
        self.model, self.guide = nn.Linear(1, 1), None
        self.data = SimpleNamespace(device=torch.device(device), resident=True)
        self.weight, self.loss = torch.ones(()), torch.zeros(())
        self.steps = 0

    def state_dict(self):
        return {"weight": self.weight}

    def step(self):
        self.steps += 1
        self.loss = self.weight.square()
        self.weight.mul_(0.9)
        return 10


def test_cycles_are_recorded_without_being_performed_and_then_repeated(graphs):
    learner = _Decaying()
    replay = capture(learner, cycles=3)
    assert (replay.cycles, replay.cost, learner.steps) == (3, 30, 3)
    assert learner.weight == 1  # nothing was performed
    for launch in range(2):
        learner.loss = torch.tensor(9.0)  # of a step in between
        assert replay() == 30
        assert learner.steps == 3  # the learner's own code does not run again
        # Cycle n has the loss 0.81^n, counted from 0 over all launches.
        losses = [0.81 ** (3 * launch + n) for n in range(3)]
        torch.testing.assert_close(learner.weight, torch.tensor(0.9 ** (3 * launch + 3)))
        torch.testing.assert_close(replay.losses, torch.tensor(sum(losses)))
        torch.testing.assert_close(learner.loss, torch.tensor(losses[-1]))
        assert learner.loss is replay.loss
    assert len(graphs) == 1


def test_a_step_that_cannot_be_recorded_is_launched_alone(graphs, caplog):
    class Reading(_Decaying):
        def step(self):
            cost = super().step()
            return cost if self.loss.item() > -1 else 0

    assert capture(Reading(), cycles=3) is None
    assert "steps are launched one by one: operation not permitted when stream is capturing" in caplog.text


def test_the_loop_ends_where_it_would_without_records(graphs):
    plain, recorded = _Decaying("cpu"), _Decaying("cuda")
    ends = [fit(learner, 5000).samples for learner in (plain, recorded)]
    assert ends == [5000, 5000]
    assert len(graphs) == 1
    assert recorded.steps < plain.steps == 500
    torch.testing.assert_close(recorded.weight, plain.weight)
    torch.testing.assert_close(recorded.loss, plain.loss)


def test_a_record_leaves_the_loss_where_it_writes_it():
    learner = _Decaying()
    learner.loss = written = torch.tensor(1.0)
    replay = Replay(learner, lambda: written.fill_(2.0), 5, 50, written)
    learner.loss = torch.tensor(9.0)
    assert replay() == 50
    assert learner.loss is written
    assert learner.loss == 2.0
