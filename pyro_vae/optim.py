r"""How the paper follows a gradient: Adagrad with a warm-up; and torch's own optimisers by name."""

__all__ = ["WARMUP", "Rule", "TorchRule", "WarmupAdagrad", "create_rule"]

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pyro_vae.errors import InputError

WARMUP = 101
"""The first steps of the author's Adagrad that move nothing."""


class Rule(Protocol):
    """What moves parameters along their gradients."""

    def __call__(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Moves the parameters."""

    def set_step_size(self, step_size: float) -> None:
        """Sets the global step size."""

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the next step depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Sets what `state_dict` returned."""


class WarmupAdagrad(nn.Module):
    r"""Creates Adagrad as in the author's code: the first steps only collect squared gradients.

    .. math:: g \leftarrow g + \lambda \theta, \quad s \leftarrow s + g^2,
        \quad \theta \leftarrow \theta - \eta \, g / \sqrt{s + \epsilon}

    With weights near 0.01, torch's Adagrad, whose first step is :math:`\eta \, \mathrm{sign}(g)`, would
    start with a leap. Its :math:`\epsilon` also lies outside the root, and its state is not only tensors, as it is
    here for the sake of tracing.

    Arguments:
        parameters: The parameters.
        step_size: The global step size :math:`\eta`.
        weight_decay: :math:`\lambda`, for parameters with two dimensions or more.
        warmup: The number of first steps that move nothing.
        eps: :math:`\epsilon`, inside the root.
    """

    steps: Tensor
    step_size: Tensor

    def __init__(
        self,
        parameters: Sequence[Tensor],
        step_size: float = 0.02,
        weight_decay: float = 0.0,
        warmup: int = WARMUP,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.weight_decay, self.warmup, self.eps = weight_decay, warmup, eps
        device = parameters[0].device if parameters else None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("step_size", torch.tensor(step_size, device=device))
        for n, parameter in enumerate(parameters):
            self.register_buffer(f"sum_{n}", torch.zeros_like(parameter))

    @torch.no_grad()
    def forward(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Performs one step."""
        self.steps += 1
        step_size = self.step_size * (self.steps > self.warmup)
        for n, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            if parameter.ndim > 1:
                gradient = gradient.add(parameter, alpha=self.weight_decay)
            total = self.get_buffer(f"sum_{n}").addcmul_(gradient, gradient)
            parameter -= step_size * gradient / (total + self.eps).sqrt()

    def set_step_size(self, step_size: float) -> None:
        """Sets the global step size."""
        self.step_size.fill_(step_size)


class TorchRule:
    r"""Wraps an optimiser of torch's.

    Arguments:
        optimizer: The optimiser.
        weight_decay: :math:`\lambda`, which adds :math:`\lambda \theta` to the gradients of parameters with two
            dimensions or more. The `weight_decay` of an optimiser itself may mean something else, as AdamW's does.
    """

    def __init__(self, optimizer: Optimizer, weight_decay: float = 0.0) -> None:
        self.optimizer, self.weight_decay = optimizer, weight_decay
        self.state_dict, self.load_state_dict = optimizer.state_dict, optimizer.load_state_dict

    @torch.no_grad()
    def __call__(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Performs one step."""
        for parameter, gradient in zip(parameters, gradients, strict=True):
            decays = parameter.ndim > 1 and self.weight_decay
            parameter.grad = gradient.add(parameter, alpha=self.weight_decay) if decays else gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    def set_step_size(self, step_size: float) -> None:
        """Sets the global step size."""
        for group in self.optimizer.param_groups:
            group["lr"] = step_size


def create_rule(
    name: str, parameters: Sequence[Tensor], step_size: float, weight_decay: float = 0.0, warmup: int = WARMUP
) -> Rule:
    r"""Creates an optimiser by its name.

    Arguments:
        name: `adagrad` is the paper's; every other name is a class of `torch.optim`, in any case (`adam`),
            and torch's own Adagrad is `Adagrad`.
        parameters: The parameters.
        step_size: The step size, `lr` in torch.
        weight_decay: :math:`\lambda`, which adds :math:`\lambda \theta` to the gradients of parameters with two
            dimensions or more.
        warmup: The warm-up of the paper's Adagrad.

    Raises:
        InputError: If there is no such optimiser, or it cannot train these parameters.
    """
    if name == "adagrad":
        return WarmupAdagrad(parameters, step_size, weight_decay, warmup)
    found = {n: c for n, c in vars(torch.optim).items() if _usable(c)}
    # `ADAGRAD` could be either.
    match = found.get(name) or {n.lower(): c for n, c in found.items() if n != "Adagrad"}.get(name.lower())
    if match is None:
        raise InputError(f"--optimizer {name} is unknown: choose from adagrad, {', '.join(sorted(found))}")
    try:
        # The fused form, where there is one, is one kernel for all parameters.
        fused = {"fused": True} if "fused" in inspect.signature(match).parameters else {}
        return TorchRule(match(parameters, lr=step_size, **fused), weight_decay)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--optimizer {name} cannot train this model: {error}") from error


def _usable(candidate: Any) -> bool:
    # LBFGS evaluates the objective several times a step, SparseAdam wants sparse gradients.
    return (
        isinstance(candidate, type)
        and issubclass(candidate, Optimizer)
        and candidate not in (Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam)
    )
