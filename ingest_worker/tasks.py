"""The task that works: claims one part after the other, and ends well whatever happens.

A message is a hint that there is work; the record decides which. So a message that comes late, twice or for nothing
does no harm, and none is needed to find a part again whose worker was lost.
"""

from __future__ import annotations

import time

import structlog
from celery import Celery
from structlog.contextvars import bound_contextvars

from ingest_worker import pipeline
from ingest_worker.desk import Desk
from ingest_worker.drain import Drain
from ingest_worker.lease import HandBack, Lease
from ingest_worker.pipeline import Job
from ingest_worker.workbench import Workbench
from shared import task_names
from shared.broker import hint
from shared.errors import DocumentError, IngestError, Refused, StoreUnavailable, UnknownIngestion
from shared.jobs import Status
from shared.parts import Step
from shared.protocol import Failure
from shared.worklist import Claim

log = structlog.get_logger(__name__)

INTERNAL_ERROR = Failure(IngestError.code, "Something went wrong on our side while working on this document.")

#: After so long a task ends and a new message takes its place, so that Celery can recycle or stop its children.
QUANTUM_SECONDS = 10.0

#: So many names are fetched together.
EXPIRED_AT_A_TIME = 100


class Hand:
    """What a task does, in a child of the pool."""

    def __init__(self, app: Celery, bench: Workbench, drain: Drain) -> None:
        self._app = app
        self._bench = bench
        self._drain = drain

    def work(self) -> None:
        """Work on parts until there are none, the quantum is over, or the worker is told to stop."""
        end = time.monotonic() + QUANTUM_SECONDS
        try:
            with Desk(self._bench) as desk:
                while not self._drain.begun and time.monotonic() < end:
                    if not self.work_on_next(desk):
                        return
            hint(self._app)
        except StoreUnavailable as error:
            # Parts in hand come back by their leases, and the sweeper sends messages when Redis is back.
            log.warning("work.put_down", reason=error.detail)

    def work_on_next(self, desk: Desk) -> bool:
        """Work on one part. False when there is none."""
        claim = self._bench.worklist.claim()
        if claim is None:
            return False
        with bound_contextvars(id=claim.document_id, attempt=claim.attempt, part=claim.part.name):
            self._work_on(claim, desk)
        return True

    def _work_on(self, claim: Claim, desk: Desk) -> None:
        """Work on a part. If the document is at fault or we are, it has FAILED by then."""
        settings = self._bench.settings
        lease = Lease(
            self._bench.worklist,
            claim,
            self._drain,
            lease_seconds=settings.lease_seconds,
            report_interval_seconds=settings.report_interval_seconds,
        )
        with lease:
            job = Job(self._bench, desk, claim, lease)
            try:
                waiting = pipeline.work_on(job)
            except HandBack:
                self._hand_back(job)
            except (Refused, UnknownIngestion) as overtaken:
                log.info("part.overtaken", reason=overtaken.code)
            except StoreUnavailable:
                raise
            except DocumentError as error:
                if _fail(job, Failure(error.code, error.detail)):
                    log.info("document.failed", code=error.code)
            except Exception:  # whatever it is, the document must not hang
                if _fail(job, INTERNAL_ERROR):
                    log.exception("document.failed", code=INTERNAL_ERROR.code)
            else:
                log.info("part.done", seconds=round(lease.elapsed_seconds, 3))
                if claim.part.step is Step.PLAN:
                    self._call_for_help(waiting - 1)

    def _hand_back(self, job: Job) -> None:
        try:
            job.settle(rest=[job.claim.part], spent_seconds=job.lease.elapsed_seconds)
        except (Refused, UnknownIngestion) as overtaken:
            log.info("part.overtaken", reason=overtaken.code)
        else:
            log.info("part.handed_back")

    def _call_for_help(self, parts: int) -> None:
        for _ in range(min(parts, self._bench.settings.max_parts_in_flight - 1)):
            hint(self._app)


def register(app: Celery, bench: Workbench, drain: Drain) -> None:
    """Give the tasks to the application."""
    hand = Hand(app, bench, drain)

    @app.task(name=task_names.WORK, shared=False)  # by default every Celery application of the process gets it
    def work() -> None:
        hand.work()

    @app.task(name=task_names.EXPIRE, shared=False)
    def expire() -> None:
        expire_documents(bench)


def expire_documents(bench: Workbench) -> None:
    """Remove the documents whose retention is over: files and rows first, so that none is left without its record."""
    try:
        while over := bench.store.expired(EXPIRED_AT_A_TIME):
            for document_id in over:
                bench.storage.remove(document_id)
                bench.table.remove(document_id)
                bench.store.delete(document_id)
                log.info("document.expired", id=document_id)
    except StoreUnavailable as error:
        log.warning("expiry.put_down", reason=error.detail)


def _fail(job: Job, failure: Failure) -> bool:
    """Record the failure. False when nobody wants to know: the document was cancelled or is gone."""
    try:
        job.record(Status.FAILED, failure.message, error=failure)
    except (Refused, UnknownIngestion) as overtaken:
        log.info("part.overtaken", reason=overtaken.code)
        return False
    return True
