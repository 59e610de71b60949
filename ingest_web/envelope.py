"""The headers that every answer of the app goes out with, whoever made it: outermost WSGI middleware.

A route, a problem, a file or an empty stream: all pass here. Only a stream whose socket is taken does not, since its
head is written by `ingest_web.express`. Flask's extensions for CORS (flask-cors) work inside Flask, where such a stream
never comes, so half of the answers would need these few lines all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from ingest_web.origins import Headers, Origins

#: What is sent is of the type that it says, and of no other.
NO_SNIFFING: Headers = (("X-Content-Type-Options", "nosniff"),)

SAFE: Headers = (
    *NO_SNIFFING,
    # Ids of documents are in addresses, and no business of where a link leads.
    ("Referrer-Policy", "no-referrer"),
    # For requests outside of CORS, such as that of an <img>. Modules, `fetch` and `EventSource` are judged by CORS.
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Envelope:
    """Around an app."""

    def __init__(self, app: WSGIApplication, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a preflight request of an allowed origin; let the app answer everything else, and add to it."""
        # No route is a WebSocket, and werkzeug would have a request that asks for one match no other.
        environ.pop("HTTP_UPGRADE", None)
        origin = environ.get("HTTP_ORIGIN")
        if _is_preflight(environ) and (permitted := self._origins.of_preflight(origin)) is not None:
            start_response("204 No Content", [*SAFE, *permitted])
            return []
        further = (*SAFE, *self._origins.of_answer(origin))

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            return start_response(status, [*headers, *further], exc_info)

        return self._app(environ, start)


def _is_preflight(environ: WSGIEnvironment) -> bool:
    return environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
