"""The routes of the streams: from a request to a viewer that the hub knows.

A stream whose socket can be taken from the server never comes here: `ingest_web.express` answers it. What is left is
served by a generator, under any server.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog
from flask import Blueprint, Response, request

from ingest_web import access, services, sse
from ingest_web.admission import NoSeat
from ingest_web.cursor import Cursor
from ingest_web.permits import Permit
from ingest_web.services import Services
from ingest_web.viewer import Ending, QueuedViewer, Viewer
from shared.errors import IngestError, RateLimited, StoreUnavailable

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("streams", __name__)

V = TypeVar("V", bound=Viewer)


@blueprint.get("/status/stream/<document_id>")
def stream_one(document_id: str) -> Response:
    """The events of one document."""
    return _stream([document_id])


@blueprint.get("/status/stream")
def stream_many() -> Response:
    """The events of the documents ``?id=A&id=B``, or those that ``?token=...`` opens, on one connection."""
    return _stream(request.args.getlist("id"))


def _stream(wanted: list[str]) -> Response:
    current = services.current()
    viewer = admit(current, request.environ, wanted, lambda cursor: QueuedViewer(cursor, current.settings.retry_ms))
    if isinstance(viewer, Response):
        return viewer
    if request.method == "HEAD":  # all that holds for the events was looked at, and none is sent
        viewer.close(Ending.LEFT)
        return Response(headers=sse.HEADERS)
    response = Response(viewer.frames(current.settings.heartbeat_seconds), headers=sse.HEADERS)
    response.call_on_close(partial(viewer.close, Ending.LEFT))
    return response


def admit(
    current: Services, environ: Mapping[str, Any], wanted: Sequence[str], make: Callable[[Cursor], V]
) -> V | Response:
    """A viewer that has a seat and is up to date; or the answer to its request, when it is to have no stream.

    That is 204 when it has seen the end of everything, and an empty stream when it shall come back later: an
    EventSource gives up for good on a 503. Raises `Unauthorized`, `Forbidden`, `InvalidOption`, `UnknownIngestion`.
    """
    try:
        permit = access.permit(current.guard, environ, wanted)
        count = current.limits.count_opening_by_link if permit.by_link else current.limits.count_request
        count(permit.tenant)
        viewer = make(Cursor(permit.document_ids, environ.get("HTTP_LAST_EVENT_ID")))
        _seat(current, viewer, permit, environ.get("REMOTE_ADDR", ""))
        current.hub.join(viewer)
    except (NoSeat, RateLimited, StoreUnavailable) as error:
        return _come_back(current, error)
    if viewer.cursor.finished:
        viewer.close(Ending.FINISHED)
        return Response(status=204, headers={"Cache-Control": "no-store"})
    current.permits.keep(viewer, permit)
    return viewer


def _seat(current: Services, viewer: Viewer, permit: Permit, address: str) -> None:
    current.admission.take(address)
    viewer.when_closed(lambda _viewer, _why: current.admission.give_back(address))
    try:
        current.shares.take(permit.tenant, permit.by_link)
    except BaseException:
        viewer.close(Ending.FAILED)
        raise
    viewer.when_closed(lambda _viewer, _why: current.shares.give_back(permit.tenant, permit.by_link))


def _come_back(current: Services, error: IngestError) -> Response:
    log.warning("stream.put_off", code=error.code, detail=error.detail)
    current.hub.tally.put_off(error.code)
    # Each client at a time of its own.
    retry_ms = current.settings.retry_ms
    delay_ms = random.randint(retry_ms, 3 * retry_ms)  # noqa: S311 - jitter
    return Response(sse.comment(error.detail) + sse.retry(delay_ms), headers=sse.HEADERS)
