"""The tasks: to work for a while, and to remove what is over.

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
    """Remove the documents whose retention is over; one that can't be removed is left for later, after the others."""
    try:
        while over := bench.store.expired(EXPIRED_AT_A_TIME):
            for document_id in over:
                if not _is_removed(bench, document_id):
                    bench.store.postpone(document_id)
    except StoreUnavailable as error:
        log.warning("expiry.put_down", reason=error.detail)


def _is_removed(bench: Workbench, document_id: str) -> bool:
    """Files and rows go first, so that none is left without its record. False also for one that was tried again."""
    if not bench.store.condemn(document_id):
        return False
    try:
        bench.storage.remove(document_id)
        bench.table.remove(document_id)
        bench.store.delete(document_id)
    except StoreUnavailable:
        raise
    except Exception:  # whatever storage and database may raise: it is no reason to keep the others
        log.exception("document.not_removed", id=document_id)
        return False
    log.info("document.expired", id=document_id)
    return True
