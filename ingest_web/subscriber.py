"""The process's one pub/sub connection: kept open, subscribed to what is wanted, and known to be alive.

Two threads of its own (greenlets under gevent) touch the connection, each in one direction: one receives, the other
sends. Others only leave their wishes. It knows channels and messages, and nothing of documents.

- Lost: reconnect with backoff, and subscribe to everything again. Whoever listens is told, since something may have
  been missed.
- Half-open: a PING that is not answered in time says so. It is asked by the clock, whatever else is heard: what fails
  may be one direction alone.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import redis
import structlog

from ingest_web.pubsub import Message, PubSub
from shared.errors import IngestError

log = structlog.stdlib.get_logger(__name__)

#: Redis is asked so often, and must have answered by the next time.
PING_SECONDS = 3.0

BACKOFF_FIRST_SECONDS = 0.05
BACKOFF_MOST_SECONDS = 2.0

#: Far beyond the longest wait, and far below what a number can hold.
MOST_DOUBLINGS = 10

#: After a connection that lived for so long, the waiting begins anew.
GOOD_SECONDS = 5.0

#: Channels in one SUBSCRIBE.
BATCH = 500

Connect = Callable[[], PubSub]


class Listener(Protocol):
    """Whom the subscriber tells. All calls come from one thread."""

    def connected(self) -> Iterable[str]:
        """There is a new connection. Gives the channels that shall be subscribed to."""

    def received(self, messages: list[Message]) -> None:
        """Messages have come, in their order."""

    def lost(self) -> None:
        """The connection is gone, and all subscriptions with it."""


class Subscriber:
    """Keeps the subscriptions that are wanted."""

    def __init__(self, connect: Connect, listener: Listener) -> None:
        self._connect = connect
        self._listener = listener
        self._changed = threading.Condition()
        self._wishes = _Wishes()
        self._pubsub: PubSub | None = None
        self._stopped = False
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"subscriber{target.__name__}", daemon=True)
            for target in (self._receive, self._send)
        ]

    def start(self) -> None:
        """Begin to connect."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the connection. Returns when that is done."""
        self._stopping.set()
        with self._changed:
            self._stopped = True
            if self._pubsub is not None:
                self._pubsub.abort()
            self._changed.notify()
        for thread in self._threads:
            thread.join()

    def subscribe(self, channels: Iterable[str]) -> None:
        """Wish for the messages of these channels. That Redis has confirmed it is a message, too."""
        with self._changed:
            self._wishes.subscribe.extend(channels)
            self._changed.notify()

    def unsubscribe(self, channels: Iterable[str]) -> None:
        """Wish for no more messages of these channels, to which Redis has confirmed the subscription."""
        with self._changed:
            self._wishes.unsubscribe.extend(channels)
            self._changed.notify()

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._serve_a_connection()
            except (redis.RedisError, IngestError, OSError) as error:
                log.warning("subscriber.connection_lost", error=str(error), failures=failures)
            except Exception:  # a fault of ours must not leave every viewer of this process in the dark
                log.exception("subscriber.failed")
            failures = 1 if time.monotonic() - began > GOOD_SECONDS else failures + 1
            self._stopping.wait(_backoff_seconds(failures))

    def _serve_a_connection(self) -> None:
        pubsub = self._connect()
        try:
            self._begin(pubsub)
            self._listen(pubsub)
        finally:
            with self._changed:
                self._pubsub = None
            pubsub.close()
            self._listener.lost()

    def _begin(self, pubsub: PubSub) -> None:
        with self._changed:
            self._wishes = _Wishes()  # they were for the last connection; those of from now on are for this one, too
        channels = list(self._listener.connected())
        with self._changed:
            self._wishes.subscribe += channels
            self._pubsub = pubsub
            self._changed.notify()
        log.info("subscriber.connected", channels=len(channels))

    def _listen(self, pubsub: PubSub) -> None:
        asked_at, answered = time.monotonic(), True
        while not self._stopping.is_set():
            messages = pubsub.receive()
            answered = answered or any(map(_is_pong, messages))
            self._listener.received(messages)
            if time.monotonic() - asked_at >= PING_SECONDS:
                if not answered:
                    raise redis.ConnectionError("no answer to PING")
                asked_at, answered = time.monotonic(), False
                self._ask()

    def _ask(self) -> None:
        with self._changed:
            self._wishes.ping = True
            self._changed.notify()

    # -- sending -------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        while (next_one := self._next()) is not None:
            pubsub, wishes = next_one
            try:
                for command in wishes.commands():
                    pubsub.send(*command)
            except (redis.RedisError, OSError) as error:
                log.warning("subscriber.send_failed", error=str(error))
                pubsub.abort()  # the receiving side notices, and mends it

    def _next(self) -> tuple[PubSub, _Wishes] | None:
        with self._changed:
            while not self._stopped and (self._pubsub is None or not self._wishes):
                self._changed.wait()
            if self._stopped or self._pubsub is None:
                return None
            wishes, self._wishes = self._wishes, _Wishes()
            return self._pubsub, wishes


@dataclass
class _Wishes:
    """What is still to be sent."""

    subscribe: list[str] = field(default_factory=list)
    unsubscribe: list[str] = field(default_factory=list)
    ping: bool = False

    def __bool__(self) -> bool:
        return bool(self.subscribe or self.unsubscribe or self.ping)

    def commands(self) -> Iterator[tuple[str, ...]]:
        """A channel that is in both lists was given up and is wanted again: it is given up first."""
        for batch in _batches(self.unsubscribe, BATCH):
            yield "UNSUBSCRIBE", *batch
        for batch in _batches(self.subscribe, BATCH):
            yield "SUBSCRIBE", *batch
        if self.ping:
            yield ("PING",)


def _is_pong(message: Message) -> bool:
    return message == b"PONG" or message[0] == b"pong"


def _batches(names: list[str], size: int) -> Iterator[list[str]]:
    return (names[first : first + size] for first in range(0, len(names), size))


def _backoff_seconds(failures: int) -> float:
    """Full jitter under an exponential roof (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015)."""
    roof = min(BACKOFF_MOST_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(failures, MOST_DOUBLINGS))
    return random.uniform(0, roof)  # noqa: S311 - jitter
