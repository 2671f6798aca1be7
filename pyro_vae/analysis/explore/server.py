"""The explorer's server: on this machine alone, for those who know its address, until it is told to end."""

__all__ = ["serve"]

import errno
import os
import secrets
import tempfile
import webbrowser
from collections.abc import Callable
from hmac import compare_digest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer, bind_sockets
from bokeh.server.tornado import BokehTornado
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import ErrorHandler

from pyro_vae.analysis.explore.answers import Answers
from pyro_vae.analysis.explore.explorer import Explorer
from pyro_vae.analysis.explore.page import Page
from pyro_vae.errors import InputError

_ADDRESS = "127.0.0.1"
# What a client may send at once, in bytes, and how long it may take for it or be silent, in seconds.
_MESSAGE, _HEADERS, _SECONDS = 2**20, 2**16, 30


class _Guarded(BokehTornado):
    """Bokeh's application behind a token, which is the first part of every path; all else is forbidden.

    A page of another site can send requests here (and, by a name that it points here, read the answers): so the host
    that is asked for, and the origin where one is told, must be ours as well.
    """

    def __init__(self, application: Application, token: str, hosts: set[str]) -> None:
        self.token, self.hosts = token, hosts
        super().__init__(
            application,
            prefix=f"/{token}",
            extra_websocket_origins=sorted(hosts),
            use_index=False,
            include_headers=[],
            include_cookies=[],
            log_function=lambda handler: None,
            websocket_max_message_size_bytes=_MESSAGE,
        )

    def find_handler(self, request: HTTPServerRequest, **others: Any) -> Any:
        """Finds who answers a request."""
        origin = request.headers.get("Origin")
        token = request.path.split("/")[1] if "/" in request.path else ""
        if (
            compare_digest(token.encode(), self.token.encode())
            and request.host.lower() in self.hosts
            and (origin is None or urlsplit(origin).netloc.lower() in self.hosts)
        ):
            return super().find_handler(request, **others)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": 403})


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
        sockets, port = bind_sockets(_ADDRESS, port)
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise InputError(f"--port {port} {why}: give another, or leave it out") from error
    token = secrets.token_urlsafe(32)
    loop = IOLoop.current()

    def fill(document: Document) -> None:
        page = Page(explorer)
        page.fill(document)
        Answers(page, document, loop.stop)

    application = _Guarded(
        Application(FunctionHandler(fill)), token, {f"{name}:{port}" for name in (_ADDRESS, "localhost")}
    )
    http = HTTPServer(
        application,
        max_header_size=_HEADERS,
        max_body_size=_MESSAGE,
        body_timeout=_SECONDS,
        idle_connection_timeout=_SECONDS,
    )
    http.add_sockets(sockets)
    server = BaseServer(loop, application, http)
    server.start()
    address = f"http://{_ADDRESS}:{port}/{token}/"
    started(address)
    door = _door(address) if browser else None
    try:
        loop.start()
    finally:
        server.stop()
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
