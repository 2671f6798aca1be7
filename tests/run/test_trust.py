"""What a run folder may execute: nothing, unless the user says so or names files that equal the copies."""

import os
from pathlib import Path

import pytest

from pyro_vae.errors import InputError
from pyro_vae.run import trust
from pyro_vae.run.settings import Settings


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A model of two files, and a run folder with their copies."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("from blocks import size\nclass Own: ...\n")
    Path("blocks.py").write_text("size = 1\n")
    Path("notes.py").write_text("nobody imports this")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.toml").touch()
    settings = Settings(model="own.py:Own")
    trust.copy(trust.contents(settings), run)
    return run, settings


def test_what_a_file_imports_is_copied_with_it(own):
    run, settings = own
    files = trust.contents(settings)
    assert files == {"model.py": Path("own.py").read_bytes(), "model/blocks.py": b"size = 1\n"}
    copies = {path.relative_to(run / "parts").as_posix() for path in run.rglob("*.py")}
    assert copies == {*files}
    assert trust.located(run, settings).model == f"{run}/parts/model.py:Own"
    # A copy of a copy is the same.
    assert trust.contents(trust.located(run, settings)) == files


def test_a_folder_with_code_is_trusted_when_told(own):
    run, settings = own
    trust.require(run, settings, trust=True)
    with pytest.raises(
        InputError, match=r"run holds a user's Python code, \S+/parts/model.py and \S+/parts/model: read"
    ):
        trust.require(run, settings, trust=False)
    trust.require(run, Settings(), trust=False)


@pytest.mark.parametrize("changed", ["own.py", "blocks.py", "run/parts/model.py", "run/parts/model/blocks.py"])
def test_equal_files_are_trusted_with_all_that_they_import(own, changed):
    run, settings = own
    named = {"model": "own.py"}
    trust.require(run, settings, trust=False, given=named)
    trust.require(run, settings, trust=False, given={**named, "samples": 5, "data": "digits"})
    with Path(changed).open("a") as file:
        file.write("# changed\n")
    with pytest.raises(InputError, match="holds a user's Python code"):
        trust.require(run, settings, trust=False, given=named)


@pytest.mark.parametrize("change", ["less", "more", "other"])
def test_files_of_another_kind_or_number_are_not_trusted(own, change):
    run, settings = own
    if change == "less":
        (run / "parts/model/blocks.py").unlink()
    elif change == "more":  # the copy means a neighbour where the original means an installed package
        Path("own.py").write_text("import torch\nfrom blocks import size\nclass Own: ...\n")
        (run / "parts/model.py").write_bytes(Path("own.py").read_bytes())
        (run / "parts/model/torch.py").write_text("raise SystemExit('this ran')")
    named = {"guide": "own.py"} if change == "other" else {"model": "own.py"}
    with pytest.raises(InputError, match="holds a user's Python code"):
        trust.require(run, settings, trust=False, given=named)


def test_a_copy_that_is_no_file_does_not_hang(own):
    run, settings = own
    for path in (run / "parts/model/blocks.py", run / "parts/model.py"):
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(InputError):
            trust.require(run, settings, trust=False, given={"model": "own.py"})
