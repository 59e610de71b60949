"""A multipart body (RFC 7578) as a sequence of fields and pieces of one file, never more than a piece in memory.

Werkzeug's sans-I/O decoder does the parsing; this module feeds it and says what is wrong in our own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from shared.errors import FileMissing, MalformedUpload, TooManyFiles, UploadInterrupted

PIECE_BYTES = 64 * 1024

#: The fields beside the file are a few numbers and words.
MOST_PARTS = 32
MOST_FIELD_BYTES = 4096

FILE_FIELD = "file"


@dataclass(frozen=True, slots=True)
class FileBegins:
    """The head of the part named ``file``. ``filename`` is what a stranger says; it never becomes a path."""

    filename: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of the file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Option:
    """A form field."""

    name: str
    value: str


Part = FileBegins | Piece | Option


def boundary_of(content_type: str | None) -> bytes:
    """The boundary that a Content-Type announces. Raises `FileMissing` when it is not multipart/form-data."""
    media_type, parameters = parse_options_header(content_type)
    if media_type != "multipart/form-data":
        raise FileMissing("Send the document as multipart/form-data, in a field named 'file'.")
    if not parameters.get("boundary"):
        raise MalformedUpload("The Content-Type names no boundary.")
    return parameters["boundary"].encode("latin-1", "replace")


def read(body: IO[bytes], boundary: bytes) -> Iterator[Part]:
    """The parts of a body, as they arrive.

    Raises `FileMissing`, `TooManyFiles`, `MalformedUpload`, and `UploadInterrupted` when the body ends early.
    """
    decoder = MultipartDecoder(boundary, max_parts=MOST_PARTS)
    parser = _Parser()
    while True:
        data = _read_piece(body)
        try:
            decoder.receive_data(data or None)
            while not isinstance(event := decoder.next_event(), NeedData):
                if isinstance(event, Epilogue):
                    parser.end()
                    return
                yield from parser.take(event)
        except (ValueError, RequestEntityTooLarge) as error:
            if not data:
                raise UploadInterrupted("The body ended before its last boundary.") from error
            raise MalformedUpload(f"The multipart body is not valid: {error}") from error
        if not data:
            raise UploadInterrupted("The body ended before its last boundary.")


def _read_piece(body: IO[bytes]) -> bytes:
    try:
        return body.read(PIECE_BYTES)
    except (ClientDisconnected, OSError, EOFError) as error:
        raise UploadInterrupted("The connection was lost in mid-upload.") from error


class _Parser:
    """Which part the data that comes belongs to."""

    def __init__(self) -> None:
        self._files = 0
        self._field: str | None = None
        self._value = b""

    def take(self, event: object) -> Iterator[Part]:
        match event:
            case File(name=name, filename=filename) if name == FILE_FIELD:
                self._files += 1
                if self._files > 1:
                    raise TooManyFiles("Send one file a request.")
                self._field = None
                yield FileBegins(filename)
            case File(name=name) | Field(name=name) if name == FILE_FIELD:
                raise FileMissing("The field 'file' holds no file: it has no file name.")
            case File(name=name):
                raise TooManyFiles(f"A file in the field {name!r}: send one, in the field 'file'.")
            case Field(name=name):
                self._field, self._value = name, b""
            case Data(data=data, more_data=more_data):
                yield from self._take_data(data, more_data)

    def _take_data(self, data: bytes, more_data: bool) -> Iterator[Part]:
        if self._field is None:
            if data:
                yield Piece(data)
            return
        self._value += data
        if len(self._value) > MOST_FIELD_BYTES:
            raise MalformedUpload(f"The field {self._field!r} is longer than {MOST_FIELD_BYTES} bytes.")
        if not more_data:
            yield Option(self._field, self._value.decode("utf-8", "replace"))

    def end(self) -> None:
        if not self._files:
            raise FileMissing("There is no field named 'file'.")
