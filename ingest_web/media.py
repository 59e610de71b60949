"""What a file is, by its content. Its name is asked only what the content can't tell apart. Pure."""

from __future__ import annotations

import codecs
import re

from shared.media import MediaType

#: How much of the file must be seen before its type can be told.
SNIFF_BYTES = 4096

#: Viewers accept a PDF whose header is somewhere in its first 1024 bytes (PDF Reference 1.7, implementation note 13).
_PDF_MARK = b"%PDF-"
_PDF_MARK_WITHIN_BYTES = 1024

_ZIP = b"PK\x03\x04"

#: What a Word document is wrapped in when it is encrypted; the worker says so.
_CONTAINER = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

#: No way back into what was passed over: there would be twice as many with each comment.
_HTML = re.compile(
    r"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:(?><!--.*?-->)\s*+)*+<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)

#: No text has these, whatever its encoding.
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")

_SPACE = re.compile(rb"[ \t\r\n]")

_MARKDOWN_NAMES = (".md", ".markdown", ".mdown")


def type_of(head: bytes, filename: str) -> MediaType | None:
    """The media type of a file that begins with ``head``; None for one that no stage can read."""
    name = filename.lower()
    if _PDF_MARK in head[:_PDF_MARK_WITHIN_BYTES]:
        return MediaType.PDF
    if head.startswith((_ZIP, _CONTAINER)):
        return MediaType.DOCX if name.endswith(".docx") else None
    text = _text(head)
    if text is None:
        return None
    if _HTML.match(text):
        return MediaType.HTML
    return MediaType.MARKDOWN if name.endswith(_MARKDOWN_NAMES) else MediaType.TEXT


def _text(head: bytes) -> str | None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head.decode("utf-16", "replace")
    if _NO_TEXT.search(head):
        return None
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        # Some encoding of old, if it has words at all.
        return head.decode("latin-1") if _SPACE.search(head) else None
