"""What there is of a result before its time: the chunks of the ranges that are parsed, from page 1 on without a gap.

Each range was chunked by itself, so the last chunk of one may end where the final one would not. Text, pages and
offsets are right; indexes and boundaries may differ from those of the final chunks, and there are no ids yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ingest_web.services import Services
from shared.documents import PAGE_SEPARATOR
from shared.jobs import Status
from shared.parts import Part
from shared.storage import provisional_path

#: A document on its way, from the first pages on.
STATES = frozenset({Status.PARSING, Status.CHUNKING, Status.LOADING})


def find(current: Services, document_id: str) -> Iterator[bytes] | None:
    """The lines, None when no range from page 1 on is parsed."""
    ready = _without_gap(current.worklist.done(document_id))
    return _lines(current, document_id, ready) if ready else None


def _without_gap(done: Mapping[Part, Any]) -> dict[Part, Any]:
    ready: dict[Part, Any] = {}
    following = 1
    for part, found in done.items():
        if part.first != following:
            break
        ready[part] = found
        following = part.last + 1
    return ready


def _lines(current: Services, document_id: str, ready: Mapping[Part, Any]) -> Iterator[bytes]:
    index = offset = 0
    for part, found in ready.items():
        try:
            with current.storage.reading(provisional_path(document_id, part.first, found["token"])) as stored:
                for line in stored:
                    yield placed(json.loads(line), index, offset, part.first - 1)
                    index += 1
        except FileNotFoundError:
            return  # it has just been completed, or removed: the next request finds the result, or nothing
        offset += found["characters"] + part.pages * len(PAGE_SEPARATOR)


def placed(chunk: dict[str, Any], index: int, offset: int, pages: int) -> bytes:
    """A line for a chunk of a range that begins at ``offset``, after so many pages."""
    values = {
        **chunk,
        "id": None,
        "index": index,
        "page_first": chunk["page_first"] + pages,
        "page_last": chunk["page_last"] + pages,
        "start": chunk["start"] + offset,
        "end": chunk["end"] + offset,
        "partial": True,
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
