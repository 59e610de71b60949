"""A worker at its desk: claims one part after the other, each a little before its time, and ends well whatever happens.

While the last page of a range is read the next part is claimed. So whoever reads the pages goes on with that part's
first one while this one is stored and settled. When that page takes long, the part is handed back: others may be idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Self

import structlog
from structlog.contextvars import bound_contextvars

from ingest_worker import pipeline
from ingest_worker.desk import Desk
from ingest_worker.drain import Drain
from ingest_worker.lease import HandBack, Lease
from ingest_worker.pipeline import Job
from ingest_worker.workbench import Workbench
from shared.errors import DatabaseUnavailable, DocumentError, IngestError, Refused, StoreUnavailable, UnknownIngestion
from shared.jobs import Status
from shared.parts import Step
from shared.protocol import Failure
from shared.worklist import Claim

log = structlog.get_logger(__name__)

INTERNAL_ERROR = Failure(IngestError.code, "Something went wrong on our side while working on this document.")

#: So many others are called by whoever finds work for them.
CALLED_AT_ONCE = 2

#: What was claimed ahead waits no longer than this for the page before it, which may hang.
AHEAD_SECONDS = 1.0

#: So long a worker waits before it hands back a part for which the database or the storage was away.
PAUSE_SECONDS = 2.0

#: So often it looks meanwhile whether to stop.
LOOK_SECONDS = 0.25


class _Outage(Exception):
    """The database or the storage is away."""


class Shift:
    """Works for the block. It lasts for so many seconds, and for the part that is in hand then.

    ``call`` asks another worker to come. What was claimed ahead and not begun is handed back at the end.
    """

    def __init__(
        self, bench: Workbench, desk: Desk, drain: Drain, call: Callable[[], object], *, seconds: float
    ) -> None:
        self._bench = bench
        self._desk = desk
        self._drain = drain
        self._call = call
        self._end = time.monotonic() + seconds
        self._next: Lease | None = None
        self._has_called = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:  # else it comes back by its lease, as whatever else was in hand
            self._hand_back_next()
        elif self._next is not None:
            self._next.let_go()

    @property
    def goes_on(self) -> bool:
        """Whether there is time for a part more."""
        return not self._drain.begun and (self._next is not None or time.monotonic() < self._end)

    def work_on_next(self) -> bool:
        """Work on one part. False when there is none. Raises `StoreUnavailable`."""
        lease, self._next = self._next or self._claimed(), None
        if lease is None:
            return False
        claim = lease.claim
        with _bound(claim), lease:
            self._work_on(self._job(lease))
            if claim.part.step is Step.PLAN and self.goes_on:
                self._next = self._claimed()  # before others come: the first page is being read already
        return True

    def _claimed(self) -> Lease | None:
        claim = self._bench.worklist.claim()
        if claim is None:
            return None
        if claim.part.step is Step.PAGES:
            self._call_for_help()
        settings = self._bench.settings
        return Lease(
            self._bench.worklist,
            claim,
            self._drain,
            lease_seconds=settings.lease_seconds,
            report_interval_seconds=settings.report_interval_seconds,
            silence_seconds=settings.silence_seconds,
        ).hold()

    def _job(self, lease: Lease) -> Job:
        return Job(self._bench, self._desk, lease, lambda: self._page_after(lease.claim), self._give_others_a_chance)

    def _page_after(self, claim: Claim) -> int:
        """The page that comes after those of the part in hand, for which the next part is claimed; 0: none is known.

        A part that a worker was lost with takes no other along: what is lost with too many workers is left out. Nor is
        it begun ahead: what has been read of this one is not stored yet.
        """
        if self._next is None and not claim.lost and self.goes_on:
            self._next = self._claimed()
        ahead = self._next.claim if self._next else None
        if ahead is None or ahead.lost or ahead.document_id != claim.document_id:
            return 0
        return ahead.part.first

    def _give_others_a_chance(self) -> None:
        """What was claimed ahead has waited long enough: it may be all there is of a small document."""
        if self._next is not None and self._next.elapsed_seconds >= AHEAD_SECONDS:
            self._hand_back_next()
            self._call()

    def _hand_back_next(self) -> None:
        lease, self._next = self._next, None
        if lease is not None:
            with _bound(lease.claim), lease:
                _hand_back(partial(self._bench.worklist.give_back, lease.claim))

    def _work_on(self, job: Job) -> None:
        """Work on a part. If the document is at fault or we are, it has FAILED by then."""
        try:
            with _outages():
                pipeline.work_on(job)
        except _Outage as outage:
            self._put_off(job, outage)
        except HandBack:
            _hand_back(partial(job.settle, rest=[job.claim.part], spent_seconds=job.lease.elapsed_seconds))
        except (Refused, UnknownIngestion) as overtaken:
            log.info("part.overtaken", reason=overtaken.code)
        except DocumentError as error:
            if _fail(job, Failure(error.code, error.detail)):
                log.info("document.failed", code=error.code)
        except StoreUnavailable:
            raise
        except Exception:  # whatever it is, the document must not hang
            if _fail(job, INTERNAL_ERROR):
                log.exception("document.failed", code=INTERNAL_ERROR.code)
        else:
            log.info("part.done", seconds=round(job.lease.elapsed_seconds, 3))

    def _put_off(self, job: Job, outage: _Outage) -> None:
        """The database or the storage is away: after a while the part waits again. The document pays for the time."""
        log.warning("part.put_off", reason=str(outage))
        self._hand_back_next()
        _pause(job.lease)
        _hand_back(partial(job.settle, rest=[job.claim.part], spent_seconds=job.lease.elapsed_seconds))

    def _call_for_help(self) -> None:
        """Whoever finds more than one can do calls others, once, and they do the same: soon all are there."""
        if not self._has_called:
            self._has_called = True
            for _ in range(self._bench.worklist.claimable(CALLED_AT_ONCE)):
                self._call()


def _bound(claim: Claim) -> AbstractContextManager[None]:
    """What is logged in the block says which part it is about."""
    return bound_contextvars(id=claim.document_id, attempt=claim.attempt, part=claim.part.name)


@contextmanager
def _outages() -> Iterator[None]:
    """Where the database or the storage is at fault in the block, for a moment perhaps, `_Outage` is raised."""
    try:
        yield
    except FileNotFoundError:  # it won't come
        raise
    except (DatabaseUnavailable, OSError) as error:
        raise _Outage(str(error)) from error


def _pause(lease: Lease) -> None:
    """Wait, unless the worker shall stop or the part is no longer ours."""
    end = time.monotonic() + PAUSE_SECONDS
    with suppress(HandBack, Refused, UnknownIngestion):
        while (left_seconds := end - time.monotonic()) > 0:
            lease.check()
            time.sleep(min(left_seconds, LOOK_SECONDS))


def _hand_back(give: Callable[[], object]) -> None:
    try:
        give()
    except (Refused, UnknownIngestion) as overtaken:
        log.info("part.overtaken", reason=overtaken.code)
    else:
        log.info("part.handed_back")


def _fail(job: Job, failure: Failure) -> bool:
    """Record the failure. False when nobody wants to know: the document was cancelled or is gone."""
    try:
        job.record(Status.FAILED, failure.message, error=failure)
    except (Refused, UnknownIngestion) as overtaken:
        log.info("part.overtaken", reason=overtaken.code)
        return False
    return True
