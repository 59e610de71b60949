"""What a file is, by its content; names and headers of strangers are not asked. Pure."""

from __future__ import annotations

PDF = "application/pdf"

#: How much of the file must be seen before its type can be told.
SNIFF_BYTES = 1024

#: Viewers accept a PDF whose header is somewhere in its first 1024 bytes (PDF Reference 1.7, implementation note 13).
_PDF_MARK = b"%PDF-"


def type_of(head: bytes) -> str | None:
    """The media type of a file that begins with ``head``; None for one that no stage can read."""
    return PDF if _PDF_MARK in head[:SNIFF_BYTES] else None
