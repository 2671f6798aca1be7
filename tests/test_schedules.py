"""Step sizes by torch's schedules: as in a loop by hand, plain and traced, and through a resumed run."""

import copy
import math

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroLRScheduler
from torch.optim import lr_scheduler

from pyro_vae import train
from pyro_vae.errors import InputError
from pyro_vae.guides.gaussian import GaussianGuide
from pyro_vae.inference.aevb import AEVB
from pyro_vae.inference.full_vb import FullVB
from pyro_vae.inference.mcem import MCEM
from pyro_vae.inference.wake_sleep import WakeSleep
from pyro_vae.models.bernoulli import BernoulliModel
from pyro_vae.optim import create_optimizer
from pyro_vae.schedules import step_sizes

STEPS = 20
PLANS = {
    "StepLR": {"step_size": 5, "gamma": 0.5},
    "MultiStepLR": {"milestones": [3, 9], "gamma": 0.3},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": STEPS},
    "LinearLR": {"total_iters": STEPS},
    "PolynomialLR": {"total_iters": STEPS},
    "OneCycleLR": {"max_lr": 0.4, "total_steps": STEPS + 1, "cycle_momentum": False},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "cycle_momentum": False},
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("optimizer", ["adagrad", "SGD", "Adam"])
def test_steps_are_those_of_torchs_scheduler(name, optimizer):
    ours, theirs = torch.ones(3, 2), torch.ones(3, 2, requires_grad=True)
    options = {key: value for key, value in PLANS[name].items() if key not in ("T_max", "total_iters")}
    mine = create_optimizer(optimizer, [ours], 0.05, warmup=3, schedule=step_sizes(name, options, STEPS))
    # The same class of optimiser, moved by torch's own scheduler.
    own = type(mine.optimizer)
    kept = create_optimizer(optimizer, [theirs], 0.05, warmup=3).optimizer if optimizer == "adagrad" else None
    by_hand = kept or own([theirs], lr=0.05, foreach=False)
    scheduler = getattr(lr_scheduler, name)(by_hand, **PLANS[name])
    for n in range(STEPS):
        gradient = torch.full((3, 2), 1.0 + n)
        mine([ours], [gradient])
        theirs.grad = gradient
        by_hand.step()
        scheduler.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-7)
    assert (ours != 1).all()


def test_the_last_step_size_stays():
    # Halved after each step: 0.8, 0.4, 0.2, and that of the third for all others: 0.8 + 0.4 + 0.2 + 0.2 = 1.6.
    parameter = torch.zeros(1)
    optimizer = create_optimizer("SGD", [parameter], 0.8, schedule=step_sizes("ExponentialLR", {"gamma": 0.5}, 3))
    for _ in range(4):
        optimizer([parameter], [torch.ones(1)])
    assert parameter.item() == pytest.approx(-1.6)


@pytest.fixture
def interpreted(monkeypatch):
    """Runs traced functions as torch records them: what the compiler makes of the record is tested with `Traced`."""
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, *_, **__: graph)


def _pair():
    torch.manual_seed(0)
    return BernoulliModel(12, 2, hidden=7), GaussianGuide(12, 2, hidden=7)


