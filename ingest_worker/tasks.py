"""The three tasks: each runs one step of the pipeline, ends well whatever happens, and sends the next by name.

A message is a hint that there is work; the record decides. So a message that comes late, twice or for a document long
gone does nothing, and one that can't be dealt with now, because the record can't be reached, is handed back.
"""

from __future__ import annotations

from collections.abc import Callable

import kombu.exceptions
import redis
import structlog
from celery import Celery
from celery.exceptions import Reject
from structlog.contextvars import bound_contextvars

from ingest_worker import pipeline
from ingest_worker.pipeline import Job
from ingest_worker.workbench import Workbench
from shared import task_names
from shared.errors import DocumentError, IngestError, Refused, StoreUnavailable, UnknownIngestion
from shared.jobs import Status
from shared.protocol import Failure

log = structlog.get_logger(__name__)

Step = Callable[[Job], None]

INTERNAL_ERROR = Failure(IngestError.code, "Something went wrong on our side while working on this document.")


def register(app: Celery, bench: Workbench) -> None:
    """Give the tasks to the application."""
    _add(app, bench, task_names.PARSE, pipeline.parse_document, task_names.CHUNK)
    _add(app, bench, task_names.CHUNK, pipeline.chunk_document, task_names.LOAD)
    _add(app, bench, task_names.LOAD, pipeline.load_document, None)


def _add(app: Celery, bench: Workbench, name: str, step: Step, next_name: str | None) -> None:
    @app.task(name=name, shared=False)  # by default every Celery application of the process gets it
    def task(document_id: str, attempt: int) -> None:
        with bound_contextvars(id=document_id, attempt=attempt, task=name):
            try:
                if _done(step, Job(bench, document_id, attempt)) and next_name:
                    _send(app, next_name, document_id, attempt)
            except StoreUnavailable as error:
                _hand_back(error)


def _done(step: Step, job: Job) -> bool:
    """Whether the step came to its end. If the document is at fault or we are, it has FAILED by now."""
    try:
        step(job)
    except (Refused, UnknownIngestion) as overtaken:
        log.debug("task.overtaken", reason=overtaken.code)
        return False
    except StoreUnavailable:
        raise
    except DocumentError as error:
        if _fail(job, Failure(error.code, error.detail)):
            log.info("document.failed", code=error.code)
        return False
    except Exception:  # whatever it is, the document must not hang
        if _fail(job, INTERNAL_ERROR):
            log.exception("document.failed", code=INTERNAL_ERROR.code)
        return False
    log.info("task.done")
    return True


def _fail(job: Job, failure: Failure) -> bool:
    """Record the failure. False when nobody wants to know: the document was cancelled or is gone."""
    try:
        job.record(Status.FAILED, failure.message, error=failure)
    except (Refused, UnknownIngestion) as overtaken:
        log.debug("task.overtaken", reason=overtaken.code)
        return False
    return True


def _send(app: Celery, name: str, document_id: str, attempt: int) -> None:
    try:
        app.send_task(name, args=(document_id, attempt))
    except (kombu.exceptions.OperationalError, redis.RedisError, OSError) as error:
        raise StoreUnavailable("The broker can't be reached.") from error


def _hand_back(error: StoreUnavailable) -> None:
    """Have the message delivered again: at once by a broker that is there, else when it is back and sweeps.

    Not with ``retry``: that would send a new message and acknowledge this one, and when the broker is gone as well
    the first fails and the second loses the work. There is no hot loop: the client has waited about a minute.
    """
    log.warning("task.handed_back", reason=error.detail)
    raise Reject(error.detail, requeue=True) from error
