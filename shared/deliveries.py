"""Deliveries in the SQL database: what is to be sent to whom, when, and what came of it.

There is one delivery for each endpoint and message, whatever is entered twice. Deliveries to an endpoint that belong
to one document form a lane, which has a row of its own while something in it is pending: that row is what couriers
claim (`ingest_worker.lanes`). This module enters, shows and repeats; it sends nothing.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, or_, select, update
from ulid import ULID

from shared.errors import EndpointDisabled, UnknownDelivery
from shared.webhook_tables import (
    ATTEMPTS,
    DELIVERIES,
    ENDPOINTS,
    LANES,
    MESSAGES,
    WebhookDatabase,
    insert_new,
    insert_or_wait,
)
from shared.webhooks import EventType, Kind, Message, wants

#: So many deliveries are sent again together.
MOST_RECOVERED = 10_000

#: Rows that are removed together.
PURGE_BATCH = 1000


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    #: Given up; it can be sent again on demand.
    FAILED = "failed"


class Fault(StrEnum):
    """Why an attempt failed, or that none was made."""

    #: The answer is not 2xx.
    REFUSED = "refused"
    #: It leads somewhere else, where we don't go.
    REDIRECTED = "redirected"
    TIMED_OUT = "timed_out"
    #: No connection, or no TLS with the right name.
    UNREACHABLE = "unreachable"
    #: The name has no address.
    UNRESOLVED = "unresolved"
    ADDRESS_REFUSED = "address_refused"
    #: What came back is no HTTP.
    BROKEN_ANSWER = "broken_answer"
    #: The endpoint's secret was sealed with another key than the courier has.
    SEALED_OTHERWISE = "sealed_otherwise"
    #: The courier itself broke it off; its log says why.
    COURIER_FAILED = "courier_failed"
    #: Nothing was sent.
    ENDPOINT_DISABLED = "endpoint_disabled"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was sent and what came back. ``headers`` are without the signature, ``answer`` is its first bytes."""

    at: float
    duration_ms: int
    headers: Mapping[str, str]
    status: int | None = None
    answer: str | None = None
    error: Fault | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """For its owner to see. Times are in seconds since 1970."""

    id: str
    endpoint_id: str
    message_id: str
    type: str
    body: str
    state: DeliveryState
    error: Fault | None
    created_at: float
    finished_at: float | None
    due_at: float | None
    attempts: tuple[Attempt, ...] = ()


