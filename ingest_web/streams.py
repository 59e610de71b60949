"""The routes of the streams: from a request to a viewer that the hub knows.

A stream whose socket can be taken from the server never comes here: `ingest_web.express` answers it. What is left is
served by a generator, under any server.
"""

from __future__ import annotations

import random
from functools import partial

import structlog
from flask import Blueprint, Response, request

from ingest_web import access, services, sse
from ingest_web.admission import NoSeat
from ingest_web.cursor import Cursor
from ingest_web.services import Services
from ingest_web.viewer import Ending, QueuedViewer, Viewer
from shared.errors import IngestError, StoreUnavailable

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("streams", __name__)


@blueprint.get("/status/stream/<document_id>")
def stream_one(document_id: str) -> Response:
    """The events of one document."""
    return _stream([document_id])


@blueprint.get("/status/stream")
def stream_many() -> Response:
    """The events of the documents ``?id=A&id=B``, on one connection."""
    return _stream(request.args.getlist("id"))


def _stream(wanted: list[str]) -> Response:
    current = services.current()
    document_ids = access.watched(current.guard, request.environ, wanted)
    if request.method == "HEAD":
        return Response(headers=sse.HEADERS)
    viewer = QueuedViewer(Cursor(document_ids, request.headers.get("Last-Event-ID")), current.settings.retry_ms)
    refusal = admit(current, viewer, request.remote_addr or "")
    if refusal is not None:
        return refusal
    response = Response(viewer.frames(current.settings.heartbeat_seconds), headers=sse.HEADERS)
    response.call_on_close(partial(viewer.close, Ending.LEFT))
    return response


def admit(current: Services, viewer: Viewer, address: str) -> Response | None:
    """Give a viewer a seat and bring it up to date; the answer to its request, when it is to have no stream.

    That is 204 when it has seen the end of everything, and an empty stream when it shall come back later: an
    EventSource gives up for good on a 503. Raises `UnknownIngestion`.
    """
    try:
        current.admission.take(address)
        viewer.when_closed(lambda _viewer, _why: current.admission.give_back(address))
        current.hub.join(viewer)
    except (NoSeat, StoreUnavailable) as error:
        return _come_back(current, error)
    if viewer.cursor.finished:
        viewer.close(Ending.FINISHED)
        return Response(status=204, headers={"Cache-Control": "no-store"})
    return None


def _come_back(current: Services, error: IngestError) -> Response:
    log.warning("stream.put_off", code=error.code, detail=error.detail)
    current.hub.tally.put_off(error.code)
    # Each client at a time of its own.
    retry_ms = current.settings.retry_ms
    delay_ms = random.randint(retry_ms, 3 * retry_ms)  # noqa: S311 - jitter
    return Response(sse.comment(error.detail) + sse.retry(delay_ms), headers=sse.HEADERS)
