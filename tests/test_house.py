"""The rules of the house: who may import whom, and how the shelves are found."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_vae
from pyro_vae.errors import InputError
from pyro_vae.run import parts

ROOT = Path(__file__).parent.parent
SHELVES = ("models", "guides", "inference")


def _imports(path):
    """The absolute names that a file imports, relative ones resolved against its shelf."""
    home = (
        ["pyro_vae", *path.relative_to(ROOT).parts[:-1]] if path.relative_to(ROOT).parts[0] in SHELVES else ["pyro_vae"]
    )
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(home[: len(home) + 1 - node.level]) + "." if node.level else ""
            yield from (f"{base}{node.module or ''}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted((ROOT / "pyro_vae").glob("**/*.py")), ids=lambda p: p.name)
def test_the_engine_imports_no_shelf(path):
    for name in _imports(path):
        assert not name.startswith(tuple(f"pyro_vae.{shelf}" for shelf in SHELVES)), name
        assert not name.startswith(SHELVES), name


@pytest.mark.parametrize("path", sorted(p for s in SHELVES for p in (ROOT / s).glob("**/*.py")), ids=str)
def test_a_shelf_imports_itself_and_the_engine(path):
    shelf = path.relative_to(ROOT).parts[0]
    for name in _imports(path):
        others = tuple(f"pyro_vae.{other}" for other in SHELVES if other != shelf)
        assert not name.startswith(others), name
        assert not name.startswith(SHELVES), name


def test_shelves_are_part_of_the_package():
    from pyro_vae.guides.gaussian import GaussianGuide
    from pyro_vae.inference.aevb import AEVB
    from pyro_vae.models.bernoulli import BernoulliModel

    assert parts.find("model", "bernoulli") is BernoulliModel
    assert parts.find("guide", "gaussian") is GaussianGuide
    assert parts.find("inference", "aevb") is AEVB


def test_every_part_documents_itself():
    for kind in ("model", "prior", "guide", "inference", "marginal"):
        assert parts.names(kind)
        for name in parts.names(kind):
            assert parts.find(kind, name).__doc__, name


def test_the_public_names_resolve():
    for name in pyro_vae.__all__:
        assert getattr(pyro_vae, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pyro_vae.nothing


def test_help_needs_no_torch():
    code = "import sys; from pyro_vae.cli.main import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


def test_unknown_parts_are_answered_with_the_known():
    with pytest.raises(InputError, match="--model nope is unknown: choose from bernoulli, beta, binomial, "):
        parts.find("model", "nope")
    with pytest.raises(InputError, match="--inference importance is unknown: choose from aevb, "):
        parts.find("inference", "importance")
    with pytest.raises(InputError, match="--marginal aevb is unknown: choose from ais, importance"):
        parts.find("marginal", "aevb")


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        (None, "my.py", "my.py is not there"),
        ("def (", "my.py", "cannot be imported: SyntaxError"),
        ("import nothing_of_the_kind", "my.py", "cannot be imported: ModuleNotFoundError"),
        ("x = 1", "my.py", "my.py has no public class"),
        ("class A: ...\nclass B: ...", "my.py", r"several classes: say which, my.py:A or my.py:B"),
        ("class A: ...\nclass B: ...", "my.py:C", "my.py has no class C: it has A, B"),
        ("class A: ...", "my.py", "is no model: give its class A a method forward"),
    ],
)
def test_a_users_file_that_is_no_part_is_refused(tmp_path, monkeypatch, content, spec, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("my.py").write_text(content)
    with pytest.raises(InputError, match=message):
        parts.find("model", spec)


def test_a_users_file_is_found_by_path(tmp_path):
    path = tmp_path / "my.py"
    path.write_text("__all__ = ['B']\nclass A:\n    def forward(self): ...\nclass B(A): ...\n")
    assert parts.find("model", str(path)).__name__ == "B"
    assert parts.find("model", f"{path}:B").__name__ == "B"