def test_plain_and_traced_steps_are_those_of_svi_with_pyros_scheduler(pixels, interpreted):
    model, guide = _pair()
    plan = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 1e-3}, "T_max": STEPS}
    with pyro.get_param_store().scope():
        optimizer = PyroLRScheduler(lr_scheduler.CosineAnnealingLR, plan)

        def p(x):
            pyro.module("model", model)
            return model(x)

        def q(x):
            pyro.module("guide", guide)
            return guide(x)

        svi = SVI(p, q, optimizer, Trace_ELBO())
        torch.manual_seed(1)
        for _ in range(STEPS):
            svi.step(pixels.minibatch(20))
            optimizer.step()
    expected = [*model.parameters(), *guide.parameters()]
    for compile in (False, True):
        learner = AEVB(
            *_pair(),
            pixels,
            batch=20,
            optimizer="Adam",
            step_size=1e-3,
            weight_prior=math.inf,
            schedule="CosineAnnealingLR",
            samples=20 * STEPS,
            compile=compile,
        )
        torch.manual_seed(1)
        for _ in range(STEPS):
            learner.step()
        assert learner.update.compiles is compile
        found = [*learner.model.parameters(), *learner.guide.parameters()]
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("learner", [AEVB, FullVB, WakeSleep, MCEM])
def test_a_schedule_is_laid_out_over_the_updates_of_the_run(learner, pixels):
    model, guide = _pair()
    # 1,200 evaluations are 60 minibatches of 20; of MCEM, which visits 60 datapoints 3 times and updates twice, 2 * 7.
    own = {"leapfrogs": 1, "updates": 2} if learner is MCEM else {"batch": 20}
    built = learner(
        model, None if learner is MCEM else guide, pixels, schedule="LinearLR", samples=1200, step_size=1.0, **own
    )
    updates = [built.wake, built.sleep] if learner is WakeSleep else [built.update]
    length = 14 if learner is MCEM else 60
    for update in updates:
        # From a third to 1 in as many steps, the first at a third.
        expected = 1 / 3 + 2 / 3 * torch.arange(length, dtype=torch.float64) / length
        torch.testing.assert_close(update.optimizer.step_size, expected)
    built.step()
    assert all(update.optimizer.count == (2 if learner is MCEM else 1) for update in updates)


@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_run_that_is_resumed_goes_on_with_schedule_and_warmup(compile, tmp_path, interpreted):
    settings = {
        "optimizer": "adam",
        "step_size": 1e-2,
        "hidden": 5,
        "compile": compile,
        "progress": False,
        "set": {
            "inference": {
                "schedule": "CosineAnnealingLR",
                "schedule_options": {"T_max": 30},
                "kl_warmup": 2500.0,
            }
        },
    }
    whole = train(tmp_path / "whole", samples=3000, **settings)
    train(tmp_path / "parts", samples=1500, **settings)
    parts = train(tmp_path / "parts", samples=3000, resume=True, progress=False)
    for a, b in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)
    plain = copy.deepcopy(settings)
    del plain["set"]["inference"]["kl_warmup"]
    other = train(tmp_path / "other", samples=3000, **plain)
    assert not torch.equal(other.model.decoder[1].weight, whole.model.decoder[1].weight)
    assert other.metrics[0][2:] == whole.metrics[0][2:]  # what is evaluated has no weights
    assert parts.settings.set == settings["set"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "Cosine"}, "schedule Cosine is unknown: choose from ConstantLR, CosineAnnealingLR"),
        ({"schedule": "ReduceLROnPlateau"}, "schedule ReduceLROnPlateau looks at a bound as it goes"),
        ({"schedule": "LambdaLR"}, "schedule LambdaLR needs a function"),
        ({"schedule": "StepLR"}, "StepLR is not possible with schedule_options {}: TypeError: .*step_size"),
        ({"schedule": "StepLR", "schedule_options": {"size": 3}}, "unexpected keyword argument 'size'"),
        ({"schedule": "StepLR", "schedule_options": 3}, "schedule_options 3 is not possible: give a table"),
        ({"schedule": "ExponentialLR", "schedule_options": {"gamma": -1.0}}, "not all finite and from 0 on"),
        ({"schedule": "OneCycleLR", "schedule_options": {"max_lr": 1.0, "cycle_momentum": True}}, "cycle_momentum is"),
        ({"schedule_options": {"gamma": 0.1}}, "schedule_options belong to a schedule"),
        ({"kl_warmup": 0}, "kl_warmup 0 is not possible: give a finite number above 0"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(settings, said, tmp_path):
    with pytest.raises(InputError, match=said) as told:
        train(tmp_path / "run", samples=300, progress=False, set={"inference": settings})
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_a_schedule_needs_to_know_the_run(pixels):
    with pytest.raises(InputError, match="schedule StepLR is laid out over a run: give samples"):
        AEVB(*_pair(), pixels, schedule="StepLR")


@pytest.mark.parametrize("inference", ["wake_sleep", "mcem"])
def test_an_algorithm_without_a_kl_has_no_warmup_of_it(inference, tmp_path):
    with pytest.raises(InputError, match=r"--set inference\.kl_warmup is unknown"):
        train(tmp_path / "run", inference=inference, progress=False, set={"inference": {"kl_warmup": 1e3}})
