"""The judgement of the paper's claims by the tables of a rerun."""

__all__ = ["COLUMNS", "judge", "judge_claims"]

from pathlib import Path

import pandas as pd

from pyro_vae.paper.claims import CLAIMS, Claim
from pyro_vae.paper.evidence import Evidence, NotRun, paper_evidence
from pyro_vae.paper.grid import Grid
from pyro_vae.paper.measures import measure
from pyro_vae.paper.values import read_values
from pyro_vae.run.folder import replace_file
from pyro_vae.run.tables import write_table

COLUMNS = ("claim", "statement", "metric", "paper", "ours", "holds")


def judge_claims(grid: Grid) -> tuple[pd.DataFrame, list[Path]]:
    """Judges every claim by the tables in a folder, after measuring what they do not say yet.

    Arguments:
        grid: What trains the small runs that some claims need; its folder has `figure2.csv`, `figure3.csv` and their
            runs.

    Returns:
        What `judge` returns, and the paths of `measures.csv`, `claims.csv` and `claims.md`.

    Raises:
        InputError: If a table is damaged.
        RunError: If a small run failed.
    """
    curves = pd.concat([read_values(grid.out / "figure2.csv"), read_values(grid.out / "figure3.csv")])
    judged = judge(Evidence(curves, measure(grid)))
    lines = [COLUMNS, ["---"] * len(COLUMNS), *judged.itertuples(index=False)]
    text = "# The paper's claims\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    markdown = grid.out / "claims.md"
    replace_file(markdown, lambda path: path.write_text(text, encoding="utf-8"))
    return judged, [grid.out / "measures.csv", write_table(judged, grid.out / "claims.csv"), markdown]


def judge(ours: Evidence) -> pd.DataFrame:
    """Judges every claim.

    Returns:
        A table with the `COLUMNS`; `holds` is `yes`, `no`, says what has not been run, or names a test.
    """
    return pd.DataFrame([_judge(claim, ours) for claim in CLAIMS], columns=list(COLUMNS))


def _judge(claim: Claim, ours: Evidence) -> tuple[str, ...]:
    said = (claim.key, claim.statement, claim.metric)
    if claim.test:
        return *said, claim.paper, "", f"shown by {claim.test}"
    paper = claim.paper or _text(claim.look_up(paper_evidence()))
    try:
        numbers = claim.look_up(ours)
    except NotRun as missing:
        return *said, paper, "", str(missing)
    return *said, paper, _text(numbers), "yes" if claim.holds(numbers) else "no"


def _text(numbers: pd.DataFrame) -> str:
    return "; ".join(f"{name}: {' / '.join(map(_number, values))}" for name, values in numbers.items())


def _number(value: float) -> str:
    return f"{value:.{0 if abs(value) >= 200 else 1 if abs(value) >= 1 else 3}f}"
