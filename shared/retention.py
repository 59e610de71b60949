"""How long finished documents are kept, and how they go: the record first, in one step, so that a document is there
whole or not at all. Its name stays in a sorted set until whoever knows files and rows has removed those.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import cast

import redis
from ulid import ULID

from shared import keys, outbox, scripts
from shared.access import DEFAULT_TENANT
from shared.config import Settings
from shared.connections import translated
from shared.errors import UnknownIngestion
from shared.jobs import FINAL, Status
from shared.protocol import encode, timestamp
from shared.store import Clock, expiry_ms, listed, utc_now

#: What is stored of a document that was deleted is left alone for so long. Whoever still works on it has noticed by
#: then, and a Redis that comes back without its last second has the document back whole.
WITHDRAWN_MS = 10 * 1000

#: What could not be removed is left alone for so long.
POSTPONED_MS = 3600 * 1000


class Retention:
    """Every method raises `StoreUnavailable` when Redis can't be reached."""

    def __init__(self, client: redis.Redis, settings: Settings, clock: Clock = utc_now) -> None:
        self._redis = client
        self._clock = clock
        self._kept_ms = settings.retention_seconds * 1000
        self._expiry_ms = expiry_ms(settings)
        self._withdraw = client.register_script(scripts.load(scripts.WITHDRAW))

    def expired(self, most: int) -> list[str]:
        """Documents whose retention is over, and those that were deleted, the oldest first."""
        until_ms = self._expired_ms()
        with translated():
            found = cast("list[bytes]", self._redis.zrangebyscore(keys.FINISHED, "-inf", until_ms, start=0, num=most))
        return [name.decode() for name in found]

    def delete(self, document_id: str) -> bool:
        """Take a document that is final out of everyone's sight, for good. False when it is not final.

        What is stored of it comes up in `expired` soon. Raises `UnknownIngestion`.
        """
        with translated():
            status = cast("bytes | None", self._redis.hget(keys.state(document_id), "status"))
            if status is not None and Status(json.loads(status)) not in FINAL:
                return False
            if status is not None:  # before the record goes: nothing else leads to what is stored
                self._redis.zadd(keys.FINISHED, {document_id: self._expired_ms() + WITHDRAWN_MS})
        code = self._take_away(document_id)
        if code == b"unknown_ingestion":
            raise UnknownIngestion(f"There is no ingestion {document_id}.")
        return code == b"withdrawn"

    def expire(self, document_id: str) -> bool:
        """Whether it is gone from now on: its retention is over now as well, or it was deleted.

        What is stored of it is to be removed then.
        """
        latest = datetime.fromtimestamp(self._expired_ms() / 1000, UTC)
        return self._take_away(document_id, encode(timestamp(latest))) != b"kept"

    def _take_away(self, document_id: str, latest: str = "") -> bytes:
        with translated():
            tenant = cast("bytes | None", self._redis.hget(keys.source(document_id), "tenant"))
            outbox.lead_to(self._redis, document_id)  # first: nobody comes by here again
            args = [listed(FINAL), latest]
            code = cast("bytes", self._withdraw(keys=keys.of_document(document_id), args=args))
            if code == b"withdrawn":
                whose = tenant.decode() if tenant else DEFAULT_TENANT
                with self._redis.pipeline(transaction=False) as pipe:
                    for key in keys.LEADING:
                        pipe.zrem(key, document_id)
                    pipe.zrem(keys.active(whose), document_id)
                    pipe.zrem(keys.index(whose), document_id)
                    pipe.execute()
        return code

    def forget(self, document_id: str) -> None:
        """Nothing is stored of it any more: leave it out of `expired`."""
        with translated():
            self._redis.zrem(keys.FINISHED, document_id)

    def postpone(self, document_id: str) -> None:
        """Leave what could not be removed, or not yet, out of `expired` for a while."""
        with translated():
            self._redis.zadd(keys.FINISHED, {document_id: self._expired_ms() + POSTPONED_MS}, xx=True, gt=True)

    def forgotten(self, names: Iterable[str]) -> list[str]:
        """Those ids among the names that lead to no document, and are so old that none would be kept.

        Not the younger ones: when Redis has lost what it knew, the files are there for whoever brings that back.
        """
        latest_ms = round(self._clock().timestamp() * 1000) - self._expiry_ms
        old = [name for name in names if (born_ms := _born_ms(name)) is not None and born_ms < latest_ms]
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for name in old:
                pipe.exists(keys.state(name))
            known = pipe.execute()
        return [name for name, is_known in zip(old, known, strict=True) if not is_known]

    def _expired_ms(self) -> int:
        return round(self._clock().timestamp() * 1000) - self._kept_ms


def _born_ms(name: str) -> int | None:
    """When an id was given, in ms; None for what is no id of ours."""
    try:
        ulid = ULID.from_str(name.upper())
    except ValueError:
        return None
    return ulid.milliseconds if str(ulid).lower() == name else None
