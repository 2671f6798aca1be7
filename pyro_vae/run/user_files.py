"""A user's Python file and the neighbours that it imports, read as text: nothing is executed here.

They are collected by their import statements before anything runs, so that what is copied into a run folder, shown to
be trusted and executed is one and the same.
"""

__all__ = ["NEVER", "Source", "Tree", "collect", "first", "home", "locate", "shown"]

import ast
import hashlib
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

from pyro_vae.errors import InputError
from pyro_vae.files import read_regular
from pyro_vae.run.settings import PARTS

_LARGEST, _MOST = 2**20, 500
# A neighbour of these names would be a second copy of what must be one, or is Python itself.
NEVER = frozenset(["pyro_vae", "__future__", "__main__", "builtins", "sys"])
_COMPILED = (*EXTENSION_SUFFIXES, *BYTECODE_SUFFIXES)


@dataclass(frozen=True)
class Source:
    """A file of a user's.

    Arguments:
        path: Where it lies.
        content: Its bytes.
        name: Its dotted name, seen from the folder; empty for the file that was asked for.
        neighbours: The dotted names that it imports from the folder.
    """

    path: Path
    content: bytes
    name: str = ""
    neighbours: frozenset[str] = frozenset()

    @property
    def is_package(self) -> bool:
        """Whether it is the `__init__.py` of a package."""
        return bool(self.name) and self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """The dotted name of the package that its relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @property
    def place(self) -> str:
        """Its path, seen from the folder."""
        return self.name.replace(".", "/") + ("/__init__.py" if self.is_package else ".py")


@dataclass(frozen=True)
class Tree:
    """A user's file and what it imports from its folder.

    Arguments:
        entry: The file that was asked for.
        sources: Its neighbours by their dotted names. The file itself is among them where a neighbour imports it.
    """

    entry: Source
    sources: Mapping[str, Source]

    @cached_property
    def start(self) -> str:
        """The name to load the file by: its own where a neighbour imports it by that, so that there is one of it."""
        same = [name for name, source in self.sources.items() if source.content == self.entry.content]
        return next((name for name in same if "." not in name and not self.sources[name].is_package), "")

    def knows(self, name: str) -> bool:
        """Whether a dotted name is one of the folder's."""
        return bool(name) and first(name) in self._groups

    def key(self, group: str) -> str:
        """A hash of a file or package and all that it imports; its own name plays no part, as a copy may have another.

        Arguments:
            group: The first part of its dotted name.
        """
        return self._keys[group]

    @cached_property
    def _groups(self) -> dict[str, list[Source]]:
        groups: dict[str, list[Source]] = {"": [self.entry]}
        for name, source in sorted(self.sources.items()):
            groups.setdefault(first(name), []).append(source)
        return groups

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {group: self._hash(group) for group in self._groups}

    def _hash(self, group: str) -> str:
        reached, new = {group}, [group]
        while new:
            found = {first(name) for source in self._groups[new.pop()] for name in source.neighbours}
            new += found - reached
            reached |= found
        listed = [
            (member != group and member, source.place.removeprefix(member), hashlib.sha256(source.content).hexdigest())
            for member in sorted(reached)
            for source in self._groups[member]
        ]
        return hashlib.sha256(repr(sorted(listed, key=repr)).encode()).hexdigest()[:16]


def first(name: str) -> str:
    """The first part of a dotted name."""
    return name.partition(".")[0]


def collect(path: Path, flag: str) -> Tree:
    """Reads a file and, by their import statements, the files that it imports from its own folder.

    Arguments:
        path: The file.
        flag: What it was given as, for the message: `--model`.

    Raises:
        InputError: If one of them cannot be read, or cannot be copied into a run.
    """
    asked = f"{flag} {shown(path)}"
    content = _read(path, asked)
    folder = home(path)
    entry = Source(path.absolute(), content, "", _neighbours(folder, "", content, asked))
    sources: dict[str, Source] = {}
    waiting = [*entry.neighbours]
    while waiting:
        name = waiting.pop()
        file = locate(folder, name)
        if name in sources or file is None:  # a folder without an __init__.py
            continue
        what = f"{asked} imports {name}, and {shown(file)}"
        if not file.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{what} is a link that leads out of its folder: put the file itself there")
        if len(sources) >= _MOST:
            raise InputError(f"{asked} imports more than {_MOST} files of its folder: install them as a package")
        content = _read(file, what)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        sources[name] = Source(file, content, name, _neighbours(folder, package, content, asked))
        waiting += sources[name].neighbours
    return Tree(entry, sources)


