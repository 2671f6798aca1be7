"""Auto-Encoding Variational Bayes (Kingma & Welling, 2014) in Pyro.

The engine lives in this package; the three shelves of parts lie beside it and import as
`pyro_vae.models`, `pyro_vae.guides` and `pyro_vae.inference`.
"""

__all__ = ["Run", "bound", "cite", "compare", "fit", "load_data", "observed", "step", "to_arviz", "train"]

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_vae.analysis.comparison import compare
    from pyro_vae.analysis.export import to_arviz
    from pyro_vae.data.loading import load_data
    from pyro_vae.marginal import bound
    from pyro_vae.rows import observed
    from pyro_vae.run.cite import cite
    from pyro_vae.run.fit import fit
    from pyro_vae.run.run import Run
    from pyro_vae.run.train import train
    from pyro_vae.steps import step

__version__ = "0.1.0"

# In a checkout and in an editable install the shelves lie beside this package, in a wheel inside it.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))

_home = {
    "Run": "run.run",
    "bound": "marginal",
    "cite": "run.cite",
    "compare": "analysis.comparison",
    "fit": "run.fit",
    "load_data": "data",
    "observed": "rows",
    "step": "steps",
    "to_arviz": "analysis.export",
    "train": "run.train",
}
_modules = {"data": "data", "figures": "analysis.figures"}


def __getattr__(name: str) -> Any:
    # Resolved on first use: `pyro-vae --help` must not wait for torch.
    if name in _modules:
        return import_module(f"{__name__}.{_modules[name]}")
    if name not in _home:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_home[name]}"), name)
