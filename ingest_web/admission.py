"""How many streams a process holds open: in all, and for one client address. Pure but for the one look at the limits
of the operating system.

A stream that finds no seat is not refused with an error, after which an `EventSource` would never come back: it is
asked to come back later (`ingest_web.streams`).
"""

from __future__ import annotations

import resource
from collections import Counter
from threading import Lock

from shared.errors import IngestError

#: Descriptors of a web process beside those of its streams: requests in hand, uploads, Redis, logs.
SPARE_FILES = 1200


class NoSeat(IngestError):
    """One stream more would be too many. ``detail`` says of what."""

    code = "too_many_streams"


class Admission:
    """The seats of one process. ``most`` streams in all, ``most_per_address`` for one address; 0 is no bound."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self.most = most
        self.most_per_address = most_per_address
        self._lock = Lock()
        self._taken = 0
        self._by_address: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Streams that have a seat now."""
        return self._taken

    def take(self, address: str) -> None:
        """Take a seat, to be given back once. Raises `NoSeat`."""
        with self._lock:
            if self.most and self._taken >= self.most:
                raise NoSeat(f"This process holds {self.most} streams, which is its bound.")
            if self.most_per_address and self._by_address[address] >= self.most_per_address:
                raise NoSeat(f"Your address has {self.most_per_address} streams here, which is its bound.")
            self._taken += 1
            self._by_address[address] += 1

    def give_back(self, address: str) -> None:
        """Somebody else may have the seat."""
        with self._lock:
            self._taken -= 1
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def keep_within(self, open_files: int) -> bool:
        """Lower the bound to what a process with so many ``open_files`` can hold; whether that was necessary."""
        room = max(1, open_files - SPARE_FILES)
        if self.most and self.most <= room:
            return False
        self.most = room
        return True


def allow_open_files(wanted: int) -> int:
    """Let this process have ``wanted`` files open, or as many as the system lets it. Returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most)
