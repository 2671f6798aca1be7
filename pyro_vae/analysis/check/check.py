"""All checks of a part, one after the other: `pyro-vae check`."""

__all__ = ["CHECKS", "Report", "check"]

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from pyro_vae.analysis.check import densities, learning, programs
from pyro_vae.analysis.check.subject import Subject, subject_of
from pyro_vae.analysis.check.verdict import Fault, Skipped, Verdict, judge
from pyro_vae.analysis.sbc import simulate
from pyro_vae.bayesian import has_random_weights
from pyro_vae.checks import check_sites, looking
from pyro_vae.errors import InputError
from pyro_vae.plates import look
from pyro_vae.programs import check_generation
from pyro_vae.run import parts
from pyro_vae.run.support import require_support
from pyro_vae.support import first_offence

# Calibration: datapoints, transitions, and above how many multiplications it takes longer than the rest together.
_SIMULATED, _TRANSITIONS, _CHAINS, _STEPS, _MOST = 80, 90, 19, 6, 3e11
_BOUND = 1e-6


def _builds(subject: Subject) -> str:
    told = [
        f"{kind} {getattr(subject.settings, kind)}"
        for kind in ("model", "guide", "prior", "inference")
        if kind in (subject.kind, "model") or (kind == "guide" and subject.pair[1] is not None)
    ]
    return f"{', '.join(told)}; {subject.dataset.name}"


def _shapes(subject: Subject) -> str:
    model, guide = subject.pair
    x = subject.x(5)
    with looking(model, guide, x):
        sites = check_sites(model, guide, x)
    programs.observed_once(model, x)
    latent = sorted({*look(model, x).latent, *look(model, x).shared, *sites})
    return f"latent {', '.join(latent) or 'none'}; x has {subject.built.dataset.features} cells"


def _generates(subject: Subject) -> str:
    model, guide = subject.pair
    x = subject.x(5)
    with looking(model, guide, x):
        check_generation(model, x)
    return "data are drawn from latent variables alone"


def _support(subject: Subject) -> str:
    model, data = subject.built.model, subject.built.dataset
    if not subject.simulated:
        require_support(model, data, subject.settings.model)
    elif (found := first_offence(model, data.train)) is not None:
        raise Fault(
            f"site 'x' allows {found.support}, and the model itself draws {found.value:.4g}",
            "correct the support of the likelihood, or take one that draws inside",
        )
    return f"the likelihood allows all of {subject.dataset.name}"


def _sums(subject: Subject, judged: Callable[[densities.Sums], float]) -> list[float]:
    """What is found of each site of the part, and of those of its pair."""
    model, guide = subject.pair
    x, found, skipped = subject.x(), [], []
    for part in _judged(subject, model, guide):
        for name, distribution in programs.distributions(part, x, _sites(subject)).items():
            for cells in densities.cells(distribution):
                try:
                    found.append(judged(densities.add_up(cells)))
                except Fault as fault:
                    raise Fault(f"{name}: {fault.finding}", fault.mend) from fault
                except Skipped as why:
                    skipped.append(f"{name}: {why}")
    if not found:
        raise Skipped(skipped[0])
    return found


def _judged(subject: Subject, model: nn.Module, guide: nn.Module | None) -> list[nn.Module]:
    if subject.kind == "guide" and guide is not None:
        return [guide]
    return [model, guide] if subject.kind == "pair" and guide is not None else [model]


def _sites(subject: Subject) -> Callable[[str], bool]:
    return (lambda name: name != "x") if subject.kind == "prior" else (lambda name: True)


def _integrates(subject: Subject) -> str:
    found = _sums(subject, densities.normalised)
    return f"sums are 1 within {max(abs(total - 1) for total in found):.1g}"


def _draws(subject: Subject) -> str:
    found = _sums(subject, densities.match)
    return f"at most {max(found):.0%} of the distance that is allowed"


def _log_joint(subject: Subject) -> str:
    model, _ = subject.pair
    _require_hmc(subject)
    return programs.log_joint(model, subject.x(3))


