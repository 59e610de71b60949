"""Letting the workers know that there is work. The record says which; this only spares the second until a sweep."""

from __future__ import annotations

import structlog

from ingest_web import services
from shared.broker import hint
from shared.errors import StoreUnavailable

log = structlog.stdlib.get_logger(__name__)


def call_worker() -> None:
    """Put a message into the broker's queue. When that fails nothing is lost: the sweeper sends another."""
    try:
        hint(services.current().broker, retry=False)
    except StoreUnavailable as error:
        log.warning("worker.not_called", reason=error.detail)
