"""The loop: its clock, its schedule, and when it stops."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pyro_vae.errors import RunError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.marginal import bound
from pyro_vae.models.gaussian import GaussianModel
from pyro_vae.replay import Replay
from pyro_vae.run.fit import Clock, fit, require_finite, schedule


def test_schedule_is_log_spaced_and_ends_at_the_budget():
    # Six a decade: 10^(18/6), 10^(19/6), ... = 1000, 1468, 2154, 3162, 4642, 6813, 10000.
    assert schedule(10_000) == [0, 1000, 1468, 2154, 3162, 4642, 6813, 10_000]
    assert schedule(500) == [0, 500]
    # A longer budget adds points and moves none, so that a run may be extended.
    assert set(schedule(9_999)) - {9_999} <= set(schedule(10**6))


def _learner(pixels, **options):
    torch.manual_seed(0)
    pair = GaussianModel(12, 2, hidden=5), GaussianGuide(12, 2, hidden=5)
    return AEVB(*pair, pixels, batch=20, optimizer="sgd", **options)


def test_the_clock_counts_datapoint_evaluations(pixels):
    seen, steps = [], []
    clock = fit(
        _learner(pixels, step_size=1e-4),
        2500,
        on_evaluation=lambda clock: seen.append(clock.samples),
        on_step=lambda clock: steps.append(clock.samples),
    )
    # Minibatches of 20: the first multiple at or after each point of the schedule.
    assert seen == [0, 1000, 1480, 2160, 2500]
    assert steps == list(range(20, 2501, 20))
    assert clock.samples == 2500
    assert clock.seconds > 0


class _Counting:
    """A learner on a GPU, as far as the loop can see; it is compiled after two steps."""

    def __init__(self):
        self.model, self.guide, self.loss = nn.Linear(1, 1), None, torch.zeros(())
        self.data = SimpleNamespace(device=torch.device("cuda"), resident=True)
        self.cycles = 0

    def state_dict(self):
        return {}

    @property
    def settled(self):
        return self.cycles >= 2

    def step(self):
        self.cycles += 1
        self.loss = torch.tensor(float(self.cycles))
        return 10


def test_recorded_cycles_are_replayed_as_far_as_the_next_evaluation(monkeypatch):
    recorded = torch.tensor(-1.0)  # where a record leaves the loss
    launches = []

    def record(learner, cycles):
        learner.loss = recorded
        return Replay(learner, lambda: launches.append(learner.cycles), cycles, 10 * cycles, recorded)

    monkeypatch.setattr("pyro_vae.run.fit.capture", record)
    learner, points = _Counting(), []
    clock = fit(learner, 5000, on_evaluation=lambda clock: points.append((clock.samples, learner.loss.item())))
    # Records of 100 cycles, 1000 samples. From 20 to 1000: 98 steps. 1000 to 1470 and to 2160: less than a record.
    # 2160 to 3170: one record and one step. 3170 to 4650: one record and 48 steps. 4650 to 5000: 35 steps.
    assert [samples for samples, _ in points] == [0, 1000, 1470, 2160, 3170, 4650, 5000]
    assert launches == [216, 217]
    assert learner.cycles == 500 - 2 * 100
    assert clock.samples == 5000


def test_a_budget_that_is_spent_trains_no_further(pixels):
    learner = _learner(pixels, step_size=1e-4)
    before = [p.clone() for p in learner.update.parameters]
    fit(learner, 1000, clock=Clock(samples=1000))
    assert all(torch.equal(p, q) for p, q in zip(before, learner.update.parameters, strict=True))


def test_evaluating_changes_no_result(pixels):
    ends = []
    for evaluate in (False, True):
        learner = _learner(pixels, step_size=1e-4)
        watch = partial(bound, learner.model, learner.guide, pixels)
        torch.manual_seed(1)
        fit(learner, 3000, on_evaluation=(lambda clock, watch=watch: watch()) if evaluate else None)
        ends.append([p.detach().clone() for p in learner.update.parameters])
    assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_site(pixels):
    learner = _learner(pixels, step_size=1e-4)
    nn.init.constant_(learner.model.log_variance.bias, -200.0)  # exp(200) overflows
    with pytest.raises(RunError, match=r"not finite after 1000 samples \(sites: .*x; .* and 9 more.*min_log_variance"):
        fit(learner, 1_000_000)


class _Broken:
    """A learner whose guide has one parameter that is not finite."""

    def __init__(self, split):
        self.model, self.guide = GaussianModel(12, 2, hidden=5), GaussianGuide(12, 2, hidden=5)
        self.data, self.loss = split, torch.tensor(float("inf"))
        nn.init.constant_(self.guide.mean.bias, float("nan"))

    def state_dict(self):
        return {}

    def step(self):
        return 10


def test_parameters_that_are_not_finite_are_named(pixels):
    with pytest.raises(
        RunError, match=r"after 1000 samples \(sites: z, x; parameters: guide.mean.bias; learner: none\): lower"
    ):
        fit(_Broken(pixels), 1_000_000)


class _Failing(_Broken):
    """A learner that leaves the finite numbers in its 137th step, in one place and for this one step."""

    def __init__(self, split, place):
        super().__init__(split)
        nn.init.zeros_(self.guide.mean.bias)
        self.loss, self.place, self.steps, self.sums = torch.zeros(()), place, 0, [torch.zeros(3)]

    def state_dict(self):
        return {"optimizer": {"sums": self.sums}, "lr": float("inf"), "steps": self.steps, "bits": torch.ones(2) > 0}

    def step(self):
        self.steps += 1
        failing = torch.tensor(float("nan") if self.steps == 137 else 1.0)
        if self.place == "loss":
            self.loss = failing
        elif self.place == "parameter" and self.steps == 137:
            nn.init.constant_(self.model.mean.bias, float("nan"))
        elif self.place == "gradient":
            self.sums[0] = self.sums[0] + failing
        return 10


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("loss", r"the loss is not finite after 1470 samples \(sites: none; parameters: none; learner: none\): lower"),
        (
            "parameter",
            r"the state is not finite after 1470 samples \(sites: x; parameters: model.mean.bias; learner: none",
        ),
        (
            "gradient",
            r"the state is not finite after 1470 .*parameters: none; learner: optimizer.sums.0\): lower --step",
        ),
    ],
)
def test_what_is_not_finite_stops_the_run_within_a_hundred_cycles(pixels, place, message):
    learner = _Failing(pixels, place)
    with pytest.raises(RunError, match=message):
        fit(learner, 1_000_000)
    # Looks come every 100 cycles, and at the points of the schedule: 1000, 1470, ... samples, 10 of them a cycle.
    assert learner.steps == 147


def test_a_gradient_whose_square_overflows_is_found_in_the_optimiser(pixels):
    """Adagrad would go on with a step of zero for this parameter, for ever."""
    learner = _learner(pixels, step_size=1e-4)
    learner = AEVB(learner.model, learner.guide, pixels, batch=20)
    fit(learner, 1000)
    learner.update.optimizer.get_buffer("0_sum")[0, 0] = float("inf")
    with pytest.raises(
        RunError, match=r"the state is not finite after .*parameters: none; learner: update.state.0.sum\)"
    ):
        fit(learner, 10_000, clock=Clock(samples=1000))


def test_looking_reads_from_the_device_once(pixels, monkeypatch):
    learner, reads = _learner(pixels, step_size=1e-4), []
    whether = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: [reads.append(1), whether(tensor)][1])
    for name in ("item", "tolist", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, lambda tensor: pytest.fail("another read"), raising=False)
    require_finite(learner, 0)
    assert reads == [1]
