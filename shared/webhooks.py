"""What webhooks say, and to whom: event types, messages, endpoints. Pure; `PROTOCOL.md` has a section on it.

A message is thin: it says that something has happened to a document, and where to look. It never holds the text. Its id
is made of the document's id and the event's ``seq``, so whoever watches the stream too knows which event it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.jobs import Status
from shared.protocol import Seq, State

#: A longer text in a message is cut: a receiver may count on less than 20 kB (Standard Webhooks, "Payload size").
MOST_TEXT_CHARACTERS = 500


class EventType(StrEnum):
    """What can be told."""

    STARTED = "ingestion.started"
    STAGE_CHANGED = "ingestion.stage_changed"
    COMPLETED = "ingestion.completed"
    FAILED = "ingestion.failed"
    CANCELLED = "ingestion.cancelled"
    #: One of the tenant's endpoints hears nothing any more.
    ENDPOINT_DISABLED = "endpoint.disabled"
    #: Sent on demand, to the one endpoint.
    ENDPOINT_TEST = "endpoint.test"


#: What an endpoint may choose among. A test is sent whatever it has chosen.
CHOICE: tuple[EventType, ...] = tuple(kind for kind in EventType if kind is not EventType.ENDPOINT_TEST)

#: What a document's new status is called. That it waits is no news to whoever has uploaded it.
TYPE_OF: dict[Status, EventType] = {
    Status.PARSING: EventType.STARTED,
    Status.CHUNKING: EventType.STAGE_CHANGED,
    Status.LOADING: EventType.STAGE_CHANGED,
    Status.COMPLETED: EventType.COMPLETED,
    Status.FAILED: EventType.FAILED,
    Status.CANCELLED: EventType.CANCELLED,
}


class Kind(StrEnum):
    """Where an endpoint comes from."""

    #: Made by its owner: hears of everything of the tenant that it has chosen.
    STANDING = "standing"
    #: Named by an upload: hears of the documents whose upload names it.
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be told. The same ``message_id`` is the same news, however often it is sent.

    Messages of one ``lane`` reach an endpoint in the order of their ``seq``. ``endpoint_id`` names one that is to hear
    it beside those that have chosen the type; ``alone``: instead of them. ``about`` names one that is not to hear it.
    """

    message_id: str
    tenant: str
    type: EventType
    body: str
    lane: str
    seq: Seq
    endpoint_id: str = ""
    alone: bool = False
    about: str = ""


def of_entry(entry: str | bytes) -> Message:
    """The message that an entry of an outbox stands for. Raises `ValueError`, `KeyError` for what is no entry."""
    values = json.loads(entry)
    status, document_id, seq = Status(values["status"]), values["id"], values["seq"]
    data = {name: values[name] for name in ("id", "filename", "status", "attempt", "seq", "counts")}
    if values["error"]:
        data["error"] = {name: _short(text) for name, text in values["error"].items()}
    data["links"] = links(document_id, status)
    return Message(
        message_id=id_of(document_id, seq, status),
        tenant=values["tenant"] or "default",
        type=TYPE_OF[status],
        body=body(TYPE_OF[status], values["at"], data),
        lane=document_id,
        seq=seq,
        endpoint_id=values["webhook"],
    )


def of_entries(entries: Mapping[int, str | bytes]) -> tuple[dict[int, Message], dict[int, Exception]]:
    """The messages that the entries of an outbox stand for, by their seq, and why others can't be read."""
    messages: dict[int, Message] = {}
    unreadable: dict[int, Exception] = {}
    for seq, entry in entries.items():
        try:
            messages[seq] = of_entry(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            unreadable[seq] = error
    return messages, unreadable


def of_state(state: State, tenant: str) -> Message:
    """The message of a document that is COMPLETED already, when its outbox holds it no more."""
    data: dict[str, Any] = {"id": state.id, "filename": state.filename, "status": state.status}
    data |= {"attempt": state.attempt, "seq": state.seq, "counts": {}, "links": links(state.id, state.status)}
    return Message(
        message_id=id_of(state.id, state.seq, state.status),
        tenant=tenant,
        type=TYPE_OF[state.status],
        body=body(TYPE_OF[state.status], state.at, data),
        lane=state.id,
        seq=state.seq,
    )


def id_of(document_id: str, seq: Seq, status: Status) -> str:
    """The ``webhook-id`` of a document's event."""
    return f"msg_{document_id}_{seq}_{status.lower()}"


def links(document_id: str, status: Status) -> dict[str, str]:
    """Where to look, as paths at the service: the state, the stream, and the result when there is one."""
    found = {"status": f"/status/{document_id}", "stream": f"/status/stream/{document_id}"}
    return {**found, "chunks": f"/ingestions/{document_id}/chunks"} if status is Status.COMPLETED else found


def of_disabling(endpoint_id: str, tenant: str, url: str, reason: str, at: str) -> Message:
    """What a tenant's other endpoints hear when one is disabled. Raises nothing."""
    message_id = f"msg_{endpoint_id}_{''.join(filter(str.isdigit, at))}"
    data = {"id": endpoint_id, "url": url, "reason": reason}
    whole = body(EventType.ENDPOINT_DISABLED, at, data)
    return Message(message_id, tenant, EventType.ENDPOINT_DISABLED, whole, message_id, 0, about=endpoint_id)


def of_test(message_id: str, endpoint_id: str, tenant: str, at: str) -> Message:
    """What an endpoint is sent when its owner wants to see whether it hears."""
    whole = body(EventType.ENDPOINT_TEST, at, {"id": endpoint_id})
    return Message(message_id, tenant, EventType.ENDPOINT_TEST, whole, message_id, 0, endpoint_id, alone=True)


def body(kind: EventType, at: str, data: Mapping[str, Any]) -> str:
    """What is sent and signed, byte for byte the same each time."""
    whole = {"type": kind, "timestamp": at, "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def wants(chosen: Iterable[str], kind: EventType) -> bool:
    """Whether an endpoint that has chosen these types is to hear of ``kind``. No choice: all of them."""
    chosen = tuple(chosen)
    return kind in chosen or not chosen


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT_CHARACTERS else text[: MOST_TEXT_CHARACTERS - 1] + "…"
