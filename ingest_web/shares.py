"""How many streams each tenant has open, over all web nodes. Each process says in Redis how many it holds, for some
seconds at a time, so those of one that dies are free again by themselves.

A process asks before it opens a stream; that one has closed it says within half a second.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable

import redis
import structlog

from ingest_web.admission import NoSeat
from shared import keys, processes, scripts
from shared.config import Settings
from shared.connections import translated
from shared.errors import StoreUnavailable

log = structlog.stdlib.get_logger(__name__)

#: What a process says holds for so long.
LEASE_SECONDS = 6.0

#: What has changed is said so often,
TICK_SECONDS = 0.5
#: and what has not, so often.
RENEW_SECONDS = 2.0


class Shares:
    """The streams of this process, by tenant. Where no keys are asked for, or there is no bound, it does nothing."""

    def __init__(self, settings: Settings, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = settings.bound("streams")
        self._say = client.register_script(scripts.load(scripts.SHARE_STREAMS))
        self._clock = clock
        self._process = processes.new_name()
        self._order = itertools.count(1)
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        #: What was said last of each tenant, and when.
        self._said: dict[str, tuple[int, float]] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, tenant: str) -> None:
        """One stream more, to be given back once. Raises `NoSeat`, `StoreUnavailable`."""
        if not self._most:
            return
        self._start()
        self._held[tenant] += 1
        is_let = False
        try:
            is_let = self._tell(tenant, self._most)
        finally:
            self._held[tenant] -= not is_let
        if not is_let:
            raise NoSeat(f"Your tenant has {self._most} streams, which is its bound.")

    def give_back(self, tenant: str) -> None:
        """The stream is closed."""
        if self._most:
            self._held[tenant] -= 1

    def tick(self) -> None:
        """Say what has changed, and what would lapse else. Raises `StoreUnavailable`."""
        now = self._clock()
        for tenant, (said, at) in list(self._said.items()):
            if said != self._held[tenant] or now - at >= RENEW_SECONDS:
                self._tell(tenant, 0)

    def close(self) -> None:
        """This process holds nothing any more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _tell(self, tenant: str, most: int) -> bool:
        held = self._held[tenant]
        with translated():
            args: list[str | int | float] = [self._process, held, round(LEASE_SECONDS * 1000), most, next(self._order)]
            is_written = bool(self._say(keys=[keys.streams(tenant)], args=args))
        if is_written and held:
            self._said[tenant] = (held, self._clock())
        elif is_written:
            self._said.pop(tenant, None)
        return is_written

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="shares", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            self._tick_or_wait()
        self._held.clear()
        self._tick_or_wait()

    def _tick_or_wait(self) -> None:
        try:
            self.tick()
        except StoreUnavailable as error:
            log.debug("shares.not_said", reason=error.detail)
