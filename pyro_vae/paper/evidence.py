"""What claims are judged by: the values of curves and measures, ours or the paper's."""

__all__ = ["Evidence", "NotRun", "paper_evidence"]

from collections.abc import Sequence
from functools import cache

import pandas as pd

from pyro_vae.paper.values import paper_values


class NotRun(LookupError):
    """What a claim needs has not been run, or not been measured."""


class Evidence:
    """Creates a view on the tables of a rerun.

    Arguments:
        curves: Values with `panel`, `algorithm`, `split`, `samples` and `value`, in nats.
        measures: Measures with `claim`, `quantity` and `value`.
    """

    def __init__(self, curves: pd.DataFrame, measures: pd.DataFrame) -> None:
        self.curves = curves.groupby(["panel", "algorithm", "split", "samples"])["value"].mean()  # over seeds
        self.measures = measures

    def curve(self, panel: str, algorithm: str, split: str) -> pd.Series:
        """Returns a curve's values by samples.

        Raises:
            NotRun: If there is none.
        """
        try:
            return self.curves.loc[panel, algorithm, split]
        except KeyError:
            raise NotRun(f"{panel} by {algorithm} has not been run") from None

    def at(self, panels: Sequence[str], algorithm: str, split: str, counts: Sequence[float]) -> pd.DataFrame:
        """Returns values of curves where they are nearest to numbers of samples, by a tenth of them at most.

        Returns:
            A table with a row a panel, and a column for each number that all the curves have come to, such as `1e7`.

        Raises:
            NotRun: If there is no such number, or no such curve.
        """
        tolerance = [0.1 * count for count in counts]
        values = pd.DataFrame(
            {
                panel: self.curve(panel, algorithm, split).reindex(counts, method="nearest", tolerance=tolerance)
                for panel in panels
            }
        ).T.set_axis([f"{count:.2g}".replace("e+0", "e") for count in counts], axis=1)
        reached = values.dropna(axis=1)
        if reached.empty:
            late = values.index[values.iloc[:, 0].isna()][0]
            raise NotRun(f"{late} by {algorithm} has not come to {values.columns[0]} samples")
        return reached

    def lead(self, panels: Sequence[str], first: str, second: str, split: str, counts: Sequence[float]) -> pd.DataFrame:
        """Returns how far one algorithm is above another, as `at` does its values."""
        return (self.at(panels, first, split, counts) - self.at(panels, second, split, counts)).dropna(axis=1)

    def measured(self, claim: str) -> pd.DataFrame:
        """Returns the measures of a claim, a row with a column for each.

        Raises:
            NotRun: If there are none.
        """
        found = self.measures[self.measures["claim"] == claim]
        if found.empty:
            raise NotRun("it has not been measured")
        return found.set_index("quantity")[["value"]].T


@cache
def paper_evidence() -> Evidence:
    """Returns what the paper's own curves say."""
    curves = pd.concat([paper_values("2"), paper_values("3")])
    return Evidence(curves, pd.DataFrame(columns=["claim", "quantity", "value"]))
