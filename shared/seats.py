"""How many documents of each tenant are on their way, over all web nodes: a document has a seat from its creation to
its end. The truth is in the documents' own keys. A seat that should be there is given by the sweeper; one that should
not, since a crash came between, is found by whoever finds none free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

import redis

from shared import keys, scripts
from shared.access import DEFAULT_TENANT
from shared.config import Settings
from shared.connections import translated
from shared.errors import TooManyDocuments

#: A seat is taken before its document is there; one without a document for so long is nobody's.
GRACE_SECONDS = 60.0

#: A process looks through the seats of a tenant at most this often.
MEND_SECONDS = 10.0

RETRY_AFTER_SECONDS = 10


class Seats:
    """The seats of all tenants. Every method raises `StoreUnavailable` when Redis can't be reached."""

    def __init__(self, client: redis.Redis, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._redis = client
        self._clock = clock
        self._most = settings.bound("documents")
        #: Tenants whose seats were looked through, and when.
        self._mended_at: dict[str, float] = {}
        self._take = client.register_script(scripts.load(scripts.TAKE_SEAT))
        self._strike = client.register_script(scripts.load(scripts.STRIKE))

    def check(self, tenant: str) -> None:
        """Return when a seat is free now. Raises `TooManyDocuments`."""
        self._insist(tenant, lambda: not self._most or self._redis.zcard(keys.active(tenant)) < self._most)

    def take(self, tenant: str, document_id: str) -> None:
        """Give a document a seat, or leave it the one it has. Raises `TooManyDocuments`."""
        args: list[str | int] = [document_id, self._now_ms(), self._most]
        self._insist(tenant, lambda: bool(self._take(keys=[keys.active(tenant)], args=args)))

    def keep(self, document_ids: Sequence[str]) -> None:
        """These documents are on their way: each has a seat, whether or not one is free."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for document_id, tenant in zip(document_ids, self._tenants(document_ids), strict=True):
                if tenant is not None:
                    pipe.zadd(keys.active(tenant), {document_id: self._now_ms()}, nx=True)
            pipe.execute()

    def free(self, document_id: str) -> None:
        """Somebody else may have the seat. To be called while the document's source is there."""
        with translated():
            [tenant] = self._tenants([document_id])
            self._redis.zrem(keys.active(tenant or DEFAULT_TENANT), document_id)

    def _insist(self, tenant: str, is_done: Callable[[], bool]) -> None:
        with translated():
            if is_done() or (self._mended(tenant) and is_done()):
                return
        raise TooManyDocuments(f"Your tenant has {self._most} documents on their way.", RETRY_AFTER_SECONDS)

    def _mended(self, tenant: str) -> bool:
        """Free the seats whose documents are not on their way; whether that was done just now."""
        now = self._clock()
        if now - self._mended_at.get(tenant, 0.0) < MEND_SECONDS:
            return False
        self._mended_at[tenant] = now
        key, until_ms = keys.active(tenant), self._now_ms() - round(GRACE_SECONDS * 1000)
        old = cast("list[tuple[bytes, float]]", self._redis.zrangebyscore(key, "-inf", until_ms, withscores=True))
        with self._redis.pipeline(transaction=False) as pipe:
            for document_id, _ in old:
                pipe.zscore(keys.ACTIVE, document_id)
            active = pipe.execute()
        for (document_id, since_ms), on_its_way in zip(old, active, strict=True):
            if on_its_way is None:
                self._strike(keys=[key], args=[document_id, f"{since_ms:.0f}"])
        return True

    def _tenants(self, document_ids: Sequence[str]) -> list[str | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for document_id in document_ids:
                pipe.hget(keys.source(document_id), "tenant")
            return [None if tenant is None else tenant.decode() for tenant in pipe.execute()]

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)
