"""How files become numbers: data sets by name or path, and their splits.

Called, `pyro_vae.data(...)` is `load_data`.
"""

__all__ = ["Dataset", "Split", "adapted", "data_dir", "load_data"]

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_home = {
    "Dataset": "pyro_vae.data.dataset",
    "Split": "pyro_vae.split",
    "adapted": "pyro_vae.data.adapt",
    "data_dir": "pyro_vae.data.dataset",
    "load_data": "pyro_vae.data.loading",
}


class _Callable(ModuleType):
    """This package, which can be called as well."""

    def __call__(self, data: Any, **options: Any) -> Any:
        """Loads a data set; see `load_data`."""
        return self.load_data(data, **options)


def __getattr__(name: str) -> Any:
    # Resolved on first use: the settings of the data are read before torch is.
    if name not in _home:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_home[name]), name)


sys.modules[__name__].__class__ = _Callable
