"""Turns at the event loop: who has much to do gives it back now and then, so that everybody's sockets are looked after.

A socket that always has something never makes its greenlet wait, nor does a file, nor a loop over ten thousand viewers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent import monkey

#: A turn is over after so long.
TURN_SECONDS = 0.002

#: As gevent counts: before all else that is ready, but once only for each look at the sockets.
_NEXT = 2

T = TypeVar("T")


class Turn:
    """From its making until `step` finds that it has been long enough; then the next one."""

    __slots__ = ("began",)

    def __init__(self) -> None:
        self.began = time.monotonic()

    def step(self) -> None:
        """Something is done, and there is more to do."""
        if time.monotonic() - self.began > TURN_SECONDS:
            give_way()
            self.began = time.monotonic()


def give_way() -> None:
    """Let everybody have a turn who is ready, or turns out to be.

    Sleeping for no time is not enough under gevent: who does that is called again up to fifty times before the loop
    looks at its sockets.
    """
    if _is_shared():
        gevent.idle(_NEXT)
    else:
        time.sleep(0)


def aside(do: Callable[[], T]) -> T:
    """What ``do`` gives, done on a thread of the system while others have the loop. It must touch nothing of theirs."""
    return gevent.get_hub().threadpool.apply(do) if _is_shared() else do()


def _is_shared() -> bool:
    """Whether this process's threads are greenlets, which share one thread of the system."""
    return bool(monkey.is_module_patched("time"))
