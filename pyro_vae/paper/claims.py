"""The paper's claims, each judged by the tables of a rerun."""

__all__ = ["CLAIMS", "COLUMNS", "Claim", "claims", "judge"]

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_vae.paper.measures import measure, read_measures
from pyro_vae.paper.reruns import PANELS, paper_values, read_values
from pyro_vae.paper.tables import write_table
from pyro_vae.paper.workers import Workers
from pyro_vae.run.folder import replace_file

COLUMNS = ("claim", "statement", "metric", "paper", "ours", "holds")

Rows = Sequence[dict[str, Any]]
Numbers = dict[str, list[float]]


class _Missing(LookupError):
    """What a claim needs has not been run."""


class _Results:
    """Curves and measures, ours or the paper's."""

    def __init__(self, curves: Rows, measures: Rows) -> None:
        self.curves, self.measures = curves, measures

    def curve(self, panel: str, algorithm: str, split: str) -> dict[float, float]:
        """Returns a curve's values by samples, the means over seeds."""
        found: dict[float, list[float]] = {}
        for row in self.curves:
            if (row["panel"], row["algorithm"], row["split"]) == (panel, algorithm, split):
                found.setdefault(row["samples"], []).append(row["value"])
        if not found:
            raise _Missing(f"{panel} by {algorithm} has not been run")
        return {samples: sum(values) / len(values) for samples, values in sorted(found.items())}

    def at(self, panel: str, algorithm: str, split: str, samples: float) -> float:
        """Returns a curve's value where it is nearest to a number of samples, by a tenth of it at most."""
        curve = self.curve(panel, algorithm, split)
        nearest = min(curve, key=lambda each: abs(each - samples))
        if abs(nearest - samples) > 0.1 * samples:
            raise _Missing(f"{panel} by {algorithm} has not come to {_short(samples)} samples")
        return curve[nearest]

    def measured(self, claim: str) -> Numbers:
        """Returns the measures of a claim."""
        found = {row["quantity"]: [row["value"]] for row in self.measures if row["claim"] == claim}
        if not found:
            raise _Missing("it has not been measured")
        return found


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Arguments:
        key: Its number.
        statement: What is claimed.
        metric: How it is judged.
        numbers: Takes the metric from results.
        holds: Judges our numbers, beside the paper's.
        paper: The paper's value in words, where its numbers are not in the table of its curves.
    """

    key: str
    statement: str
    metric: str
    numbers: Callable[[_Results], Numbers]
    holds: Callable[[Numbers, Numbers], bool]
    paper: str = ""


def claims(
    out: Path, samples: int = 1_000_000, workers: Workers | None = None, data_dir: str | None = None
) -> tuple[list[dict[str, str]], list[Path]]:
    """Judges every claim by the tables in a folder, after measuring what they do not say yet.

    Arguments:
        out: The folder of `figure2.csv`, `figure3.csv` and their runs.
        samples: The budget of the small runs that some claims need.
        workers: What trains them, a process of this machine per core if omitted.
        data_dir: The folder of the data sets.

    Returns:
        The rows of `judge`, and the paths of `measures.csv`, `claims.csv` and `claims.md`.

    Raises:
        RunError: If a small run failed.
    """
    measured = measure(out, samples, workers, data_dir)
    rows = judge(read_values(out / "figure2.csv"), read_values(out / "figure3.csv"), read_measures(out))
    table = write_table(rows, COLUMNS, out / "claims.csv")
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.values() for row in rows)]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    replace_file(out / "claims.md", lambda path: path.write_text(text, encoding="utf-8"))
    return rows, [measured, table, out / "claims.md"]


def judge(figure2: Rows, figure3: Rows, measures: Rows) -> list[dict[str, str]]:
    """Judges every claim.

    Arguments:
        figure2: The rows of `figure2.csv`.
        figure3: The rows of `figure3.csv`.
        measures: The rows of `measures.csv`.

    Returns:
        Rows with the `COLUMNS`; `holds` is `yes`, `no`, says what has not been run, or names a test.
    """
    ours = _Results([*figure2, *figure3], measures)
    theirs = _Results([*paper_values("2"), *paper_values("3")], ())
    return [_row(claim, ours, theirs) for claim in CLAIMS]


def _row(claim: Claim, ours: _Results, theirs: _Results) -> dict[str, str]:
    numbers: Numbers = {}
    try:
        paper = claim.numbers(theirs)
    except _Missing:
        paper = {}
    try:
        numbers = claim.numbers(ours)
        verdict = ("no", "yes")[claim.holds(numbers, paper)]
    except _Missing as missing:
        verdict = str(missing)
    values = (claim.key, claim.statement, claim.metric, claim.paper or _text(paper), _text(numbers), verdict)
    return dict(zip(COLUMNS, values, strict=True))


def _text(numbers: Numbers) -> str:
    return "; ".join(f"{name}: {' / '.join(map(_number, values))}" for name, values in numbers.items())


def _number(value: float) -> str:
    return f"{value:.{0 if abs(value) >= 200 else 1 if abs(value) >= 1 else 3}f}"


def _short(samples: float) -> str:
    return f"{samples:.2g}".replace("e+0", "e")


def _all(panels: str) -> list[str]:
    return [f"{panels}:{latent}" for latent in PANELS[panels]]


def _reached(counts: Sequence[float], values: Callable[[float], list[float]]) -> Numbers:
    """Values at those numbers of samples that the curves have come to."""
    found: Numbers = {}
    missing = _Missing()
    for count in counts:
        try:
            found[_short(count)] = values(count)
        except _Missing as error:
            missing = error
    if not found:
        raise missing
    return found


def _lead(
    panels: Sequence[str], first: str, second: str, split: str, counts: Sequence[float]
) -> Callable[[_Results], Numbers]:
    """How far one algorithm is above another, panel by panel."""
    return lambda results: _reached(
        counts, lambda n: [results.at(p, first, split, n) - results.at(p, second, split, n) for p in panels]
    )


def _levels(
    panels: Sequence[str], algorithm: str, split: str, counts: Sequence[float]
) -> Callable[[_Results], Numbers]:
    return lambda results: _reached(counts, lambda n: [results.at(p, algorithm, split, n) for p in panels])


def _last(numbers: Callable[[_Results], Numbers]) -> Callable[[_Results], Numbers]:
    """The last of the numbers of samples that was reached."""
    return lambda results: dict([list(numbers(results).items())[-1]])


def _each(**parts: Callable[[_Results], Numbers]) -> Callable[[_Results], Numbers]:
    """Several metrics, by name."""
    return lambda results: {
        f"{name.replace('_', ' ')} {count}": values
        for name, numbers in parts.items()
        for count, values in numbers(results).items()
    }


def _earlier(results: _Results) -> Numbers:
    """By what factor AEVB needs fewer samples for wake-sleep's last test bound."""
    factors = []
    for panel in _all("mnist"):
        budget, aim = list(results.curve(panel, "wake_sleep", "test").items())[-1]
        factors.append(budget / _first(results.curve(panel, "aevb", "test"), aim))
    return {"factor": factors}


