"""The routes of the streams: from a request to a viewer that the hub knows."""

from __future__ import annotations

import random
from functools import partial

import structlog
from flask import Blueprint, Response, request

from ingest_web import handover, ids, services, sse
from ingest_web.admission import NoSeat
from ingest_web.cursor import Cursor
from ingest_web.handover import HandedOver, SocketViewer
from ingest_web.viewer import Ending, QueuedViewer, Viewer
from shared.errors import IngestError, StoreUnavailable

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("streams", __name__)


@blueprint.get("/status/stream/<document_id>")
def stream_one(document_id: str) -> Response:
    """The events of one document."""
    return _stream(ids.checked_all([document_id]))


@blueprint.get("/status/stream")
def stream_many() -> Response:
    """The events of the documents ``?id=A&id=B``, on one connection."""
    return _stream(ids.checked_all(request.args.getlist("id")))


def _stream(document_ids: tuple[str, ...]) -> Response:
    if request.method == "HEAD":
        return Response(headers=sse.HEADERS)
    cursor = Cursor(document_ids, request.headers.get("Last-Event-ID"))
    current, address = services.current(), request.remote_addr or ""
    try:
        current.admission.take(address)
    except NoSeat as error:
        return _come_back(error)
    viewer = _viewer(cursor)
    viewer.when_closed(lambda _viewer, _why: current.admission.give_back(address))
    try:
        current.hub.join(viewer)
    except StoreUnavailable as error:
        return _come_back(error)
    if cursor.finished:
        viewer.close(Ending.FINISHED)
        return Response(status=204, headers={"Cache-Control": "no-store"})
    if isinstance(viewer, SocketViewer):
        return HandedOver(viewer)
    assert isinstance(viewer, QueuedViewer)  # noqa: S101 - there are two kinds
    response = Response(viewer.frames(current.settings.heartbeat_seconds), headers=sse.HEADERS)
    response.call_on_close(partial(viewer.close, Ending.LEFT))
    return response


def _viewer(cursor: Cursor) -> Viewer:
    settings = services.current().settings
    if handover.can_hand_over(request.environ):
        return SocketViewer(cursor, settings.retry_ms, settings.stall_seconds)
    return QueuedViewer(cursor, settings.retry_ms)


def _come_back(error: IngestError) -> Response:
    log.warning("stream.put_off", code=error.code, detail=error.detail)
    services.current().hub.tally.put_off(error.code)
    # An EventSource gives up for good on a 503; a stream that ends brings it back, each client at a time of its own.
    retry_ms = services.current().settings.retry_ms
    delay_ms = random.randint(retry_ms, 3 * retry_ms)  # noqa: S311 - jitter
    return Response(sse.comment(error.detail) + sse.retry(delay_ms), headers=sse.HEADERS)
