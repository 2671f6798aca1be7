"""The paper's claims: what each of them says, what it is judged by, and when it holds."""

__all__ = ["CLAIMS", "Claim"]

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from pyro_vae.paper import metrics
from pyro_vae.paper.evidence import Evidence, paper_evidence
from pyro_vae.paper.metrics import FREY, MNIST

_SMALL, _LARGE = ["N=1000"], ["N=50000"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Arguments:
        key: Its number.
        statement: What is claimed.
        metric: How it is judged.
        numbers: Takes the metric from the tables: a column for each number of samples or quantity. The claim's measures
            if omitted.
        holds: Judges our numbers.
        paper: The paper's value in words, where its numbers are not in the table of its curves.
        test: The test that shows it, where no table can.
    """

    key: str
    statement: str
    metric: str
    numbers: Callable[[Evidence], pd.DataFrame] | None = None
    holds: Callable[[pd.DataFrame], bool] = lambda _: False
    paper: str = ""
    test: str = ""

    def look_up(self, tables: Evidence) -> pd.DataFrame:
        """Takes the metric from the tables.

        Raises:
            NotRun: If what it needs is not in them.
        """
        return tables.measured(self.key) if self.numbers is None else self.numbers(tables)


def _above(least: float) -> Callable[[pd.DataFrame], bool]:
    return lambda ours: (ours > least).all(axis=None)


def _within(tolerance: float, of: float) -> Callable[[pd.DataFrame], bool]:
    return lambda ours: ((ours - of).abs() < tolerance).all(axis=None)


def _levels(algorithm: str) -> Callable[[Evidence], pd.DataFrame]:
    """The test bounds on MNIST after 1e7 samples."""
    return lambda tables: tables.at(MNIST, algorithm, "test", (1e7,))


def _at_papers_level(algorithm: str, tolerance: float) -> Callable[[pd.DataFrame], bool]:
    """Not below the paper's levels by more than a tolerance."""
    return lambda ours: (ours >= _levels(algorithm)(paper_evidence()) - tolerance).all(axis=None)


def _no_overfitting(ours: pd.DataFrame) -> bool:
    lead, gap_of_20, gap_of_200 = ours.iloc[:, 0]
    return lead >= -0.5 and gap_of_200 <= gap_of_20 + 0.5


def _pruned(ours: pd.DataFrame) -> bool:
    _, share_of_200 = ours.iloc[0]
    return share_of_200 < 0.5


def _reliable_below_five(ours: pd.DataFrame) -> bool:
    _, of_3, of_5, of_10 = ours.iloc[0]
    return of_3 < 0.5 and of_3 <= of_5 <= of_10


def _one_draw_is_enough(ours: pd.DataFrame) -> bool:
    one, *more = ours.iloc[0]
    return max(more) - one <= 3


CLAIMS = (
    Claim(
        "A1",
        "AEVB reaches a better bound than wake-sleep",
        "MNIST, test bound of AEVB minus wake-sleep, 3/5/10/20/200 latents, by samples: above 0",
        lambda tables: tables.lead(MNIST, "aevb", "wake_sleep", "test", (1e6, 1e7, 1e8)),
        _above(0),
    ),
    Claim(
        "A2",
        "AEVB converges considerably faster",
        "MNIST, samples of wake-sleep's last test bound over those that AEVB needs for it: at least 2",
        metrics.speed,
        lambda ours: (ours >= 2).all(axis=None),
        "3.8 / 2.3 / 2.5 / 1.9 / 3.4 at 1e7 samples, 20 / 7 / 13 / 19 / 23 at 2.4e8",
    ),
    Claim(
        "A3",
        "AEVB's level",
        "MNIST, test bound at 1e7 samples: at most 2 nats below the paper's",
        _levels("aevb"),
        _at_papers_level("aevb", 2),
    ),
    Claim(
        "A4",
        "Wake-sleep's level",
        "MNIST, test bound at 1e7 samples: at most 3 nats below the paper's",
        _levels("wake_sleep"),
        _at_papers_level("wake_sleep", 3),
    ),
    Claim(
        "A5",
        "Superfluous latent variables do not overfit",
        "MNIST, AEVB: test bound of 200 latents minus 20, at least -0.5; train minus test of 20, and of 200, the latter"
        " larger by 0.5 at most",
        metrics.overfitting,
        _no_overfitting,
    ),
    Claim(
        "A6",
        "The same on Frey Face",
        "AEVB's test bound with 2/5/10/20 latents: not falling",
        lambda tables: metrics.last(tables.at(FREY, "aevb", "test", (1e6, 1e7, 1e8))),
        lambda ours: ours.iloc[:, 0].is_monotonic_increasing,
    ),
    Claim(
        "A7",
        "AEVB is better than wake-sleep on Frey Face",
        "test bound of AEVB minus wake-sleep, 2/5/10/20 latents: above 0",
        lambda tables: tables.lead(FREY, "aevb", "wake_sleep", "test", (1e6, 1e7)),
        _above(0),
    ),
    Claim(
        "A8",
        "Wake-sleep on Frey Face stays a model without latents",
        "its train bound minus that of a Gaussian per pixel, 2/5/10/20 latents: within 5 nats",
        metrics.above_baseline,
        _within(5, of=0),
        "1.5 to 2.0, the same for all",
    ),
    Claim(
        "A9",
        "Latent variables that are not needed are pruned",
        "MNIST, AEVB: share of the latents with a mean KL to the prior above 0.01 nats: of 200, fewer than half",
        holds=_pruned,
        paper="not given",
    ),
    Claim(
        "A10",
        "The variance of the bound's estimate is small",
        "MNIST, 20 latents: variance of the mean test bound: below 1",
        holds=lambda ours: (ours < 1).all(axis=None),
        paper="< 1",
    ),
    Claim(
        "A11",
        "With few data AEVB and MCEM fit them far better than wake-sleep",
        "N = 1000, log p(x) of training data minus wake-sleep's, by samples: above 5",
        lambda tables: metrics.side_by_side(
            AEVB=tables.lead(_SMALL, "aevb", "wake_sleep", "train", (1e7, 3e7, 6e7)),
            MCEM=tables.lead(_SMALL, "mcem", "wake_sleep", "train", (1e7, 3e7, 6e7)),
        ),
        _above(5),
    ),
    Claim(
        "A12",
        "With few data MCEM generalises best, then AEVB",
        "N = 1000, log p(x) of test data, MCEM minus AEVB and AEVB minus wake-sleep: above 0",
        lambda tables: metrics.side_by_side(
            MCEM=tables.lead(_SMALL, "mcem", "aevb", "test", (3e7, 4e7, 5e7, 6e7)),
            AEVB=tables.lead(_SMALL, "aevb", "wake_sleep", "test", (3e7, 4e7, 5e7, 6e7)),
        ),
        _above(0),
    ),
    Claim(
        "A13",
        "With many data MCEM is far behind at equal samples",
        "N = 50000, log p(x) of training data, AEVB minus MCEM: above 5",
        lambda tables: tables.lead(_LARGE, "aevb", "mcem", "train", (4e7, 6e7)),
        _above(5),
    ),
    Claim(
        "A14",
        "With many data AEVB is better than wake-sleep",
        "N = 50000, log p(x), AEVB minus wake-sleep: above 0",
        lambda tables: metrics.side_by_side(
            train=tables.lead(_LARGE, "aevb", "wake_sleep", "train", (1e7, 3e7, 6e7)),
            test=tables.lead(_LARGE, "aevb", "wake_sleep", "test", (1e7, 3e7, 6e7)),
        ),
        _above(0),
    ),
    Claim(
        "A15",
        "The paper's estimator of log p(x) is for fewer than 5 latents",
        "mean absolute error against importance sampling: below 0.5 nats with 3 latents, and rising from there",
        holds=_reliable_below_five,
        paper="in words",
    ),
    Claim(
        "A16",
        "HMC's step size is tuned to 90 % acceptance",
        "mean acceptance of the E-steps: within 0.05",
        holds=_within(0.05, of=0.9),
        paper="0.9",
    ),
    Claim(
        "A17",
        "Estimator B has less variance than A",
        "total variance of the guide's gradient, A over B, after training: above 1",
        holds=_above(1),
        paper="typically",
    ),
    Claim(
        "A18",
        "One draw per datapoint is enough in minibatches of 100",
        "MNIST, 3 latents, 100 hidden, test bound after equal samples: more draws gain 3 nats at most",
        holds=_one_draw_is_enough,
        paper="in words",
    ),
    Claim(
        "A19",
        "The comparison is not sensitive to the number of hidden units",
        "MNIST, 10 latents, test bound of AEVB minus wake-sleep: above 0",
        holds=_above(0),
        paper="in words",
    ),
    Claim(
        "A20",
        "Two latent variables span a manifold; models of 2 to 20 give samples",
        "Figures 4 and 5: 20 x 20 and 10 x 10 points through the inverse CDF, 10 x 10 draws from the prior",
        paper="pictures",
        test="tests/paper/test_reruns.py::test_figures_4_and_5_have_the_papers_grids",
    ),
    Claim(
        "A21",
        "The bound over latent variables and weights has two estimators",
        "Equations 22 and 24 agree in the mean",
        paper="no experiment",
        test="tests/test_full_vb.py::test_equations_22_and_24_agree_in_the_mean",
    ),
)
