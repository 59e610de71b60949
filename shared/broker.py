"""The Celery application both sides share: where the broker is and how messages travel. It holds no task.

No result backend, no chords, no revoke: the record in Redis is the truth, a message is only a hint that there is work.
"""

from __future__ import annotations

from celery import Celery

from shared import keys, task_names
from shared.config import Settings

#: A task that takes longer is killed: 10,000 pages at one and a half a second, which is a dense file on a busy machine.
TASK_TIME_LIMIT_SECONDS = 2 * 3600

#: A message unacknowledged for so long is delivered again. Longer than a task may take: it isn't extended meanwhile.
VISIBILITY_TIMEOUT_SECONDS = TASK_TIME_LIMIT_SECONDS + 600

#: A worker told to stop (SIGTERM with REMAP_SIGTERM=SIGQUIT) lets its tasks run on for so long, then hands them back.
SOFT_SHUTDOWN_SECONDS = 3


def make_celery(settings: Settings) -> Celery:
    """A Celery application for the broker of these settings."""
    app = Celery("ingest", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=task_names.QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # A worker that dies takes no message with it. A pool child that dies does: a document that kills children
        # must not go round for ever. Its record says FAILED then (ingest_worker.losses).
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_time_limit=TASK_TIME_LIMIT_SECONDS,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=settings.broker_url.startswith("redis"),
        worker_soft_shutdown_timeout=SOFT_SHUTDOWN_SECONDS,
        # A second run, if it comes to that, is refused by the record; so work in hand goes on without a broker.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(settings.broker_url),
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # For `celery inspect`.
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
        # Look every 10 s for messages to deliver again; by default only every tenth look is a real one.
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    }
