"""A user's files: executed once a process, with the neighbours that they import, and refused in one line."""

import dataclasses
import inspect
import os
import pickle
import py_compile
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from pyro_vae.errors import InputError
from pyro_vae.run import parts, user_code

MODEL = """
from pathlib import Path
from blocks import Block
import helpers.nets as nets
from pyro_vae.models.bernoulli import BernoulliModel
with open(LOG, "a") as log:
    log.write("model\\n")

class Own(BernoulliModel):
    def likelihood(self, z):
        from late import shift
        return super().likelihood(z + shift() * Block.size)
"""
FILES = {
    "blocks.py": (
        "import inner\nwith open(LOG, 'a') as log:\n    log.write('blocks\\n')\nclass Block:\n    size = inner.SIZE\n"
    ),
    "inner.py": "SIZE = 0.5\n",
    "late.py": "def shift():\n    return 0.0\n",
    "helpers/__init__.py": "from .names import NAME\n",
    "helpers/names.py": "NAME = 'helpers'\n",
    "helpers/nets.py": "from . import names\nfrom ..inner import SIZE\n",
    "guide.py": (
        "from blocks import Block\nfrom pyro_vae.guides.gaussian import GaussianGuide\n"
        "with open(LOG, 'a') as log:\n    log.write('guide\\n')\nclass Guide(GaussianGuide): ...\n"
    ),
    "prior.py": (
        "from pyro_vae.models.priors.normal import NormalPrior\n"
        "with open(LOG, 'a') as log:\n    log.write('prior\\n')\nclass Prior(NormalPrior): ...\n"
    ),
}
TINY = ("--hidden", "5", "--samples", "2000", "--no-figures")


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture(autouse=True)
def _another_process():
    _forget()
    yield
    _forget()


def _forget():
    """Leaves nothing of earlier executions, as a new process would."""
    for name in [*sys.modules]:
        if user_code.is_user_code(name):
            del sys.modules[name]


@pytest.fixture
def own(tmp_path):
    """The user's folder, its files' log of executions, and a way to read it."""
    folder, log = tmp_path / "mine", tmp_path / "log"
    write(
        folder, {name: content.replace("LOG", repr(str(log))) for name, content in {"own.py": MODEL, **FILES}.items()}
    )

    def executed():
        lines = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    return folder, executed


# --- Once a process --------------------------------------------------------------------------------------------------


def test_each_file_is_executed_once_by_each_command(cli, own):
    folder, executed = own
    named = ("--model", folder / "own.py", "--guide", folder / "guide.py", "--prior", folder / "prior.py")
    once = ["blocks", "guide", "model", "prior"]
    few = ("--limit", "10", "--trust")
    assert cli("train", *TINY, *named, "--out", "a").status == 0
    assert sorted(executed()) == once
    _forget()
    assert cli("train", *TINY, *named, "--seed", "1", "--out", "b").status == 0
    assert sorted(executed()) == once
    for command in (
        ("train", "--resume", "--samples", "2400", "--no-figures", "--trust", "--out", "a"),
        ("evaluate", "a", "--particles", "5", *few),
        ("compare", "a", "b", "--particles", "5", *few),
        ("analyze", "a", "--draws", "10", "--chains", "2", "--warmup", "10", *few),
    ):
        _forget()
        result = cli(*command)
        assert result.status == 0, result.err
        assert sorted(executed()) == once, command


def test_two_classes_of_a_file_and_an_equal_copy_are_one_execution(own):
    folder, executed = own
    path = folder / "vae.py"
    path.write_text((folder / "guide.py").read_text() + "class Other(GaussianGuide): ...\n")
    first, second = parts.find("guide", f"{path}:Guide"), parts.find("guide", f"{path}:Other")
    assert first.__module__ == second.__module__
    assert executed() == ["blocks", "guide"]
    copy = folder / "copy.py"
    copy.write_bytes(path.read_bytes())
    assert parts.find("guide", f"{copy}:Guide") is first
    path.write_text(path.read_text() + "# edited\n")
    assert parts.find("guide", f"{path}:Guide") is not first
    assert executed() == ["guide"]  # blocks.py is what it was
    # What a neighbour holds is a part of a file's content.
    (folder / "inner.py").write_text("SIZE = 2\n")
    assert parts.find("model", str(folder / "own.py")).likelihood.__globals__["Block"].size == 2
    assert executed() == ["blocks", "model"]


