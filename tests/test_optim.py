"""The paper's Adagrad by hand, and torch's optimisers by name."""

import copy

import pytest
import torch
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.optim import create_optimizer
from pyro_vae.traced import as_recorded
from pyro_vae.update import Update


def _step(optimizer, parameter, value):
    optimizer([parameter], [torch.full_like(parameter, value)])


def test_warmup_collects_squares_and_moves_nothing():
    # 101 gradients of 2 make s = 404 without a move. The 102nd makes s = 408, and the step is
    # -0.1 * 2 / sqrt(408 + 1e-8) = -0.0099015.
    parameter = torch.ones(3)
    adagrad = create_optimizer("adagrad", [parameter], 0.1)
    for _ in range(101):
        _step(adagrad, parameter, 2.0)
    assert torch.equal(parameter, torch.ones(3))
    _step(adagrad, parameter, 2.0)
    torch.testing.assert_close(parameter, torch.full((3,), 1 - 0.2 / 408**0.5))


def test_eps_lies_inside_the_root():
    # Without warm-up, a gradient of 1e-4: s = 1e-8, the step is 1e-4 / sqrt(2e-8) = 0.7071, not 1.
    parameter = torch.zeros(1)
    _step(create_optimizer("adagrad", [parameter], 1.0, warmup=0), parameter, 1e-4)
    assert parameter.item() == pytest.approx(-(0.5**0.5), rel=1e-5)


def test_state_survives_saving():
    torch.manual_seed(0)
    parameter = torch.randn(4)
    adagrad = create_optimizer("adagrad", [parameter], 0.1, warmup=1)
    for value in (1.0, 2.0):
        _step(adagrad, parameter, value)
    other = parameter.clone()
    restored = create_optimizer("adagrad", [other], 0.1, warmup=1)
    restored.load_state_dict(copy.deepcopy(adagrad.state_dict()))
    for p, each in ((parameter, adagrad), (other, restored)):
        _step(each, p, 3.0)
    assert torch.equal(parameter, other)


@pytest.mark.parametrize("name", ["adagrad", "SGD", "AdamW"])
def test_weight_decay_adds_to_the_gradients_of_weights_alone(name):
    # Whatever an optimiser does with g + 0.5 w it does here, where g = 2 and w = 3 make 3.5; a bias has g = 2.
    def moved(gradients, weight_decay):
        parameters = [nn.Parameter(torch.full((2, 2), 3.0)), nn.Parameter(torch.full((2,), 3.0))]
        optimizer = create_optimizer(name, parameters, 0.1, weight_decay, warmup=0)
        optimizer(parameters, [torch.full_like(p, g) for p, g in zip(parameters, gradients, strict=True)])
        return [parameter.detach() for parameter in parameters]

    for found, expected in zip(moved((2.0, 2.0), 0.5), moved((3.5, 2.0), 0.0), strict=True):
        assert torch.equal(found, expected)
        assert (found != 3.0).all()


@pytest.mark.parametrize("name", ["adagrad", "adam"])
def test_a_step_size_can_be_set(name):
    # SGD aside, the size of a step is proportional to it for Adagrad and Adam alike.
    moves = []
    for step_size in (0.1, 0.2):
        parameter = nn.Parameter(torch.zeros(3))
        optimizer = create_optimizer(name, [parameter], 0.1, warmup=0)
        optimizer.set_step_size(step_size)
        _step(optimizer, parameter, 2.0)
        moves.append(parameter.detach())
    torch.testing.assert_close(moves[1], 2 * moves[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Adagrad", torch.optim.Adagrad),
        ("adam", torch.optim.Adam),
        ("AdamW", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_by_name(name, expected):
    found = create_optimizer(name, [nn.Parameter(torch.ones(2, 2))], 0.5).optimizer
    assert type(found) is expected
    assert found.param_groups[0]["lr"] == 0.5


def test_unknown_names_are_answered_with_the_known():
    with pytest.raises(InputError, match=r"--optimizer adma is unknown: choose from adagrad, .*Adam, "):
        create_optimizer("adma", [nn.Parameter(torch.ones(1))], 0.1)
    with pytest.raises(InputError, match="unknown"):
        create_optimizer("LBFGS", [nn.Parameter(torch.ones(1))], 0.1)  # evaluates the objective several times a step


@pytest.mark.parametrize("weight_prior", [1.0, float("inf")])
@pytest.mark.parametrize("name", ["adagrad", "adam", "ClippedAdam", "RMSprop"])
def test_what_nothing_pulls_at_does_not_become_subnormal(name, weight_prior):
    # One input is always 0, as a pixel of a border is: its weights see the prior alone, or nothing after a first step.
    # 0.9^n is below 2^-126, float32's smallest normal number, from n = 829 on, so that Adam's means would be
    # subnormal after 1,500 steps; the paper's Adagrad shrinks a weight by a share of itself each step.
    torch.manual_seed(0)
    net = nn.Linear(2, 8)
    open_at = torch.ones(())

    def loss(x):
        return (net(x * torch.stack([torch.ones(()), open_at])) - 1).square().sum(), x.sum().detach()

    settings = {"optimizer": name, "step_size": 0.1, "share": 0.1, "weight_prior": weight_prior, "warmup": 5}
    update = Update(loss, (net,), (net,), **settings, compile=True)
    with as_recorded():
        if name != "adagrad":  # it never forgets a gradient
            update(torch.ones(1, 2))
        open_at.zero_()
        for _ in range(1500):
            update(torch.ones(1, 2))
    assert update.settled
    kept = [net.weight, *(v for state in update.optimizer.optimizer.state.values() for v in state.values() if v.ndim)]
    for tensor in kept:
        assert not ((tensor != 0) & (tensor.abs() < torch.finfo(torch.float32).tiny)).any()
    if name == "adagrad" and weight_prior == 1.0:  # the pull 0.1 w of what is left is at the threshold
        assert net.weight[:, 1].abs().max() < 1e-14


def test_the_pull_of_the_prior_is_exact_down_to_2_to_the_minus_50():
    # SGD's step is -(0.5 w): of w = 1 and of w = 2^-48, whose pull is 2^-49, but not of 2^-50, whose pull is 2^-51.
    start = torch.tensor([[1.0, 2.0**-48, 2.0**-50]])
    parameter = start.clone()
    create_optimizer("SGD", [parameter], 1.0, weight_decay=0.5)([parameter], [torch.zeros_like(parameter)])
    assert torch.equal(parameter, start * torch.tensor([0.5, 0.5, 1.0]))
