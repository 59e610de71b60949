"""What open streams were opened with, and the end of those whose permit ends: its key is revoked, or it expires.

Whoever opens a stream is looked at then. A stream may stay for hours, so its permit is looked at every second, in one
query for all keys that anybody here uses. While the database can't be asked the streams stay for a while, and are then
asked to come back: nobody is let in, or kept, on trust.

Only opening, closing and the clock come by here, never an event on its way.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from ingest_web.guard import Guard
from ingest_web.turns import Turn
from ingest_web.viewer import Ending, Viewer
from shared.errors import StoreUnavailable

log = structlog.stdlib.get_logger(__name__)

#: How often the database is asked whether any of the keys is revoked.
ASK_SECONDS = 1.0

#: How often expired permits are looked for.
TICK_SECONDS = 0.5

#: Streams outlast a database that can't be asked by so long.
UNSURE_SECONDS = 30.0

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Permit:
    """What a stream was opened with. ``tenant`` is that of whoever opened it; of several tokens, of the first.

    ``key_ids`` are empty where no keys are asked for; ``expires_at`` is in seconds since 1970.
    ``by_link``: with tokens.
    """

    tenant: str
    document_ids: tuple[str, ...]
    key_ids: frozenset[str] = frozenset()
    expires_at: float = math.inf
    by_link: bool = False


class Permits:
    """The permits of all open streams of a process, and the two threads that look at them."""

    def __init__(
        self,
        guard: Guard,
        retry_ms: int,
        clock: Callable[[], float] = time.time,
        unsure_seconds: float = UNSURE_SECONDS,
    ) -> None:
        self._guard = guard
        self._retry_ms = retry_ms
        self._clock = clock
        self._unsure_seconds = unsure_seconds
        self._lock = threading.Lock()
        self._permits: dict[Viewer, Permit] = {}
        self._by_key = _Groups[str]()
        self._by_expiry = _Groups[float]()
        self._sure_at = time.monotonic()
        self._is_sure = True
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def keep(self, viewer: Viewer, permit: Permit) -> None:
        """Close the viewer when its permit ends. One that nothing can end costs nothing."""
        if not permit.key_ids and math.isinf(permit.expires_at):
            return
        with self._lock:
            self._start()
            self._permits[viewer] = permit
            self._by_expiry.add(permit.expires_at, viewer)
            for key_id in permit.key_ids:
                self._by_key.add(key_id, viewer)
        viewer.when_closed(self._forget)
        if viewer.closed:  # before anybody could tell
            self._forget(viewer, Ending.LEFT)

    @property
    def kept(self) -> int:
        """Viewers whose permit can end."""
        return len(self._permits)

    def stop(self) -> None:
        """Look at nothing any more. Returns when nobody does."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        if self._threads:
            return
        self._sure_at = time.monotonic()
        self._threads = [
            threading.Thread(target=self._repeat, args=(do, seconds), name=f"permits{do.__name__}", daemon=True)
            for do, seconds in ((self._tend, TICK_SECONDS), (self._ask, ASK_SECONDS))
        ]
        for thread in self._threads:
            thread.start()

    def _forget(self, viewer: Viewer, _why: Ending) -> None:
        with self._lock:
            permit = self._permits.pop(viewer, None)
            if permit is None:
                return
            self._by_expiry.discard(permit.expires_at, viewer)
            for key_id in permit.key_ids:
                self._by_key.discard(key_id, viewer)

    def _repeat(self, do: Callable[[], None], seconds: float) -> None:
        while not self._stopping.wait(seconds):
            try:
                do()
            except Exception:  # a fault of ours must not leave permits that nobody looks at
                log.exception("permits.failed")

    def _tend(self) -> None:
        now = self._clock()
        with self._lock:
            expired = self._by_expiry.of(lambda expires_at: expires_at <= now)
        _each(expired, lambda viewer: viewer.close(Ending.EXPIRED))
        if time.monotonic() - self._sure_at > self._unsure_seconds:
            with self._lock:
                unsure = self._by_key.of(lambda _: True)
            _each(unsure, self._dismiss)

    # Apart from the above: a database that does not answer holds this thread up.
    def _ask(self) -> None:
        with self._lock:
            key_ids = self._by_key.names
        try:
            revoked = self._guard.revoked(key_ids) if key_ids else frozenset()
        except StoreUnavailable as error:
            if self._is_sure:
                log.warning("permits.unsure", detail=error.detail)
            self._is_sure = False
            return
        self._is_sure = True
        self._sure_at = time.monotonic()
        if revoked:
            with self._lock:
                viewers = self._by_key.of(revoked.__contains__)
            log.info("permits.revoked", key_ids=sorted(revoked), streams=len(viewers))
            _each(viewers, lambda viewer: viewer.close(Ending.REVOKED))

    def _dismiss(self, viewer: Viewer) -> None:
        viewer.dismiss(random.randint(self._retry_ms, 3 * self._retry_ms))  # noqa: S311 - jitter


class _Groups(Generic[K]):
    """Viewers by what they have in common; a group without any is none."""

    def __init__(self) -> None:
        self._groups: dict[K, set[Viewer]] = {}

    @property
    def names(self) -> frozenset[K]:
        return frozenset(self._groups)

    def of(self, chosen: Callable[[K], bool]) -> set[Viewer]:
        return {viewer for name, group in self._groups.items() if chosen(name) for viewer in group}

    def add(self, name: K, viewer: Viewer) -> None:
        self._groups.setdefault(name, set()).add(viewer)

    def discard(self, name: K, viewer: Viewer) -> None:
        group = self._groups[name]
        group.discard(viewer)
        if not group:
            del self._groups[name]


def _each(viewers: Iterable[Viewer], do: Callable[[Viewer], None]) -> None:
    turn = Turn()
    for viewer in viewers:
        do(viewer)
        turn.step()
