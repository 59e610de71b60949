"""The Celery application both sides share: where the broker is and how messages travel. It holds no task.

No result backend, no chords, no revoke, no arguments: the record in Redis is the truth, a message is only a hint that
there is work. One too many does nothing, and one that is lost is replaced within seconds by the sweeper.
"""

from __future__ import annotations

import kombu.exceptions
import redis
from celery import Celery

from shared import keys, task_names
from shared.config import Settings
from shared.errors import StoreUnavailable

#: A message unacknowledged for so long is delivered again. They are acknowledged on receipt: only what is lost between
#: the queue and the worker waits for it, and nobody waits for that.
VISIBILITY_TIMEOUT_SECONDS = 60


def make_celery(settings: Settings) -> Celery:
    """A Celery application for the broker of these settings."""
    app = Celery("ingest", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=task_names.QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # What a dead worker had in hand is found by its lease, not by its message.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=settings.broker_url.startswith("redis"),
        # Work in hand goes on without a broker.
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


def hint(app: Celery, *, retry: bool = True) -> None:
    """Let some worker know that there is work. Raises `StoreUnavailable` when the broker can't be reached."""
    send(app, task_names.WORK, retry=retry)


def send(app: Celery, name: str, *, retry: bool = True) -> None:
    """Have some worker run the task ``name``. Raises `StoreUnavailable` when the broker can't be reached."""
    try:
        app.send_task(name, retry=retry)
    except (kombu.exceptions.OperationalError, redis.RedisError, OSError) as error:
        raise StoreUnavailable("The broker can't be reached.") from error
