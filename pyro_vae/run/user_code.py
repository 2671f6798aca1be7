"""Executes a user's Python file with the neighbours that it imports, once a process.

A module's name in `sys.modules` is a hash of its content and of all that it imports from its folder: an equal copy is
the same module, an edited one another, and two runs with different `blocks.py` live side by side. Python's search path
is left alone. Instead, such modules are given an `__import__` of their own, in their `__builtins__`, which knows the
neighbours.
"""

__all__ = ["PREFIX", "guarded", "is_user_code", "load"]

import builtins
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.abc import InspectLoader
from importlib.util import decode_source, module_from_spec, spec_from_loader
from pathlib import Path
from threading import RLock
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any

from pyro_vae.errors import InputError, reason
from pyro_vae.run.user_files import NEVER, Source, Tree, collect, first, home, locate, shown

PREFIX = "pyro_vae_user_"
_lock = RLock()


def is_user_code(module: object) -> bool:
    """Whether a module's name is one of those that files of a user's are given."""
    return isinstance(module, str) and module.startswith(PREFIX)


@contextmanager
def guarded(what: str, within: Iterable[Path] = ()) -> Iterator[None]:
    """Runs a user's code: whatever it raises is told in one line, and what it prints goes to standard error.

    Warnings are told once it has succeeded.

    Arguments:
        what: What has failed then, for the message.
        within: The user's files: the message names the line in them.

    Raises:
        InputError: If the code raises anything but an `InputError` or a `KeyboardInterrupt`.
    """
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings(record=True) as told:
            yield
        for each in told or ():
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # sys.exit and a user's own kinds as well
        files = {str(path): path.name for path in within}
        lines = [
            f" ({files[frame.f_code.co_filename]}:{line})"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename in files
        ]
        said = reason(error)
        place = lines[-1] if lines and not said.endswith(lines[-1]) else ""
        raise InputError(f"{what}: {said}{place}") from error


def load(path: Path, flag: str) -> ModuleType:
    """Returns the module of a user's file, which is executed where this process has not executed an equal one.

    Arguments:
        path: The file.
        flag: What it was given as, for the message: `--model`.

    Raises:
        InputError: If it cannot be read or executed.
    """
    import torch  # `pyro-vae --help` must not wait for it

    from pyro_vae.device import seeded

    tree = collect(path, flag)
    with _lock:
        before = {*sys.modules}
        files = [tree.entry.path, *(source.path for source in tree.sources.values())]
        # What it draws as it is executed, once for all runs of a process, belongs to none of them.
        with guarded(f"{flag} {shown(path)} cannot be imported", files), seeded(0, torch.device("cpu")):
            module = _module(tree, tree.start)
            for name in {*sys.modules} - before - NEVER:
                file = None if "." in name else getattr(sys.modules[name], "__file__", None)
                if isinstance(file, str) and Path(file).resolve() == locate(home(path).resolve(), name):
                    raise InputError(f"{flag} {shown(path)} imports {name} by a call: write it as an import statement")
        return module


def _module(tree: Tree, name: str) -> ModuleType:
    """Returns the module of a dotted name; its packages are executed first, as Python does it."""
    group, _, rest = name.partition(".")
    public = PREFIX + tree.key(group) + (f".{rest}" if rest else "")
    if public in sys.modules:
        return sys.modules[public]
    parent = _module(tree, name.rpartition(".")[0]) if rest else None
    if public in sys.modules:  # its package has imported it
        return sys.modules[public]
    source = tree.sources.get(name) if name else tree.entry
    if source is None and not any(other.startswith(f"{name}.") for other in tree.sources):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    loader = _Loader(tree, source)
    spec = spec_from_loader(public, loader, origin=str(source.path) if source else None, is_package=loader.package)
    assert spec is not None
    spec.has_location = source is not None
    module = module_from_spec(spec)
    sys.modules[public] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(public, None)
        raise
    if parent is not None:
        setattr(parent, name.rpartition(".")[2], module)
    return module


class _Loader(InspectLoader):
    """Executes the text that was collected: no compiled file, and not what the file holds by now.

    Arguments:
        tree: What the file was collected with.
        source: The file; None is a folder without an `__init__.py`.
    """

    def __init__(self, tree: Tree, source: Source | None) -> None:
        self.tree, self.source = tree, source
        self.package = source is None or source.is_package

    def is_package(self, fullname: str) -> bool:
        return self.package

    def get_source(self, fullname: str) -> str:
        return decode_source(self.source.content) if self.source else ""

    def get_code(self, fullname: str) -> CodeType:
        if self.source is None:
            return compile("", "", "exec")
        return compile(self.source.content, str(self.source.path), "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        if self.tree.sources and self.source is not None:
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        exec(self.get_code(module.__name__), module.__dict__)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Iterable[str] | None = (),
        level: int = 0,
    ) -> Any:
        """What an import statement of the file does."""
        if level and self.source is not None:
            base = self.source.package.split(".") if self.source.package else []
            if level > len(base) + 1:
                raise ImportError("attempted relative import beyond the folder of the file")
            name = ".".join([*base[: len(base) + 1 - level], *([name] if name else [])])
            if not name:
                return self._members(fromlist or ())
            if not self.tree.knows(name):
                raise ModuleNotFoundError(f"No module named '{name}' in the folder of the file", name=name)
        elif not self.tree.knows(name):
            return builtins.__import__(name, globals, locals, tuple(fromlist or ()), level)
        with _lock:
            module = _module(self.tree, name)
            if not fromlist:
                return _module(self.tree, first(name))
            wanted = getattr(module, "__all__", ()) if "*" in fromlist else fromlist
            for member in wanted:
                if not hasattr(module, member) and f"{name}.{member}" in self.tree.sources:
                    _module(self.tree, f"{name}.{member}")
        return module

    def _members(self, names: Iterable[str]) -> SimpleNamespace:
        """Files beside the file that was asked for, by `from . import`."""
        for name in names:
            if not self.tree.knows(name):
                raise ImportError(f"cannot import name '{name}': there is no {name}.py in its folder")
        with _lock:
            return SimpleNamespace(**{name: _module(self.tree, name) for name in names})