def _first(curve: dict[float, float], aim: float) -> float:
    """After how many samples a curve first comes to a value; between its points it is straight over log samples."""
    (n, low), *rest = curve.items()
    if low >= aim:
        return n
    for m, high in rest:
        if high >= aim:
            return n * float(m / n) ** ((aim - low) / (high - low))
        n, low = m, high
    return math.inf


def _superfluous(results: _Results) -> Numbers:
    def numbers(n: float) -> list[float]:
        train, test = ([results.at(f"mnist:{k}", "aevb", split, n) for k in (20, 200)] for split in ("train", "test"))
        return [test[1] - test[0], train[0] - test[0], train[1] - test[1]]

    return _last(lambda _: _reached((1e7, 3e7, 1e8, 2.4e8), numbers))(results)


def _above_baseline(results: _Results) -> Numbers:
    baseline = results.measured("A8")["per-pixel Gaussian, train"][0]
    levels = _last(_levels(_all("frey"), "wake_sleep", "train", (1e6, 1e7, 1e8)))(results)
    return {count: [value - baseline for value in values] for count, values in levels.items()}


def _shown_by(test: str) -> Callable[[_Results], Numbers]:
    """A claim that no table can show."""

    def numbers(_: _Results) -> Numbers:
        raise _Missing(f"shown by {test}")

    return numbers


