"""The judgement: what the command writes, and that the committed tables follow from each other."""

from pathlib import Path

import pandas as pd

from pyro_vae.paper.evidence import Evidence
from pyro_vae.paper.judgement import COLUMNS, judge
from pyro_vae.paper.measures import read_measures
from pyro_vae.paper.values import COLUMNS as VALUES
from pyro_vae.paper.values import paper_values, read_values
from pyro_vae.run.tables import read_table, write_table


def _claims(folder):
    return read_table(folder / "claims.csv", dict.fromkeys(COLUMNS, str))


def test_the_command_writes_what_it_prints(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_vae.paper.measures._MEASURES", {})
    curves = paper_values("2").assign(seconds=1.0, seed=0)[list(VALUES)]
    write_table(curves, tmp_path / "figure2.csv")
    result = cli("paper", "claims", "--out", str(tmp_path))
    assert result.status == 0, result.err
    assert "A21" in result.out
    assert result.out.split()[-3:] == [str(tmp_path / name) for name in ("measures.csv", "claims.csv", "claims.md")]
    judged = _claims(tmp_path)
    assert judged.equals(judge(Evidence(curves, read_measures(tmp_path))))
    assert (tmp_path / "claims.md").read_text().count("\n") == len(judged) + 4


def test_the_committed_claims_follow_from_the_committed_tables():
    folder = Path(__file__).parents[2] / "docs" / "results" / "paper"
    curves = pd.concat([read_values(folder / f"figure{n}.csv") for n in (2, 3)])
    judged = judge(Evidence(curves, read_measures(folder)))
    assert judged.values.tolist() == _claims(folder).values.tolist()
    rows = [f"| {' | '.join(row)} |" for row in judged.itertuples(index=False)]
    assert (folder / "claims.md").read_text().splitlines()[4:] == rows
