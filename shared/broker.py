"""The Celery application both sides share: where the broker is and how messages travel. It holds no task.

No result backend, no chords, no revoke: the record in Redis is the truth, a message is only a hint that there is work.
"""

from __future__ import annotations

from celery import Celery

from shared import keys, task_names
from shared.config import Settings

#: A message unacknowledged for so long is delivered again. Longer than the longest task may take.
VISIBILITY_TIMEOUT_SECONDS = 3600


def make_celery(settings: Settings) -> Celery:
    """A Celery application for the broker of these settings."""
    app = Celery("ingest", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=task_names.QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # A worker that dies takes no message with it (docs/operations.md).
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=settings.broker_url.startswith("redis"),
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(settings.broker_url),
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Workers don't gossip: nothing here needs to know of the others.
        worker_enable_remote_control=True,
        worker_send_task_events=False,
        enable_utc=True,
    )
    return app


def _transport_options(broker_url: str) -> dict[str, object]:
    if not broker_url.startswith("redis"):
        return {}
    return {
        "global_keyprefix": keys.BROKER_PREFIX,
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        "socket_timeout": 10,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "unacked_restore_interval": 10,
    }
