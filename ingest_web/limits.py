"""What one tenant may ask of the service in a time, counted in Redis for all web nodes together.

The counting is that of the library `limits`, on the process's own few connections. (Flask-Limiter is that library
behind Flask's hooks, where a stream whose socket is taken never comes.) Windows are fixed: a caller that is refused is
told the very second from which it is not.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from threading import Lock

import redis
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from shared import keys
from shared.config import Settings
from shared.connections import translated
from shared.errors import Exhausted, QuotaOfBytes, RateLimited

#: So many requests of one tenant a process has in hand, half of what it can: whoever is slow leaves room for others.
MOST_IN_HAND = 500

#: So many of them wait for a test of a webhook endpoint, which asks the database again and again.
MOST_TESTS = 4

#: So many bytes of an upload are counted together.
STEP_BYTES = 1024 * 1024


class Limits:
    """The bounds of ``INGEST_LIMIT_...`` that are counted by time. Where no keys are asked for, there are none.

    Every method raises `StoreUnavailable` when Redis can't be reached: what can't be counted is not let through.
    """

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._requests = RateLimitItemPerMinute(settings.bound("requests_per_minute"), namespace="requests")
        #: Whoever has a link, even of a document that is gone, may not use up what keys need.
        self._openings = RateLimitItemPerMinute(self._requests.amount, namespace="link-requests")
        self._bytes = RateLimitItemPerHour(settings.bound("bytes_per_hour"), namespace="bytes")
        storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=keys.LIMITS)
        self._windows = FixedWindowRateLimiter(storage)

    def count_request(self, tenant: str) -> None:
        """A request with a key of a tenant. Raises `RateLimited`."""
        self._count(self._requests, tenant, "Your tenant has made {} requests in a minute.")

    def count_opening_by_link(self, tenant: str) -> None:
        """A request for a stream with links of a tenant, of which there are as many beside. Raises `RateLimited`."""
        self._count(self._openings, tenant, "The links of your tenant have opened {} streams in a minute.")

    def foresee_bytes(self, tenant: str, size_bytes: int) -> None:
        """So many bytes are announced; nothing is counted. Raises `QuotaOfBytes` when they are more than are left."""
        if not self._has_room(self._bytes, tenant, size_bytes):
            raise self._over_quota(tenant)

    def count_bytes(self, tenant: str, size_bytes: int) -> None:
        """So many bytes have come. They stay counted whatever becomes of them. Raises `QuotaOfBytes`."""
        if not self._hit(self._bytes, tenant, size_bytes):
            raise self._over_quota(tenant)

    def _count(self, item: RateLimitItem, tenant: str, detail: str) -> None:
        if not self._hit(item, tenant):
            raise self._exhausted(RateLimited, item, tenant, detail)

    def _hit(self, item: RateLimitItem, name: str, cost: int = 1) -> bool:
        if not item.amount:
            return True
        with translated():
            return self._windows.hit(item, name, cost=cost)

    def _has_room(self, item: RateLimitItem, name: str, cost: int = 1) -> bool:
        if not item.amount:
            return True
        with translated():
            return self._windows.test(item, name, cost=cost)

    def _over_quota(self, tenant: str) -> Exhausted:
        return self._exhausted(QuotaOfBytes, self._bytes, tenant, "Your tenant may send {} bytes in an hour.")

    def _exhausted(self, kind: type[Exhausted], item: RateLimitItem, name: str, detail: str) -> Exhausted:
        with translated():
            reset_at = self._windows.get_window_stats(item, name).reset_time
        policy = f'"{item.namespace}";q={item.amount};w={item.get_expiry()}'
        return kind(detail.format(item.amount), max(1, math.ceil(reset_at - time.time())), policy)


class Meter:
    """Counts the bytes of one upload as they come, in steps that cost Redis little."""

    def __init__(self, limits: Limits, tenant: str) -> None:
        self._limits = limits
        self._tenant = tenant
        self._uncounted = 0

    def took(self, size_bytes: int) -> None:
        """So many have come. Raises `QuotaOfBytes`, `StoreUnavailable`."""
        self._uncounted += size_bytes
        if self._uncounted >= STEP_BYTES:
            self.close()

    def close(self) -> None:
        """Count what has come, whatever becomes of it. Raises as `took` does."""
        size_bytes, self._uncounted = self._uncounted, 0
        if size_bytes:
            self._limits.count_bytes(self._tenant, size_bytes)


class InHand:
    """The requests that a process has in hand, by tenant: at most ``most`` of each. Safe between threads.

    ``kind`` says which requests those are, to whoever is refused.
    """

    def __init__(self, most: int = MOST_IN_HAND, kind: str = "requests") -> None:
        self._most = most
        self._kind = kind
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def take(self, tenant: str) -> None:
        """One more, to be given back once. Raises `RateLimited`."""
        with self._lock:
            if self._counts[tenant] >= self._most:
                raise RateLimited(f"This process has {self._most} {self._kind} of your tenant in hand.", 1)
            self._counts[tenant] += 1

    def give_back(self, tenant: str) -> None:
        """It is answered."""
        with self._lock:
            self._counts[tenant] -= 1
            if not self._counts[tenant]:
                del self._counts[tenant]
