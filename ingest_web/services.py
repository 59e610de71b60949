"""What the routes work with: built once per app from the settings, found through the app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import redis
from celery import Celery
from flask import Flask, current_app

from ingest_web.admission import Admission
from ingest_web.guard import Guard
from ingest_web.hub import Hub
from ingest_web.idempotency import Claims
from ingest_web.instruments import Instruments, Standing
from ingest_web.limits import MOST_TESTS, InHand, Limits
from ingest_web.permits import Permits
from ingest_web.pubsub import PubSub
from ingest_web.replay import REPLAY_EVENTS
from ingest_web.shares import Shares
from ingest_web.subscriber import PING_SECONDS
from shared import connections
from shared.broker import make_celery
from shared.config import Settings
from shared.database import ChunkTable
from shared.outbox import Outbox
from shared.retention import Retention
from shared.sealing import Seal
from shared.storage import Storage
from shared.store import Store
from shared.webhook_tables import WebhookDatabase
from shared.worklist import Worklist

_KEY = "ingest"


@dataclass
class Services:
    """The edges of a web process. Nothing connects before it is used."""

    settings: Settings
    store: Store
    retention: Retention
    worklist: Worklist
    storage: Storage
    broker: Celery
    hub: Hub
    guard: Guard
    permits: Permits
    admission: Admission
    limits: Limits
    in_hand: InHand
    #: Requests that wait for what comes of a test of a webhook endpoint.
    tests: InHand
    shares: Shares
    #: Makes the claims of a tenant's Idempotency-Key.
    claims: Callable[[str, str], Claims]
    instruments: Instruments
    outbox: Outbox

    @cached_property
    def seal(self) -> Seal:
        """Seals the passwords of encrypted files."""
        return Seal(self.settings)

    @cached_property
    def chunks(self) -> ChunkTable:
        """The result rows."""
        return ChunkTable.from_settings(self.settings)

    @cached_property
    def webhooks(self) -> WebhookDatabase:
        """The endpoints of webhooks and what is delivered to them."""
        return WebhookDatabase.from_settings(self.settings)

    def close(self) -> None:
        """Let go of every connection; the viewers are left as they are."""
        self.hub.stop()
        self.permits.stop()
        self.shares.close()
        self.store.close()
        self.broker.close()
        self.guard.close()
        if "chunks" in self.__dict__:
            self.chunks.close()
        if "webhooks" in self.__dict__:
            self.webhooks.close()

    @classmethod
    def from_settings(cls, settings: Settings) -> Services:
        """The services that the settings name."""
        client = connections.hasty_client(settings)
        store = Store(client, settings)
        limits = Limits(settings, client)
        guard = Guard(settings, store)
        instruments = Instruments()
        return cls(
            settings=settings,
            store=store,
            retention=Retention(client, settings),
            worklist=Worklist(client, settings),
            storage=Storage.from_settings(settings),
            broker=make_celery(settings),
            hub=Hub(
                connect=lambda: PubSub(connections.pubsub_connection(settings), PING_SECONDS),
                histories=partial(store.histories, most_events=REPLAY_EVENTS + 1),
                heartbeat_seconds=settings.heartbeat_seconds,
                watchdog_seconds=settings.watchdog_seconds,
                report=lambda hub: instruments.add(hub.tally.taken(), _standing(hub, client)),
            ),
            instruments=instruments,
            outbox=Outbox(client),
            guard=guard,
            permits=Permits(guard, settings.retry_ms),
            limits=limits,
            in_hand=InHand(),
            tests=InHand(MOST_TESTS, "tests of webhook endpoints"),
            shares=Shares(settings, client),
            claims=partial(Claims, client, settings),
            admission=Admission(settings.max_streams, settings.max_streams_per_address),
        )


def _standing(hub: Hub, client: redis.Redis) -> Standing:
    commands = sum(count for count, _ in client.connection_pool.get_connection_count())
    return Standing(
        streams=hub.viewer_count,
        documents=len(hub.watched),
        subscribed=hub.is_connected,
        redis_connections=commands + hub.is_connected,
    )


def install(app: Flask, services: Services) -> None:
    """Let the routes of an app find these services."""
    app.extensions[_KEY] = services


def current() -> Services:
    """The services of the app that handles the present request."""
    return of(current_app)


def of(app: Flask) -> Services:
    """The services of an app."""
    return cast("Services", app.extensions[_KEY])
