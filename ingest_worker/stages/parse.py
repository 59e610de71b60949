"""Parse: a file becomes pages, by the reader of its format.

The stages below turn a file into values; they know no task, no record and no storage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ingest_worker.stages import markup, pdf, text
from ingest_worker.stages.reading import Document, Limits
from shared.config import Engine
from shared.errors import Unreadable
from shared.media import MediaType


@contextmanager
def opened(
    path: Path, media_type: str, engine: Engine, limits: Limits, password: str | None = None
) -> Iterator[Document]:
    """The document at ``path``, for the block. ``engine`` and ``password`` are for a PDF, and else not asked.

    Raises `Encrypted`, `Unreadable` and `TooManyPages`.
    """
    opening: AbstractContextManager[Document]
    match media_type:
        case MediaType.PDF:
            opening = pdf.opened(path, engine, limits, password)
        case MediaType.TEXT | MediaType.MARKDOWN:
            opening = text.opened(path, limits, markup=media_type == MediaType.MARKDOWN)
        case MediaType.HTML:
            opening = markup.opened_html(path, limits)
        case MediaType.DOCX:
            opening = markup.opened_docx(path, limits)
        case _:
            raise Unreadable(f"Nobody here reads {media_type}.")
    with opening as document:
        yield document