def test_a_file_that_another_one_imports_is_the_same_module(tmp_path):
    """A guide that takes a layer from its model's file."""
    write(
        tmp_path,
        {
            "model.py": "class Model:\n    def forward(self): ...\n",
            "guide.py": "import model\nclass Guide(model.Model): ...\n",
        },
    )
    model, guide = parts.find("model", f"{tmp_path}/model.py"), parts.find("guide", f"{tmp_path}/guide.py")
    assert guide.__mro__[1] is model


def test_files_that_import_each_other_are_one_module_each(tmp_path):
    write(
        tmp_path,
        {
            "own.py": "class Base: ...\nimport blocks\n__all__ = ['Own']\nclass Own(blocks.Block):\n    forward = 1\n",
            "blocks.py": "import own\nclass Block(own.Base): ...\n",
        },
    )
    part = parts.find("model", f"{tmp_path}/own.py")
    assert [kind.__name__ for kind in part.__mro__] == ["Own", "Block", "Base", "object"]
    assert len({kind.__module__ for kind in part.__mro__[:-1]}) == 2


# --- Neighbours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "where", "name"),
    [
        (["-P", "-c", "from pyro_vae.cli import main; main()"], ".", "mine/own.py"),  # as the script does
        (["-m", "pyro_vae"], "mine", "own.py"),
    ],
)
def test_neighbours_are_found_however_and_wherever_the_program_is_started(own, tmp_path, program, where, name):
    # An argument that does not exist is refused after the model's file was executed.
    command = [sys.executable, *program, "train", "--model", name, "--set", "model.nothing=1", "--out", "x"]
    result = subprocess.run(command, cwd=tmp_path / where, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "pyro-vae: --set model.nothing is unknown: Own takes hidden, prior, depth, activation\n"


def test_a_run_holds_the_neighbours_and_needs_the_originals_no_more(cli, own, tmp_path):
    folder, _ = own
    assert cli("train", *TINY, "--model", folder / "own.py", "--out", "run").status == 0
    copies = {path.relative_to("run/parts").as_posix() for path in Path("run/parts").rglob("*.py")}
    neighbours = ("blocks", "helpers/__init__", "helpers/names", "helpers/nets", "inner", "late")
    assert copies == {"model.py", *(f"model/{name}.py" for name in neighbours)}
    before = cli("evaluate", "run", "--trust", "--limit", "5", "--json").out
    for path in folder.rglob("*.py"):
        path.write_text("raise SystemExit('not the copy')")
    _forget()
    assert cli("evaluate", "run", "--trust", "--limit", "5", "--json").out == before
    # A copy is a file like any other, for a new run, too.
    assert cli("train", *TINY, "--model", "run/parts/model.py", "--out", "again").status == 0
    assert (
        Path("again/parts/model/helpers/nets.py").read_bytes() == Path("run/parts/model/helpers/nets.py").read_bytes()
    )
    # A run that takes the place of this one takes nothing of it along.
    (tmp_path / "plain.py").write_text(
        "import inner\nfrom pyro_vae.models.bernoulli import BernoulliModel\nclass Own(BernoulliModel): ...\n"
    )
    result = cli("train", *TINY, "--model", "plain.py", "--out", "run", "--overwrite")
    assert result.status == 2
    assert "No module named 'inner'" in result.err
    (tmp_path / "inner.py").touch()
    assert cli("train", *TINY, "--model", "plain.py", "--out", "run", "--overwrite").status == 0
    copies = {path.relative_to("run/parts").as_posix() for path in Path("run/parts").rglob("*.py")}
    assert copies == {"model.py", "model/inner.py"}


def test_two_runs_have_their_own_neighbours(tmp_path):
    found = []
    for value in (1, 2):
        folder = tmp_path / str(value)
        write(folder, {"own.py": "import blocks\nclass Own:\n    value = blocks.VALUE\n    def forward(self): ...\n"})
        (folder / "blocks.py").write_text(f"VALUE = {value}\n")
        found.append(parts.find("model", f"{folder}/own.py"))
    assert [part.value for part in found] == [1, 2]
    assert "blocks" not in sys.modules


@pytest.mark.parametrize(
    ("statement", "files", "value"),
    [
        ("import torch", {"torch.py": "VALUE = 7\n"}, "torch.VALUE"),  # in this file only
        ("import utils", {"utils.py": "import json\nVALUE = json.dumps(7)\n"}, "int(utils.VALUE)"),
        ("from . import a", {"a.py": "VALUE = 7\n"}, "a.VALUE"),
        ("from .a import VALUE", {"a.py": "VALUE = 7\n"}, "VALUE"),
        ("from a import *", {"a/__init__.py": "__all__ = ['b']\n", "a/b.py": "VALUE = 7\n"}, "b.VALUE"),
        ("import a.b.c", {"a/b/c.py": "VALUE = 7\n"}, "a.b.c.VALUE"),  # folders without an __init__.py
        ("import a.b.c as d", {"a/__init__.py": "", "a/b/__init__.py": "", "a/b/c.py": "VALUE = 7\n"}, "d.VALUE"),
        ("from a.b import c", {"a/b/c.py": "from ..e import VALUE\n", "a/e.py": "VALUE = 7\n"}, "c.VALUE"),
        ("try:\n    import missing\nexcept ImportError:\n    missing = 7", {}, "missing"),
        ("import a", {"a.py": "import importlib.util as u, math\nVALUE = 7\n"}, "a.VALUE"),
        ("a = __import__('b')\nimport b", {"b.py": "VALUE = 7\n"}, "a.VALUE"),
        ("exec('import b')\nif 0: import b", {"b.py": "VALUE = 7\n"}, "b.VALUE"),
    ],
)
def test_ways_to_import_a_neighbour(tmp_path, statement, files, value):
    (tmp_path / "own.py").write_text(f"{statement}\nclass Own:\n    value = {value}\n    def forward(self): ...\n")
    write(tmp_path, files)
    search, torch = [*sys.path], sys.modules["torch"]
    assert parts.find("model", f"{tmp_path}/own.py").value == 7
    assert sys.path == search
    assert sys.modules["torch"] is torch
    assert not {"utils", "a", "b"} & {*sys.modules}


def test_what_else_knows_a_module_finds_it(tmp_path):
    """Dataclasses, pickles, the source of a class, and the line of an error in a neighbour."""
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport blocks\n"
        "@dataclass\nclass Own:\n    size: int = 3\n    def forward(self):\n        return blocks.fail()\n"
    )
    (tmp_path / "blocks.py").write_text("\n\ndef fail():\n    raise IndexError('here')\n")
    part = parts.find("model", f"{tmp_path}/own.py")
    assert dataclasses.asdict(part()) == {"size": 3}
    assert pickle.loads(pickle.dumps(part(4))) == part(4)
    assert inspect.getsource(part).startswith("@dataclass\nclass Own:\n    size: int = 3")
    assert inspect.getfile(part) == str(tmp_path / "own.py")
    with pytest.raises(IndexError) as error:
        part().forward()
    assert [(Path(f.filename).name, f.lineno, f.line) for f in traceback.extract_tb(error.tb)[-2:]] == [
        ("own.py", 8, "return blocks.fail()"),
        ("blocks.py", 4, "raise IndexError('here')"),
    ]


