"""A viewer: one open stream, and what is on its way to it.

`Viewer` is what the hub knows. `QueuedViewer` is served by an ordinary generator, under any WSGI server; the one that
writes to a socket itself is in `ingest_web.handover`.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from ingest_web import sse
from ingest_web.cursor import Cursor
from ingest_web.events import Event
from ingest_web.outbox import Outbox

#: So often in the time of a heartbeat a viewer is asked to `beat`. One that was sent something since has no need to.
BEATS = 2

#: A generator yields about so much at a time.
PIECE_BYTES = 64 * 1024


class Ending(StrEnum):
    """Why a stream ended."""

    FINISHED = "finished"  # every document is final, and the viewer was told
    LEFT = "left"  # the client closed the connection, or it broke
    STALLED = "stalled"  # the client took nothing for too long
    DISMISSED = "dismissed"  # it was asked to come back: the process shuts down, or can't ask whose keys are good
    GONE = "gone"  # the document was deleted
    REVOKED = "revoked"  # the key that it was opened with opens nothing any more
    EXPIRED = "expired"  # the token that it was opened with
    FAILED = "failed"  # it could not be brought up to date, or a fault of ours


#: Is told which viewer has ended, and why.
OnClose = Callable[["Viewer", Ending], None]


class Viewer(ABC):
    """One open stream. What `when_closed` names is called once, when nothing more will be sent."""

    __slots__ = ("__weakref__", "_on_close", "closed", "outbox")

    def __init__(self, cursor: Cursor) -> None:
        self.outbox = Outbox(cursor)
        self.closed = False
        self._on_close: tuple[OnClose, ...] = ()

    @property
    def cursor(self) -> Cursor:
        """Where it stands."""
        return self.outbox.cursor

    def when_closed(self, on_close: OnClose) -> None:
        """Have ``on_close`` called at the end, after those that were named before."""
        self._on_close += (on_close,)

    @abstractmethod
    def offer(self, event: Event) -> None:
        """Here is an event of one of the viewer's documents. Never blocks."""

    @abstractmethod
    def go_live(self, missed: Iterable[Event]) -> None:
        """Send ``missed``, then what was offered meanwhile, then whatever comes."""

    @abstractmethod
    def beat(self) -> None:
        """Show that the connection is alive, when nothing else has for the time of a heartbeat."""

    @abstractmethod
    def dismiss(self, retry_ms: int) -> None:
        """Ask the client to come back in ``retry_ms`` milliseconds, and end the stream."""

    def close(self, why: Ending) -> None:
        """End the stream. Idempotent."""
        if not self.closed:
            self.closed = True
            on_close, self._on_close = self._on_close, ()  # a viewer that has left is in no cycle of references
            for one in on_close:
                one(self, why)


class QueuedViewer(Viewer):
    """A viewer whose frames a generator yields. Safe between threads."""

    __slots__ = ("_changed", "_farewell", "_retry_ms")

    def __init__(self, cursor: Cursor, retry_ms: int) -> None:
        super().__init__(cursor)
        self._retry_ms = retry_ms
        self._changed = threading.Condition()
        self._farewell = b""

    def offer(self, event: Event) -> None:
        with self._changed:
            self.outbox.put(event)
            self._changed.notify()

    def go_live(self, missed: Iterable[Event]) -> None:
        with self._changed:
            self.outbox.open(missed)
            self._changed.notify()

    def beat(self) -> None:
        """The generator beats by itself while it waits."""

    def dismiss(self, retry_ms: int) -> None:
        with self._changed:
            self._farewell = sse.retry(retry_ms)
            self._changed.notify()

    def close(self, why: Ending) -> None:
        super().close(why)
        with self._changed:
            self._changed.notify()

    def frames(self, heartbeat_seconds: float) -> Iterator[bytes]:
        """The body of the response. Ends after the final events, or when dismissed."""
        why = Ending.LEFT
        try:
            yield sse.retry(self._retry_ms)
            while not (self.cursor.finished or self.closed):
                yield self._next(heartbeat_seconds) + self._farewell or sse.HEARTBEAT
                if self._farewell:
                    why = Ending.DISMISSED
                    return
            why = Ending.FINISHED
        finally:
            self.close(why)

    def _next(self, timeout_seconds: float) -> bytes:
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while not (self.outbox.live and self.outbox) and not (self._farewell or self.closed):
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return self.outbox.take(PIECE_BYTES) if self.outbox.live else b""