def home(path: Path) -> Path:
    """The folder that a file imports its neighbours from; of a copy in a run folder, `parts/KIND.py`, `parts/KIND`."""
    folder = path.absolute().parent
    if folder.name == "parts" and path.stem in PARTS and (folder.parent / "run.toml").is_file():
        return folder / path.stem
    return path.resolve().parent  # as Python itself takes a link


def _read(path: Path, what: str) -> bytes:
    try:
        str(path).encode()
        return read_regular(path, _LARGEST)
    except UnicodeEncodeError as error:
        raise InputError(f"{what} has a name that is not UTF-8: rename it") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{what} cannot be read: {why}: give the path of a Python file") from error


def shown(path: Path) -> str:
    """A path as a message can say it."""
    return str(path).encode(errors="backslashreplace").decode()


def locate(folder: Path, name: str) -> Path | None:
    """The source of a module in a folder, by its dotted name; None where there is none."""
    stem = folder.joinpath(*name.split("."))
    return next(
        (file for file in (stem / "__init__.py", stem.parent / f"{stem.name}.py") if os.path.exists(file)), None
    )  # False for names too long, too


def _neighbours(folder: Path, package: str, content: bytes, asked: str) -> frozenset[str]:
    """The dotted names of what a file imports from a folder.

    Arguments:
        folder: The folder.
        package: The package in it that the file's relative imports start from.
        content: The file's content.
        asked: What the user has given, for the message.

    Raises:
        InputError: If something is not there as source, or Python would take it from elsewhere by chance.
    """
    found: set[str] = set()
    for level, module, members in _statements(content):
        base = package.split(".") if package else []
        if level > len(base) + 1:
            continue  # beyond the folder: that fails when it is executed
        if level:
            module = ".".join([*base[: len(base) + 1 - level], *([module] if module else [])])
        elif first(module) in NEVER:
            continue
        if "*" in members:
            members = [file.stem for file in folder.joinpath(*module.split(".")).glob("*.py")] if module else []
        wanted = [module, *(f"{module}.{member}".lstrip(".") for member in members)]
        here = [name for name in wanted if name and locate(folder, name)]
        if not here and module:
            _require_source(module, folder, asked)
            _require_inside(module, asked)
        # Of `a.b.c`, the packages a and a.b are executed, too.
        found |= {".".join(name.split(".")[: n + 1]) for name in here for n in range(name.count(".") + 1)}
    return frozenset(found)


@lru_cache(maxsize=64)
def _statements(content: bytes) -> list[tuple[int, str, list[str]]]:
    """The import statements of a file, those inside of functions, too: level, module and names."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are told when it is executed
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # told when it is executed
    found: list[tuple[int, str, list[str]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
    return found


def _require_source(module: str, folder: Path, asked: str) -> None:
    """Refuses a neighbour that is there in compiled form only."""
    stem = folder.joinpath(*module.split("."))
    for suffix in _COMPILED:
        if os.path.exists(file := stem.with_name(stem.name + suffix)):
            raise InputError(
                f"{asked} imports {module}, and {shown(file)} is compiled: give its source, since a run holds nothing "
                "else, or install it as a package"
            )


def _require_inside(module: str, asked: str) -> None:
    """Refuses what is found by one way of starting Python and not by another: its first place to look is where."""
    top, started = first(module), Path(sys.path[0] or ".").resolve()
    if top in sys.stdlib_module_names or started in {Path(entry or ".").resolve() for entry in sys.path[1:]}:
        return
    file = locate(started, top)
    if file is None and PathFinder.find_spec(top, sys.path[1:]) is None:  # an installed package goes before a folder
        file = locate(started, module)
    if file is not None:
        raise InputError(
            f"{asked} imports {top}, and {shown(file)} lies outside its folder: put it into that, or install it"
        )
