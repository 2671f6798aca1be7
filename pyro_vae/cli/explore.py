"""`pyro-vae explore`: the latent space of a run in the browser."""

__all__ = ["explore"]

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from pyro_vae.cli.options import computing, on_other, opened, opening, other, splits
from pyro_vae.errors import InputError
from pyro_vae.run.settings import whole


@click.command()
@click.argument("path", metavar="RUN")
@other
@splits
@click.option("--limit", default="50000", show_default=True, metavar="N", help="datapoints at most; more are sampled")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE.html", help="write a page that needs no server")
@click.option("--port", default="0", help="the server's port  [default: one that is free]")
@click.option("--open", "browser", is_flag=True, help="open the page in a browser")
@opening
def explore(
    path: str,
    other: str | None,
    split: str,
    limit: str,
    html: Path | None,
    port: str,
    browser: bool,
    opening: Mapping[str, Any],
) -> None:
    """Move through the latent space in the browser, until Ctrl-C or the page's End."""
    most, number = whole("limit", limit, 2, most=10**6), whole("port", port, 0, most=65_535)
    if find_spec("bokeh") is None:
        raise InputError("explore needs Bokeh, which is not installed: pip install 'pyro-vae[explore]'")
    if html is not None and (html.suffix.lower() not in (".html", ".htm") or not html.parent.is_dir()):
        raise InputError(f"--html {html} is not possible: give the name of an .html file in a folder that exists")
    if html is not None and (number or browser):
        raise InputError(f"--html {html} has no server: leave --port and --open out")
    with computing():
        run = on_other(opened(path, opening), other, split)
        from pyro_vae.analysis.explore.explorer import Explorer

        explorer = Explorer(run, split, most)
    if html is not None:
        from pyro_vae.analysis.explore.standalone import write_page

        with computing():
            write_page(explorer, html)
        click.echo(html)
        return
    from pyro_vae.analysis.explore.server import serve

    serve(explorer, number, started=lambda address: click.echo(address), browser=browser)
