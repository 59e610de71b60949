"""``POST /ingestions``: bytes into storage as they come, a record into Redis, a word to the workers.

Either all of it has happened and the answer is 202, or nothing of it is left.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

import structlog
from flask import Blueprint, Response, jsonify, request, url_for

from ingest_web import dispatch, forms, ids, media, services
from ingest_web.forms import FileBegins, Option, Piece
from shared.errors import EmptyFile, InvalidOption, StoreUnavailable, TooLarge, UnsupportedMediaType
from shared.options import Options
from shared.storage import source_path
from shared.store import Source

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
    """Take one document in. 202 with its id and links."""
    document_id = ids.new_id()
    _refuse_announced_length()
    boundary = forms.boundary_of(request.content_type)
    services.current().store.ping()  # before a gigabyte is taken in for nothing
    source = _store(document_id, boundary)
    log.info("upload.accepted", id=document_id, size_bytes=source.size_bytes, sha256=source.sha256)
    return _accepted(document_id)


def _store(document_id: str, boundary: str) -> Source:
    storage = services.current().storage
    try:
        received = Received()
        path = source_path(document_id)
        with storage.writing(path) as file:
            _receive(received, boundary, file)
            options = Options.from_form(received.options, services.current().settings)
        source = Source(
            filename=received.filename,
            media_type=received.media_type or "",
            size_bytes=received.size_bytes,
            sha256=received.digest.hexdigest(),
            path=path,
            options=options,
        )
        _record(document_id, source)
    except BaseException:
        storage.remove(document_id)
        raise
    dispatch.call_worker()
    return source


def _receive(received: Received, boundary: str, file: IO[bytes]) -> None:
    most_bytes = services.current().settings.max_upload_bytes
    for part in forms.read(request.stream, boundary):
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
    if not received.size_bytes:
        raise EmptyFile("The file has no bytes.")
    _judge(received)


def _look_at(received: Received, data: bytes) -> None:
    if received.media_type is None:
        received.head += data[: media.SNIFF_BYTES]
        if len(received.head) >= media.SNIFF_BYTES:
            _judge(received)


def _judge(received: Received) -> None:
    received.media_type = received.media_type or media.type_of(received.head)
    if received.media_type is None:
        raise UnsupportedMediaType("The content is not a PDF, whatever its name says.", supported=[media.PDF])


def _record(document_id: str, source: Source) -> None:
    store = services.current().store
    try:
        store.create(document_id, source)
    except StoreUnavailable:
        # Redis may have got it all the same, and only its answer was lost.
        with suppress(StoreUnavailable):
            store.delete(document_id)
        raise


def _accepted(document_id: str) -> Response:
    links = {
        "status": url_for("ingestions.status", document_id=document_id),
        "stream": url_for("streams.stream_one", document_id=document_id),
        "chunks": url_for("ingestions.chunks", document_id=document_id),
    }
    response = jsonify(id=document_id, status="PENDING", links=links)
    response.status_code = 202
    response.headers["Location"] = links["status"]
    return response


def clean_filename(filename: str) -> str:
    """The last part of what a stranger calls a file, without control characters, for people to read."""
    last = filename.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(character for character in last if character.isprintable()).strip()
    return printable[:FILENAME_CHARACTERS] or "document"


def _refuse_announced_length() -> None:
    most_bytes = services.current().settings.max_upload_bytes
    if (request.content_length or 0) > most_bytes + FORM_OVERHEAD_BYTES:
        raise TooLarge(f"The upload is larger than {most_bytes} bytes.", max_bytes=most_bytes)
