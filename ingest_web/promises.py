"""What each route takes and what it may answer: the table from which `ingest_web.openapi` is written.

What holds for all of them is not repeated here: who may ask (`ingest_web.access`), and what any route may fail with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from werkzeug.exceptions import (
    HTTPException,
    NotFound,
    RequestedRangeNotSatisfiable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)

from ingest_web import idempotency, webhooks
from ingest_web.bodies import (
    Accepted,
    Alive,
    DeliveryListing,
    DeliveryShown,
    EndpointChange,
    EndpointListing,
    EndpointShown,
    Link,
    Listing,
    NewEndpoint,
    PartialChunk,
    Queues,
    Ready,
    Recovered,
    Recovery,
    Rotation,
)
from ingest_web.ids import DOCUMENT_ID, MOST_IDS
from ingest_web.ingestions import MOST_PAGE_SIZE, PAGE_SIZE
from ingest_web.webhooks import DELIVERY_ID, ENDPOINT_ID
from shared import errors
from shared.documents import Chunk
from shared.errors import IngestError
from shared.options import Options, Terms
from shared.protocol import State

Keywords = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Body:
    """A body of a media type. ``types`` are those that it is JSON of, or each of its lines or events is."""

    media_type: str
    types: tuple[type, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no error. ``headers`` are those that it always has, and what they say."""

    meaning: str
    bodies: tuple[Body, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that a route takes; ``file`` says whether one of them is a file, which it must have."""

    fields: Keywords
    file: bool = False
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the query or a header that a route looks at."""

    name: str
    meaning: str
    schema: Keywords
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a route takes and answers."""

    answers: Mapping[int, Answer]
    errors: tuple[type[IngestError | HTTPException], ...] = ()
    query: tuple[Field, ...] = ()
    headers: tuple[Field, ...] = ()
    form: Form | None = None
    json: type[BaseModel] | None = None


#: The form of a document's id.
ID_SCHEMA: Keywords = {"type": "string", "pattern": f"^{DOCUMENT_ID.pattern}$"}

_ENDPOINT_ID: Keywords = {"type": "string", "pattern": f"^{ENDPOINT_ID.pattern}$"}

_DELIVERY_ID: Keywords = {"type": "string", "pattern": f"^{DELIVERY_ID.pattern}$"}

#: The forms of ids in paths.
SCHEMAS_OF_IDS: Mapping[str, Keywords] = {
    "document_id": ID_SCHEMA,
    "endpoint_id": _ENDPOINT_ID,
    "delivery_id": _DELIVERY_ID,
}

_STATE = Body("application/json", (State,))

_EVENTS = Body("text/event-stream", (State,))

_LAST_EVENT_ID = Field(
    "Last-Event-ID",
    "The id of the last event that was seen: what was missed is sent first. One that does not fit counts as none.",
    {"type": "string"},
)

_IDEMPOTENCY_KEY = Field(
    idempotency.HEADER,
    "The same upload with the same key gets the same answer, however often it comes: one that was given before has the "
    f"header `{idempotency.REPLAYED_HEADER}: true`.",
    {"type": "string", "pattern": f"^[ -~]{{1,{idempotency.MOST_CHARACTERS}}}$"},
)

_PASSWORD = Terms.model_json_schema()["properties"]["password"]


def _upload() -> Form:
    return Form(
        {**Options.model_json_schema()["properties"], **Terms.model_json_schema()["properties"]}, file=True, closed=True
    )


def _stream(*query: Field) -> Promise:
    return Promise(
        answers={
            200: Answer("Events, until all documents are final; or `retry` alone, when to come back", (_EVENTS,)),
            204: Answer("`Last-Event-ID` is that of the last event there will be"),
        },
        errors=(errors.UnknownIngestion, *((errors.InvalidOption,) if query else ())),
        query=query,
        headers=(_LAST_EVENT_ID,),
    )


def _page(most: int, size: int, before: Field) -> tuple[Field, ...]:
    return (Field("limit", "So many", {"type": "integer", "minimum": 1, "maximum": most, "default": size}), before)


#: What taking JSON in may fail with.
_OF_JSON = (errors.InvalidOption, UnsupportedMediaType, RequestEntityTooLarge)

_ENDPOINT = Body("application/json", (EndpointShown,))

_DELIVERY = Body("application/json", (DeliveryShown,))

_TAKEN_IN = Body("application/json", (Accepted,))

_AT = {"Location": "The address of the state"}

_FILE_TYPES = ("text/javascript", "text/css", "image/svg+xml")

PROMISES: Mapping[str, Promise] = {
    "uploads.create": Promise(
        form=_upload(),
        headers=(_IDEMPOTENCY_KEY,),
        answers={
            202: Answer("The document is taken in", (_TAKEN_IN,), _AT),
            200: Answer("An earlier document has the same bytes and options: it is this one", (_TAKEN_IN,), _AT),
        },
        errors=(
            errors.FileMissing,
            errors.TooManyFiles,
            errors.MalformedUpload,
            errors.UploadInterrupted,
            errors.TooLarge,
            RequestEntityTooLarge,
            errors.UnsupportedMediaType,
            errors.TooSlow,
            errors.EmptyFile,
            errors.InvalidOption,
            errors.IdempotencyKeyReused,
            errors.QuotaOfBytes,
            errors.TooManyDocuments,
            errors.RefusedUrl,
            errors.TooManyEndpoints,
        ),
    ),
    "ingestions.index": Promise(
        query=_page(MOST_PAGE_SIZE, PAGE_SIZE, Field("before", "Those older than this document", ID_SCHEMA)),
        answers={200: Answer("Documents, newest first", (Body("application/json", (Listing,)),))},
        errors=(errors.InvalidOption, errors.UnknownIngestion),
    ),
    "ingestions.status": Promise(answers={200: Answer("The state", (_STATE,))}, errors=(errors.UnknownIngestion,)),
    "ingestions.chunks": Promise(
        answers={
            200: Answer(
                "Chunks, one a line",
                (Body("application/jsonl", (Chunk, PartialChunk)),),
                {"Ingest-Partial": "`true` while the document is on its way, `false` for the whole result"},
            )
        },
        errors=(errors.UnknownIngestion, errors.NotReady),
    ),
    "ingestions.delete": Promise(
        answers={200: Answer("It was on its way and is cancelled", (_STATE,)), 204: Answer("It is removed")},
        errors=(errors.UnknownIngestion,),
    ),
    "ingestions.retry": Promise(
        form=Form({"password": _PASSWORD}),
        answers={202: Answer("The next attempt waits", (_STATE,))},
        errors=(
            errors.UnknownIngestion,
            errors.NotRetryable,
            errors.MalformedUpload,
            RequestEntityTooLarge,
            errors.TooManyDocuments,
        ),
    ),
    "links.create": Promise(
        form=Form({"expires_in": {"type": "integer", "minimum": 1, "description": "In seconds"}}),
        answers={201: Answer("A link for those who have no key", (Body("application/json", (Link,)),))},
        errors=(errors.UnknownIngestion, errors.InvalidOption, errors.MalformedUpload, RequestEntityTooLarge),
    ),
    "streams.stream_one": _stream(),
    "streams.stream_many": _stream(
        Field(
            "id",
            "The documents. With tokens they may be left out: then it is those that the tokens are for",
            {"type": "array", "items": ID_SCHEMA, "minItems": 1, "maxItems": MOST_IDS},
        )
    ),
    "webhooks.create": Promise(
        json=NewEndpoint,
        answers={201: Answer("It is made", (_ENDPOINT,), {"Location": "The address of the endpoint"})},
        errors=(*_OF_JSON, errors.RefusedUrl, errors.TooManyEndpoints),
    ),
    "webhooks.index": Promise(
        query=_page(webhooks.MOST_PAGE_SIZE, webhooks.PAGE_SIZE, Field("before", "Those below this id", _ENDPOINT_ID)),
        answers={200: Answer("Endpoints", (Body("application/json", (EndpointListing,)),))},
        errors=(errors.InvalidOption,),
    ),
    "webhooks.get": Promise(answers={200: Answer("The endpoint", (_ENDPOINT,))}, errors=(errors.UnknownEndpoint,)),
    "webhooks.change": Promise(
        json=EndpointChange,
        answers={200: Answer("It is changed", (_ENDPOINT,))},
        errors=(errors.UnknownEndpoint, *_OF_JSON, errors.RefusedUrl),
    ),
    "webhooks.delete": Promise(answers={204: Answer("It is removed")}, errors=(errors.UnknownEndpoint,)),
    "webhooks.rotate": Promise(
        json=Rotation,
        answers={200: Answer("It has a new secret", (_ENDPOINT,))},
        errors=(errors.UnknownEndpoint, *_OF_JSON),
    ),
    "webhooks.test": Promise(
        answers={200: Answer("What came of it", (_DELIVERY,))},
        errors=(errors.UnknownEndpoint, errors.EndpointDisabled),
    ),
    "webhooks.deliveries": Promise(
        query=_page(webhooks.MOST_PAGE_SIZE, webhooks.PAGE_SIZE, Field("before", "Those older", _DELIVERY_ID)),
        answers={200: Answer("Deliveries, newest first", (Body("application/json", (DeliveryListing,)),))},
        errors=(errors.UnknownEndpoint, errors.InvalidOption),
    ),
    "webhooks.redeliver": Promise(
        answers={202: Answer("It begins anew", (_DELIVERY,))},
        errors=(errors.UnknownEndpoint, errors.UnknownDelivery, errors.EndpointDisabled),
    ),
    "webhooks.recover": Promise(
        json=Recovery,
        answers={202: Answer("So many begin anew", (Body("application/json", (Recovered,)),))},
        errors=(errors.UnknownEndpoint, errors.EndpointDisabled, *_OF_JSON),
    ),
    "metrics.queues": Promise(answers={200: Answer("The figures", (Body("application/json", (Queues,)),))}),
    "metrics.metrics": Promise(answers={200: Answer("For Prometheus", (Body(CONTENT_TYPE_LATEST),))}),
    "health.livez": Promise(answers={200: Answer("Alive", (Body("application/json", (Alive,)),))}),
    "health.readyz": Promise(
        answers={200: Answer("Ready", (Body("application/json", (Ready,)),))}, errors=(errors.StoreUnavailable,)
    ),
    "pages.index": Promise(answers={200: Answer("The page", (Body("text/html"),))}),
    "openapi.document": Promise(answers={200: Answer("OpenAPI 3.1", (Body("application/json", (dict,)),))}),
    "static": Promise(
        answers={
            200: Answer("The file", tuple(map(Body, _FILE_TYPES))),
            206: Answer("A part of it", tuple(map(Body, _FILE_TYPES))),
            304: Answer("It has not changed"),
        },
        errors=(NotFound, RequestedRangeNotSatisfiable),
    ),
}
