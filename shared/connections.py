"""Connections to Redis, each with its time-outs. Nobody else calls a constructor of redis-py.

A client for commands and a connection for pub/sub differ: the first answers or fails in bounded time, the second is
idle most of its life and belongs to one greenlet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import AbstractConnection
from redis.exceptions import NoScriptError
from redis.retry import Retry

from shared.config import Settings
from shared.errors import StoreUnavailable

CONNECT_TIMEOUT_SECONDS = 2.0
ANSWER_TIMEOUT_SECONDS = 5.0

#: Someone waits for an answer of the web tier: a Redis that hangs must be found out sooner.
HASTY_TIMEOUT_SECONDS = 1.5

#: A web process waits for a free connection rather than open another: viewers must not cost Redis anything.
WEB_CONNECTIONS = 4

#: What redis-py puts before the reply to a command of a pipeline. It has no class for MISCONF.
OF_PIPELINE = "caused error: "


def hasty_client(settings: Settings) -> redis.Redis:
    """For the web tier: a caller waits, so one quick retry and then `redis.ConnectionError`, within about 3 s."""
    pool = redis.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=WEB_CONNECTIONS,
        timeout=ANSWER_TIMEOUT_SECONDS,
        **_options(Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.2), retries=1), HASTY_TIMEOUT_SECONDS),
    )
    return redis.Redis.from_pool(pool)


def patient_client(settings: Settings) -> redis.Redis:
    """For the workers: work in hand is worth waiting for, so retries over about a minute of outage."""
    pool = redis.ConnectionPool.from_url(
        settings.redis_url, **_options(Retry(ExponentialWithJitterBackoff(base=0.1, cap=5), retries=16))
    )
    return redis.Redis.from_pool(pool)


def pubsub_connection(settings: Settings) -> AbstractConnection:
    """A bare, unopened connection for the hub: RESP2, so that a message and the answer to PING are plain lists.

    It never reconnects by itself: whoever owns it must know that something may have been missed.
    """
    pool = redis.ConnectionPool.from_url(
        settings.redis_url, protocol=2, **_options(Retry(ExponentialWithJitterBackoff(), retries=0))
    )
    return cast("AbstractConnection", pool.make_connection())


@contextmanager
def translated() -> Iterator[None]:
    """What redis-py raises in the block when Redis can't be reached, or takes nothing, becomes `StoreUnavailable`.

    So does a script that is unknown though it has just been sent: Redis was restarted in between.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, NoScriptError, OSError) as error:
        raise StoreUnavailable("Redis can't be reached.") from error
    except redis.ResponseError as error:
        if not _is_full(error):
            raise
        raise StoreUnavailable("Redis has no room.") from error


def _is_full(error: redis.ResponseError) -> bool:
    """Whether Redis refuses to write for want of memory, or because it can't save: its disk is full, say."""
    reply = str(error).rpartition(OF_PIPELINE)[2]
    return isinstance(error, redis.OutOfMemoryError) or reply.startswith("MISCONF ")


def _options(retry: Retry, answer_seconds: float = ANSWER_TIMEOUT_SECONDS) -> dict[str, Any]:
    return {
        "socket_connect_timeout": min(CONNECT_TIMEOUT_SECONDS, answer_seconds),
        "socket_timeout": answer_seconds,
        "retry": retry,
    }
