"""``POST /ingestions``: bytes into storage as they come, a record into Redis, a word to the workers.

Either all of it has happened and the answer is 202, or nothing of it is left. The same bytes with the same options as
before get the earlier result, and the answer is 200.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import IO

import structlog
from flask import Blueprint, Response, jsonify, request, url_for

from ingest_web import forms, idempotency, ids, intake, links, media, services, webhooks
from ingest_web.access import caller
from ingest_web.bodies import Accepted, Links, NamedEndpoint
from ingest_web.forms import FileBegins, Option, Piece
from ingest_web.intake import Outcome
from ingest_web.limits import Meter
from ingest_web.turns import Turn
from shared.access import Scope
from shared.endpoints import Endpoint
from shared.errors import EmptyFile, InvalidOption, TooLarge, UnsupportedMediaType
from shared.media import MediaType
from shared.options import Options, Terms
from shared.source import Source
from shared.storage import source_path

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("uploads", __name__)

#: Room for boundaries and fields beside the file, when the length that is announced is judged.
FORM_OVERHEAD_BYTES = 64 * 1024

FILENAME_CHARACTERS = 255


@dataclass
class Received:
    """What has come so far."""

    filename: str = ""
    size_bytes: int = 0
    options: dict[str, str] = field(default_factory=dict)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    head: bytes = b""
    media_type: str | None = None


@blueprint.post("/ingestions")
def create() -> Response:
    """Take one document in. 202 with its id and links; 200 with those of an earlier one that has the same result.

    With an ``Idempotency-Key`` it is taken in once, however often it comes.
    """
    document_id = ids.new_id()
    current = services.current()
    key = idempotency.checked(request.headers.get(idempotency.HEADER))
    _refuse_what_is_announced()
    boundary = forms.boundary_of(request.content_type)
    current.store.check_room()  # before a gigabyte is taken in for nothing
    if not _came_before(key):  # what did may be answered without a seat
        current.store.seats.check(caller().tenant)
    try:
        source, terms = _store(document_id, boundary)
        endpoint = webhooks.of_upload(terms.webhook_url) if terms.webhook_url else None
    except BaseException:
        current.storage.remove(document_id)
        raise
    source = replace(source, webhook=endpoint.id if endpoint else "")
    outcome = intake.bring_in(document_id, source, terms, key)
    if outcome.document_id != document_id:
        current.storage.remove(document_id)
    log.info("upload.answered", id=outcome.document_id, code=outcome.code, size_bytes=source.size_bytes)
    if endpoint and not outcome.is_told:
        webhooks.tell_again(outcome.document_id, endpoint)
        if key is not None and outcome.claim is not None:  # afterwards: who dies in between leaves it to the next
            current.claims(caller().tenant, key).note_told(outcome.claim)
    return _answer(outcome, _shown(endpoint, document_id, key) if endpoint else None)


def _came_before(key: str | None) -> bool:
    return key is not None and services.current().claims(caller().tenant, key).stand()


def _store(document_id: str, boundary: str) -> tuple[Source, Terms]:
    current = services.current()
    received = Received()
    path = source_path(document_id)
    with closing(Meter(current.limits, caller().tenant)) as meter, current.storage.writing(path) as file:
        _receive(received, boundary, file, meter)
        of_terms = {name: received.options.pop(name) for name in Terms.model_fields if name in received.options}
        terms = Terms.from_form(of_terms, current.settings)
        options = Options.from_form(received.options, current.settings)
    password = terms.password.get_secret_value()
    source = Source(
        filename=received.filename,
        media_type=received.media_type or "",
        size_bytes=received.size_bytes,
        sha256=received.digest.hexdigest(),
        path=path,
        options=options,
        sealed_password=current.seal.close(password) if password else "",
        tenant=caller().tenant,
    )
    return source, terms


def _shown(endpoint: Endpoint, document_id: str, key: str | None) -> NamedEndpoint:
    # A secret that went with an answer that was lost is told again to whoever has the same key.
    secret = webhooks.secret_for(endpoint, document_id if key is None else idempotency.digest(caller().tenant, key))
    return {"id": endpoint.id, "secret": secret} if secret else {"id": endpoint.id}


def _receive(received: Received, boundary: str, file: IO[bytes], meter: Meter) -> None:
    most_bytes = services.current().settings.max_upload_bytes
    turn = Turn()
    for part in forms.read(request.stream, boundary, meter.took):
        match part:
            case FileBegins(filename=filename):
                received.filename = clean_filename(filename)
            case Option(name=name, value=value):
                if name in received.options:
                    raise InvalidOption(f"{name}: given twice", option=name)
                received.options[name] = value
            case Piece(data=data):
                received.size_bytes += len(data)
                if received.size_bytes > most_bytes:
                    raise TooLarge(f"The file is larger than {most_bytes} bytes.", max_bytes=most_bytes)
                _look_at(received, data)
                received.digest.update(data)
                file.write(data)
                turn.step()
    if not received.size_bytes:
        raise EmptyFile("The file has no bytes.")
    _judge(received)


def _look_at(received: Received, data: bytes) -> None:
    if received.media_type is None:
        received.head += data[: media.SNIFF_BYTES]
        if len(received.head) >= media.SNIFF_BYTES:
            _judge(received)


def _judge(received: Received) -> None:
    received.media_type = received.media_type or media.type_of(received.head, received.filename)
    if received.media_type is None:
        raise UnsupportedMediaType("The content is of no type that can be read.", supported=list(MediaType))


def _answer(outcome: Outcome, webhook: NamedEndpoint | None) -> Response:
    document_id = outcome.document_id
    found: Links = {
        "status": url_for("ingestions.status", document_id=document_id),
        "stream": url_for("streams.stream_one", document_id=document_id),
        "chunks": url_for("ingestions.chunks", document_id=document_id),
    }
    answer: Accepted = {
        "id": document_id,
        "status": outcome.status,
        "links": found,
        "reused": outcome.is_reused,
    }
    # Whoever only uploads shall not see under what name, and with what outcome, another key brought the same bytes.
    if not outcome.is_reused or Scope.READ in caller().scopes:
        answer["stream_url"] = links.stream_url(document_id)
    if webhook is not None:
        answer["webhook"] = webhook
    response = jsonify(answer)
    response.status_code = outcome.code
    response.headers["Location"] = found["status"]
    if outcome.replayed:
        response.headers[idempotency.REPLAYED_HEADER] = "true"
    return response


def clean_filename(filename: str) -> str:
    """The last part of what a stranger calls a file, without control characters, for people to read."""
    last = filename.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(character for character in last if character.isprintable()).strip()
    return printable[:FILENAME_CHARACTERS] or "document"


def _refuse_what_is_announced() -> None:
    current = services.current()
    most_bytes, announced = current.settings.max_upload_bytes, request.content_length or 0
    request.max_content_length = most_bytes + FORM_OVERHEAD_BYTES  # of a body that announces no length, too
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is: a Content-Encoding is not undone.")
    if announced > request.max_content_length:
        raise TooLarge(f"The upload is larger than {most_bytes} bytes.", max_bytes=most_bytes)
    current.limits.foresee_bytes(caller().tenant, announced)