def _require_hmc(subject: Subject) -> None:
    model, x = subject.pair[0], subject.x(3)
    if look(model, x).shared or has_random_weights(model):
        raise Skipped("HMC moves latent variables of each datapoint alone, and some are global here")
    if look(model, x).latent == look(model, x).countable:
        raise Skipped("all latent variables are discrete: there is nothing that HMC could move")


def _calibrated(subject: Subject) -> str:
    _require_hmc(subject)
    model, _ = subject.pair
    weights = sum(parameter.numel() for parameter in model.parameters())
    if 6 * weights * _SIMULATED * _CHAINS * _TRANSITIONS * _STEPS > _MOST:
        raise Skipped(f"{weights:,} weights take too long for a short check: pyro-vae analyze RUN does it")
    with programs.stirred([model]):
        try:
            pit = simulate(model, None, subject.x(_SIMULATED), transitions=_TRANSITIONS)["hmc"]
        except InputError as error:
            raise Skipped(str(error)) from error
    distances = [_from_uniform(column) for column in pit.T]
    limit = math.sqrt(math.log(2 * len(distances) / _BOUND) / (2 * len(pit)))
    if not max(distances) <= limit:
        raise Fault(
            f"ranks of latent variables among HMC's draws are not uniform: they are {max(distances):.2f} from it, and "
            f"{limit:.2f} is allowed",
            "what the model draws and what it scores are not one model: look at sites, plates and masks",
        )
    return f"{len(pit)} simulated datapoints: ranks are {max(distances):.2f} from uniform, {limit:.2f} is allowed"


def _from_uniform(values: "np.typing.NDArray[np.float64]") -> float:
    ordered = np.sort(values)
    n = np.arange(1, len(ordered) + 1)
    return float(np.maximum(n / len(ordered) - ordered, ordered - (n - 1) / len(ordered)).max())


def _saved(subject: Subject) -> str:
    trained = learning.trained(subject.prepared, 20)
    if has_random_weights(trained.prepared.model):
        raise Skipped("weights are random here")
    fresh = subject.prepared(subject.settings.seed + 1)
    pairs = [(each.model, each.guide) for each in (trained.prepared, fresh)]
    return programs.saved(pairs[0], pairs[1], subject.x())


def _compiled(subject: Subject, recorded: bool = True) -> str:
    algorithm = parts.find("inference", subject.settings.inference)
    plain: dict[str, Any] = {"optimizer": "SGD", "step_size": 1e-5} if parts.takes(algorithm, "optimizer") else {}
    return learning.compiled(partial(subject.prepared, **plain), recorded=recorded)


def _of_pair(function: Callable[..., str], rows: int = 101) -> Callable[[Subject], str]:
    return lambda subject: function(*subject.pair, subject.x(rows))


def _of_learner(function: Callable[..., str]) -> Callable[[Subject], str]:
    return lambda subject: function(subject.prepared)


class _Check(NamedTuple):
    """A check.

    Arguments:
        run: Runs it.
        kinds: Of which kinds of parts.
        ends: Whether all others mean nothing where it fails.
        after: The checks that it means nothing without.
    """

    run: Callable[[Subject], str]
    kinds: Collection[str] = ("model", "prior", "guide", "pair")
    ends: bool = False
    after: Collection[str] = ()


