"""The way of a stream past Flask: WSGI middleware that takes the socket and lets the request go.

A deploy sends thousands of viewers to the nodes that are left, within seconds, and half of what opening a stream would
cost is Flask's way from a request to a function and back. So `GET /status/stream...` over a socket that can be taken is
answered here. Everything else goes to the app, where the same routes serve the same streams by a generator.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import cast
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, Response
from gunicorn.workers.base_async import ALREADY_HANDLED

from ingest_web import handover, problems, services, sse, streams
from ingest_web.envelope import NO_SNIFFING
from ingest_web.handover import SocketViewer
from ingest_web.origins import Headers, Origins
from ingest_web.services import Services
from ingest_web.viewer import Ending

_ROUTE = "/status/stream"


class Express:
    """In front of an app, whose services it shares."""

    def __init__(self, app: Flask, origins: Origins) -> None:
        self._services = services.of(app)
        self._origins = origins
        self._otherwise = cast("WSGIApplication", app.wsgi_app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request for a stream, or let the app answer."""
        if not environ["PATH_INFO"].startswith(_ROUTE) or environ["REQUEST_METHOD"] != "GET":
            return self._otherwise(environ, start_response)
        wanted = _wanted(environ)
        if wanted is None or not handover.can_hand_over(environ):
            return self._otherwise(environ, start_response)
        try:
            head = _head(self._origins.of_answer(environ.get("HTTP_ORIGIN")))
            return _stream(self._services, wanted, head, environ, start_response)
        except Exception as error:  # noqa: BLE001 - answered like those of the app
            return problems.answer(error)(environ, start_response)


def _wanted(environ: WSGIEnvironment) -> list[str] | None:
    """The ids that are asked for, checked by nobody yet; None for another route."""
    rest = environ["PATH_INFO"].removeprefix(_ROUTE)
    if not rest:
        return parse_qs(environ.get("QUERY_STRING", "")).get("id", [])
    return [rest[1:]] if rest[0] == "/" and "/" not in rest[1:] else None


@cache
def _head(of_origin: Headers) -> bytes:
    """The head of a stream. There are as many as there are allowed origins, and one for all others."""
    headers = (*sse.HEADERS.items(), *NO_SNIFFING, *of_origin, ("Connection", "close"))
    return ("HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n").encode()


def _stream(
    current: Services, wanted: list[str], head: bytes, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    settings = current.settings
    viewer = streams.admit(
        current, environ, wanted, lambda cursor: SocketViewer(cursor, settings.retry_ms, settings.stall_seconds)
    )
    if isinstance(viewer, Response):
        return viewer(environ, start_response)
    try:
        viewer.attach(environ["gunicorn.socket"], head)
    except BaseException:
        viewer.close(Ending.FAILED)
        raise
    return cast("Iterable[bytes]", ALREADY_HANDLED)
