"""A watched document as this process knows it: how what is published and what is read are merged into one order. Pure.

A topic is *live* while what this process knows is all there is: Redis has confirmed the subscription, the state was
read after that, and each event since then followed the one before. Whatever casts doubt on it ends that: a lost
connection, a number that was left out, a silence that is too long. Then events are held back until the document has
been read again, so that nothing newer can hide what was missed before it.

    subscribing ── confirmed() ──▶ unread ── read() ──▶ live
         ▲                          ▲                    │
         │                          └──── doubt() ───────┤
         └────────────── lost() ─────────────────────────┘
"""

from __future__ import annotations

from ingest_web.events import Event, opening
from ingest_web.outbox import latest_of_each
from ingest_web.replay import catch_up, newest
from ingest_web.viewer import Viewer
from shared import keys
from shared.protocol import Seq
from shared.store import History

#: So much is held back, no more: the state that is about to be read is newer than most of it.
MOST_HELD = 64


class Topic:
    """One document. Times are of a monotonic clock, in seconds."""

    __slots__ = (
        "_held", "asked", "channel", "confirmed", "document_id", "heard_at", "latest", "live", "opening", "reading",
        "viewers",
    )  # fmt: skip

    def __init__(self, document_id: str, now: float) -> None:
        self.document_id = document_id
        self.channel = keys.channel(document_id)
        #: How each of its states begins.
        self.opening = opening(document_id)
        self.viewers: set[Viewer] = set()
        #: Whether Redis was asked for the subscription, and whether it has confirmed that.
        self.asked = False
        self.confirmed = False
        self.live = False
        #: The number of the reading that is under way; 0 when none is.
        self.reading = 0
        #: The newest event that viewers were sent, or are about to be.
        self.latest: Event | None = None
        #: When there was last word of it.
        self.heard_at = now
        self._held: list[Event] = []

    @property
    def seq(self) -> Seq | None:
        """The number of the newest event; None before the first."""
        return self.latest.seq if self.latest else None

    @property
    def unread(self) -> bool:
        """Whether it must be read, and nobody is about to."""
        return self.confirmed and not self.live and not self.reading

    def claim(self) -> bool:
        """Whether nobody has asked Redis for the subscription yet; who is told so has to."""
        is_first, self.asked = not self.asked, True
        return is_first

    def published(self, event: Event, now: float) -> bool:
        """Redis has published an event: whether viewers are to be sent it now.

        One that was read before it was heard is no news, and no sign of life either: were its number low because Redis
        has lost events, only the silence would tell.
        """
        latest = self.latest
        if self.live and latest is not None:
            if event.seq == latest.seq + 1:
                self.latest = event
                self.heard_at = now
                return True
            if event.seq < latest.seq or event.frame == latest.frame:
                return False
            self.doubt()
        self._hold(event)
        return False

    def read(self, history: History, now: float) -> tuple[list[Event], list[Event]]:
        """What viewers are to be sent when the document has been read: what was missed; then what was held back.

        ``history`` must hold what `catch_up` wants for `seq`, read since Redis has confirmed the subscription. The
        first reading sends nothing: who waited for it is brought up to date from `latest`.
        """
        self.reading = 0
        self.heard_at = now
        missed = catch_up(history, self.seq or 0) or self._another(history)
        news = missed if self.latest else []
        self.latest = missed[-1] if missed else self.latest
        self.live = True
        held, self._held = self._held, []
        return news, [event for event in held if self.live and self.published(event, now)]

    def _another(self, history: History) -> list[Event]:
        """The state as a rewind, when it has the number of the latest event and is not it: Redis lost that one."""
        state = newest(history)
        if self.latest is None or state.frame == self.latest.frame:
            return []
        return [state.as_rewind()]

    def doubt(self) -> None:
        """Something may have been missed."""
        self.live = False

    def lost(self) -> None:
        """The connection is gone, and the subscription with it."""
        self.asked = self.confirmed = self.live = False
        self.reading = 0
        self._held.clear()

    def _hold(self, event: Event) -> None:
        self._held.append(event)
        if len(self._held) > MOST_HELD:
            self._held = latest_of_each(self._held)
