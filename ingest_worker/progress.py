"""From "n of total" to reports: how often, in what words, and how long it will still take.

Owns the rhythm, not the record: reports go to a function, which in a worker is `shared.store.Store.record` with the
document and the attempt filled in. What that raises (a document cancelled, a newer attempt) passes through, and so
ends the stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from shared.jobs import Status, overall_progress
from shared.protocol import Notice, Stage

#: Seconds from any starting point, never going back.
Clock = Callable[[], float]


class Record(Protocol):
    """Where reports go."""

    def __call__(
        self,
        status: Status,
        message: str,
        *,
        progress: float | None = None,
        stage: Stage | None = None,
        eta_seconds: float | None = None,
        warnings: Sequence[Notice] | None = None,
    ) -> object:
        """Record one event."""


class Progress:
    """The reports of one attempt at one document, at most about one in ``interval_seconds`` within a stage."""

    def __init__(self, record: Record, interval_seconds: float, clock: Clock = time.monotonic) -> None:
        self._record = record
        self._interval_seconds = interval_seconds
        self._clock = clock

    def begin(self, status: Status, message: str, warnings: Sequence[Notice] | None = None) -> None:
        """Report a change of stage, at once. How much there is to do is not known yet."""
        self._record(status, message, progress=overall_progress(status, 0, 0), warnings=warnings)

    def track(self, status: Status, verb: str, unit: str, total: int) -> Track:
        """Report at once that there is ``total`` to do, and give what reports how far it is."""
        throttle, pace = Throttle(self._interval_seconds, self._clock), Pace(self._clock)
        track = Track(self._record, status, verb, Stage(0, total, unit), throttle=throttle, pace=pace)
        track.reach(0)
        return track


class Track:
    """The reports of one stage whose total is known. Made by `Progress.track`."""

    def __init__(
        self, record: Record, status: Status, verb: str, start: Stage, *, throttle: Throttle, pace: Pace
    ) -> None:
        self._record = record
        self._status = status
        self._verb = verb
        self._start = start
        self._throttle = throttle
        self._pace = pace

    def reach(self, done: int) -> None:
        """So much is done. Reported when it is the last, or when the last report is long enough ago."""
        total, unit = self._start.total, self._start.unit
        if not self._throttle.admits(urgent=done == total):
            return
        self._record(
            self._status,
            f"{self._verb} {done} of {total} {unit}",
            progress=overall_progress(self._status, done, total),
            stage=Stage(done, total, unit),
            eta_seconds=self._pace.seconds_left(done, total),
        )


class Throttle:
    """Lets one through per interval, and whatever is urgent."""

    def __init__(self, interval_seconds: float, clock: Clock) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._next = float("-inf")

    def admits(self, *, urgent: bool) -> bool:
        """Whether this one goes through now; the next waits an interval from here."""
        now = self._clock()
        if now < self._next and not urgent:
            return False
        self._next = now + self._interval_seconds
        return True


class Pace:
    """How long the rest takes, from the mean rate since construction."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock()

    def seconds_left(self, done: int, total: int) -> float | None:
        """Seconds, with one decimal; None until there is something to measure."""
        elapsed_seconds = self._clock() - self._began
        if not done or elapsed_seconds <= 0:
            return None
        return round(elapsed_seconds / done * (total - done), 1)
