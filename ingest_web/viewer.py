"""A viewer: one open stream, its cursor, and the little that waits for it.

`Viewer` is what the hub knows. `QueuedViewer` is served by an ordinary generator, under any WSGI server; the one that
writes to a socket itself is in `ingest_web.handover`.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from ingest_web import sse
from ingest_web.cursor import Cursor
from ingest_web.events import Event

#: A queued viewer may be so many events behind before it gets only the latest state of each document.
QUEUE_EVENTS = 64


class Viewer(ABC):
    """One open stream. What `when_closed` names is called once, when nothing more will be sent."""

    __slots__ = ("__weakref__", "_early", "_on_close", "closed", "cursor")

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.closed = False
        #: What came in before `go_live`; None afterwards.
        self._early: list[Event] | None = []
        self._on_close: tuple[Callable[[], None], ...] = ()

    def when_closed(self, on_close: Callable[[], None]) -> None:
        """Have ``on_close`` called at the end, after those that were named before."""
        self._on_close += (on_close,)

    @abstractmethod
    def offer(self, event: Event) -> None:
        """Here is an event of one of the viewer's documents. Never blocks."""

    @abstractmethod
    def go_live(self, missed: Sequence[Event]) -> None:
        """Send ``missed``, then what was offered meanwhile, then whatever comes."""

    @abstractmethod
    def beat(self) -> None:
        """Show that the connection is alive."""

    @abstractmethod
    def dismiss(self, retry_ms: int) -> None:
        """Ask the client to come back in ``retry_ms`` milliseconds, and end the stream."""

    def close(self) -> None:
        """End the stream. Idempotent."""
        if not self.closed:
            self.closed = True
            for on_close in self._on_close:
                on_close()

    def encode(self, event: Event) -> bytes:
        """The event as this viewer must get it; notes it as sent."""
        cursor = self.cursor
        cursor.advance(event)
        if len(cursor.ids) == 1:
            return event.frame
        return sse.event_id(cursor.event_id) + event.body


class QueuedViewer(Viewer):
    """A viewer whose frames a generator yields. Safe between threads."""

    __slots__ = ("_changed", "_farewell", "_queue", "_retry_ms")

    def __init__(self, cursor: Cursor, retry_ms: int) -> None:
        super().__init__(cursor)
        self._retry_ms = retry_ms
        self._queue: deque[Event] = deque()
        self._changed = threading.Condition()
        self._farewell = b""

    def offer(self, event: Event) -> None:
        with self._changed:
            if self._early is not None:
                self._early.append(event)
                return
            self._queue.append(event)
            if len(self._queue) > QUEUE_EVENTS:
                self._queue = deque(latest_of_each(self._queue))
            self._changed.notify()

    def go_live(self, missed: Sequence[Event]) -> None:
        with self._changed:
            self._queue.extend(missed)
            self._queue.extend(self._early or ())
            self._early = None
            self._changed.notify()

    def beat(self) -> None:
        """The generator beats by itself while it waits."""

    def dismiss(self, retry_ms: int) -> None:
        with self._changed:
            self._farewell = sse.retry(retry_ms)
            self._changed.notify()

    def close(self) -> None:
        super().close()
        with self._changed:
            self._changed.notify()

    def frames(self, heartbeat_seconds: float) -> Iterator[bytes]:
        """The body of the response. Ends after the final events, or when dismissed."""
        try:
            yield sse.retry(self._retry_ms)
            while not (self.cursor.finished or self.closed):
                events = self._take(heartbeat_seconds)
                wanted = [self.encode(event) for event in events if self.cursor.wants(event)]
                if self._farewell:
                    wanted.append(self._farewell)
                yield b"".join(wanted) or sse.HEARTBEAT
                if self._farewell:
                    return
        finally:
            self.close()

    def _take(self, timeout_seconds: float) -> list[Event]:
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while not (self._queue or self._farewell or self.closed):
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            events = list(self._queue)
            self._queue.clear()
            return events


def latest_of_each(events: Sequence[Event] | deque[Event]) -> list[Event]:
    """The last event of each document, in the order in which these last events came."""
    latest: dict[str, Event] = {}
    for event in events:
        latest.pop(event.document_id, None)
        latest[event.document_id] = event
    return list(latest.values())