_EVERY = ("model", "prior", "guide", "pair", "inference")
_OF_MODEL = ("model", "prior", "pair")
_CALLED = ("generation", "repeatable", "batch sizes", "leading dimensions", "calls", "finite bound")
CHECKS: Mapping[str, _Check] = {
    "builds": _Check(_builds, _EVERY, ends=True),
    "support": _Check(_support, ("model", "pair")),
    "shapes": _Check(_shapes, ends=True),
    "generation": _Check(_generates, _OF_MODEL),
    "repeatable": _Check(_of_pair(programs.repeatable, 5)),
    "calls": _Check(_of_pair(programs.calls, 5), after=("repeatable",)),
    "batch sizes": _Check(_of_pair(programs.batch_sizes), after=("repeatable", "calls")),
    "leading dimensions": _Check(_of_pair(programs.leading_dimensions, 5), after=("repeatable", "calls")),
    "finite bound": _Check(_of_pair(programs.finite_bound), after=("batch sizes",)),
    "gradients": _Check(_of_pair(programs.gradients), after=("finite bound",)),
    "integrates to 1": _Check(_integrates, after=("repeatable", "finite bound")),
    "draws": _Check(_draws, after=("repeatable", "finite bound")),
    "log joint": _Check(_log_joint, _OF_MODEL, after=_CALLED),
    "steps": _Check(_of_learner(learning.steps), ("inference",), ends=True),
    "counts": _Check(_of_learner(learning.counts), ("inference",)),
    "learns": _Check(_of_learner(learning.learns), ("inference",), after=("counts",)),
    "resumes": _Check(_of_learner(learning.goes_on), ("inference",)),
    "saved": _Check(_saved, after=_CALLED),
    "compiled": _Check(_compiled, _EVERY, after=_CALLED),
    "calibration": _Check(_calibrated, _OF_MODEL, after=_CALLED),
}


class Report(NamedTuple):
    """What came of all checks.

    Arguments:
        kind: What was checked.
        name: What the user calls it.
        verdicts: In the order of the checks.
        seconds: How long it took.
    """

    kind: str
    name: str
    verdicts: list[Verdict]
    seconds: float

    @property
    def failed(self) -> list[str]:
        """The names of the checks that fail."""
        return [each.check for each in self.verdicts if each.verdict == "fails"]

    def table(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        return {
            "part": self.name,
            "kind": self.kind,
            "checks": [each._asdict() for each in self.verdicts],
            "failed": len(self.failed),
            "seconds": round(self.seconds, 1),
        }


def check(
    spec: str,
    kind: str | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    skip: Collection[str] = (),
    only: Collection[str] = (),
    compile: bool = False,
    **settings: Any,
) -> Report:
    """Holds a part against the contract of its shelf.

    Arguments:
        spec: A name on a shelf, or `FILE.py` or `FILE.py:NAME`.
        kind: `model`, `prior`, `guide` or `inference`, where it cannot be told.
        shape: The shape of a datapoint where the model simulates the data, `(64,)` or `(8, 8)`.
        skip: Checks to leave out.
        only: The checks that are wanted, besides `builds` and `shapes`; all if empty.
        compile: Whether steps are compiled, which takes some ten seconds, and not only recorded.
        settings: Settings of a run by name, see `Settings`: partners, data, sizes.

    Raises:
        InputError: If there is no such part or check, or settings are wrong.
    """
    for name in (*skip, *only):
        if name not in CHECKS:
            raise InputError(f"check {name!r} is unknown: choose from {', '.join(CHECKS)}")
    started = perf_counter()
    subject = subject_of(spec, kind, settings, shape)
    verdicts: list[Verdict] = []
    for name, each in CHECKS.items():
        if subject.kind not in each.kinds or (only and name not in only and not each.ends):
            continue
        if name in skip:
            verdicts.append(Verdict(name, "skipped", "as asked"))
            continue
        broken = [v.check for v in verdicts if v.check in each.after and v.verdict == "fails" and v.check not in skip]
        if broken:
            verdicts.append(Verdict(name, "skipped", f"mend {broken[0]} first"))
            continue
        run = partial(_compiled, recorded=False) if name == "compiled" and compile else each.run
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            verdicts.append(judge(name, partial(run, subject)))
        if each.ends and verdicts[-1].verdict == "fails":
            rest = [n for n in [*CHECKS][[*CHECKS].index(name) + 1 :] if subject.kind in CHECKS[n].kinds]
            verdicts += [Verdict(other, "skipped", f"mend {name} first") for other in rest]
            break
    return Report(subject.kind, spec, verdicts, perf_counter() - started)
