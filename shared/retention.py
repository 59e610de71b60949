"""How long finished documents are kept, and which are due to be removed. Whoever removes them knows files and rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import cast

import redis
from ulid import ULID

from shared import keys, scripts
from shared.config import Settings
from shared.connections import translated
from shared.jobs import FINAL
from shared.protocol import encode, timestamp
from shared.store import Clock, expiry_ms, listed, utc_now

#: A document that could not be removed at the end of its retention is left alone for so long.
POSTPONED_MS = 3600 * 1000


class Retention:
    """Every method raises `StoreUnavailable` when Redis can't be reached."""

    def __init__(self, client: redis.Redis, settings: Settings, clock: Clock = utc_now) -> None:
        self._redis = client
        self._clock = clock
        self._kept_ms = settings.retention_seconds * 1000
        self._expiry_ms = expiry_ms(settings)
        self._condemn = client.register_script(scripts.load(scripts.CONDEMN))

    def expired(self, most: int) -> list[str]:
        """Documents whose retention is over, the oldest first."""
        until_ms = self._expired_ms()
        with translated():
            found = cast("list[bytes]", self._redis.zrangebyscore(keys.FINISHED, "-inf", until_ms, start=0, num=most))
        return [name.decode() for name in found]

    def condemn(self, document_id: str) -> bool:
        """Whether its retention is over now as well. If so no retry can begin any more: it may be removed."""
        latest = datetime.fromtimestamp(self._expired_ms() / 1000, UTC)
        args = [listed(FINAL), encode(timestamp(latest))]
        with translated():
            return bool(self._condemn(keys=keys.of_document(document_id), args=args))

    def postpone(self, document_id: str) -> None:
        """Leave a document that could not be removed out of `expired` for a while."""
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
