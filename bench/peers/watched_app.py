"""The service's own application with a watch over its event loop: who had it, and for how long.

A *hold* is the time from when a greenlet, or the loop's own callbacks, get the thread to when somebody else has it or
the loop looks for what has happened. It is told by greenlet's trace of switches, and by watchers before and after each
look. An alarm goes off in the middle of a hold that is long, so what it was at is known as well. A *round* is the time
from one look to the next: all holds in between, in which nobody's socket is read.

``GET /bench/holds`` starts the watch, and answers what was seen since the last time.
"""

from __future__ import annotations

import json
import signal
import time
from bisect import bisect_left
from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

import gevent
import greenlet
from flask import Response

from ingest_web.wsgi import app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: A longer hold is told one by one, with what it was at.
LONG_SECONDS = 0.010

#: Upper bounds of what is counted, in milliseconds.
BOUNDS_MS = (0.1, 0.5, 1, 2, 5, 10, 20, 50, 100, float("inf"))
BOUNDS = [f"{bound:g}" for bound in BOUNDS_MS]

#: Invoked after all other watchers of its kind, so after gevent has run what was due.
LAST = -2
FIRST = 2

FRAMES = 5


class Watch:
    """Of the loop of the thread that starts it."""

    def __init__(self) -> None:
        self._watchers: list[Any] = []
        self._began = self._cpu = 0.0
        self._running = False
        self._at: list[str] = []
        self._forget()

    def start(self) -> None:
        """From now on. Idempotent."""
        if self._watchers:
            return
        loop = gevent.get_hub().loop
        self._watchers = [loop.prepare(ref=False, priority=LAST), loop.check(ref=False, priority=FIRST)]
        for watcher, then in zip(self._watchers, (self._end_round, self._begin_round), strict=True):
            watcher.start(then)
        signal.signal(signal.SIGALRM, self._look)
        greenlet.settrace(self._switched)

    def taken(self) -> dict[str, object]:
        """What was seen since the last time: how many holds up to each bound, and the long ones."""
        counts = dict(zip(BOUNDS, self._counts, strict=True))
        taken: dict[str, object] = {"counts": counts, "longest_ms": self._longest_ms, "long": self._long}
        taken["rounds_ms"] = self._rounds_ms
        self._forget()
        return taken

    def _forget(self) -> None:
        self._counts = [0] * len(BOUNDS_MS)
        self._longest_ms = 0.0
        self._long: list[dict[str, object]] = []
        self._rounds_ms: list[float] = []
        self._round_began = time.perf_counter()

    def _begin_round(self) -> None:
        self._round_began = time.perf_counter()
        self._begin()

    def _end_round(self) -> None:
        self._end()
        round_ms = (time.perf_counter() - self._round_began) * 1e3
        if round_ms > LONG_SECONDS * 1e3:
            self._rounds_ms.append(round(round_ms, 2))

    def _switched(self, _event: str, _args: object) -> None:
        self._end()
        self._begin()

    def _begin(self) -> None:
        self._running = True
        self._at = []
        signal.setitimer(signal.ITIMER_REAL, LONG_SECONDS)
        self._began, self._cpu = time.perf_counter(), time.thread_time()

    def _end(self) -> None:
        if not self._running:  # the loop slept
            return
        held_ms, cpu_ms = (time.perf_counter() - self._began) * 1e3, (time.thread_time() - self._cpu) * 1e3
        self._running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._counts[bisect_left(BOUNDS_MS, held_ms)] += 1
        self._longest_ms = max(self._longest_ms, round(held_ms, 2))
        if held_ms > LONG_SECONDS * 1e3:
            self._long.append({"held_ms": round(held_ms, 2), "cpu_ms": round(cpu_ms, 2), "at": self._at})

    def _look(self, _number: int, frame: FrameType | None) -> None:
        while frame is not None and len(self._at) < FRAMES:
            place = "/".join(frame.f_code.co_filename.split("/")[-2:])
            self._at.append(f"{frame.f_code.co_name} ({place}:{frame.f_lineno})")
            frame = frame.f_back


_watch = Watch()


_serve = app.wsgi_app


def _with_holds(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Whatever was held since this was last asked for. No route of the service, which answers nobody what its table of
    access does not name."""
    if environ["PATH_INFO"] != "/bench/holds":
        return _serve(environ, start_response)
    _watch.start()
    return Response(json.dumps(_watch.taken()), mimetype="application/json")(environ, start_response)


app.wsgi_app = _with_holds  # type: ignore[method-assign]
