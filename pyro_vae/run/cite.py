"""What to cite: BibTeX of this software, the paper, and what the docstrings of parts name as their sources."""

__all__ = ["cite"]

import inspect
import re
import sys
from pathlib import Path

from pyro_vae import __version__
from pyro_vae.errors import InputError
from pyro_vae.run import parts

_ENTRY = re.compile(r"^(?P<said>[^\n@}]+)\n(?P<entry>@\w+\{.*?\n\}\n)", re.DOTALL | re.M)
_KINDS = ("model", "prior", "guide", "inference", "marginal")
_ALWAYS = "Kingma & Welling, 2014; Bingham et al., 2019"  # the paper, and Pyro

_OWN = """@software{{pyrovae,
  title = {{Pyro {{VAE}}: Auto-Encoding Variational {{Bayes}} in Pyro}},
  author = {{{{The Pyro VAE authors}}}},
  version = {{{version}}},
  url = {{https://github.com/pyro-vae/pyro-vae}},
}}
"""


def cite(*names: str) -> str:
    """Returns what to cite where some parts were used, as BibTeX: this software, Pyro, the paper, and their sources.

    Arguments:
        names: Names of parts on the shelves. Where parts of several kinds have one name, the sources of all of them.

    Raises:
        InputError: If there is no part of a name.

    Example:
        >>> import pyro_vae
        >>> print(pyro_vae.cite("vamp"))  # doctest: +ELLIPSIS
        @software{pyrovae,
        ...
        @inproceedings{tomczak2018vae,
          title = {{VAE} with a {VampPrior}},
        ...
    """
    on_shelves = {kind: parts.names(kind) for kind in _KINDS}
    said = [_ALWAYS]
    for name in names:
        kinds = [kind for kind in _KINDS if name in on_shelves[kind]]
        if not kinds:
            known = sorted({each for kind in _KINDS for each in on_shelves[kind]})
            raise InputError(f"cite {name} is unknown: choose from {', '.join(known)}")
        for kind in kinds:
            part = parts.find(kind, name)
            said += [inspect.getdoc(sys.modules[part.__module__]) or "", inspect.getdoc(part) or ""]
    text = " ".join(" ".join(said).split())
    own = _OWN.format(version=__version__)
    return "\n".join([own, *(entry for name, entry in references().items() if name in text)])


def references() -> dict[str, str]:
    """Returns the BibTeX entries by the words that docstrings name them with."""
    text = (Path(__file__).parent.parent / "references.bib").read_text(encoding="utf-8")
    return {found["said"]: found["entry"] for found in _ENTRY.finditer(text)}
