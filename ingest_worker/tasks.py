"""The tasks: to work for a while, to remove what is over, and to remove what no document leads to.

A message is a hint that there is work; the record decides which. So a message that comes late, twice or for nothing
does no harm, and none is needed to find a part again whose worker was lost.
"""

from __future__ import annotations

from functools import partial

import structlog
from celery import Celery

from ingest_worker.desk import Desk
from ingest_worker.drain import Drain
from ingest_worker.shift import Shift
from ingest_worker.workbench import Workbench
from shared import task_names
from shared.broker import hint
from shared.errors import StoreUnavailable

log = structlog.get_logger(__name__)

#: After so long a task ends and a new message takes its place, so that Celery can recycle or stop its children.
QUANTUM_SECONDS = 10.0

#: So many names are fetched together.
EXPIRED_AT_A_TIME = 100


def register(app: Celery, bench: Workbench, drain: Drain) -> None:
    """Give the tasks to the application."""

    @app.task(name=task_names.WORK, shared=False)  # by default every Celery application of the process gets it
    def work() -> None:
        work_for_a_while(app, bench, drain)

    @app.task(name=task_names.EXPIRE, shared=False)
    def expire() -> None:
        expire_documents(bench)

    @app.task(name=task_names.TIDY, shared=False)
    def tidy() -> None:
        remove_forgotten(bench)


def work_for_a_while(app: Celery, bench: Workbench, drain: Drain) -> None:
    """Work on parts until there are none, the quantum is over, or the worker is told to stop."""
    call = partial(hint, app)
    try:
        with Desk(bench) as desk, Shift(bench, desk, drain, call, seconds=QUANTUM_SECONDS) as shift:
            while shift.goes_on:
                if not shift.work_on_next():
                    return
        call()
    except StoreUnavailable as error:
        # Parts in hand come back by their leases, and the sweeper sends messages when Redis is back.
        log.warning("work.put_down", reason=error.detail)


def expire_documents(bench: Workbench) -> None:
    """Remove the documents whose retention is over, and what is stored of those that were deleted.

    What can't be removed is left for later, after the others.
    """
    try:
        while over := bench.retention.expired(EXPIRED_AT_A_TIME):
            for document_id in over:
                if not _is_removed(bench, document_id):
                    bench.retention.postpone(document_id)
    except StoreUnavailable as error:
        log.warning("expiry.put_down", reason=error.detail)


def _is_removed(bench: Workbench, document_id: str) -> bool:
    """False also for one that was tried again.

    Files and rows go after the record: a worker that commits rows later finds none, and removes them itself.
    """
    if not bench.retention.expire(document_id):
        return False
    if not _is_unstored(bench, document_id):
        return False
    bench.retention.forget(document_id)
    log.info("document.removed", id=document_id)
    return True


def remove_forgotten(bench: Workbench) -> None:
    """Remove the files and rows that nothing leads to: what a node that was killed had of an upload, what a worker
    stored of a document that was just deleted.
    """
    try:
        forgotten = bench.retention.forgotten(bench.storage.names(""))
    except StoreUnavailable as error:
        log.warning("tidying.put_down", reason=error.detail)
        return
    for document_id in forgotten:
        if _is_unstored(bench, document_id):
            log.info("document.tidied", id=document_id)


def _is_unstored(bench: Workbench, document_id: str) -> bool:
    try:
        bench.table.remove(document_id)
        bench.storage.remove(document_id)  # last: by their folders those are found that nothing else leads to
    except Exception:  # whatever storage and database may raise: it is no reason to keep the others
        log.exception("document.not_removed", id=document_id)
        return False
    return True