class Deliveries:
    """All deliveries. Every method raises `StoreUnavailable` when the database can't be reached."""

    def __init__(self, database: WebhookDatabase, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def enter(self, messages: Sequence[Message]) -> int:
        """Have these messages delivered to whoever wants them. Gives how many deliveries that are, old ones too."""
        with self._database.writing() as transaction:
            return enter(transaction, messages, self._clock())

    def tell(self, message: Message, endpoint_id: str) -> None:
        """Have this endpoint alone hear a message, once more if it has heard it. One that is disabled hears nothing."""
        one = (DELIVERIES.c.endpoint_id == endpoint_id) & (DELIVERIES.c.message_id == message.message_id)
        with self._database.writing() as transaction:
            now = self._clock()
            lock(transaction, ENDPOINTS.c.id == endpoint_id)
            transaction.execute(select(DELIVERIES.c.id).where(one).with_for_update())  # it is not purged from here on
            enter(transaction, [replace(message, endpoint_id=endpoint_id, alone=True)], now)
            is_enabled = select(ENDPOINTS.c.is_enabled).where(ENDPOINTS.c.id == endpoint_id)
            if transaction.execute(is_enabled).scalar():
                _begin_again(transaction, endpoint_id, one & (DELIVERIES.c.state != DeliveryState.PENDING), now)

    def redeliver(self, endpoint_id: str, delivery_id: str) -> None:
        """Send one again, whatever came of it, with all its tries before it.

        Raises `UnknownDelivery`, `EndpointDisabled`.
        """
        one = (DELIVERIES.c.endpoint_id == endpoint_id) & (DELIVERIES.c.id == delivery_id)
        with self._database.writing() as transaction:
            _lock_enabled(transaction, endpoint_id)
            if not _begin_again(transaction, endpoint_id, one, self._clock()):
                raise UnknownDelivery("There is no delivery with this id to this endpoint.")

    def recover(self, endpoint_id: str, since: float) -> int:
        """Send all again that have failed since, at most `MOST_RECOVERED` at a time. Gives how many.

        Raises `EndpointDisabled`.
        """
        failed = (DELIVERIES.c.endpoint_id == endpoint_id) & (DELIVERIES.c.state == DeliveryState.FAILED)
        with self._database.writing() as transaction:
            _lock_enabled(transaction, endpoint_id)
            return _begin_again(transaction, endpoint_id, failed & (DELIVERIES.c.finished_at >= since), self._clock())

    def enable(self, endpoint_id: str) -> None:
        """Send to an endpoint again, from now on."""
        cleared = {"disabled_reason": None, "failing_since": None, "resume_at": None}
        with self._database.writing() as transaction:
            of_endpoint = update(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id)
            transaction.execute(of_endpoint.values(is_enabled=True, updated_at=self._clock(), **cleared))

    def disable(self, endpoint_id: str, reason: str) -> None:
        """Send an endpoint nothing more. What is pending has failed with that, and can be recovered."""
        with self._database.writing() as transaction:
            disable(transaction, endpoint_id, reason, self._clock())

    def of_endpoint(self, endpoint_id: str, limit: int, before: str | None = None) -> list[Delivery]:
        """At most ``limit`` deliveries, newest first, older than the id ``before``, each with its attempts."""
        query = _shown().where(DELIVERIES.c.endpoint_id == endpoint_id).order_by(DELIVERIES.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(DELIVERIES.c.id < before) if before else query).all()
            return _with_attempts(connection, rows)

    def get(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """One delivery. Raises `UnknownDelivery`."""
        query = _shown().where(DELIVERIES.c.endpoint_id == endpoint_id, DELIVERIES.c.id == delivery_id)
        with self._database.reading() as connection:
            found = _with_attempts(connection, connection.execute(query).all())
        if not found:
            raise UnknownDelivery("There is no delivery with this id to this endpoint.")
        return found[0]

    def of_message(self, endpoint_id: str, message_id: str) -> Delivery:
        """The delivery of a message to an endpoint. Raises `UnknownDelivery`."""
        one = (DELIVERIES.c.endpoint_id == endpoint_id) & (DELIVERIES.c.message_id == message_id)
        with self._database.reading() as connection:
            delivery_id = connection.execute(select(DELIVERIES.c.id).where(one)).scalar()
        return self.get(endpoint_id, delivery_id or "")

    def due(self) -> tuple[int, float]:
        """How many lanes wait to be looked at although it is time, and for how many seconds the first has."""
        now = self._clock()
        overdue = (LANES.c.due_at <= now) & LANES.c.token.is_(None)
        with self._database.reading() as connection:
            count, oldest = connection.execute(select(func.count(), func.min(LANES.c.due_at)).where(overdue)).one()
        return count, max(0.0, now - oldest) if oldest else 0.0

    def purge(self, before: float) -> int:
        """Remove some of what is older and over: deliveries with their attempts, and messages. Gives how many rows."""
        is_over = (DELIVERIES.c.state != DeliveryState.PENDING) | ~_exists(DELIVERIES.c.endpoint_id)
        over = (DELIVERIES.c.created_at < before) & is_over
        waited_for = select(DELIVERIES.c.message_id).where(DELIVERIES.c.message_id == MESSAGES.c.id).exists()
        # What another has in its hands is to be sent again, most likely: it is left for the next time.
        with self._database.writing() as transaction:
            chosen = select(DELIVERIES.c.id).where(over).limit(PURGE_BATCH).with_for_update(skip_locked=True)
            old = transaction.execute(chosen).scalars().all()
            of_old = select(DELIVERIES.c.endpoint_id).where(DELIVERIES.c.id.in_(old))
            transaction.execute(delete(LANES).where(LANES.c.endpoint_id.in_(of_old), ~_exists(LANES.c.endpoint_id)))
            transaction.execute(delete(ATTEMPTS).where(ATTEMPTS.c.delivery_id.in_(old)))
            transaction.execute(delete(DELIVERIES).where(DELIVERIES.c.id.in_(old)))
            chosen = select(MESSAGES.c.id).where(MESSAGES.c.created_at < before, ~waited_for).limit(PURGE_BATCH)
            unheard = transaction.execute(chosen.with_for_update(skip_locked=True)).scalars().all()
            transaction.execute(delete(MESSAGES).where(MESSAGES.c.id.in_(unheard)))
        return len(old) + len(unheard)


def lock(transaction: Connection, which: Any) -> None:
    """Have these endpoints for oneself: before their lanes and deliveries, and in order, lest two wait for each other.

    For PostgreSQL; in SQLite a transaction that writes is the only one.
    """
    transaction.execute(select(ENDPOINTS.c.id).where(which).order_by(ENDPOINTS.c.id).with_for_update())


def _lock_enabled(transaction: Connection, endpoint_id: str) -> None:
    """Have an endpoint for oneself, to send it something again: what pends for a disabled one does so for ever."""
    lock(transaction, ENDPOINTS.c.id == endpoint_id)
    known = select(ENDPOINTS.c.is_enabled, ENDPOINTS.c.disabled_reason).where(ENDPOINTS.c.id == endpoint_id)
    endpoint = transaction.execute(known).first()
    if endpoint is not None and not endpoint.is_enabled:
        raise EndpointDisabled("Nothing is sent to it: enable it first.", reason=endpoint.disabled_reason)


def enter(transaction: Connection, messages: Sequence[Message], now: float) -> int:
    """Have these messages delivered to whoever wants them. Gives how many deliveries that are, old ones too."""
    rows, lanes, wanted = [], {}, {}
    pairs = _pairs(transaction, messages)
    ids = sorted(str(ULID()).lower() for _ in pairs)  # within a millisecond they are in no order by themselves
    for (message, endpoint), ulid in zip(pairs, ids, strict=True):
        wanted[message.message_id] = _message_row(message, now)
        rows.append({"id": f"dl_{ulid}", **_delivery_row(message, endpoint, now)})
        if endpoint.is_enabled:
            lanes[endpoint.id, message.lane] = {"endpoint_id": endpoint.id, "lane": message.lane, "due_at": now}
    # A message that is there already is as good as new, in the eyes of who would remove it as old and unheard.
    insert_or_wait(transaction, MESSAGES, [wanted[key] for key in sorted(wanted)], "created_at")
    insert_new(transaction, DELIVERIES, rows)
    # After the deliveries: whoever holds one of these lanes sees them when it settles, or has gone by then.
    insert_or_wait(transaction, LANES, [lanes[key] for key in sorted(lanes)])
    return len(rows)


def _delivery_row(message: Message, endpoint: Any, now: float) -> dict[str, Any]:
    pending = endpoint.is_enabled
    return {
        "endpoint_id": endpoint.id,
        "message_id": message.message_id,
        "lane": message.lane,
        "seq": message.seq,
        "state": DeliveryState.PENDING if pending else DeliveryState.FAILED,
        "tries": 0,
        "attempts": 0,
        "error": None if pending else Fault.ENDPOINT_DISABLED,
        "created_at": now,
        "finished_at": None if pending else now,
    }


def _message_row(message: Message, now: float) -> dict[str, Any]:
    return {"id": message.message_id, "type": message.type, "body": message.body, "created_at": now}


def _pairs(transaction: Connection, messages: Sequence[Message]) -> list[tuple[Message, Any]]:
    """Each message with each endpoint that is to hear of it."""
    # What one is to hear alone is no reason to lock the others: whoever tells it has locked that one before.
    tenants = {message.tenant for message in messages if not message.alone}
    named = {message.endpoint_id for message in messages if message.endpoint_id}
    columns = (ENDPOINTS.c.id, ENDPOINTS.c.tenant, ENDPOINTS.c.kind, ENDPOINTS.c.events, ENDPOINTS.c.is_enabled)
    standing = ENDPOINTS.c.tenant.in_(tenants) & (ENDPOINTS.c.kind == Kind.STANDING)
    query = select(*columns).where(or_(standing, ENDPOINTS.c.id.in_(named))).order_by(ENDPOINTS.c.id)
    # Nobody disables or removes one before what is entered for it is there to be seen.
    found = transaction.execute(query.with_for_update(read=True)).all()
    by_id = {row.id: row for row in found}
    by_tenant: dict[str, list[tuple[list[str], Any]]] = defaultdict(list)
    for row in found:
        if row.kind == Kind.STANDING:
            by_tenant[row.tenant].append((json.loads(row.events), row))
    pairs = []
    for message in messages:
        chosen = [] if message.alone else by_tenant[message.tenant]
        hearers: dict[str, Any] = {row.id: row for events, row in chosen if wants(events, message.type)}
        named_row = by_id.get(message.endpoint_id)
        if named_row is not None and named_row.tenant == message.tenant and _hears(named_row, message):
            hearers[named_row.id] = named_row
        pairs += [(message, row) for row in hearers.values() if row.id != message.about]
    return pairs


def _exists(endpoint_id: Any) -> Any:
    return select(ENDPOINTS.c.id).where(ENDPOINTS.c.id == endpoint_id).exists()


def _hears(endpoint: Any, message: Message) -> bool:
    return message.type is EventType.ENDPOINT_TEST or wants(json.loads(endpoint.events), message.type)


def disable(transaction: Connection, endpoint_id: str, reason: str, now: float) -> None:
    """Send an endpoint nothing more. What is pending has failed with that."""
    disabled = {"is_enabled": False, "disabled_reason": reason, "updated_at": now}
    transaction.execute(update(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id).values(disabled))
    transaction.execute(delete(LANES).where(LANES.c.endpoint_id == endpoint_id))
    pending = (DELIVERIES.c.endpoint_id == endpoint_id) & (DELIVERIES.c.state == DeliveryState.PENDING)
    failed = {"state": DeliveryState.FAILED, "error": Fault.ENDPOINT_DISABLED, "finished_at": now}
    transaction.execute(update(DELIVERIES).where(pending).values(failed))


def _begin_again(transaction: Connection, endpoint_id: str, which: Any, now: float) -> int:
    chosen = select(DELIVERIES.c.id, DELIVERIES.c.lane).where(which).order_by(DELIVERIES.c.id).limit(MOST_RECOVERED)
    found = transaction.execute(chosen.with_for_update()).all()
    begun = {"state": DeliveryState.PENDING, "tries": 0, "error": None, "finished_at": None}
    transaction.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_([row.id for row in found])).values(begun))
    lanes = sorted({row.lane for row in found})
    rows = [{"endpoint_id": endpoint_id, "lane": lane, "due_at": now} for lane in lanes]
    insert_or_wait(transaction, LANES, rows)
    at_rest = (LANES.c.endpoint_id == endpoint_id) & LANES.c.lane.in_(lanes) & LANES.c.token.is_(None)
    transaction.execute(update(LANES).where(at_rest).values(due_at=now))
    return len(found)


