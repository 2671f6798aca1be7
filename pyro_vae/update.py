r"""One step of learning: the gradient of a loss, the paper's prior on the weights, and an optimiser."""

__all__ = ["Update"]

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor, nn

from pyro_vae import ranks
from pyro_vae.errors import InputError
from pyro_vae.optim import WARMUP, create_optimizer
from pyro_vae.schedules import StepSizes
from pyro_vae.traced import Traced


class Update:
    r"""Creates a step down the gradient of a loss minus :math:`\lambda \log p(\theta)`.

    With the paper's prior :math:`p(\theta) = N(0, I)` on the weights, the loss of M of N datapoints has
    :math:`\lambda = M / N` (Section 5). Weights are the parameters with two dimensions or more: as in the author's
    code, biases have no prior.

    Arguments:
        loss: Takes tensors, returns a loss in nats, summed over datapoints, and what else its caller wants of it.
        modules: The modules that the loss uses.
        trained: Those of them that learn.
        optimizer: `adagrad`, the paper's, or the name of one in `torch.optim` or `pyro.optim`.
        step_size: The global step size.
        share: :math:`\lambda`, the share of the data that a step sees.
        weight_prior: The prior's standard deviation; `inf` is no prior.
        warmup: The warm-up of the paper's Adagrad.
        compile: Whether loss and gradient are compiled.
        schedule: What makes of the step size those of all steps; see `pyro_vae.schedules`.

    Raises:
        InputError: If the prior is none, or there is no such optimiser.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from pyro_vae.update import Update
        >>> net, x = nn.Linear(3, 1), torch.rand(10, 3)
        >>> def loss(x):
        ...     value = net(x).square().sum()
        ...     return value, value.detach()
        >>> update = Update(
        ...     loss, (net,), (net,), optimizer="adam", step_size=0.01, share=1.0, weight_prior=1.0, compile=False
        ... )
        >>> first, last = [update(x)[1] for _ in range(50)][:: 49]
        >>> bool(last < first)
        True
    """

    def __init__(
        self,
        loss: Callable[..., tuple[Tensor, ...]],
        modules: Iterable[nn.Module],
        trained: Iterable[nn.Module],
        *,
        optimizer: str,
        step_size: float,
        share: float,
        weight_prior: float,
        warmup: int = WARMUP,
        compile: bool = False,
        schedule: StepSizes | None = None,
    ) -> None:
        self.loss, self.trained, self.step_size = loss, nn.ModuleList(trained), step_size
        if not self.parameters:
            names = " and ".join(type(part).__name__ for part in self.trained)
            raise InputError(
                f"{names} has no parameter that learns: give it an nn.Parameter, and name the nets of a function by "
                "pyro.module"
            )
        if not isinstance(weight_prior, int | float) or not weight_prior > 0:
            raise InputError(
                f"weight_prior {weight_prior} is not possible: give a standard deviation above 0, inf for no prior"
            )
        self.optimizer = create_optimizer(
            optimizer, self.parameters, step_size, share / weight_prior**2, warmup, schedule
        )
        owner = getattr(loss, "__self__", None)
        self._step = Traced(self._move, *modules, self.optimizer, compile=compile, owner=owner)
        # Where ranks add up their gradients, or an optimiser cannot be traced, the two are functions of their own.
        self._differentiate = Traced(self._gradients, *modules, compile=compile, owner=owner)
        self._follow = Traced(self._optimize, self.trained, self.optimizer, compile=compile, runs=False)
        self._whole: bool | None = None if ranks.count() == 1 else False
        self._sums: list[Tensor] = []

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters that learn; while a step is traced, what stands in their places."""
        return [parameter for parameter in self.trained.parameters() if parameter.requires_grad]

    @property
    def settled(self) -> bool:
        """Whether a step is one compiled function by now, on tensors that stay where they are."""
        return self._step.settled

    @property
    def compiles(self) -> bool:
        """Whether the gradient runs compiled, or will."""
        return self._differentiate.compile if self._whole is False else self._step.compile

    @property
    def warmup(self) -> int:
        """The first steps of the optimiser that move nothing."""
        return int(self.optimizer.group.get("warmup", 0))

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Performs the step.

        Returns:
            What the loss returns, detached.
        """
        if self._whole is None and self.optimizer.ready and self._step.compile:
            self._whole = self._follow.can_be_traced(*map(torch.zeros_like, self.parameters))
        if self._whole is False:
            outputs = self.accumulate(*inputs)
            self.apply()
            return outputs
        return self._step(*inputs) if self._whole else self._step.plain(*inputs)

    def accumulate(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Adds the loss of some datapoints to the step that `apply` will make, and returns what the loss returns."""
        outputs = self._differentiate(*inputs)
        count = len(self.parameters)
        gradients = outputs[:count]
        self._sums = [a + b for a, b in zip(self._sums, gradients, strict=True)] if self._sums else [*gradients]
        return outputs[count:]

    def apply(self) -> None:
        """Performs the step with what has been accumulated, on all ranks."""
        follow = self._follow if self.optimizer.ready else self._follow.plain  # the first step makes its state
        follow(*ranks.summed(self._sums))
        self._sums = []

    def for_svi(self) -> PyroOptim:
        """Returns the optimiser as `pyro.infer.SVI` takes it, which calls it when the gradients are there."""
        return _ForSVI(self)

    def _optimize(self, *gradients: Tensor) -> tuple[Tensor, ...]:
        self.optimizer(self.parameters, gradients)
        return ()

    def _move(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self._gradients(*inputs)
        parameters = self.parameters
        self.optimizer(parameters, outputs[: len(parameters)])
        return outputs[len(parameters) :]

    def _gradients(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        loss, *others = self.loss(*inputs)
        parameters = self.parameters
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        else:  # it depends on none of them
            gradients = tuple(map(torch.zeros_like, parameters))
        return *gradients, loss.detach(), *others

    def state_dict(self) -> dict[str, Any]:
        """Returns the optimiser's state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Sets what `state_dict` returned, but for the step size, which may be another now."""
        self.optimizer.load_state_dict(state)
        self.optimizer.set_step_size(self.step_size)


class _ForSVI(PyroOptim):
    """One optimiser of all parameters in the place of Pyro's, which makes one for each."""

    def __init__(self, update: Update) -> None:
        super().__init__(type(update.optimizer.optimizer), {})
        self.update = update

    def __call__(self, params: Any, *arguments: Any, **named: Any) -> None:
        parameters = self.update.parameters
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        self.update.optimizer(parameters, ranks.summed(gradients))
