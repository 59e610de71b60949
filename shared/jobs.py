"""The states of an ingestion, as a table, and what share of the whole each of them is.

Pure: no clock, no I/O. Everything that moves a document, and everything that refuses to, reads this table.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a document stands. The last three are final."""

    PENDING = "PENDING"
    PARSING = "PARSING"
    CHUNKING = "CHUNKING"
    LOADING = "LOADING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


FINAL: frozenset[Status] = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

#: From these an explicit retry starts the next attempt.
RETRYABLE: frozenset[Status] = frozenset({Status.FAILED, Status.CANCELLED})

#: From each state, the states that an event may bring next. Every running state may repeat itself: that is progress.
TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.PENDING, Status.PARSING, Status.FAILED, Status.CANCELLED}),
    Status.PARSING: frozenset({Status.PARSING, Status.CHUNKING, Status.FAILED, Status.CANCELLED}),
    Status.CHUNKING: frozenset({Status.CHUNKING, Status.LOADING, Status.FAILED, Status.CANCELLED}),
    Status.LOADING: frozenset({Status.LOADING, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

#: The stretch of the bar, in percent, that each running stage fills. Parsing takes nearly all of the time.
STRETCH: dict[Status, tuple[float, float]] = {
    Status.PENDING: (0.0, 0.0),
    Status.PARSING: (0.0, 90.0),
    Status.CHUNKING: (90.0, 94.0),
    Status.LOADING: (94.0, 99.0),
    Status.COMPLETED: (100.0, 100.0),
}


def sources_of(target: Status) -> frozenset[Status]:
    """The states from which an event may bring ``target``."""
    return frozenset(source for source, targets in TRANSITIONS.items() if target in targets)


def overall_progress(status: Status, done: int, total: int) -> float:
    """The bar, 0 to 100 with one decimal, for ``done`` of ``total`` units of a stage. 100 only when COMPLETED.

    Raises `ValueError` unless ``0 <= done <= total``, and for FAILED and CANCELLED, which leave the bar where it was.
    """
    if not 0 <= done <= total:
        raise ValueError(f"{done} of {total} is not progress")
    if status not in STRETCH:
        raise ValueError(f"{status} says nothing about progress")
    first, last = STRETCH[status]
    share = done / total if total else 0.0
    return round(first + (last - first) * share, 1)
