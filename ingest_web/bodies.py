"""What routes answer with and take in as JSON and as forms, as types: `ingest_web.openapi` describes them from here.

The states and the chunks are `shared.protocol` and `shared.documents`. Tests compare what routes answer with all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic can't read the standard library's before Python 3.12
)

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from shared.addresses import MOST_URL_CHARACTERS
from shared.deliveries import DeliveryState, Fault
from shared.documents import Rows
from shared.errors import DocumentError, IngestError
from shared.jobs import Status
from shared.protocol import State
from shared.webhooks import CHOICE, Kind


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds characters that can't be shown")
    return text


#: Some words of an owner.
Line = Annotated[str, Field(max_length=200), AfterValidator(_printable)]


def _choosable(text: str) -> str:
    if text not in CHOICE:
        raise ValueError(f"choose among {', '.join(CHOICE)}")
    return text


#: What an endpoint may choose.
Event = Annotated[str, AfterValidator(_choosable), WithJsonSchema({"enum": list(CHOICE)})]


class Links(TypedDict):
    """Where a document is to be found."""

    status: str
    stream: str
    chunks: str


class Accepted(TypedDict):
    """A document that was taken in. ``reused``: it is an earlier one, of the same bytes and options.

    ``stream_url`` opens its stream without a key, for a while. Of an earlier document only those have it who may read.
    """

    id: str
    status: Status
    links: Links
    reused: bool
    stream_url: NotRequired[str]
    webhook: NotRequired[NamedEndpoint]


class Link(TypedDict):
    """The path of a document's stream, which opens it without a key until ``expires_at``; null: it needs none."""

    stream_url: str
    expires_at: str | None


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


class NewEndpoint(BaseModel):
    """A webhook endpoint to be made. ``events`` are the types it is to hear of; none: all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str = Field(max_length=MOST_URL_CHARACTERS)
    events: list[Event] = Field([], max_length=len(CHOICE))
    description: Line = ""


class EndpointChange(BaseModel):
    """What is to be changed of a webhook endpoint; what is left out stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: str = Field("", max_length=MOST_URL_CHARACTERS)
    events: list[Event] = Field([], max_length=len(CHOICE))
    description: Line = ""
    enabled: bool | None = None


class Rotation(BaseModel):
    """For how long the secrets before the new one stay good."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_seconds: float = Field(24 * 3600, ge=0, le=7 * 24 * 3600)


class Recovery(BaseModel):
    """Since when."""

    model_config = ConfigDict(extra="forbid", strict=True)

    since: AwareDatetime


class EndpointShown(TypedDict):
    """A webhook endpoint. ``secret`` only when it has just been made; ``events`` empty: all."""

    id: str
    kind: Kind
    url: str
    events: list[str]
    description: str
    enabled: bool
    disabled_reason: str | None
    failing_since: str | None
    created_at: str
    updated_at: str
    secret: NotRequired[str]


class EndpointListing(TypedDict):
    """Some of a tenant's endpoints. ``next`` is where others are, null when these are the last."""

    webhooks: list[EndpointShown]
    next: str | None


class AttemptShown(TypedDict):
    """One attempt at a delivery: what was sent beside the body, without the signature, and what came back."""

    number: int
    at: str
    duration_ms: int
    request_headers: dict[str, str]
    status: int | None
    answer: str | None
    error: Fault | None


class DeliveryShown(TypedDict):
    """A message to an endpoint, and every attempt at it. ``body`` is what is sent, byte for byte."""

    id: str
    message_id: str
    type: str
    state: DeliveryState
    error: Fault | None
    body: str
    created_at: str
    finished_at: str | None
    next_attempt_at: str | None
    attempts: list[AttemptShown]


class DeliveryListing(TypedDict):
    """Some deliveries, newest first. ``next`` is where older ones are, null when these are the oldest."""

    deliveries: list[DeliveryShown]
    next: str | None


class Recovered(TypedDict):
    """How many deliveries begin anew."""

    recovered: int


class NamedEndpoint(TypedDict):
    """The endpoint that an upload named; its ``secret`` when this is the first that has succeeded."""

    id: str
    secret: NotRequired[str]


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
