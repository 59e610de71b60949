"""The one message of the system: the full state of an ingestion, as values and as JSON. `PROTOCOL.md` is its document.

Pure: frozen dataclasses, `encode` and `decode`; no I/O, no framework, no clock. Every event *is* a state, so whoever
misses some is right again at the next one.

In Redis each field of the state is a field of a hash, and its value is JSON. So the script that records an event can
put the whole message together by joining strings, whatever the fields hold, and nothing is decoded and encoded again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self

from shared.jobs import FINAL, Status

#: The unit of the SSE event id, and of ``Last-Event-ID`` for a stream of one document.
Seq = int


@dataclass(frozen=True, slots=True)
class Stage:
    """How far the present stage is: ``done`` of ``total`` in ``unit`` (``pages``, ``chunks``)."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a document FAILED: a stable code (see `shared.errors`) and a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning: something about the document that its owner should know. ``pages`` count from 1; empty means all."""

    code: str
    message: str
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where an ingestion stands. The order of the fields is the order on the wire.

    ``progress`` is 0 to 100 and never falls within an ``attempt``; ``seq`` counts the events of the document from 1;
    times are ISO 8601 in UTC with milliseconds. ``error`` is there for FAILED only, ``finished_at`` for final states,
    ``queue_position`` for PENDING. ``alive_at`` is when a worker last said that it is at work on the document.
    """

    id: str
    filename: str
    status: Status
    progress: float
    message: str
    stage: Stage | None
    eta_seconds: float | None
    queue_position: int | None
    attempt: int
    seq: Seq
    at: str
    created_at: str
    updated_at: str
    alive_at: str | None
    finished_at: str | None
    error: Failure | None
    warnings: tuple[Notice, ...]

    @property
    def is_final(self) -> bool:
        """Whether nothing will follow within this attempt."""
        return self.status in FINAL

    @classmethod
    def from_json(cls, data: str | bytes) -> Self:
        """The state that an event carries. Raises `ValueError` for anything else; unknown fields are left alone."""
        try:
            return cls.from_values(json.loads(data))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a state: {data!r:.200}") from error

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """The state from its decoded fields."""
        known = {name: values[name] for name in FIELDS}
        known["status"] = Status(known["status"])
        known["stage"] = Stage(**known["stage"]) if known["stage"] else None
        known["error"] = Failure(**known["error"]) if known["error"] else None
        known["warnings"] = tuple(
            Notice(item["code"], item["message"], tuple(item["pages"])) for item in known["warnings"]
        )
        return cls(**known)


#: The fields of a state, in the order on the wire.
FIELDS: tuple[str, ...] = tuple(field.name for field in fields(State))


def json_of_hash(stored: Mapping[bytes, bytes]) -> bytes:
    """The message that the hash stands for, byte for byte the one that the script published.

    Raises `ValueError` when a field is missing.
    """
    try:
        return b"{" + b",".join(b'"%b":%b' % (name, stored[name]) for name in _FIELDS_AS_BYTES) + b"}"
    except KeyError as error:
        raise ValueError(f"the hash has no field {error}") from error


_FIELDS_AS_BYTES = tuple(name.encode() for name in FIELDS)


def encode(value: object) -> str:
    """One field's value as JSON: compact, UTF-8 as it is, whole numbers without ``.0``, dataclasses as objects."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode_fields(values: Mapping[str, object]) -> dict[str, str]:
    """Some fields of a state, each as JSON. Raises `ValueError` for a name that is not a field."""
    unknown = values.keys() - set(FIELDS)
    if unknown:
        raise ValueError(f"not fields of a state: {sorted(unknown)}")
    return {name: encode(value) for name, value in values.items()}


def encode_state(state: State) -> str:
    """The message that an event carries."""
    parts = encode_fields({name: getattr(state, name) for name in FIELDS})
    return "{" + ",".join(f'"{name}":{parts[name]}' for name in FIELDS) + "}"


def timestamp(moment: datetime) -> str:
    """``2026-11-23T20:00:00.123Z`` for an aware datetime."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> object:
    match value:
        case float() if value.is_integer():
            return int(value)
        case Stage() | Failure() | Notice():
            return {field.name: getattr(value, field.name) for field in fields(value)}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
