"""What routes answer with and take in as JSON and as forms, as types: `ingest_web.openapi` describes them from here.

The states and the chunks are `shared.protocol` and `shared.documents`. Tests compare what routes answer with all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import (
    Any,
    Literal,
    NotRequired,  # pydantic can't read the standard library's before Python 3.12
)

from typing_extensions import TypedDict

from shared.documents import Rows
from shared.errors import DocumentError, IngestError
from shared.jobs import Status
from shared.protocol import State


class Links(TypedDict):
    """Where a document is to be found."""

    status: str
    stream: str
    chunks: str


class Accepted(TypedDict):
    """A document that was taken in. ``reused``: it is an earlier one, of the same bytes and options."""

    id: str
    status: Status
    links: Links
    reused: bool


class Listing(TypedDict):
    """Some documents, newest first. ``next`` is where older ones are, null when these are the oldest."""

    ingestions: list[State]
    next: str | None


class PartialChunk(TypedDict):
    """A chunk of a document that is on its way: it has no id yet, and its index and boundaries may change."""

    id: None
    index: int
    text: str
    page_first: int
    page_last: int
    start: int
    end: int
    tables: list[Rows]
    partial: Literal[True]


class Queues(TypedDict):
    """How much waits, how much is worked on, and how old the oldest is."""

    queued: int
    running: int
    oldest_queued_seconds: float
    oldest_seconds: float
    parts_claimable: int


class Alive(TypedDict):
    """The process lives."""

    status: Literal["alive"]


class Ready(TypedDict):
    """The process should be sent requests. ``streams`` are those it holds."""

    status: Literal["ready"]
    streams: int


class Problem(TypedDict):
    """An error (RFC 9457). ``code`` is stable and for programs, the sentences are for people. Some say more."""

    type: str
    title: str
    status: int
    code: str
    detail: NotRequired[str]


#: What the types don't say of the values: further keywords of JSON Schema, for fields of theirs.
DETAILS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "State": {
        "progress": {"minimum": 0, "maximum": 100},
        "attempt": {"minimum": 1},
        "seq": {"minimum": 1},
        "at": {"format": "date-time"},
        "created_at": {"format": "date-time"},
        "updated_at": {"format": "date-time"},
    },
    "Failure": {"code": {"enum": sorted([IngestError.code, *(kind.code for kind in DocumentError.__subclasses__())])}},
}
