"""Sending events to those who watch: in their order, in turns at the event loop, and not what nobody needs any more."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

import structlog

from ingest_web.events import Event
from ingest_web.tally import Tally
from ingest_web.topic import Topic
from ingest_web.turns import Turn
from ingest_web.viewer import Ending, Viewer

log = structlog.stdlib.get_logger(__name__)

#: Whether the loop is due to others is looked at after so many viewers.
SLICE_VIEWERS = 16

#: An event that waited for so long in this process is skipped when a later one of its document waits, too.
BEHIND_SECONDS = 0.25


class Relay:
    """The events that wait to be sent. Any thread may put some; one at a time sends."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        #: With the time since when each waits.
        self._waiting: deque[tuple[Topic, Event, float]] = deque()
        self._sending = threading.Lock()
        self._turn = Turn()

    def put(self, topic: Topic, events: Iterable[Event], now: float) -> None:
        """Have these sent to the topic's viewers, in this order."""
        self._waiting.extend((topic, event, now) for event in events)

    def run(self) -> None:
        """Send all that waits. Whoever is at it already goes on with what has been put meanwhile."""
        while self._waiting and self._sending.acquire(blocking=False):
            try:
                self._send_all()
            finally:
                self._sending.release()

    def _send_all(self) -> None:
        oldest, deliveries = self._waiting[0][1], 0
        for _ in range(len(self._waiting)):
            topic, event, since = self._waiting.popleft()
            viewers = tuple(topic.viewers)
            if event is not topic.latest and time.monotonic() - since > BEHIND_SECONDS and not event.rewinds:
                self._tally.conflated(len(viewers))
            else:
                self._send(event, viewers)
                deliveries += len(viewers)
        self._tally.delivered(oldest, deliveries)

    def _send(self, event: Event, viewers: tuple[Viewer, ...]) -> None:
        for first in range(0, len(viewers), SLICE_VIEWERS):
            for viewer in viewers[first : first + SLICE_VIEWERS]:
                try:
                    viewer.offer(event)
                except Exception:  # a fault of ours with one viewer must not take the event from the others
                    log.exception("relay.viewer_failed", document_id=event.document_id, seq=event.seq)
                    viewer.close(Ending.FAILED)
            self._turn.step()
