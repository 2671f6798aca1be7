r"""How the paper follows a gradient: Adagrad with a warm-up, a prior on the weights; and torch's own optimisers."""

__all__ = ["WarmupAdagrad", "check_scale", "descend", "optimizer", "set_step_size", "weight_prior"]

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pyro_vae.errors import InputError

WARMUP = 101
"""The first steps of the author's Adagrad that move nothing."""


class WarmupAdagrad(Optimizer):
    r"""Creates Adagrad as in the author's code: the first steps only collect squared gradients.

    .. math:: s \leftarrow s + g^2, \quad \theta \leftarrow \theta - \eta \, g / \sqrt{s + \epsilon}

    With weights near 0.01, torch's Adagrad, whose first step is :math:`\eta \, \mathrm{sign}(g)`, would
    start with a leap. Its :math:`\epsilon` also lies outside the root.

    Arguments:
        params: The parameters.
        lr: The global step size :math:`\eta`.
        warmup: The number of first steps that move nothing.
        eps: :math:`\epsilon`, inside the root.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.02, warmup: int = WARMUP, eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "warmup": warmup, "eps": eps, "steps": 0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Performs one step on the gradients in `.grad`."""
        for group in self.param_groups:
            group["steps"] += 1
            for parameter in group["params"]:
                if (gradient := parameter.grad) is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["sum"] = torch.zeros_like(parameter)
                state["sum"].addcmul_(gradient, gradient)
                if group["steps"] > group["warmup"]:
                    scale = (state["sum"] + group["eps"]).sqrt_()
                    parameter.addcdiv_(gradient, scale, value=-group["lr"])


def optimizer(name: str, parameters: Iterable[Tensor], step_size: float, warmup: int = WARMUP) -> Optimizer:
    """Creates an optimiser by its name.

    Arguments:
        name: `adagrad` is the paper's; every other name is a class of `torch.optim`, in any case (`adam`),
            and torch's own Adagrad is `Adagrad`.
        parameters: The parameters.
        step_size: The step size, `lr` in torch.
        warmup: The warm-up of the paper's Adagrad.

    Raises:
        InputError: If there is no such optimiser, or it cannot train these parameters.
    """
    if name == "adagrad":
        return WarmupAdagrad(parameters, lr=step_size, warmup=warmup)
    found = {n: c for n, c in vars(torch.optim).items() if _usable(c)}
    # `ADAGRAD` could be either.
    match = found.get(name) or {n.lower(): c for n, c in found.items() if n != "Adagrad"}.get(name.lower())
    if match is None:
        raise InputError(f"--optimizer {name} is unknown: choose from adagrad, {', '.join(sorted(found))}")
    try:
        # The fused form, where there is one, is one kernel for all parameters.
        fused = {"fused": True} if "fused" in inspect.signature(match).parameters else {}
        return match(parameters, lr=step_size, **fused)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--optimizer {name} cannot train this model: {error}") from error


def _usable(candidate: Any) -> bool:
    # LBFGS evaluates the objective several times a step, SparseAdam wants sparse gradients.
    return (
        isinstance(candidate, type)
        and issubclass(candidate, Optimizer)
        and candidate not in (Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam)
    )


def set_step_size(optimizer: Optimizer, step_size: float) -> None:
    """Sets the step size of an optimiser, whose loaded state has brought another."""
    for group in optimizer.param_groups:
        group["lr"] = step_size


def check_scale(scale: float) -> float:
    """Returns the standard deviation of a prior on weights.

    Raises:
        InputError: If it is none.
    """
    if not isinstance(scale, int | float) or not scale > 0:
        raise InputError(f"weight_prior {scale} is not possible: give a standard deviation above 0, inf for no prior")
    return scale


def descend(optimizer: Optimizer, loss: Tensor) -> None:
    """Performs one step down the gradient of a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def weight_prior(parameters: Iterable[Tensor], scale: float = 1.0) -> Tensor:
    r"""The log density of the paper's prior :math:`N(0, I)` on the weights, up to a constant, in nats.

    Weights are the parameters with two dimensions or more: as in the author's code, biases have none.

    Arguments:
        parameters: The parameters.
        scale: The prior's standard deviation; `inf` is no prior.
    """
    squares = [p.square().sum() for p in parameters if p.ndim > 1]
    return -0.5 / scale**2 * torch.stack(squares).sum() if squares else torch.zeros(())
