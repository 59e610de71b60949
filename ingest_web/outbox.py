"""What one viewer has yet to be sent: in order, nothing twice, and never much. Pure.

As long as a viewer keeps up, each event goes through here untouched. One that falls behind is owed the latest state of
each document and no more (conflation): every event is a full state, and a final one is the latest of its attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ingest_web.cursor import Cursor
from ingest_web.events import Event
from ingest_web.replay import REPLAY_EVENTS
from shared.protocol import Seq

#: A viewer may be so many events behind before they are conflated, of so many bytes together. The latest of a document
#: takes no memory then: the process holds it anyway.
MOST_EVENTS = REPLAY_EVENTS
MOST_BYTES = 16 * 1024

#: What was missed is sent event by event when it is no more than this.
REPLAY_BYTES = 40 * 1024


class Outbox:
    """The events that wait for one viewer. It is `live` once it has been brought up to date."""

    __slots__ = ("_bytes", "_events", "conflated", "cursor", "live")

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.live = False
        #: Events that later ones took the place of.
        self.conflated = 0
        self._events: list[Event] | None = None
        #: Of what was put in since it was empty, or conflated; what brought the viewer up to date has its own bound.
        self._bytes = 0

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._events)

    def open(self, missed: Iterable[Event]) -> None:
        """Go live: ``missed`` brings the viewer up to date; what was put in meanwhile comes after it."""
        meanwhile, self._events = self._events, None
        self.live = True
        missed = list(missed)
        if sum(len(event.frame) for event in missed) > REPLAY_BYTES:
            missed = latest_of_each(missed)
        for event in missed:
            self._bytes = 0
            self.put(event)
        for event in meanwhile or ():
            self.put(event)

    def put(self, event: Event) -> None:
        """Owe the viewer an event. Those of a document must come in the order in which they are true."""
        if event.rewinds:
            self._rewind(event)
        if self._events is None:
            self._events, self._bytes = [], 0
        self._events.append(event)
        self._bytes += len(event.frame)
        if self._bytes > MOST_BYTES or len(self._events) > self._most_events:
            self._conflate()

    def frame(self, event: Event) -> bytes:
        """The frame of an event that can be sent at once, since nothing waits; noted as sent. Empty: it is no news."""
        if event.rewinds:
            self._rewind(event)
        return self.cursor.frame(event)

    def take(self, most_bytes: int) -> bytes:
        """The next frames, noted as sent: as many as begin within so many bytes. Empty: nothing that waits is news."""
        frames: list[bytes] = []
        size, n, events = 0, 0, self._events or []
        while n < len(events) and size < most_bytes and not self.cursor.finished:
            frames.append(self.cursor.frame(events[n]))
            size += len(frames[-1])
            n += 1
        self._events = None if self.cursor.finished or n == len(events) else events[n:]
        return b"".join(frames)

    def _rewind(self, event: Event) -> None:
        self.cursor.rewind(event)
        if self._events:
            document_id = event.document_id
            self._events = [one for one in self._events if one.document_id != document_id or one.seq < event.seq]

    @property
    def _most_events(self) -> int:
        return max(MOST_EVENTS, 2 * self.cursor.count)

    def _conflate(self) -> None:
        # What brings a viewer up to date and what came meanwhile have events in common: these are no reason.
        self._events = events = without_repeats(self._events or [])
        if self._bytes > MOST_BYTES or len(events) > self._most_events:
            self._events, self._bytes = latest_of_each(events), 0
            self.conflated += len(events) - len(self._events)


def without_repeats(events: Sequence[Event]) -> list[Event]:
    """The events that are news after those before them."""
    seqs: dict[str, Seq] = {}
    news = []
    for event in events:
        if event.rewinds or event.seq > seqs.get(event.document_id, -1):
            seqs[event.document_id] = event.seq
            news.append(event)
    return news


def latest_of_each(events: Sequence[Event]) -> list[Event]:
    """The last event of each document, in the order in which these last events came."""
    latest: dict[str, Event] = {}
    for event in events:
        latest.pop(event.document_id, None)
        latest[event.document_id] = event
    return list(latest.values())
