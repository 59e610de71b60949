"""Handing a document to the workers: one message with its id and attempt. The record holds everything else."""

from __future__ import annotations

import kombu.exceptions
import redis

from ingest_web import services
from shared import task_names
from shared.errors import StoreUnavailable


def send(document_id: str, attempt: int) -> None:
    """Put the first task into the broker's queue. Raises `StoreUnavailable`."""
    try:
        services.current().broker.send_task(task_names.PARSE, args=(document_id, attempt), retry=False)
    except (kombu.exceptions.OperationalError, redis.RedisError, OSError) as error:
        raise StoreUnavailable("The work could not be handed to a worker.") from error
