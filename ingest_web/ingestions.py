"""What there is to know of documents: the list, the state, the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

from flask import Blueprint, Response, request

from ingest_web import dispatch, forms, ids, partial, services, webhooks
from ingest_web.access import caller, owned
from ingest_web.numerals import whole_number
from ingest_web.services import Services
from ingest_web.turns import Turn
from shared.documents import to_json_lines
from shared.errors import InvalidOption, NotReady, NotRetryable, OutOfOrder, Refused
from shared.jobs import Status
from shared.protocol import encode_state

blueprint = Blueprint("ingestions", __name__)

NO_STORE = {"Cache-Control": "no-store"}

PAGE_SIZE = 50
MOST_PAGE_SIZE = 500


@blueprint.get("/ingestions")
def index() -> Response:
    """The documents, newest first: ``limit`` of them, older than the id ``before``; ``next`` leads on."""
    limit = _limit()
    before = request.args.get("before")
    states = services.current().store.newest(caller().tenant, limit, None if before is None else ids.checked(before))
    return Response(_listing(states, limit), content_type="application/json", headers=NO_STORE)


@blueprint.get("/status/<document_id>")
def status(document_id: str) -> Response:
    """The state, byte for byte as the last event carried it."""
    state = services.current().store.state_json(owned(document_id))
    return Response(state, content_type="application/json", headers=NO_STORE)


@blueprint.get("/ingestions/<document_id>/chunks")
def chunks(document_id: str) -> Response:
    """The result as JSON Lines; while the document is on its way what there is of it, each line marked as partial.

    Raises `NotReady` when there is nothing yet, and nothing to come.
    """
    current = services.current()
    state = current.store.state(owned(document_id))
    if state.status is Status.COMPLETED:
        return _lines(_result(current, document_id), partial=False)
    found = partial.find(current, document_id) if state.status in partial.STATES else None
    if found is None:
        raise NotReady(f"The document is {state.status}; there are no chunks yet.", state=state.status)
    return _lines(found, partial=True)


def _result(current: Services, document_id: str) -> Iterator[bytes]:
    lines = to_json_lines(current.chunks.of(document_id))
    first = next(lines, None)
    if first is None:
        current.store.state_json(document_id)  # raises when it has no rows because they were just removed
        return iter(())
    return chain((first,), lines)


def _lines(lines: Iterator[bytes], *, partial: bool) -> Response:
    headers = {**NO_STORE, "Ingest-Partial": "true" if partial else "false"}
    return Response(_packed(lines), content_type="application/jsonl; charset=utf-8", headers=headers)


@blueprint.delete("/ingestions/<document_id>")
def delete(document_id: str) -> Response:
    """Cancel a running document, which answers with its state; remove a finished one, which answers 204.

    That is gone at once. Its files and rows, for which one may have to wait, are removed by a worker.
    """
    current = services.current()
    if current.retention.delete(owned(document_id)):
        return Response(status=204)
    with suppress(Refused):  # it has just finished by itself: who asked shall see that before anything is removed
        attempt = current.store.state(document_id).attempt
        current.store.record(document_id, attempt, Status.CANCELLED, "Cancelled")
    return Response(current.store.state_json(document_id), content_type="application/json", headers=NO_STORE)


@blueprint.post("/ingestions/<document_id>/retry")
def retry(document_id: str) -> Response:
    """Start over what FAILED or was CANCELLED, as the next attempt; ``password`` opens an encrypted file."""
    current = services.current()
    password = forms.small(request.stream, request.content_type).get("password", "")
    named = current.store.source(owned(document_id)).webhook
    if named:
        webhooks.keep(named)
    try:
        state = current.store.begin_attempt(document_id, current.seal.close(password) if password else "")
    except OutOfOrder as error:
        raise NotRetryable("Only what FAILED or was CANCELLED can be tried again.") from error
    dispatch.call_worker()
    return Response(encode_state(state), 202, content_type="application/json", headers=NO_STORE)


def _limit() -> int:
    limit = whole_number(request.args.get("limit", str(PAGE_SIZE)), MOST_PAGE_SIZE)
    if limit is None:
        raise InvalidOption(f"limit: give a number from 1 to {MOST_PAGE_SIZE}", option="limit")
    return limit


def _listing(states: list[bytes], limit: int) -> bytes:
    last = json.loads(states[-1])["id"] if len(states) == limit else None
    following = f"/ingestions?limit={limit}&before={last}" if last else None
    return b'{"ingestions":[' + b",".join(states) + b'],"next":' + json.dumps(following).encode() + b"}"


#: Lines are sent together up to about this size.
PACKET_BYTES = 64 * 1024


def _packed(lines: Iterator[bytes]) -> Iterator[bytes]:
    packet: list[bytes] = []
    size = 0
    turn = Turn()
    for line in lines:
        packet.append(line)
        size += len(line)
        turn.step()
        if size >= PACKET_BYTES:
            yield b"".join(packet)
            packet, size = [], 0
    yield b"".join(packet)
