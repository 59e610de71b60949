"""Waiting for a condition, never for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02


def wait_until(predicate: Callable[[], T], *, within_seconds: float = 20.0, what: str = "") -> T:
    """The first truthy value of ``predicate()``. Fails the test when there is none in time."""
    deadline = time.monotonic() + within_seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_seconds} s: {what or predicate}; last value {value!r}")
        time.sleep(POLL_SECONDS)
