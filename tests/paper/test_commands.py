"""The commands of a grid: what they are given, and which Python code they trust."""

import pytest

from pyro_vae.errors import RunError
from pyro_vae.paper.cells import Cell
from pyro_vae.paper.commands import Commands, marginals

TINY = ("--hidden", "8", "--batch", "20")


def test_a_users_algorithm_is_trusted_only_where_the_folder_holds_the_very_file(
    tmp_path, workers, algorithm, monkeypatch
):
    monkeypatch.setattr("pyro_vae.paper.commands._EVALUATED", 3)
    monkeypatch.setattr("pyro_vae.paper.commands._ESTIMATORS", ("importance",))
    monkeypatch.setattr("pyro_vae.paper.commands._ESTIMATE", ("--marginal", "importance"))
    cell = Cell("digits", 2, f"{algorithm}:Ascent", 0, TINY)
    commands = Commands(tmp_path, 600, workers, None)
    for samples in (300, 600):
        commands.advance(cell, 0.02, samples)
    commands.estimate(cell, 0.02, 600)
    assert ["--trust" in command for command in workers.commands] == [False, True, True, True]
    assert set(marginals(commands.folder(cell, 0.02))["split"]) == {"train", "test"}
    # Another one's code in the folder is not run.
    copy = commands.folder(cell, 0.02) / "parts" / "inference.py"
    copy.write_text("raise SystemExit(7)\n")
    with pytest.raises(RunError, match=r"my_algorithm.* holds other code than .*py:Ascent: remove it"):
        commands.advance(cell, 0.02, 900)
    assert len(workers.commands) == 4
