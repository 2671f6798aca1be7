r"""Hamiltonian Monte Carlo with a decision and a step size of its own for every datapoint.

`pyro.infer.HMC` accepts or rejects all datapoints of a batch at once, with one step size. Here each of
`(chains, datapoints)` is a chain of its own that shares tensor operations with the others and nothing else
(Appendices D and E).
"""

__all__ = ["HMC", "Draws", "sample", "with_gradient"]

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# A move that raises the energy by more than this is a divergence and never accepted (as in Stan).
_DIVERGENCE = 1000.0

WithGradient = Callable[[Tensor], tuple[Tensor, Tensor]]


class Transition(NamedTuple):
    """What one transition did, each with shape `(chains, datapoints)`."""

    acceptance: Tensor
    """The probability of acceptance."""
    divergent: Tensor
    """Whether the energy rose without bound or was not finite."""
    energy: Tensor
    """The energy, in nats, of the state that the chain is in now, with the momentum that led there."""


class HMC:
    r"""Creates chains on a log density.

    Step sizes are tuned by :math:`\log \epsilon \leftarrow \log \epsilon + g (\alpha - \alpha^*)` (Robbins & Monro,
    1951). This takes the place of the author's rules, which multiply them by 1.25 or 2.77 after every transition
    and never settle.

    Arguments:
        density: Takes positions, returns the log density there, in nats and float64 with shape `(chains, datapoints)`,
            and its gradient: `LogJoint.with_gradient`, or `with_gradient` of a function.
        position: Where the chains start, with shape `(chains, datapoints, size)`.
        step_size: The first step size, or step sizes with shape `(datapoints,)`.
        leapfrogs: The number of leapfrog steps in a transition, each with one gradient.
        target: The target :math:`\alpha^*` of the acceptance probability, 0.9 in the paper.
        shared_step: Whether all datapoints share one step size, as in the author's learning algorithm.
        jitter: Each transition scales its step size by a factor from [1 - jitter, 1 + jitter], so that no
            trajectory keeps ending where it began (Neal, 2011).
        gradient: The gradient alone, where that is cheaper: the log density is wanted at the ends of a trajectory only.
        among: A mask, over all datapoints of a process that divides them, of those that these chains are for. Random
            numbers are drawn for all of them, so that a chain's do not depend on how the chains are divided.

    Attributes:
        position: Where the chains are.
        log_step: The log of the step sizes, with shape `(datapoints,)`, or `(1,)` where they are shared.
    """

    def __init__(
        self,
        density: WithGradient,
        position: Tensor,
        *,
        step_size: float | Tensor = 0.1,
        leapfrogs: int = 10,
        target: float = 0.9,
        shared_step: bool = False,
        jitter: float = 0.2,
        gradient: Callable[[Tensor], Tensor] | None = None,
        among: Tensor | None = None,
    ) -> None:
        self.density, self.position, self.among = density, position, among
        self.inner_gradient = gradient or (lambda position: density(position)[1])
        self.leapfrogs, self.target, self.shared_step, self.jitter = leapfrogs, target, shared_step, jitter
        shape = (1,) if shared_step else position.shape[1:2]
        self.log_step = torch.as_tensor(step_size, dtype=position.dtype, device=position.device).expand(shape).log()
        self.refresh()

    def refresh(self) -> None:
        """Evaluates the log density where the chains are, as is due when it has changed."""
        self.value, self.gradient = self.density(self.position)

    def transition(self) -> Transition:
        """Moves every chain by one transition."""
        scale = 1 + self.jitter * (2 * self._draw(torch.rand_like, self.position[..., 0]) - 1)
        step = (self.log_step.exp() * scale).unsqueeze(-1)
        momentum = self._draw(torch.randn_like, self.position)
        energy = _kinetic(momentum) - self.value
        momentum = momentum + 0.5 * step * self.gradient
        position = self.position + step * momentum
        for _ in range(self.leapfrogs - 1):
            momentum = momentum + step * self.inner_gradient(position)
            position = position + step * momentum
        value, gradient = self.density(position)
        momentum = momentum + 0.5 * step * gradient
        rise = _kinetic(momentum) - value - energy
        divergent = ~(rise < _DIVERGENCE)  # so is what is not a number
        acceptance = torch.where(divergent, 0.0, (-rise).clamp(max=0).exp())
        accepted = self._draw(torch.rand_like, acceptance) < acceptance
        self.position = torch.where(accepted.unsqueeze(-1), position, self.position)
        self.gradient = torch.where(accepted.unsqueeze(-1), gradient, self.gradient)
        self.value = torch.where(accepted, value, self.value)
        return Transition(acceptance, divergent, torch.where(accepted, energy + rise, energy))

    def _draw(self, source: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
        if self.among is None:
            return source(like)
        return source(like.new_empty(len(like), len(self.among), *like.shape[2:]))[:, self.among]

    def adapt(self, acceptance: Tensor, gain: float) -> None:
        """Moves the step sizes towards the target acceptance.

        Arguments:
            acceptance: The acceptance probabilities of a transition, with shape `(chains, datapoints)`.
            gain: The gain of the move.
        """
        mean = acceptance.mean() if self.shared_step else acceptance.mean(0)
        self.log_step = self.log_step + gain * (mean - self.target).to(self.log_step.dtype)

    def warm_up(self, transitions: int, on_transition: Callable[[], None] = lambda: None) -> None:
        """Moves the chains while their step sizes are tuned, and freezes these.

        A third of the transitions goes with a constant gain, which reaches step sizes of any order. Then the gains
        fall as :math:`t^{-0.6}`, and the last step sizes are geometric means over the latter half (Polyak & Juditsky,
        1992).

        Arguments:
            transitions: The number of transitions.
            on_transition: Called after each of them.
        """
        log_steps = []
        for t in range(1, transitions + 1):
            self.adapt(self.transition().acceptance, gain=2.0 * max(1, t - transitions // 3) ** -0.6)
            log_steps.append(self.log_step)
            on_transition()
        if log_steps:
            self.log_step = torch.stack(log_steps[transitions // 2 :]).mean(0)


class Draws(NamedTuple):
    """Draws of every datapoint's chains.

    Arguments:
        position: Where the chains were, with shape `(draws, chains, datapoints, size)`.
        log_density: The log density there, in nats, with shape `(draws, chains, datapoints)`.
        acceptance: Mean acceptance probabilities, with shape `(datapoints,)`.
        divergences: Numbers of divergent transitions, with shape `(datapoints,)`.
        step_size: Step sizes, with shape `(datapoints,)`, or `(1,)` where they are shared.
    """

    position: Tensor
    log_density: Tensor
    acceptance: Tensor
    divergences: Tensor
    step_size: Tensor


def sample(kernel: HMC, draws: int, warmup: int, thinning: int = 1) -> Draws:
    """Draws from chains after a warm-up, with step sizes that no longer change.

    Arguments:
        kernel: The chains.
        draws: The number of draws of each chain.
        warmup: The number of transitions before them.
        thinning: The number of transitions between two draws.
    """
    kernel.warm_up(warmup)
    positions, values, acceptance, divergences = [], [], [], []
    for n in range(1, draws * thinning + 1):
        transition = kernel.transition()
        acceptance.append(transition.acceptance.mean(0))
        divergences.append(transition.divergent.sum(0))
        if n % thinning == 0:
            positions.append(kernel.position)
            values.append(kernel.value)
    return Draws(
        torch.stack(positions),
        torch.stack(values),
        torch.stack(acceptance).mean(0),
        torch.stack(divergences).sum(0),
        kernel.log_step.exp(),
    )


def with_gradient(log_density: Callable[[Tensor], Tensor]) -> WithGradient:
    """Turns a log density per chain and datapoint into a function that returns its gradient as well."""

    def differentiated(position: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            position = position.detach().requires_grad_()
            value = log_density(position)
            (gradient,) = torch.autograd.grad(value.sum(), position)
        return value.detach(), gradient

    return differentiated


def _kinetic(momentum: Tensor) -> Tensor:
    return 0.5 * momentum.double().square().sum(-1)
