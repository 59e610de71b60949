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

#: Less than this says little.
LEAST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a document that waits can be told. ``eta_seconds`` is None while no rate is known."""

    position: int
    eta_seconds: float | None


class Rate:
    """How many bytes of documents all workers parse in a second, from a counter that is looked at now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, now: float, served_bytes: int) -> None:
        """The counter stands at ``served_bytes``; ``now`` in seconds from anywhere."""
        if self._seen and served_bytes < self._seen[-1][1]:
            self._seen.clear()  # another Redis, or an emptied one
        self._seen.append((now, served_bytes))
        while now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def bytes_per_second(self) -> float | None:
        """None while nothing has been served in the window, or too little time has passed."""
        if not self._seen:
            return None
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        if now - began < LEAST_SECONDS or last == first:
            return None
        return (last - first) / (now - began)


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
