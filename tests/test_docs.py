"""The README's Python runs, and its file of one's own trains."""

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


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_the_readmes_links_lead_somewhere(path):
    assert (Path(__file__).parent.parent / path).exists()
