"""Auto-Encoding Variational Bayes (Kingma & Welling, 2014) in Pyro.

The engine lives in this package; the three shelves of parts lie beside it and import as
`pyro_vae.models`, `pyro_vae.guides` and `pyro_vae.inference`.
"""

__all__ = ["Run", "bound", "compare", "fit", "load_data", "to_arviz", "train"]

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_vae.arviz_export import to_arviz
    from pyro_vae.comparison import compare
    from pyro_vae.data import load_data
    from pyro_vae.evaluation import bound
    from pyro_vae.run import Run, train
    from pyro_vae.training import fit

__version__ = "0.1.0"

# In a checkout and in an editable install the shelves lie beside this package, in a wheel inside it.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))

_home = {
    "Run": "run",
    "bound": "evaluation",
    "compare": "comparison",
    "fit": "training",
    "load_data": "data",
    "to_arviz": "arviz_export",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    # Resolved on first use: `pyro-vae --help` must not wait for torch.
    if name not in _home:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_home[name]}"), name)
