"""What the relay has done, counted where it costs nothing. Pure.

Thousands of deliveries a second go by here, so these are plain numbers of one process; `ingest_web.instruments` moves
them to Prometheus now and then, with `Tally.taken`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from ingest_web.events import Event
from ingest_web.viewer import Ending
from shared.protocol import Seq

#: Upper bounds of the lag histogram, in seconds: from the worker's write to the last viewer's socket.
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))


class Joining(StrEnum):
    """How a viewer is brought up to date with a document."""

    SNAPSHOT = "snapshot"  # it knew nothing: the state as it stands
    CURRENT = "current"  # it resumed and had missed nothing
    REPLAYED = "replayed"  # it resumed and was sent what it had missed
    RESET = "reset"  # it resumed, what it had missed is gone or too much: the state as it stands

    @classmethod
    def of(cls, seen: Seq, news: Sequence[Event]) -> Joining:
        """What it is to send ``news`` to a viewer that has seen the events up to ``seen`` (0: none)."""
        if not seen:
            return cls.SNAPSHOT
        if not news:
            return cls.CURRENT
        return cls.REPLAYED if news[0].seq == seen + 1 else cls.RESET


@dataclass(slots=True)
class Counts:
    """What happened in a while."""

    #: Events times viewers that they were offered to.
    deliveries: int = 0
    #: Deliveries by lag, of those sent together that of the oldest: one count for each of `LAG_SECONDS`.
    lags: list[int] = field(default_factory=lambda: [0] * len(LAG_SECONDS))
    #: The sum of these lags.
    lag_seconds: float = 0.0
    #: Deliveries that were left out since a later event of the document took their place.
    conflated: int = 0
    #: Events that only reading the document again has brought.
    healed: int = 0
    #: Documents that a viewer was brought up to date with, by `Joining`.
    joinings: Counter[str] = field(default_factory=Counter)
    #: Streams that ended, by `Ending`.
    endings: Counter[str] = field(default_factory=Counter)
    #: Streams that were asked to come back at once, by the code of the reason.
    put_off: Counter[str] = field(default_factory=Counter)
    #: Pub/sub connections that were lost.
    connections_lost: int = 0


class Tally:
    """Counts what happens until it is taken."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = Counts()

    def taken(self) -> Counts:
        """What was counted since the last time."""
        counts, self.counts = self.counts, Counts()
        return counts

    def delivered(self, oldest: Event, deliveries: int) -> None:
        """So many deliveries were just made, or put aside, of events none of which is older than this one."""
        counts = self.counts
        counts.deliveries += deliveries
        try:
            lag_seconds = max(0.0, (datetime.now(UTC) - oldest.happened_at).total_seconds())
        except ValueError:
            return  # a state that does not say when it was written has no lag
        counts.lags[bisect_left(LAG_SECONDS, lag_seconds)] += deliveries
        counts.lag_seconds += lag_seconds * deliveries

    def conflated(self, deliveries: int) -> None:
        """So many deliveries were left out."""
        self.counts.conflated += deliveries

    def healed(self, events: int) -> None:
        """So many events were read that should have been published to us."""
        self.counts.healed += events

    def joined(self, how: Joining) -> None:
        """A viewer was brought up to date with a document."""
        self.counts.joinings[how] += 1

    def closed(self, why: Ending, conflated: int) -> None:
        """A stream has ended, for which so many events were conflated."""
        self.counts.endings[why] += 1
        self.counts.conflated += conflated

    def put_off(self, code: str) -> None:
        """A stream was asked to come back."""
        self.counts.put_off[code] += 1

    def connection_lost(self) -> None:
        """The pub/sub connection is gone."""
        self.counts.connections_lost += 1
