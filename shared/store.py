"""The record of every document in Redis: created once, moved by one script, read by everyone.

What there is to do for a document is the business of `shared.worklist`. The clock comes in as an argument.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import redis

from shared import keys, outbox, scripts
from shared.access import DEFAULT_TENANT
from shared.config import Settings
from shared.connections import translated
from shared.errors import AlreadyFinished, LostLease, OutOfOrder, Refused, StaleAttempt, UnknownIngestion
from shared.jobs import FINAL, RETRYABLE, Status, sources_of
from shared.parts import PLAN
from shared.protocol import Failure, Notice, Seq, Stage, State, encode, encode_fields, json_of_hash, timestamp
from shared.seats import Seats
from shared.source import Source
from shared.source import from_hash as source_from
from shared.source import to_hash as source_hash

Clock = Callable[[], datetime]

#: A document, and after which event its stored events are wanted; None: the state alone.
Ask = tuple[str, Seq | None]

#: The keys of a finished document outlive its retention by so much, so that its files and rows are removed first.
EXPIRY_MARGIN_SECONDS = 24 * 3600

#: States of a list that are read in one round trip.
BATCH = 100

_REFUSALS: dict[bytes, type[Refused]] = {
    b"stale_attempt": StaleAttempt,
    b"lost_lease": LostLease,
    b"already_finished": AlreadyFinished,
    b"out_of_order": OutOfOrder,
}


@dataclass(frozen=True, slots=True)
class History:
    """What a viewer needs to be brought up to date.

    ``state`` is the JSON of the present state, None when there is no such document; ``events`` are the stored events
    after the sequence number asked for, in order, as pairs of seq and JSON.
    """

    state: bytes | None
    events: tuple[tuple[Seq, bytes], ...]


def utc_now() -> datetime:
    """The clock that everyone passes but tests."""
    return datetime.now(UTC)


class Store:
    """Documents in Redis. Every method raises `StoreUnavailable` when Redis can't be reached, or has no room."""

    def __init__(self, client: redis.Redis, settings: Settings, clock: Clock = utc_now) -> None:
        self._redis = client
        self._clock = clock
        self._history_events = settings.history_events
        self._kept_ms = settings.retention_seconds * 1000
        self._expiry_ms = expiry_ms(settings)
        self.seats = Seats(client, settings)
        self._create = client.register_script(scripts.load(scripts.CREATE_JOB))
        self._record = client.register_script(scripts.load(scripts.RECORD_EVENT))
        self._reuse = client.register_script(scripts.load(scripts.REUSE))
        self._begin = client.register_script(scripts.load(scripts.BEGIN_ATTEMPT))

    def close(self) -> None:
        """Let go of all connections."""
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def ping(self) -> None:
        """Return when Redis answers: it may have no room, and refuse PING for that."""
        with translated():
            self._redis.exists(keys.ACTIVE)

    def check_room(self) -> None:
        """Return when Redis takes what is recorded: it can be full, and still answer."""
        with translated():
            self._redis.zadd(keys.ACTIVE, {"": 0}, xx=True)  # a write that changes nothing, refused like any other

    def create(self, document_id: str, source: Source) -> State:
        """Bring a document into being, PENDING, with its first part waiting, or give the state of the one there is.

        Raises `TooManyDocuments`.
        """
        self.seats.take(source.tenant, document_id)
        now = self._clock()
        fields = _first_fields(document_id, source.filename, timestamp(now))
        stored_source = source_hash(source)
        with translated():
            # The sorted sets live in slots of their own: a name in them without a document is skipped and struck off,
            # a document that they don't name would never be found.
            self._redis.zadd(keys.index(source.tenant), {document_id: 0})
            turn = self._enrol(document_id, now)
            args = [self._history_events, turn, PLAN.name, len(stored_source), *stored_source, *_flat(fields)]
            _, payload = self._create(keys=keys.of_document(document_id), args=args)
            self._enrol(document_id, now)  # a sweeper that found only the name may have struck it off: see `forget`
            self._redis.zadd(keys.READY, {document_id: turn}, nx=True)
        return State.from_json(payload)

    def _enrol(self, document_id: str, now: datetime) -> int:
        """Enter a document where those that are not final are found. Gives its turn: that of the least served.

        What was claimed last says it when nobody waits: those whose parts are all in hand are still to come again.
        """
        now_ms = round(now.timestamp() * 1000)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(keys.ACTIVE, {document_id: now_ms}, nx=True)
            pipe.zadd(keys.QUEUED, {document_id: now_ms}, nx=True)
            pipe.zscore(keys.CLOCK, keys.CLOCK_HAND)
            pipe.zrange(keys.READY, 0, 0, withscores=True)
            clock, first = pipe.execute()[-2:]
        return int(max(clock or 0, first[0][1] if first else 0))

    def record(
        self,
        document_id: str,
        attempt: int,
        status: Status,
        message: str,
        *,
        progress: float | None = None,
        stage: Stage | None = None,
        eta_seconds: float | None = None,
        queue_position: int | None = None,
        error: Failure | None = None,
        warnings: Sequence[Notice] | None = None,
        held: tuple[str, str] | None = None,
    ) -> State:
        """The one write: move the document, number the event, tell everyone. Gives the state as it now stands.

        ``progress`` None leaves the bar where it is. Reporting less than was reported already changes nothing.
        A worker says with ``held`` which part it holds and its fencing token, and so also that it is alive.
        Raises a `Refused` when the writer has been overtaken, `UnknownIngestion` when the document is gone.
        """
        now = timestamp(self._clock())
        changes: dict[str, object] = {
            "status": status,
            "message": message,
            "stage": stage,
            "eta_seconds": eta_seconds,
            "queue_position": queue_position,
            "at": now,
            "updated_at": now,
        }
        if held is not None:
            changes["alive_at"] = now
        if progress is not None:
            changes["progress"] = progress
        if error is not None:
            changes["error"] = error
        if warnings is not None:
            changes["warnings"] = list(warnings)
        if status in FINAL:
            changes["finished_at"] = now
        return self._record_changes(document_id, attempt, held or ("", ""), status, changes)

    def begin_attempt(self, document_id: str, sealed_password: str = "") -> State:
        """Start a document over that FAILED or was CANCELLED: PENDING again, as the next attempt.

        A password has to be given anew. Raises `OutOfOrder` when it is running or COMPLETED, `UnknownIngestion`,
        `TooManyDocuments`.
        """
        if self.state(document_id).status not in RETRYABLE:
            raise OutOfOrder(f"{document_id} is not one that can be tried again.")
        self.seats.take(self.source(document_id).tenant, document_id)
        now = self._clock()
        with translated():
            turn = self._enrol(document_id, now)
            beginning = _flat(_beginning(timestamp(now)))
            args = [listed(RETRYABLE), str(self._history_events), str(turn), PLAN.name, sealed_password, *beginning]
            code, payload = self._begin(keys=keys.of_document(document_id), args=args)
            if code == b"recorded":
                self._enrol(document_id, now)  # whoever recorded the end may have struck it off after the first time
                self._redis.zrem(keys.FINISHED, document_id)  # not before: of one that is removed it stays
                self.seats.keep([document_id])
                self._redis.zadd(keys.READY, {document_id: turn})
        return _outcome(code, payload, f"{document_id} is not one that can be tried again.")

    def _record_changes(
        self, document_id: str, attempt: int, held: tuple[str, str], status: Status, changes: Mapping[str, object]
    ) -> State:
        with translated():
            code, payload, posted = self._record(
                keys=keys.of_document(document_id),
                args=[
                    attempt,
                    *held,
                    listed(sources_of(status)),
                    self._history_events,
                    self._expiry_ms,
                    listed(FINAL),
                    listed(RETRYABLE),
                    outbox.KEPT_MS,
                    *_flat(changes),
                ],
            )
            if code == b"recorded" and status in FINAL:
                self.retire(document_id)
            elif posted:
                outbox.lead_to(self._redis, document_id)
        return _outcome(code, payload, f"{document_id}: attempt {attempt} may not report {status} any more.")

    def retire(self, document_id: str) -> None:
        """Enter a document that is final where those are found, and strike it off elsewhere."""
        self.seats.free(document_id)
        with translated():
            with self._redis.pipeline(transaction=False) as pipe:
                outbox.lead_to(pipe, document_id)  # first: once it is struck off below, nobody comes by here again
                finished_ms = round(self._clock().timestamp() * 1000)
                pipe.zadd(keys.FINISHED, {document_id: finished_ms}, nx=True)  # it may be withdrawn already
                pipe.execute()
            status = self._strike_off(document_id)
            if status and status not in FINAL:  # somebody has begun the next attempt meanwhile
                self._enter_again(document_id)
                self._redis.zrem(keys.FINISHED, document_id)

    def forget(self, document_id: str) -> None:
        """Strike off a name behind which there was no document. If it is created meanwhile, it is found nevertheless.

        Whoever creates it enters the name before the document is there, and again after; here the name is struck off
        first, and then the document is looked for. If it is there by then, the name is entered here. If not, the name
        was struck off before the document was there, so before it is entered the second time.
        """
        with translated():
            if self._strike_off(document_id):  # final or not: the next audit does what is due
                self._enter_again(document_id)

    def _strike_off(self, document_id: str) -> Status | None:
        """Lead nobody to a document any more. Gives its status after that; None when there is no such document."""
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys.LEADING:
                pipe.zrem(key, document_id)
            pipe.hget(keys.state(document_id), "status")
            status = pipe.execute()[-1]
        return Status(json.loads(status)) if status else None

    def _enter_again(self, document_id: str) -> None:
        """A document that should not have been struck off, in any state: a name too many is mended by the audit."""
        now = self._clock()
        turn = self._enrol(document_id, now)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(keys.LEASED, {document_id: round(now.timestamp() * 1000)}, nx=True)  # perhaps a part is claimed
            pipe.zadd(keys.READY, {document_id: turn}, nx=True)
            pipe.execute()
        self.seats.keep([document_id])

    def state(self, document_id: str) -> State:
        """The present state. Raises `UnknownIngestion`."""
        return State.from_json(self.state_json(document_id))

    def state_json(self, document_id: str) -> bytes:
        """The present state, byte for byte as the last event carried it. Raises `UnknownIngestion`."""
        stored = self._hash(keys.state(document_id))
        if not stored:
            raise UnknownIngestion(f"There is no ingestion {document_id}.")
        return json_of_hash(stored)

    def source(self, document_id: str) -> Source:
        """What was uploaded. Raises `UnknownIngestion`."""
        stored = self._hash(keys.source(document_id))
        if not stored:
            raise UnknownIngestion(f"There is no ingestion {document_id}.")
        return source_from(stored)

    def remember_result(self, document_id: str, source: Source) -> None:
        """Let `earlier_result` find this document, which is COMPLETED, as long as it is kept."""
        with translated():
            self._redis.set(keys.result(source.fingerprint), document_id, px=self._kept_ms)

    def earlier_result(self, source: Source) -> State | None:
        """The COMPLETED document with the same bytes and options, if there is one. It is kept as long as a new one."""
        with translated():
            found = cast("bytes | None", self._redis.getex(keys.result(source.fingerprint), px=self._kept_ms))
            if found is None:
                return None
            args: list[str | int] = [Status.COMPLETED, encode(timestamp(self._clock())), self._expiry_ms]
            state = cast("bytes", self._reuse(keys=keys.of_document(found.decode()), args=args))
        return State.from_json(state) if state else None

    def histories(self, asks: Iterable[Ask], most_events: int | None = None) -> dict[Ask, History]:
        """What each of these asks for, in one round trip; of the stored events, the first ``most_events``."""
        wanted = list(asks)
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for document_id, after in wanted:
                pipe.hgetall(keys.state(document_id))
                if after is not None:
                    pipe.xrange(keys.events(document_id), min=f"({after}-0", count=most_events)
            replies = iter(pipe.execute())
        return {ask: _history(next(replies), () if ask[1] is None else next(replies)) for ask in wanted}

    def check_tenant(self, document_ids: Sequence[str], tenant: str) -> None:
        """Return when all these are documents of the tenant. Raises `UnknownIngestion`, which names the others."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for document_id in document_ids:
                pipe.hget(keys.source(document_id), "tenant")
            tenants = pipe.execute()
        others = [name for name, found in zip(document_ids, tenants, strict=True) if found != tenant.encode()]
        if others:
            raise UnknownIngestion("There are no ingestions with some of these ids.", ids=others)

    def newest(self, tenant: str, limit: int, before: str | None = None) -> list[bytes]:
        """States as JSON, newest first, of at most ``limit`` documents of a tenant, older than the id ``before``."""
        index = keys.index(tenant)
        bound = f"({before}" if before else "+"
        with translated():
            names = cast("list[bytes]", self._redis.zrevrangebylex(index, bound, "-", start=0, num=limit))
            states = dict(self._states(names))
            gone = [name for name, state in states.items() if state is None]
            if gone:
                self._redis.zrem(index, *gone)
        return [state for state in states.values() if state is not None]

    def _states(self, names: Sequence[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        """Each name and its state, of which some are made out at a time: a web process has others to serve as well."""
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            with self._redis.pipeline(transaction=False) as pipe:
                for name in batch:
                    pipe.hgetall(keys.state(name.decode()))
                stored = pipe.execute()
            yield from (
                (name, json_of_hash(state) if state else None) for name, state in zip(batch, stored, strict=True)
            )

    def _hash(self, key: str) -> dict[bytes, bytes]:
        with translated():
            return cast("dict[bytes, bytes]", self._redis.hgetall(key))

    def delete(self, document_id: str) -> None:
        """Remove every trace of a document from Redis, but for what webhooks have still to be told of it."""
        self.seats.free(document_id)
        with translated():
            tenant = cast("bytes | None", self._redis.hget(keys.source(document_id), "tenant"))
            index = keys.index(tenant.decode() if tenant else DEFAULT_TENANT)
            with self._redis.pipeline(transaction=False) as pipe:
                outbox.lead_to(pipe, document_id)
                pipe.delete(*keys.removable(document_id))
                for key in (*keys.LEADING, keys.FINISHED, index):
                    pipe.zrem(key, document_id)
                pipe.publish(keys.channel(document_id), "")
                pipe.execute()


def expiry_ms(settings: Settings) -> int:
    """How long the keys of a finished document live.

    A worker removes it at the end of its retention, with its files and rows; the margin is for the case that none runs.
    """
    return (settings.retention_seconds + EXPIRY_MARGIN_SECONDS) * 1000


def _outcome(code: bytes, payload: bytes, refusal: str) -> State:
    if code == b"unknown_ingestion":
        raise UnknownIngestion("There is no such ingestion.")
    if code in _REFUSALS:
        raise _REFUSALS[code](refusal)
    return State.from_json(payload)


def _beginning(now: str) -> dict[str, object]:
    """The fields that every attempt begins with."""
    return {
        "status": Status.PENDING,
        "progress": 0,
        "message": "Waiting for a worker",
        "stage": None,
        "eta_seconds": None,
        "queue_position": None,
        "at": now,
        "updated_at": now,
        "alive_at": None,
        "finished_at": None,
        "error": None,
        "warnings": [],
    }


def _first_fields(document_id: str, filename: str, now: str) -> dict[str, object]:
    # All fields but seq, which the script gives.
    return {"id": document_id, "filename": filename, "attempt": 1, "created_at": now, **_beginning(now)}


def _flat(values: Mapping[str, object]) -> list[str]:
    return [part for pair in encode_fields(values).items() for part in pair]


def listed(statuses: frozenset[Status]) -> str:
    """Statuses as the scripts take them: ``,A,B,``."""
    return "," + ",".join(sorted(statuses)) + ","


def _history(stored: Mapping[bytes, bytes], entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> History:
    events = tuple((int(entry_id.split(b"-")[0]), fields[b"state"]) for entry_id, fields in entries)
    return History(state=json_of_hash(stored) if stored else None, events=events)
