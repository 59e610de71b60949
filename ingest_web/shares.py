"""How many streams each tenant has open, over all web nodes. Each process says in Redis how many it holds, for some
seconds at a time, so those of one that dies are free again by themselves.

A process asks before it opens a stream; that one has closed it says within half a second. Those that links have opened
are counted once more by themselves: whoever has one leaves half of the streams to others.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

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


class Share(NamedTuple):
    """Streams that are counted together: all of a tenant, or those of them that links have opened."""

    tenant: str
    of_links: bool

    @property
    def key(self) -> str:
        """Where it is counted in Redis."""
        return keys.link_streams(self.tenant) if self.of_links else keys.streams(self.tenant)


class Shares:
    """The streams of this process, by tenant. Where no keys are asked for, or there is no bound, it does nothing."""

    def __init__(self, settings: Settings, client: redis.Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = settings.bound("streams")
        self._say = client.register_script(scripts.load(scripts.SHARE_STREAMS))
        self._clock = clock
        self._process = processes.new_name()
        self._order = itertools.count(1)
        self._lock = threading.Lock()
        self._held: Counter[Share] = Counter()
        #: What was said last of each share, and when.
        self._said: dict[Share, tuple[int, float]] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, tenant: str, by_link: bool = False) -> None:
        """One stream more, to be given back once in the same way. Raises `NoSeat`, `StoreUnavailable`."""
        if not self._most:
            return
        self._start()
        with ExitStack() as taken:
            if by_link:
                most = (self._most + 1) // 2
                detail = f"The links of your tenant have {most} streams, which is their bound."
                self._take(Share(tenant, of_links=True), most, detail)
                taken.callback(self._give_back, Share(tenant, of_links=True))
            detail = f"Your tenant has {self._most} streams, which is its bound."
            self._take(Share(tenant, of_links=False), self._most, detail)
            taken.pop_all()

    def give_back(self, tenant: str, by_link: bool = False) -> None:
        """The stream is closed."""
        if self._most:
            self._give_back(Share(tenant, of_links=False))
            if by_link:
                self._give_back(Share(tenant, of_links=True))

    def tick(self) -> None:
        """Say what has changed, and what would lapse else. Raises `StoreUnavailable`."""
        now = self._clock()
        for share, (said, at) in list(self._said.items()):
            if said != self._held[share] or now - at >= RENEW_SECONDS:
                self._tell(share, 0)

    def close(self) -> None:
        """This process holds nothing any more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _take(self, share: Share, most: int, detail: str) -> None:
        self._held[share] += 1
        is_let = False
        try:
            is_let = self._tell(share, most)
        finally:
            self._held[share] -= not is_let
        if not is_let:
            raise NoSeat(detail)

    def _give_back(self, share: Share) -> None:
        self._held[share] -= 1

    def _tell(self, share: Share, most: int) -> bool:
        held = self._held[share]
        with translated():
            args: list[str | int | float] = [self._process, held, round(LEASE_SECONDS * 1000), most, next(self._order)]
            is_written = bool(self._say(keys=[share.key], args=args))
        if is_written and held:
            self._said[share] = (held, self._clock())
        elif is_written:
            self._said.pop(share, None)
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
