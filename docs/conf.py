"""How the site is built: `make docs`, into build/site, without a network."""

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import pyro_vae

ROOT = Path(__file__).parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Homepage"]

project = "Pyro VAE"
author = copyright = "The Pyro VAE authors"
release = version = pyro_vae.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["conf.py", "_static", "_templates"]
templates_path = ["_templates"]
nitpicky = True
# What is not ours is not linked: that would take a network.
nitpick_ignore_regex = [(r"py:.*", r"(?!pyro_vae\.).*")]
default_role = "code"
highlight_language = "none"

html_theme = "furo"
html_title = f"Pyro VAE {version}"
html_theme_options = {"source_repository": f"{REPOSITORY}/", "source_branch": "main", "source_directory": "docs/"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_math_renderer = "mathml"
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

# The tutorials are Python files in cells, and are run as the site is built.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_output_stderr = "remove"

autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

linkcheck_ignore = [f"{re.escape(REPOSITORY)}.*"]


def mathml(translator: Any, node: nodes.Node) -> None:
    """Writes a formula as MathML, which browsers draw without a script."""
    tex = node.astext().replace(r"\log ", r"\log\, ")  # which is set without a space otherwise
    translator.body.append(tex2mathml(tex, as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def links_out_of_docs(app: Sphinx, page: str, source: list[str]) -> None:
    """Leads links to files of the repository to it: pages are written to be read there as well."""
    folder = posixpath.dirname(page)

    def led(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, found["path"]))
        if path.startswith("docs/"):
            return found[0]
        own = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}.get(path)
        there = posixpath.relpath(own, folder or ".") if own else f"{REPOSITORY}/blob/main/{path}"
        return f"]({there}{found['anchor']})"

    source[0] = re.sub(r"\]\((?P<path>\.\./[^)#]+)(?P<anchor>[^)]*)\)", led, source[0])


def setup(app: Sphinx) -> None:
    """Tells Sphinx of the two."""
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("source-read", links_out_of_docs)