def _measured(claim: str) -> Callable[[_Results], Numbers]:
    return lambda results: results.measured(claim)


def _flat(numbers: Numbers) -> Iterable[float]:
    return (value for values in numbers.values() for value in values)


def _above(least: float) -> Callable[[Numbers, Numbers], bool]:
    return lambda ours, _: all(value > least for value in _flat(ours))


def _near(tolerance: float) -> Callable[[Numbers, Numbers], bool]:
    """Not below the paper's numbers by more than a tolerance."""
    return lambda ours, paper: all(a >= b - tolerance for a, b in zip(_flat(ours), _flat(paper), strict=True))


def _rising(values: Sequence[float]) -> bool:
    return list(values) == sorted(values)


_SMALL, _LARGE = ["N=1000"], ["N=50000"]

CLAIMS = (
    Claim(
        "A1",
        "AEVB reaches a better bound than wake-sleep",
        "MNIST, test bound of AEVB minus wake-sleep, 3/5/10/20/200 latents, by samples: above 0",
        _lead(_all("mnist"), "aevb", "wake_sleep", "test", (1e6, 1e7, 1e8)),
        _above(0),
    ),
    Claim(
        "A2",
        "AEVB converges considerably faster",
        "MNIST, samples of wake-sleep's last test bound over those that AEVB needs for it: at least 2",
        _earlier,
        lambda ours, _: min(_flat(ours)) >= 2,
        "3.8 / 2.3 / 2.5 / 1.9 / 3.4 at 1e7 samples, 20 / 7 / 13 / 19 / 23 at 2.4e8",
    ),
    Claim(
        "A3",
        "AEVB's level",
        "MNIST, test bound at 1e7 samples: at most 2 nats below the paper's",
        _levels(_all("mnist"), "aevb", "test", (1e7,)),
        _near(2),
    ),
    Claim(
        "A4",
        "Wake-sleep's level",
        "MNIST, test bound at 1e7 samples: at most 3 nats below the paper's",
        _levels(_all("mnist"), "wake_sleep", "test", (1e7,)),
        _near(3),
    ),
    Claim(
        "A5",
        "Superfluous latent variables do not overfit",
        "MNIST, AEVB: test bound of 200 latents minus 20, at least -0.5; train minus test of 20, and of 200, the latter"
        " larger by 0.5 at most",
        _superfluous,
        lambda ours, _: all(lead >= -0.5 and gap <= of_20 + 0.5 for lead, of_20, gap in ours.values()),
    ),
    Claim(
        "A6",
        "The same on Frey Face",
        "AEVB's test bound with 2/5/10/20 latents: not falling",
        _last(_levels(_all("frey"), "aevb", "test", (1e6, 1e7, 1e8))),
        lambda ours, _: all(map(_rising, ours.values())),
    ),
    Claim(
        "A7",
        "AEVB is better than wake-sleep on Frey Face",
        "test bound of AEVB minus wake-sleep, 2/5/10/20 latents: above 0",
        _lead(_all("frey"), "aevb", "wake_sleep", "test", (1e6, 1e7)),
        _above(0),
    ),
    Claim(
        "A8",
        "Wake-sleep on Frey Face stays a model without latents",
        "its train bound minus that of a Gaussian per pixel, 2/5/10/20 latents: within 5 nats",
        _above_baseline,
        lambda ours, _: all(abs(value) < 5 for value in _flat(ours)),
        "1.5 to 2.0, the same for all",
    ),
    Claim(
        "A9",
        "Latent variables that are not needed are pruned",
        "MNIST, AEVB: share of the latents with a mean KL to the prior above 0.01 nats: of 200, fewer than half",
        _measured("A9"),
        lambda ours, _: list(_flat(ours))[-1] < 0.5,
        "not given",
    ),
    Claim(
        "A10",
        "The variance of the bound's estimate is small",
        "MNIST, 20 latents: variance of the mean test bound: below 1",
        _measured("A10"),
        lambda ours, _: all(value < 1 for value in _flat(ours)),
        "< 1",
    ),
    Claim(
        "A11",
        "With few data AEVB and MCEM fit them far better than wake-sleep",
        "N = 1000, log p(x) of training data minus wake-sleep's, by samples: above 5",
        _each(
            AEVB=_lead(_SMALL, "aevb", "wake_sleep", "train", (1e7, 3e7, 6e7)),
            MCEM=_lead(_SMALL, "mcem", "wake_sleep", "train", (1e7, 3e7, 6e7)),
        ),
        _above(5),
    ),
    Claim(
        "A12",
        "With few data MCEM generalises best, then AEVB",
        "N = 1000, log p(x) of test data, MCEM minus AEVB and AEVB minus wake-sleep: above 0",
        _each(
            MCEM=_lead(_SMALL, "mcem", "aevb", "test", (3e7, 4e7, 5e7, 6e7)),
            AEVB=_lead(_SMALL, "aevb", "wake_sleep", "test", (3e7, 4e7, 5e7, 6e7)),
        ),
        _above(0),
    ),
    Claim(
        "A13",
        "With many data MCEM is far behind at equal samples",
        "N = 50000, log p(x) of training data, AEVB minus MCEM: above 5",
        _lead(_LARGE, "aevb", "mcem", "train", (4e7, 6e7)),
        _above(5),
    ),
    Claim(
        "A14",
        "With many data AEVB is better than wake-sleep",
        "N = 50000, log p(x), AEVB minus wake-sleep: above 0",
        _each(
            train=_lead(_LARGE, "aevb", "wake_sleep", "train", (1e7, 3e7, 6e7)),
            test=_lead(_LARGE, "aevb", "wake_sleep", "test", (1e7, 3e7, 6e7)),
        ),
        _above(0),
    ),
    Claim(
        "A15",
        "The paper's estimator of log p(x) is for fewer than 5 latents",
        "mean absolute error against importance sampling: below 0.5 nats with 3 latents, and rising from there",
        _measured("A15"),
        lambda ours, _: list(_flat(ours))[1] < 0.5 and _rising(list(_flat(ours))[1:]),
        "in words",
    ),
    Claim(
        "A16",
        "HMC's step size is tuned to 90 % acceptance",
        "mean acceptance of the E-steps: within 0.05",
        _measured("A16"),
        lambda ours, _: all(abs(value - 0.9) < 0.05 for value in _flat(ours)),
        "0.9",
    ),
    Claim(
        "A17",
        "Estimator B has less variance than A",
        "total variance of the guide's gradient, A over B, after training: above 1",
        _measured("A17"),
        _above(1),
        "typically",
    ),
    Claim(
        "A18",
        "One draw per datapoint is enough in minibatches of 100",
        "MNIST, 3 latents, 100 hidden, test bound after equal samples: more draws gain 3 nats at most",
        _measured("A18"),
        lambda ours, _: max(_flat(ours)) - next(iter(_flat(ours))) <= 3,
        "in words",
    ),
    Claim(
        "A19",
        "The comparison is not sensitive to the number of hidden units",
        "MNIST, 10 latents, test bound of AEVB minus wake-sleep: above 0",
        _measured("A19"),
        _above(0),
        "in words",
    ),
    Claim(
        "A20",
        "Two latent variables span a manifold; models of 2 to 20 give samples",
        "Figures 4 and 5: 20 x 20 and 10 x 10 points through the inverse CDF, 10 x 10 draws from the prior",
        _shown_by("tests/test_paper.py::test_figures_4_and_5_have_the_papers_grids"),
        _above(0),
        "pictures",
    ),
    Claim(
        "A21",
        "The bound over latent variables and weights has two estimators",
        "Equations 22 and 24 agree in the mean",
        _shown_by("tests/test_full_vb.py::test_equations_22_and_24_agree_in_the_mean"),
        _above(0),
        "no experiment",
    ),
)
