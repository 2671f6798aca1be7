"""The rules of the house: who may import whom, which names the engine may know, and how the shelves are found."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pyro_vae
from pyro_vae.errors import InputError
from pyro_vae.run import parts

ROOT = Path(__file__).parent.parent
SHELVES = ("models", "guides", "inference")

# What each room may import, besides itself. The door and the face of the package import everything.
MAY_IMPORT = {
    "mathematics": set(),
    "models": {"mathematics"},
    "guides": {"mathematics"},
    "inference": {"mathematics"},
    "data": {"mathematics"},
    "run": {"mathematics", "data"},
    "analysis": {"mathematics", "data", "run"},
    "paper": {"mathematics", "data", "run"},
    "cli": {"mathematics", "data", "run", "analysis", "paper"},
    "face": {"mathematics", "data", "run", "analysis", "paper", "cli"},
}
# Rooms that know no part by its name or class: what they must know of it, it says by an attribute.
NAMELESS = ("mathematics", "data", "run", "analysis")
# The defaults of a run are names.
NAMES_ALLOWED = {"pyro_vae.run.settings"}


def _modules():
    """The files of the package by their modules' names, the shelves among them."""
    for top in ("pyro_vae", *SHELVES):
        for path in sorted((ROOT / top).glob("**/*.py")):
            words = path.relative_to(ROOT).with_suffix("").parts
            words = words if top == "pyro_vae" else ("pyro_vae", *words)
            yield ".".join(words[:-1] if words[-1] == "__init__" else words), path


MODULES = dict(_modules())
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def _room(module):
    _, *below = module.split(".")
    if not below or below == ["__main__"]:
        return "face"
    return below[0] if below[0] in MAY_IMPORT else "mathematics"


def _imports(module):
    """The modules of the package that a module imports, also inside functions and for type checkers alone."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            assert not name.startswith(SHELVES), f"{module} imports {name}: write pyro_vae.{name}"
            if name == "pyro_vae.__version__":  # no module of its own
                continue
            while name and name not in MODULES:
                name = name.rpartition(".")[0]
            if name and name != module:
                yield name


IMPORTS = {module: set(_imports(module)) for module in MODULES}


def test_all_of_the_package_is_seen():
    rooms = {_room(module) for module in MODULES}
    assert rooms == set(MAY_IMPORT)
    # One import of each kind: of a module, from a package, relative, inside a function, and for type checkers.
    assert "pyro_vae.errors" in IMPORTS["pyro_vae.data.sources"]
    assert "pyro_vae.ranks" in IMPORTS["pyro_vae.inference.mcem"]
    assert "pyro_vae.models.priors.normal" in IMPORTS["pyro_vae.models.base"]
    assert "pyro_vae.analysis.figures" in IMPORTS["pyro_vae.cli.pictures"]
    assert "pyro_vae.analysis.verdicts" in IMPORTS["pyro_vae.cli.tables"]


def _edges():
    for module in MODULES:
        for name in sorted(IMPORTS[module]):
            yield pytest.param(module, name, id=f"{module}-{name}".replace("pyro_vae.", ""))


@pytest.mark.parametrize(("module", "name"), [*_edges()])
def test_imports_go_down(module, name):
    assert _room(name) in MAY_IMPORT[_room(module)] | {_room(module)}


def test_no_module_imports_itself_by_way_of_others():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def _part_names():
    """The names of the parts, and of the classes that they are."""
    stems, classes = set(), {"BayesianModel"}  # the module that `full_vb` trains
    for module in MODULES:
        if _room(module) in SHELVES and not module.endswith(("base", *SHELVES, "priors")):
            stems.add(module.rpartition(".")[2])
            classes |= {node.name for node in TREES[module].body if isinstance(node, ast.ClassDef)}
    return stems, classes


STEMS, CLASSES = _part_names()
# Words of prose as well, unless they are the whole of a string.
PROSE = {"beta", "categorical", "flow", "gaussian", "importance", "mixture", "normal", "reciprocal"}
# Arguments that one part alone has.
ARGUMENTS = {"min_log_variance"}


def _named(module):
    """The parts that a module's code names, docstrings excluded."""
    tree = TREES[module]
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            # What is said to a user in a sentence may name a part: no decision hangs on it.
            words = (
                set()
                if " " in node.value.strip()
                else {node.value, *re.findall(r"\w+", node.value)} - (PROSE - {node.value})
            )
            yield from words & (STEMS | CLASSES | ARGUMENTS)
        elif isinstance(node, ast.Name) and node.id in CLASSES:
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr in CLASSES | ARGUMENTS:
            yield node.attr


def _nameless():
    for module in MODULES:
        if _room(module) in NAMELESS and module not in {*NAMES_ALLOWED, "pyro_vae.bayesian"}:
            yield module


@pytest.mark.parametrize("module", [*_nameless()])
def test_the_engine_knows_no_part_by_name(module):
    assert not set(_named(module))


