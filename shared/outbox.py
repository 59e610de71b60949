"""What webhooks are to hear, in Redis: put there by the script that changes the status, taken over by a courier.

Each document has an outbox of its own, a hash of thin entries by their seq. It outlives the document: what has happened
is told, also of a document that is deleted a moment later. A sorted set leads to the outboxes, as others lead to the
work: a name too many is struck off, one that is missing is entered when the document is retired or looked over.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis

from shared import keys, scripts
from shared.connections import translated

#: An outbox that no courier comes for is forgotten after so long.
KEPT_MS = 14 * 24 * 3600 * 1000

#: Whoever takes over is the only one for so long, and then has to say so again.
LOCK_MS = 2000


#: What may come of an attempt at a delivery.
OUTCOMES = ("delivered", "to_be_retried", "given_up")


@dataclass(frozen=True, slots=True)
class Filled:
    """A document in whose outbox something is, perhaps, and when that was noted last, in ms."""

    document_id: str
    noted_ms: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How many documents' outboxes wait to be taken over, for how long the first has, and attempts by their outcome."""

    filled: int
    oldest_seconds: float
    attempts: Mapping[str, int]


def lead_to(client: redis.Redis, document_id: str) -> None:
    """Note that something is in a document's outbox, and wake the couriers. ``client`` may be a pipeline."""
    # Fractions of a millisecond make the score one of its own: whoever strikes it off sees whether it has changed.
    client.zadd(keys.OUTBOX, {document_id: time.time_ns() / 1_000_000})
    client.publish(keys.COURIER, "")


def mend(client: redis.Redis, document_id: str) -> None:
    """Lead to a document's outbox if something is in it: whoever put it there may not have come to that."""
    with translated():
        if client.exists(keys.outbox(document_id)):
            client.zadd(keys.OUTBOX, {document_id: time.time_ns() / 1_000_000}, nx=True)


class Outbox:
    """The outboxes of all documents. Every method raises `StoreUnavailable` when Redis can't be reached."""

    def __init__(self, client: redis.Redis, name: str = "") -> None:
        """``name`` tells a courier from the others."""
        self._redis = client
        self._name = name
        self._strike = client.register_script(scripts.load(scripts.STRIKE))

    def is_ours(self) -> bool:
        """Whether it is this courier's turn to take over; one does at a time, since twice is harmless but costs."""
        with translated():
            if self._redis.set(keys.COLLECTING, self._name, nx=True, px=LOCK_MS):
                return True
            if self._redis.get(keys.COLLECTING) != self._name.encode():
                return False
            self._redis.pexpire(keys.COLLECTING, LOCK_MS)
            return True

    def filled(self, most: int) -> list[Filled]:
        """Where to look, the longest noted first."""
        with translated():
            found = cast("list[tuple[bytes, float]]", self._redis.zrange(keys.OUTBOX, 0, most - 1, withscores=True))
        return [Filled(name.decode(), score) for name, score in found]

    def entries(self, document_ids: Iterable[str]) -> list[dict[int, bytes]]:
        """What is in the outbox of each of these documents: entries by their seq, in order."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for document_id in document_ids:
                pipe.hgetall(keys.outbox(document_id))
            found = cast("list[dict[bytes, bytes]]", pipe.execute())
        return [dict(sorted((int(seq), entry) for seq, entry in entries.items())) for entries in found]

    def put_off(self, filled: Iterable[Filled]) -> None:
        """Look at these again, after all others; `drop` does not strike them off."""
        scores = {one.document_id: time.time_ns() / 1_000_000 for one in filled}
        if scores:
            with translated():
                self._redis.zadd(keys.OUTBOX, scores, xx=True)

    def drop(self, taken: Iterable[tuple[Filled, Collection[int]]]) -> None:
        """These entries are kept elsewhere now. What has been put there since stays, and is still led to."""
        with translated():
            with self._redis.pipeline(transaction=False) as pipe:
                for one, seqs in taken:
                    if seqs:
                        pipe.hdel(keys.outbox(one.document_id), *map(str, seqs))
                pipe.execute()
            for one, _ in taken:
                self._strike(keys=[keys.OUTBOX], args=[one.document_id, repr(one.noted_ms)])

    def count(self, outcomes: Mapping[str, int]) -> None:
        """Add so many attempts at deliveries, by what came of them."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for outcome, number in outcomes.items():
                pipe.hincrby(keys.ATTEMPTS, outcome, number)
            pipe.execute()

    def figures(self) -> Figures:
        """How things are."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.zcard(keys.OUTBOX)
            pipe.zrange(keys.OUTBOX, 0, 0, withscores=True)
            pipe.hgetall(keys.ATTEMPTS)
            filled, oldest, attempts = pipe.execute()
        age_seconds = max(0.0, round(time.time() - oldest[0][1] / 1000, 1)) if oldest else 0.0
        return Figures(filled, age_seconds, {name.decode(): int(count) for name, count in attempts.items()})

    def wake(self) -> None:
        """Have every courier look at what is due."""
        with translated():
            self._redis.publish(keys.COURIER, "")

    def listen(self) -> Any:
        """A subscription to what `lead_to` and `wake` say."""
        signals = cast("Any", self._redis).pubsub(ignore_subscribe_messages=True)
        signals.subscribe(keys.COURIER)
        return signals