def test_a_compiled_neighbour_does_not_run(tmp_path):
    write(tmp_path, {"own.py": "import blocks\nclass Own:\n    def forward(self): ...\n", "blocks.py": "x = 1\n"})
    (tmp_path / "evil.py").write_text("raise SystemExit('this ran')")
    where = Path(tmp_path, "__pycache__", f"blocks.{sys.implementation.cache_tag}.pyc")
    py_compile.compile(tmp_path / "evil.py", where, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    parts.find("model", f"{tmp_path}/own.py")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("extension", r"imports blocks, and \S+/blocks.so is compiled: give its source"),
        ("link", r"blocks.py is a link that leads out of its folder: put the file itself there"),
        ("pipe", r"imports blocks, and \S+/blocks.py cannot be read: it is no regular file"),
        ("large", r"imports blocks, and \S+/blocks.py cannot be read: it is longer than 1 MiB"),
        ("elsewhere", r"imports blocks, and \S+/blocks.py lies outside its folder: put it into that"),
        ("broken", r"cannot be imported: ZeroDivisionError: division by zero \(blocks.py:2\)"),
        ("missing", r"cannot be imported: ModuleNotFoundError: No module named 'blocks' \(own.py:1\)"),
        ("beyond", r"cannot be imported: ImportError: attempted relative import"),
    ],
)
def test_a_neighbour_that_cannot_be_copied_is_refused(tmp_path, monkeypatch, kind, message):
    folder, other = tmp_path / "mine", tmp_path / "other"
    statement = "from .. import blocks" if kind == "beyond" else "import blocks"
    write(folder, {"own.py": f"{statement}\nclass Own:\n    def forward(self): ...\n"})
    write(other, {"blocks.py": "x = 1\n"})
    neighbour = folder / "blocks.py"
    if kind == "extension":
        (folder / "blocks.so").touch()
    elif kind == "link":
        neighbour.symlink_to(other / "blocks.py")
    elif kind == "pipe":
        os.mkfifo(neighbour)
    elif kind == "large":
        neighbour.write_text("#" * (2**20 + 1))
    elif kind == "broken":
        neighbour.write_text("\nx = 1 / 0\n")
    elif kind == "elsewhere":  # as `python -m pyro_vae` puts the folder that it is started in there
        monkeypatch.syspath_prepend(other)
    with pytest.raises(InputError, match=message) as refusal:
        parts.find("model", f"{folder}/own.py")
    assert "\n" not in str(refusal.value)