def test_names_are_found_where_they_stand():
    assert set(_named("pyro_vae.run.settings")) >= {"bernoulli", "normal", "gaussian", "aevb"}
    assert "BernoulliModel" in set(_named("pyro_vae.models.bernoulli"))


POSIX = ["fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"]
IMPORT_ALL = """
import json, logging, sys
from importlib import import_module

class NoPosix:
    def find_spec(self, name, path=None, target=None):
        if name in posix:
            raise ImportError(f"no {name} here")

set_level, set_levels = logging.Logger.setLevel, []

def spy(logger, level):
    if sys._getframe(1).f_globals["__name__"].startswith("pyro_vae"):
        set_levels.append(logger.name)
    set_level(logger, level)

def state():
    import torch
    return {
        "levels of loggers": list(set_levels),
        "handlers": len(logging.getLogger().handlers) + len(logging.getLogger("pyro_vae").handlers),
        "bijections": len(torch.distributions.biject_to._registry),
        "threads": torch.get_num_threads(),
        "generator": torch.initial_seed(),
        "default type": str(torch.get_default_dtype()),
        "trackers": sorted({"tensorboard", "mlflow", "wandb"} & set(sys.modules)),
    }

names, libraries, posix = json.loads(sys.argv[1])
for library in libraries:
    import_module(library)
for name in posix:
    sys.modules.pop(name, None)
logging.Logger.setLevel = spy
sys.meta_path.insert(0, NoPosix())
before = state()
for name in names:
    import_module(name)
print(json.dumps([before, state()]))
"""


def _foreign(module, nodes):
    """The packages of others that some lines of a module import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    return found - {"pyro_vae"}


@pytest.fixture(scope="module")
def state_before_and_after():
    """What is global, before and after an import of all modules where there is no POSIX."""
    modules = [name for name in MODULES if name != "pyro_vae.__main__"]
    libraries = {name for module in MODULES for name in _foreign(module, TREES[module].body)}
    given = json.dumps([modules, sorted(libraries), POSIX])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, given], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_needs_posix(state_before_and_after, module):
    assert state_before_and_after  # all were imported without
    assert not _foreign(module, ast.walk(TREES[module])) & set(POSIX)


@pytest.mark.parametrize(
    "what",
    [
        "levels of loggers",
        "handlers",
        "bijections",
        "threads",
        "generator",
        "default type",
        "trackers",
    ],
)
def test_nothing_happens_at_import(state_before_and_after, what):
    before, after = state_before_and_after
    assert after[what] == before[what]


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


def test_the_package_says_what_it_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {pyro_vae.__version__}\n" in citation
    assert f"\nrepository-code: {project['urls']['Homepage']}\n" in citation
    assert (ROOT / "pyro_vae" / "py.typed").is_file()
    # What the code imports is said, and what comes with it is not relied upon.
    names = {
        "pyro": "pyro-ppl",
        "tornado": "bokeh",
        "sklearn": "scikit-learn",
        "arviz_stats": "arviz",
        "xarray": "arviz",
    }
    said = _names_of(project["dependencies"])
    # One wing is an extra as a whole: the command that opens it says what is missing.
    extra = said | _names_of(project["optional-dependencies"]["explore"])
    for module in MODULES:
        allowed = extra if module.startswith("pyro_vae.analysis.explore.") else said
        for name in _foreign(module, TREES[module].body) - sys.stdlib_module_names:
            assert names.get(name, name.replace("_", "-")) in allowed, f"{module} imports {name}"


def _names_of(requirements):
    return {re.match(r"[\w-]+", text)[0] for text in requirements}


def test_the_public_names_resolve():
    for name in pyro_vae.__all__:
        assert getattr(pyro_vae, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pyro_vae.nothing


def test_help_needs_no_torch():
    code = "import sys; from pyro_vae.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


def test_unknown_parts_are_answered_with_the_known():
    with pytest.raises(InputError, match="--model nope is unknown: choose from bernoulli, beta, "):
        parts.find("model", "nope")
    with pytest.raises(InputError, match="--inference importance is unknown: choose from aevb, "):
        parts.find("inference", "importance")
    with pytest.raises(InputError, match="--marginal aevb is unknown: choose from ais, bdmc, importance"):
        parts.find("marginal", "aevb")


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        (None, "my.py", "my.py cannot be read: No such file"),
        ("def (", "my.py", "cannot be imported: SyntaxError"),
        ("import nothing_of_the_kind", "my.py", "cannot be imported: ModuleNotFoundError"),
        ("x = 1", "my.py", "my.py has no public class"),
        ("class A: ...\nclass B: ...", "my.py", r"several classes: say which, my.py:A or my.py:B"),
        ("class A: ...\nclass B: ...", "my.py:C", "my.py has no class C: it has A, B"),
        ("class A: ...", "my.py", "cannot be used as model: give its class A a method forward"),
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
