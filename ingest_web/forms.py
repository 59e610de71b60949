"""A multipart body (RFC 7578) as a sequence of fields and pieces of one file, never more than a piece in memory.

The library `multipart` does the parsing; this module feeds it and says what is wrong in our own words. (Werkzeug's
decoder adds a stray carriage return to a file whose last boundary is cut at the wrong place: pallets/werkzeug#3285.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from shared.errors import FileMissing, MalformedUpload, RequestError, TooManyFiles, UploadInterrupted

PIECE_BYTES = 64 * 1024

#: The fields beside the file are a few numbers and words.
MOST_PARTS = 32
MOST_FIELD_BYTES = 4096

#: A form without a file.
MOST_FORM_BYTES = 32 * 1024

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


def boundary_of(content_type: str | None) -> str:
    """The boundary that a Content-Type announces. Raises `FileMissing` when it is not multipart/form-data."""
    media_type, parameters = parse_options_header(content_type or "")
    if media_type != "multipart/form-data":
        raise FileMissing("Send the document as multipart/form-data, in a field named 'file'.")
    if not parameters.get("boundary"):
        raise MalformedUpload("The Content-Type names no boundary.")
    return str(parameters["boundary"])


def read(body: IO[bytes], boundary: str, took: Callable[[int], None] = lambda _bytes: None) -> Iterator[Part]:
    """The parts of a body, as they arrive. ``took`` hears of every piece how many bytes it has.

    Raises `FileMissing`, `TooManyFiles`, `MalformedUpload`, and `UploadInterrupted` when the body ends early.
    """
    form = _Form()
    parser = _parser(boundary)
    while not parser.closed:
        data = _read_piece(body)
        took(len(data))
        form.came(len(data))
        try:
            for event in parser.parse(data):
                yield from form.take(event)
        except MultipartError as error:
            if not data:
                raise UploadInterrupted("The body ended before its last boundary.") from error
            raise MalformedUpload(f"The multipart body is not valid: {error}") from error
    form.end()


def small(body: IO[bytes], content_type: str | None) -> Mapping[str, str]:
    """The fields of a form without a file, url-encoded or multipart; none for a body of another type.

    Raises `MalformedUpload`, and `RequestEntityTooLarge` for more than `MOST_FORM_BYTES`.
    """
    # `request.form` reads what is url-encoded whole, and makes an empty form of what it can't read.
    data = body.read(MOST_FORM_BYTES + 1)
    if len(data) > MOST_FORM_BYTES:
        raise RequestEntityTooLarge(f"The form is longer than {MOST_FORM_BYTES} bytes.")
    media_type, _ = parse_options_header(content_type or "")
    try:
        if media_type == "multipart/form-data" and data:
            return _fields(data, boundary_of(content_type))
        if media_type == "application/x-www-form-urlencoded":
            return dict(parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=MOST_PARTS))
    except (ValueError, RequestError) as error:  # a `MultipartError` is a `ValueError`
        raise MalformedUpload("The body is not the form that its Content-Type announces.") from error
    return {}


def _fields(data: bytes, boundary: str) -> dict[str, str]:
    form, parser = _Form(), _parser(boundary)
    events = [*parser.parse(data), *parser.parse(b"")]
    parts = [part for event in events for part in form.take(event)]
    return {part.name: part.value for part in parts if isinstance(part, Option)}


def _parser(boundary: str) -> PushMultipartParser:
    try:
        return PushMultipartParser(boundary, max_segment_count=MOST_PARTS)
    except MultipartError as error:
        raise MalformedUpload(f"The boundary is not valid: {error}") from error


def _read_piece(body: IO[bytes]) -> bytes:
    try:
        return body.read(PIECE_BYTES)
    except (ClientDisconnected, OSError, EOFError) as error:
        raise UploadInterrupted("The connection was lost in mid-upload.") from error


class _Form:
    """Which part the data that comes belongs to."""

    def __init__(self) -> None:
        self._preamble_bytes: int | None = 0
        self._files = 0
        self._field: str | None = None
        self._value = b""

    def came(self, size_bytes: int) -> None:
        """So much has come. Raises `MalformedUpload` when it should have had a boundary in it, and had none."""
        if self._preamble_bytes is not None:
            if self._preamble_bytes > PIECE_BYTES:
                raise MalformedUpload("The multipart body does not begin with its boundary.")
            self._preamble_bytes += size_bytes

    def take(self, event: MultipartSegment | bytes | bytearray | None) -> Iterator[Part]:
        """What an event of the parser means to us."""
        if isinstance(event, MultipartSegment):
            yield from self._begin(event.name or "", event.filename)
        elif event is not None:
            yield from self._data(bytes(event))
        elif self._field is not None:
            yield Option(self._field, self._value.decode("utf-8", "replace"))

    def end(self) -> None:
        """The body is complete. Raises `FileMissing` when it held none."""
        if not self._files:
            raise FileMissing("There is no field named 'file'.")

    def _begin(self, name: str, filename: str | None) -> Iterator[Part]:
        self._field, self._value, self._preamble_bytes = None, b"", None
        if filename is None:
            if name == FILE_FIELD:
                raise FileMissing("The field 'file' holds no file: it has no file name.")
            self._field = name
            return
        if name != FILE_FIELD:
            raise TooManyFiles(f"A file in the field {name!r}: send one, in the field 'file'.")
        self._files += 1
        if self._files > 1:
            raise TooManyFiles("Send one file a request.")
        yield FileBegins(filename)

    def _data(self, data: bytes) -> Iterator[Part]:
        if self._field is None:
            yield Piece(data)
            return
        self._value += data
        if len(self._value) > MOST_FIELD_BYTES:
            raise MalformedUpload(f"The field {self._field!r} is longer than {MOST_FIELD_BYTES} bytes.")
