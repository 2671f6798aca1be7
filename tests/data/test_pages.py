"""The pages about data say what is so: their code runs, and their model trains."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent


def _blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


TINY = ("--samples", 300, "--hidden", 5, "--no-figures")


def test_contributings_model_trains_on_counts(cli):
    Path("geometric.py").write_text(_blocks("CONTRIBUTING.md")[0])
    result = cli("train", "--data", "digits", "--divisor", 1, "--model", "geometric.py", *TINY, "--out", "run")
    assert result.status == 0, result.err
    assert cli("evaluate", "run", "--trust", "--limit", 5, "--particles", 5).status == 0
    result = cli("train", "--data", "digits", "--model", "geometric.py", *TINY, "--out", "grey")
    assert result.status == 2
    assert "site 'x' of --model geometric.py allows whole numbers from 0 on, and digits has" in result.err


def test_the_data_pages_conditional_model_trains(cli):
    Path("conditional.py").write_text(_blocks("docs/data.md")[0])
    result = cli("train", "--model", "conditional.py", "--samples", 300, "--out", "run", "--no-figures")
    assert result.status == 0, result.err
    assert cli("evaluate", "run", "--trust", "--limit", 5, "--particles", 5).status == 0
    assert cli("sample", "run", "--trust", "--number", 4).status == 0


def test_the_data_pages_python_runs(capsys):
    exec(compile(_blocks("docs/data.md")[1], "data.md", "exec"), {})
    out = capsys.readouterr().out
    assert "z_1_sd" in out
    assert "draw_5" in out


def test_the_data_pages_refusal_is_the_real_one(cli):
    x = np.random.default_rng(0).normal(size=(20, 2))
    np.savetxt("table.csv", x, delimiter=",", header="age,height", comments="")
    result = cli("train", "--data", "table.csv", *TINY, "--out", "run")
    shown = re.search(r"^pyro-vae: site 'x'.*$", (ROOT / "docs" / "data.md").read_text(), re.MULTILINE)[0]
    assert result.err.strip() == shown


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "docs/data.md").read_text())))
)
def test_the_data_pages_links_lead_somewhere(path):
    assert (ROOT / "docs" / path).exists()