def test_a_neighbour_that_is_imported_by_a_call_is_refused(tmp_path, monkeypatch):
    write(tmp_path, {"own.py": "import importlib\nblocks = importlib.import_module('called')\n", "called.py": ""})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "called", raising=False)
    with pytest.raises(InputError, match=r"own.py imports called by a call: write it as an import statement"):
        parts.find("model", f"{tmp_path}/own.py")
    sys.modules.pop("called", None)


# --- One line --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "cannot be imported: SyntaxError"),
        (b"x = 1\0", "cannot be imported: SyntaxError"),
        (b"(" * 1000, "cannot be imported: (SyntaxError|MemoryError)"),
        (b"import sys\nsys.exit(3)", r"cannot be imported: SystemExit: 3 \(own.py:2\)"),
        (b"raise GeneratorExit", r"cannot be imported: GeneratorExit \(own.py:1\)"),
        (b"class Odd(BaseException):\n    def __str__(self): raise self\nraise Odd", r"Odd \(own.py:3\)"),
        (b"raise ValueError('a\\nb')", r"cannot be imported: ValueError: a b \(own.py:1\)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_in_one_line(tmp_path, content, message):
    (tmp_path / "own.py").write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        parts.find("model", f"{tmp_path}/own.py")
    assert "\n" not in str(refusal.value)


def test_an_interrupt_passes(tmp_path):
    (tmp_path / "own.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        parts.find("model", f"{tmp_path}/own.py")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "it is no regular file"),
        ("folder", "it is no regular file"),
        ("endless", "it is longer than 1 MiB"),
        ("device", "it is no regular file"),
        ("nul", "null"),
        ("bytes", "has a name that is not UTF-8: rename it"),
    ],
)
def test_what_is_no_file_of_a_bounded_size_is_not_read(tmp_path, kind, message):
    path = tmp_path / {"nul": "a\0.py", "bytes": "a\udcff.py"}.get(kind, "own.py")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "bytes":
        path.write_text("class Own: ...")
    with pytest.raises(InputError, match=message) as refusal:
        parts.find("model", str(path))
    str(refusal.value).encode()


def test_what_a_file_prints_is_no_result(tmp_path, capsys):
    (tmp_path / "own.py").write_text(
        "print('at import')\nclass Own:\n    def __init__(self):\n        print('built')\n    def forward(self): ...\n"
    )
    parts.build("model", parts.find("model", f"{tmp_path}/own.py"))
    assert capsys.readouterr() == ("", "at import\nbuilt\n")
