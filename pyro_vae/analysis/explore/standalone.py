"""The explorer as a page that needs no server: a grid of pictures takes the place of the model."""

__all__ = ["write_page"]

import math
from pathlib import Path

from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.resources import INLINE

from pyro_vae.analysis.explore.explorer import Explorer
from pyro_vae.analysis.explore.page import TEMPLATE, Page
from pyro_vae.run.folder import replace_file

# Values that a grid has at most, and pictures along its side.
_VALUES, _SIDES = 2_000_000, (5, 31)


def write_page(explorer: Explorer, path: Path) -> None:
    """Writes the page.

    Arguments:
        explorer: What is explored.
        path: The file.
    """
    least, most = _SIDES
    side = min(max(math.isqrt(_VALUES // explorer.run.dataset.features), least), most)
    document = Document()
    Page(explorer, side).fill(document)
    page = file_html(document, INLINE, title=document.title, template=TEMPLATE)
    replace_file(path, lambda beside: beside.write_text(page, encoding="utf-8"))
