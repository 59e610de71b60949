"""A lease on a part: renewed from a thread while the work goes on, and asked a few times a second whether to go on."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from ingest_worker.drain import Drain
from ingest_worker.progress import Throttle
from shared.errors import Refused, StoreUnavailable, UnknownIngestion
from shared.worklist import BEAT_SECONDS, Claim, Worklist

log = structlog.get_logger(__name__)

#: So many times within its life a lease is renewed, and more often where signs of life would be too rare.
RENEWALS = 6


class HandBack(Exception):
    """The worker stops: what is in hand goes back to the list."""


def end_process() -> None:
    """End this process as a crash would: the pool makes another child, and the part comes back by its lease."""
    os.kill(os.getpid(), signal.SIGKILL)


class Lease:
    """Held from `hold` to the end of the block, in which the work is done.

    The work asks `check` often, several times a second; it does no I/O.
    """

    def __init__(
        self,
        worklist: Worklist,
        claim: Claim,
        drain: Drain,
        *,
        lease_seconds: float,
        report_interval_seconds: float,
        silence_seconds: float,
        when_silent: Callable[[], None] = end_process,
    ) -> None:
        """``when_silent`` is called when the work has not asked for ``silence_seconds``: it hangs. Nothing is renewed
        from then on, so that the part is given to another.
        """
        self.claim = claim
        self._worklist = worklist
        self._drain = drain
        self._throttle = Throttle(report_interval_seconds, time.monotonic)
        self._over: Refused | UnknownIngestion | None = None
        self._end = threading.Event()
        self._silence_seconds = silence_seconds
        self._when_silent = when_silent
        self._began = time.monotonic()
        self._asked_at = math.inf  # the work has not begun
        self._every_seconds = min(lease_seconds / RENEWALS, BEAT_SECONDS)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def hold(self) -> Self:
        """Begin to renew it: the work may have to wait a while."""
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        self._began = self._asked_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Renew it no more."""
        self._end.set()

    @property
    def elapsed_seconds(self) -> float:
        """Since the work on the part began."""
        return time.monotonic() - self._began

    def check(self) -> None:
        """Return when the work shall go on.

        Raises `HandBack`, and what the record says when the part is no longer ours: cancelled, deleted, another's.
        """
        self.check_ours()
        if self._drain.begun:
            raise HandBack

    def check_ours(self) -> None:
        """The same for what should be finished even when the worker stops: no `HandBack`."""
        self._asked_at = time.monotonic()
        if self._over is not None:
            raise self._over

    def read(self, pages: int) -> None:
        """So many pages of the part are read. Raises as `check` does."""
        self.check()
        if self._throttle.admits(urgent=False):
            self._worklist.renew(self.claim, pages)

    def _keep(self) -> None:
        while not self._end.wait(self._every_seconds):
            if time.monotonic() - self._asked_at > self._silence_seconds:
                log.error("work.hangs", id=self.claim.document_id, part=self.claim.part.name)
                self._when_silent()
                return
            if self._over is None:
                self._renew()

    def _renew(self) -> None:
        try:
            self._worklist.renew(self.claim)
        except (Refused, UnknownIngestion) as over:
            self._over = over
        except StoreUnavailable as error:
            # The work goes on: when Redis is back, the part is ours still unless someone else has begun it.
            log.warning("lease.not_renewed", id=self.claim.document_id, reason=error.detail)