def _shown() -> Select[Any]:
    lane = (LANES.c.endpoint_id == DELIVERIES.c.endpoint_id) & (LANES.c.lane == DELIVERIES.c.lane)
    joined = select(DELIVERIES, MESSAGES.c.type, MESSAGES.c.body, LANES.c.due_at)
    return joined.join(MESSAGES, MESSAGES.c.id == DELIVERIES.c.message_id).outerjoin(LANES, lane)


def _with_attempts(connection: Connection, rows: Sequence[Row[Any]]) -> list[Delivery]:
    query = select(ATTEMPTS).where(ATTEMPTS.c.delivery_id.in_([row.id for row in rows])).order_by(ATTEMPTS.c.number)
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for row in connection.execute(query):
        values = row._asdict()
        values |= {"headers": json.loads(values["headers"]), "error": _fault(values["error"])}
        attempts[values.pop("delivery_id")].append(Attempt(**values))
    return [_delivery(row, attempts[row.id]) for row in rows]


def _delivery(row: Row[Any], attempts: Sequence[Attempt]) -> Delivery:
    return Delivery(
        id=row.id,
        endpoint_id=row.endpoint_id,
        message_id=row.message_id,
        type=row.type,
        body=row.body,
        state=DeliveryState(row.state),
        error=_fault(row.error),
        created_at=row.created_at,
        finished_at=row.finished_at,
        due_at=row.due_at if row.state == DeliveryState.PENDING else None,
        attempts=tuple(attempts),
    )


def _fault(code: str | None) -> Fault | None:
    return None if code is None else Fault(code)
