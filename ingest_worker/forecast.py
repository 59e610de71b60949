"""When a document that still waits will be done: from what takes its turns beside it and how fast the
workers are. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

#: The rate is that of the last minute.
WINDOW_SECONDS = 60.0

#: Less work than this says little.
LEAST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a document that waits can be told. ``eta_seconds`` is None while no rate is known."""

    position: int
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class _Look:
    now: float
    served_bytes: int
    #: For how long something was in hand, since the first look.
    worked_seconds: float
    is_at_work: bool


class Rate:
    """How many bytes of documents all workers parse in a second of work, from a counter that is looked at now and then.

    Time counts while something is in hand: workers that have had nothing to do are not slow.
    """

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()

    def see(self, now: float, served_bytes: int, *, is_at_work: bool) -> None:
        """The counter stands at ``served_bytes``; ``now`` in seconds from anywhere; something is in hand, or not."""
        if self._looks and served_bytes < self._looks[-1].served_bytes:
            self._looks.clear()  # another Redis, or an emptied one
        worked_seconds = 0.0
        if self._looks:
            last = self._looks[-1]
            has_worked = is_at_work or last.is_at_work or served_bytes > last.served_bytes
            worked_seconds = last.worked_seconds + (now - last.now if has_worked else 0.0)
        self._looks.append(_Look(now, served_bytes, worked_seconds, is_at_work))
        while now - self._looks[0].now > WINDOW_SECONDS:
            self._looks.popleft()

    @property
    def bytes_per_second(self) -> float | None:
        """None while nothing has been served in the window, or too little time was worked."""
        if not self._looks:
            return None
        first, last = self._looks[0], self._looks[-1]
        worked_seconds, served_bytes = (
            last.worked_seconds - first.worked_seconds,
            last.served_bytes - first.served_bytes,
        )
        if worked_seconds < LEAST_SECONDS or not served_bytes:
            return None
        return served_bytes / worked_seconds


def prospects(sizes_bytes: Sequence[int], left_bytes: Sequence[int], rate: float | None) -> Iterator[Prospect]:
    """For documents of these sizes in the order of the queue; ``left_bytes`` is what each of those that run has left.

    Documents take turns. So until one is done, every other is served at most as much as it is, and no more than it
    has left: who is small does not wait for all of a large one.
    """
    amounts = sorted([*sizes_bytes, *left_bytes])
    sums = [0, *accumulate(amounts)]
    for position, size in enumerate(sizes_bytes, start=1):
        smaller = bisect_right(amounts, size)
        served = sums[smaller] + size * (len(amounts) - smaller)
        yield Prospect(position, round(served / rate, 1) if rate else None)


def worth_telling(told: Prospect, now: Prospect) -> bool:
    """Whether the difference is news: another place in the queue, or a quarter more or less of the time."""
    if told.position != now.position or (told.eta_seconds is None) != (now.eta_seconds is None):
        return True
    if told.eta_seconds is None or now.eta_seconds is None:
        return False
    return abs(now.eta_seconds - told.eta_seconds) > max(1.0, told.eta_seconds / 4)
