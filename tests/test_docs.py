"""The README's Python runs, and its file of one's own trains."""

import csv
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS[:2], ids=["train", "parts"])
def test_the_readmes_python_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


def test_the_readmes_model_trains(cli):
    Path("laplace.py").write_text(BLOCKS[2])
    assert cli("train", "--model", "laplace.py", "--samples", "2000", "--hidden", "20", "--out", "run").status == 0
    assert cli("evaluate", "run", "--trust", "--limit", "5").status == 0


def test_the_swap_from_start_to_end_is_one(cli):
    text = (Path(__file__).parent.parent / "docs" / "swapping.md").read_text()
    prior = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    Path("cauchy.py").write_text(prior)
    tiny = ("--samples", "300", "--hidden", "5")
    for options in (("--out", "a"), ("--prior", "cauchy.py", "--set", "prior.scale=0.3", "--out", "b")):
        assert cli("train", *tiny, *options).status == 0
    assert cli("compare", "a", "b", "--trust", "--limit", "5", "--particles", "30").status == 0
    assert cli("manifold", "b", "--trust", "--grid", "3").status == 0
    # And the mistake that the page shows is answered as it says.
    Path("wrong.py").write_text(prior.replace(".to_event(1)", ""))
    assert " ".join(cli("train", "--prior", "wrong.py", "--out", "c").err.split()) in text


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_the_readmes_links_lead_somewhere(path):
    assert (Path(__file__).parent.parent / path).exists()


def test_the_readmes_claims_are_the_committed_ones():
    with (Path(__file__).parent.parent / "docs" / "results" / "paper" / "claims.csv").open() as file:
        for row in csv.DictReader(file):
            shown = re.sub(r"shown by (tests/[\w/]+\.py)::\w+", r"[a test](\1)", row["holds"])
            cells = [row[column] for column in ("claim", "statement", "paper", "ours")]
            assert f"| {' | '.join([*cells, shown])} |\n" in README
