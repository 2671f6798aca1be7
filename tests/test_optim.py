"""The paper's Adagrad by hand, and torch's optimisers by name."""

import copy

import pytest
import torch
from torch import nn

from pyro_vae.errors import InputError
from pyro_vae.optim import WarmupAdagrad, optimizer


def _constant_gradient(parameter, value):
    parameter.grad = torch.full_like(parameter, value)


def test_warmup_collects_squares_and_moves_nothing():
    # 101 gradients of 2 make s = 404 without a move. The 102nd makes s = 408, and the step is
    # -0.1 * 2 / sqrt(408 + 1e-8) = -0.0099015.
    parameter = nn.Parameter(torch.ones(3))
    adagrad = WarmupAdagrad([parameter], lr=0.1)
    for _ in range(101):
        _constant_gradient(parameter, 2.0)
        adagrad.step()
    assert torch.equal(parameter.detach(), torch.ones(3))
    _constant_gradient(parameter, 2.0)
    adagrad.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 1 - 0.2 / 408**0.5))


def test_eps_lies_inside_the_root():
    # Without warm-up, a gradient of 1e-4: s = 1e-8, the step is 1e-4 / sqrt(2e-8) = 0.7071, not 1.
    parameter = nn.Parameter(torch.zeros(1))
    adagrad = WarmupAdagrad([parameter], lr=1.0, warmup=0)
    _constant_gradient(parameter, 1e-4)
    adagrad.step()
    assert parameter.item() == pytest.approx(-(0.5**0.5), rel=1e-5)


def test_state_survives_saving():
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(4))
    adagrad = WarmupAdagrad([parameter], lr=0.1, warmup=1)
    for value in (1.0, 2.0):
        _constant_gradient(parameter, value)
        adagrad.step()
    other = nn.Parameter(parameter.detach().clone())
    restored = WarmupAdagrad([other], lr=0.1, warmup=1)
    restored.load_state_dict(copy.deepcopy(adagrad.state_dict()))
    for p, opt in ((parameter, adagrad), (other, restored)):
        _constant_gradient(p, 3.0)
        opt.step()
    assert torch.equal(parameter, other)


def test_a_parameter_without_gradient_stays():
    parameter = nn.Parameter(torch.ones(1))
    WarmupAdagrad([parameter], warmup=0).step()
    assert parameter.item() == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adagrad", WarmupAdagrad),
        ("Adagrad", torch.optim.Adagrad),
        ("adam", torch.optim.Adam),
        ("AdamW", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_by_name(name, expected):
    found = optimizer(name, [nn.Parameter(torch.ones(2, 2))], 0.5)
    assert type(found) is expected
    assert found.param_groups[0]["lr"] == 0.5


def test_unknown_names_are_answered_with_the_known():
    with pytest.raises(InputError, match=r"--optimizer adma is unknown: choose from adagrad, .*Adam, "):
        optimizer("adma", [nn.Parameter(torch.ones(1))], 0.1)
    with pytest.raises(InputError, match="unknown"):
        optimizer("LBFGS", [nn.Parameter(torch.ones(1))], 0.1)  # evaluates the objective several times a step
