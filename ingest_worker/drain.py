"""Told to stop: the children of the pool learn it from a byte that they share with their parent.

Celery tells only the parent of a warm or soft shutdown, and waits for what is in hand. A child that looks here a few
times a second, also while it waits for a page, hands its part back, so there is nothing to wait for.
"""

from __future__ import annotations

import mmap

from celery import signals


class Drain:
    """Made in the parent, before it forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)  # anonymous memory, seen by every process forked from this one
        signals.worker_shutting_down.connect(self._begin, weak=False)

    @property
    def begun(self) -> bool:
        """Whether the worker has been told to stop."""
        return self._shared[0] == 1

    def _begin(self, **_: object) -> None:
        self._shared[0] = 1
