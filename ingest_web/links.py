"""Addresses of streams for those who have no key: ``POST /ingestions/{id}/links``, and what an upload is answered.

A program with a key makes them for its own users. What a link opens, its maker may see; it opens no more than that.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from flask import Blueprint, Response, jsonify, request, url_for

from ingest_web import forms, services
from ingest_web.access import caller, owned
from ingest_web.ingestions import NO_STORE
from ingest_web.numerals import whole_number
from ingest_web.tokens import Token
from shared.errors import InvalidOption
from shared.protocol import timestamp

blueprint = Blueprint("links", __name__)


@blueprint.post("/ingestions/<document_id>/links")
def create(document_id: str) -> Response:
    """A link to the document's stream, good for ``expires_in`` seconds: by default, and at most, `link_seconds`."""
    current = services.current()
    most = current.settings.link_seconds
    seconds = _seconds(forms.small(request.stream, request.content_type).get("expires_in", str(most)), most)
    current.store.state_json(owned(document_id))  # there is no link to what isn't there
    expires_at = int(time.time()) + seconds
    ends = None if current.guard.is_open else timestamp(datetime.fromtimestamp(expires_at, UTC))
    response = jsonify(stream_url=stream_url(document_id, expires_at), expires_at=ends)
    response.status_code = 201
    response.headers.update(NO_STORE)
    return response


def stream_url(document_id: str, expires_at: int | None = None) -> str:
    """The path of a document's stream, for the caller's users: with a token where keys are asked for."""
    current = services.current()
    if current.guard.is_open:
        return url_for("streams.stream_one", document_id=document_id)
    until = int(time.time()) + current.settings.link_seconds if expires_at is None else expires_at
    token = current.guard.tokens.write(Token(document_id, caller().key_id, until))
    return url_for("streams.stream_one", document_id=document_id, token=token)


def _seconds(given: str, most: int) -> int:
    seconds = whole_number(given, most)
    if seconds is None:
        raise InvalidOption(f"expires_in: give a number of seconds from 1 to {most}", option="expires_in")
    return seconds
