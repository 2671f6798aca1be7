"""Who may come in to the explorer, and what a page may change there."""

__all__ = ["MAY_CHANGE", "Behind", "guard"]

from collections.abc import Callable, Mapping
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from bokeh.application import Application
from bokeh.document import Document
from bokeh.server.tornado import BokehTornado
from tornado.httputil import HTTPServerRequest
from tornado.web import ErrorHandler

# What a page may send at once, in bytes.
_MESSAGE = 2**20

# Whether what a page sends may be the new value of an attribute, by the names of a model and its attribute.
MAY_CHANGE: Mapping[tuple[str, str], Callable[[Any], bool]] = {
    ("hand", "wanted"): lambda new: isinstance(new, list) and all(type(each) in (int, float) for each in new),
    ("hand", "said"): lambda new: isinstance(new, str),
    ("colour", "value"): lambda new: isinstance(new, str),
}


def guard(document: Document) -> None:
    """Lets a page move the hand and choose the colours of its document, and nothing else.

    Bokeh lets a page change everything and put any of Bokeh's models into its document, some of which read files. What
    is not allowed is left out: among it is what a page says of the sizes of its figures.
    """
    apply = document.apply_json_patch

    def may(event: Any) -> bool:
        if (
            not isinstance(event, dict)
            or event.get("kind") != "ModelChanged"
            or not isinstance(event.get("model"), dict)
        ):
            return False
        model = document.get_model_by_id(str(event["model"].get("id")))
        allowed = MAY_CHANGE.get((str(getattr(model, "name", None)), str(event.get("attr"))))
        return allowed is not None and allowed(event.get("new"))

    def apply_allowed(patch_json: Any, *, setter: Any = None) -> None:
        content = getattr(patch_json, "content", patch_json)
        events = content.get("events") if isinstance(content, dict) else None
        kept = [event for event in events if may(event)] if isinstance(events, list) else []
        if kept:
            apply({"events": kept}, setter=setter)

    def refuse(json: Any) -> None:
        raise ValueError("a page cannot replace the explorer's document")

    document.apply_json_patch, document.replace_with_json = apply_allowed, refuse


class Behind(BokehTornado):
    """Bokeh's server behind a token, which is the first part of every path; all else is forbidden.

    A page of another site can send requests here and, by a name that it points here, read the answers: so the host
    that is asked for, and the origin where one is told, must be ours as well.

    Arguments:
        application: The application.
        token: The token.
        hosts: Our names, each with the port.
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
        first = "".join(request.path.split("/")[1:2])
        if (
            compare_digest(first.encode(), self.token.encode())
            and request.host.lower() in self.hosts
            and (origin is None or urlsplit(origin).netloc.lower() in self.hosts)
        ):
            return super().find_handler(request, **others)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": 403})
