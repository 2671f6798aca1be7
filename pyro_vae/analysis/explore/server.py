"""The explorer's server: on this machine alone, for those who know its address, until it is told to end."""

__all__ = ["serve"]

import asyncio
import errno
import logging
import os
import secrets
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from socket import create_server, socket

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from pyro_vae.analysis.explore.answers import Answers
from pyro_vae.analysis.explore.explorer import Explorer
from pyro_vae.analysis.explore.guard import Behind, guard
from pyro_vae.analysis.explore.page import Page
from pyro_vae.errors import InputError

_ADDRESS = "127.0.0.1"
# How long the head and the body of a request may be, in bytes, and how long one may take for them, in seconds.
_HEAD, _BODY, _SECONDS = 2**16, 2**20, 30
_LOGGERS = ("bokeh.server", "tornado.general", "tornado.application")


def serve(explorer: Explorer, port: int = 0, *, started: Callable[[str], None], browser: bool = False) -> None:
    """Serves the explorer until its page asks for the end.

    Arguments:
        explorer: What is explored.
        port: The port; 0 takes one that is free.
        started: Called with the page's address, which holds the token, once it is there.
        browser: Whether to open it in a browser.

    Raises:
        InputError: If the port cannot be had.
    """
    try:
        listening = create_server((_ADDRESS, port))
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise InputError(f"--port {port} {why}: give another, or leave it out") from error
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in _LOGGERS:  # they warn of each page that is closed
            logging.getLogger(name).setLevel(logging.ERROR)
        asyncio.run(_served(explorer, listening, f"/{secrets.token_urlsafe(32)}/", started, browser))
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


async def _served(
    explorer: Explorer, listening: socket, path: str, started: Callable[[str], None], browser: bool
) -> None:
    port, ended = listening.getsockname()[1], asyncio.Event()

    def fill(document: Document) -> None:
        page = Page(explorer)
        page.fill(document)
        Answers(page, document, ended.set)
        guard(document)

    hosts = {f"{name}:{port}" for name in (_ADDRESS, "localhost")}
    application = Behind(Application(FunctionHandler(fill)), path.strip("/"), hosts)
    http = HTTPServer(
        application,
        max_header_size=_HEAD,
        max_body_size=_BODY,
        body_timeout=_SECONDS,
        idle_connection_timeout=_SECONDS,
    )
    listening.setblocking(False)
    http.add_socket(listening)
    server = BaseServer(IOLoop.current(), application, http)
    server.start()
    address = f"http://{_ADDRESS}:{port}{path}"
    door = _door(address) if browser else None
    try:
        started(address)
        await ended.wait()
    finally:
        logging.getLogger("tornado.application").setLevel(logging.CRITICAL)  # pages that are still there are cut off
        await server.stop_async()
        if door is not None:
            door.unlink(missing_ok=True)


def _door(address: str) -> Path:
    """Opens the address in a browser by way of a file: others may read a command line, and the token in it."""
    handle, name = tempfile.mkstemp(suffix=".html", prefix="explore-")
    with os.fdopen(handle, "w") as file:
        file.write(f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={address}">')
    path = Path(name)
    webbrowser.open(path.as_uri())
    return path
