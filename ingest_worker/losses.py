"""A pool child that died in mid-task, or was killed for taking too long: its document must not hang for ever.

Celery tells the parent process, which has no connections of its own: it opens one for the purpose and closes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import structlog
from celery import signals
from celery.exceptions import TimeLimitExceeded, WorkerLostError

from shared import connections
from shared.config import Settings
from shared.errors import IngestError, Refused, StoreUnavailable, UnknownIngestion
from shared.jobs import Status
from shared.protocol import Failure
from shared.store import Store

log = structlog.get_logger(__name__)

WORKER_DIED = Failure(IngestError.code, "The worker died while working on this document.")
TOOK_TOO_LONG = Failure(IngestError.code, "Working on this document took too long.")


def watch(settings: Settings) -> None:
    """From now on, record the loss of a child as the failure of its document."""

    def on_failure(exception: BaseException, args: Sequence[object], **_: object) -> None:
        if isinstance(exception, WorkerLostError | TimeLimitExceeded):
            document_id, attempt = args
            failure = TOOK_TOO_LONG if isinstance(exception, TimeLimitExceeded) else WORKER_DIED
            _record(settings, str(document_id), int(str(attempt)), failure)

    signals.task_failure.connect(on_failure, weak=False)


def _record(settings: Settings, document_id: str, attempt: int, failure: Failure) -> None:
    with closing(connections.patient_client(settings)) as client:
        try:
            Store(client, settings).record(document_id, attempt, Status.FAILED, failure.message, error=failure)
        except (Refused, UnknownIngestion, StoreUnavailable) as error:
            log.debug("loss.not_recorded", id=document_id, reason=error.code)
        else:
            log.error("document.failed", id=document_id, code=failure.code, reason=failure.message)
