"""Who works on what: parts of documents are claimed, held by a lease, settled, and taken back from whoever is gone.

A claim comes with a fencing token, and everything written for the part is refused once the token is another's. The
scripts decide, within one document; sorted sets over all documents only lead to them, and whatever a crash leaves
amiss there is mended by the next `lapse` of that document.

Documents take turns by the pages they have been served (start-time fair queueing; Goyal, Vin, Cheng 1996): a new one
begins where the least served of those that wait stands, so it passes every large one after at most a range. The clock
of the turns never goes back: while nobody waits it shows the turn of the last claim.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from shared import keys, scripts
from shared.config import Settings
from shared.connections import translated
from shared.errors import AlreadyFinished, LostLease, Refused, UnknownIngestion
from shared.jobs import FINAL, STRETCH, Status
from shared.parts import PLAN, Part, Step, part_of
from shared.protocol import encode, timestamp
from shared.store import Clock, listed, utc_now

#: What a script is given.
Args = list[str | int | float]

#: While there is nothing new to report a renewal is a sign of life, if the last one is so long ago. Renewals come at
#: least as often, so that two seconds without one tell that nobody is at work.
BEAT_SECONDS = 1.0

#: So many random bytes make a fencing token that no other claim has had.
NONCE_BYTES = 8

#: How many documents are looked at together when a part is sought.
BATCH = 32

_REFUSALS: dict[bytes, type[Refused] | type[UnknownIngestion]] = {
    b"lost_lease": LostLease,
    b"already_finished": AlreadyFinished,
    b"unknown_ingestion": UnknownIngestion,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """A part in hand. ``attempt`` and ``token`` fence every write.

    ``lost`` counts the workers that were lost with it. ``spent_seconds`` and ``characters`` are what the document has
    cost and given so far, ``total`` is how many pages it has, 0 before that is known, in ``unit``.
    """

    document_id: str
    part: Part
    token: str
    attempt: int
    lost: int
    spent_seconds: float
    characters: int
    total: int
    unit: str

    @property
    def held(self) -> tuple[str, str]:
        """The part and its token, as `shared.store.Store.record` takes them."""
        return self.part.name, self.token


@dataclass(frozen=True, slots=True)
class Plan:
    """How many pages there are, how many of them are parsed already, and the word for them."""

    total: int
    kept: int
    unit: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a document's work looked like just now; ``lost`` are the parts whose holders were found gone."""

    lost: tuple[Part, ...]
    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The work of all documents: how many wait for a worker, how many are worked on, and the age of the oldest.

    ``oldest_seconds`` is of those that wait or run; 0 when there are none.
    """

    queued: int
    running: int
    oldest_queued_seconds: float
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Queued:
    """A document that waits for a worker, and what it was told last: its place, from 1, and the seconds to its end."""

    document_id: str
    attempt: int
    size_bytes: int
    position: int | None
    eta_seconds: float | None


class Worklist:
    """The work on all documents, in Redis. Every method raises `StoreUnavailable` when Redis can't be reached."""

    def __init__(self, client: redis.Redis, settings: Settings, clock: Clock = utc_now) -> None:
        self._redis = client
        self._clock = clock
        self._lease_ms = round(settings.lease_seconds * 1000)
        self._most_running = settings.max_parts_in_flight
        self._interval_ms = round(settings.report_interval_seconds * 1000)
        self._history_events = settings.history_events
        self._claim = client.register_script(scripts.load(scripts.CLAIM_PART))
        self._renew = client.register_script(scripts.load(scripts.RENEW_PART))
        self._settle = client.register_script(scripts.load(scripts.SETTLE_PART))
        self._lapse = client.register_script(scripts.load(scripts.LAPSE_PARTS))
        self._strike = client.register_script(scripts.load(scripts.STRIKE))

    def claim(self) -> Claim | None:
        """The next part of the document whose turn it is; None when there is nothing that may be claimed."""
        passed = 0
        with translated():
            while names := self._names(keys.READY, passed, BATCH):
                for document_id in names:
                    claim = self._claim_of(document_id)
                    if claim is not None:
                        return claim
                passed += self._still_ready(names)
        return None

    def _still_ready(self, names: list[str]) -> int:
        """How many of them have not been struck off: those behind have moved up by the others."""
        return sum(score is not None for score in self._redis.zmscore(keys.READY, names))

    def _claim_of(self, document_id: str) -> Claim | None:
        answer = self._ask_for_part(document_id)
        if answer[0] == b"nothing":
            # Looked at again after it was struck off: a part that began to wait in between must not be forgotten.
            self._redis.zrem(keys.READY, document_id)
            answer = self._ask_for_part(document_id)
        if answer[0] == b"claimed":
            return self._claimed(document_id, answer[1:])
        if answer[0] in _REFUSALS:
            self._redis.zrem(keys.READY, document_id)
        return None

    def _ask_for_part(self, document_id: str) -> Sequence[Any]:
        # Not in one pipeline: a script that a Redis which was restarted has forgotten is sent again only by itself.
        self._redis.zadd(keys.LEASED, {document_id: _now_ms()})
        args: Args = [listed(FINAL), self._lease_ms, self._most_running, secrets.token_hex(NONCE_BYTES)]
        return cast("Sequence[Any]", self._claim(keys=keys.of_document(document_id), args=args))

    def _claimed(self, document_id: str, answer: Sequence[Any]) -> Claim:
        name, token, attempt, lost, turn, spent_ms, characters, total, unit = answer
        part = part_of(name.decode())
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(keys.READY, {document_id: turn})
            pipe.zadd(keys.CLOCK, {keys.CLOCK_HAND: turn - max(1, part.pages)}, gt=True)  # where it stood before
            pipe.zrem(keys.QUEUED, document_id)
            pipe.execute()
        return Claim(
            document_id=document_id,
            part=part,
            token=token.decode(),
            attempt=int(attempt),
            lost=lost,
            spent_seconds=spent_ms / 1000,
            characters=characters,
            total=total,
            unit=unit.decode(),
        )

    def renew(self, claim: Claim, read: int | None = None) -> None:
        """Hold on to a part; ``read`` of its pages are read so far. Reports them, or a sign of life, when that is due.

        Raises `LostLease`, `AlreadyFinished` and `UnknownIngestion`: the part is no longer ours.
        """
        args: Args = [listed(FINAL), claim.part.name, claim.token, self._lease_ms, "" if read is None else read]
        with translated():
            code = self._renew(keys=keys.of_document(claim.document_id), args=[*args, *self._reporting()])
        if code != b"held":
            raise _refusal(code, claim)

    def settle(
        self,
        claim: Claim,
        *,
        finished: Mapping[Part, object] | None = None,
        gone: Sequence[Part] = (),
        rest: Sequence[Part] = (),
        then: Part | None = None,
        plan: Plan | None = None,
        spent_seconds: float = 0.0,
        characters: int = 0,
        served_bytes: int = 0,
    ) -> int:
        """End the work on a part. Gives how many parts of the document wait now.

        ``finished`` maps the ranges that are done, and `PLAN`, to what is to be known of them, in values that JSON
        holds; ``gone`` are done no longer; ``rest`` waits again; ``then`` waits when nothing else does, which happens
        once. Raises as `renew` does.
        """
        done: Args = [item for part, found in (finished or {}).items() for item in (part.name, json.dumps(found))]
        done += [item for part in gone for item in (part.name, "")]
        planned = [plan.total, plan.kept, "Parsed", plan.unit] if plan else ["", "", "", ""]
        args: Args = [
            *(listed(FINAL), claim.part.name, claim.token, round(spent_seconds * 1000), characters),
            *(then.name if then else "", *self._reporting(), *planned),
            *(len(done), *done, *(part.name for part in rest)),
        ]
        with translated():
            code, waiting, turn = self._settle(keys=keys.of_document(claim.document_id), args=args)
            if code != b"settled":
                raise _refusal(code, claim)
            with self._redis.pipeline(transaction=False) as pipe:
                if waiting:
                    pipe.zadd(keys.READY, {claim.document_id: turn})
                pipe.incrby(keys.SERVED, served_bytes)
                pipe.execute()
        return int(waiting)

    def give_back(self, claim: Claim) -> None:
        """Hand back a part that was not begun; a document that waited for a worker waits again, where it stood.

        Raises as `renew` does.
        """
        with translated():
            since = self._redis.zscore(keys.ACTIVE, claim.document_id) if claim.part == PLAN else None
            if since is not None:  # before another can claim it, who strikes it off
                self._redis.zadd(keys.QUEUED, {claim.document_id: since})
        try:
            self.settle(claim, rest=[claim.part])
        except (Refused, UnknownIngestion):
            with translated():
                self._redis.zrem(keys.QUEUED, claim.document_id)
            raise

    def lapse(self, document_id: str) -> Standing:
        """Take back the parts of a document whose leases have ended, and mend what leads to it.

        Raises `AlreadyFinished` and `UnknownIngestion`.
        """
        at = encode(timestamp(self._clock()))
        with translated():
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.zscore(keys.LEASED, document_id)
                pipe.zscore(keys.ACTIVE, document_id)
                seen, since = pipe.execute()
            args: Args = [listed(FINAL), PLAN.name, at, self._history_events, self._lease_ms]
            code, lost, waiting, running, turn, pending = self._lapse(keys=keys.of_document(document_id), args=args)
            if code in _REFUSALS:
                raise _REFUSALS[code](f"{document_id} is not on its way.")
            if waiting:
                self._redis.zadd(keys.READY, {document_id: turn}, nx=not lost)
            self._mend_queued(document_id, since if pending and waiting else None)
            if not running and seen is not None:
                self._strike(keys=[keys.LEASED], args=[document_id, f"{seen:.0f}"])
        return Standing(tuple(part_of(name.decode()) for name in lost), waiting, running)

    def _mend_queued(self, document_id: str, since: float | None) -> None:
        """Enter a document among those that wait for a worker, if it does ``since`` then; strike off one that does not.

        One that has just been claimed may be there too long: it is in hand, so it is looked over again soon.
        """
        with self._redis.pipeline(transaction=False) as pipe:
            if since is not None:
                pipe.zadd(keys.QUEUED, {document_id: since}, nx=True)
            pipe.zscore(keys.QUEUED, document_id)
            pipe.hget(keys.state(document_id), "status")  # after it was entered: it may have ended before that
            queued, status = pipe.execute()[-2:]
        if queued is not None and (status is None or json.loads(status) != Status.PENDING):
            self._redis.zrem(keys.QUEUED, document_id)

    def done(self, document_id: str) -> dict[Part, Any]:
        """The ranges that are parsed, in order of their pages, each with what `settle` was given of it."""
        with translated():
            stored = cast("dict[bytes, bytes]", self._redis.hgetall(keys.done(document_id)))
        parts = {part_of(name.decode()): json.loads(found) for name, found in stored.items()}
        ranges = {part: found for part, found in parts.items() if part.step is Step.PAGES}
        return dict(sorted(ranges.items(), key=lambda item: item[0].first))

    def planned(self, document_id: str) -> Any:
        """What `settle` was given of `PLAN`, in this attempt or an earlier one; None when it was given nothing."""
        with translated():
            found = cast("bytes | None", self._redis.hget(keys.done(document_id), PLAN.name))
        return None if found is None else json.loads(found)

    def in_hand(self) -> list[str]:
        """The documents of which some part may be in hand."""
        with translated():
            return self._names(keys.LEASED, 0)

    def claimable(self, most: int) -> int:
        """How many parts could be claimed at once; counts to ``most`` and no further."""
        count = passed = 0
        with translated():
            while count < most and (names := self._names(keys.READY, passed, BATCH)):
                count += self._claimable_of(names)
                passed += len(names)
        return min(count, most)

    def _claimable_of(self, names: list[str]) -> int:
        with self._redis.pipeline(transaction=False) as pipe:
            for document_id in names:
                pipe.zcard(keys.waiting(document_id))
                pipe.zcard(keys.running(document_id))
            replies = pipe.execute()
        return sum(
            max(0, min(waiting, self._most_running - running))
            for waiting, running in zip(replies[::2], replies[1::2], strict=True)
        )

    def every(self) -> Iterator[str]:
        """All documents that are not final, as they are found."""
        with translated():
            for name, _ in self._redis.zscan_iter(keys.ACTIVE):
                yield name.decode()

    def queue(self, most: int) -> list[Queued]:
        """The first documents that wait for a worker, in the order in which they came."""
        fields = ("status", "attempt", "queue_position", "eta_seconds")
        with translated():
            names = self._names(keys.QUEUED, 0, most)
            with self._redis.pipeline(transaction=False) as pipe:
                for document_id in names:
                    pipe.hmget(keys.state(document_id), fields)
                    pipe.hget(keys.source(document_id), "size_bytes")
                replies = pipe.execute()
        queue = []
        for document_id, state, size in zip(names, replies[::2], replies[1::2], strict=True):
            if None in state or size is None:
                continue  # it has gone meanwhile
            status, attempt, position, eta = map(json.loads, state)
            if status == Status.PENDING:
                queue.append(Queued(document_id, attempt, int(size), position, eta))
        return queue

    def left_bytes(self, most: int) -> list[int]:
        """How many bytes are left to parse of each of the first ``most`` documents that are worked on, about."""
        with translated():
            names = set(self._names(keys.ACTIVE, 0, most)) - set(self._names(keys.QUEUED, 0, most))
            with self._redis.pipeline(transaction=False) as pipe:
                for document_id in names:
                    pipe.hget(keys.state(document_id), "progress")
                    pipe.hget(keys.source(document_id), "size_bytes")
                replies = pipe.execute()
        _, parsed_percent = STRETCH[Status.PARSING]
        shares = (max(0.0, 1 - float(progress or 0) / parsed_percent) for progress in replies[::2])
        return [round(share * int(size or 0)) for share, size in zip(shares, replies[1::2], strict=True)]

    def served_bytes(self) -> int:
        """How many bytes of documents have been parsed, ever."""
        with translated():
            return int(cast("bytes", self._redis.get(keys.SERVED)) or 0)

    def overview(self) -> Overview:
        """How much there is to do."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.QUEUED)
            pipe.zcard(keys.ACTIVE)
            for key in (keys.QUEUED, keys.ACTIVE):
                pipe.zrange(key, 0, 0, withscores=True)
            queued, active, first_queued, first_active = pipe.execute()
        return Overview(queued, active - queued, _age(first_queued), _age(first_active))

    def _names(self, key: str, start: int, count: int = 0) -> list[str]:
        found = cast("list[bytes]", self._redis.zrange(key, start, start + count - 1 if count else -1))
        return [name.decode() for name in found]

    def _reporting(self) -> Args:
        at = encode(timestamp(self._clock()))
        return [at, *STRETCH[Status.PARSING], self._interval_ms, round(BEAT_SECONDS * 1000), self._history_events]


def _refusal(code: bytes, claim: Claim) -> Refused | UnknownIngestion:
    return _REFUSALS[code](f"{claim.document_id}: {claim.part.name} is no longer ours.")


def _age(first: Sequence[tuple[bytes, float]]) -> float:
    return max(0.0, round(time.time() - first[0][1] / 1000, 1)) if first else 0.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
