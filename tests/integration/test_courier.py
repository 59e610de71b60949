"""The courier on a real Valkey and a real database, with a receiver that is a process of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ingest_worker.courier import Courier
from ingest_worker.egress import Egress
from ingest_worker.sender import Sender
from shared import addresses, connections, keys, signing
from shared.deliveries import Deliveries
from shared.endpoints import Endpoint, Endpoints
from shared.jobs import Status
from shared.protocol import Stage
from shared.sealing import Seal
from shared.webhook_tables import WebhookDatabase
from tests.awaiting import wait_until
from tests.receiver import Receiver
from tests.records import SOURCE


@pytest.fixture(scope="module")
def receiver(tmp_path_factory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        yield receiver


@pytest.fixture
def settings(settings):
    """This machine may be called, and retries come soon."""
    return settings.model_copy(
        update={
            "webhook_allowed_networks": "127.0.0.0/8",
            "webhook_retry_seconds": "0.1,0.1,0.1",
            "webhook_seconds": 1.0,
        }
    )


@pytest.fixture
def database(settings) -> Iterator[WebhookDatabase]:
    with closing(WebhookDatabase.from_settings(settings)) as database:
        yield database


@pytest.fixture
def endpoints(database) -> Endpoints:
    return Endpoints(database)


@pytest.fixture
def deliveries(database) -> Deliveries:
    return Deliveries(database)


@pytest.fixture
def add(endpoints, settings, receiver) -> Callable[..., Endpoint]:
    """Makes an endpoint; the receiver knows its secret."""
    secrets: dict[str, str] = {}

    def make(way: str, name: str, events: tuple[str, ...] = (), tenant: str = "default") -> Endpoint:
        secret = signing.new_secret()
        secrets[f"/{way}/{name}"] = secret
        receiver.tell_secrets(secrets)
        return endpoints.create(tenant, receiver.url(way, name), events, "", Seal(settings).close(secret))

    return make


@contextmanager
def couriers(settings, database, count: int = 1) -> Iterator[list[Courier]]:
    """Couriers at work, each on a thread and an event loop of its own."""
    made: list[tuple[asyncio.AbstractEventLoop, Courier]] = []
    up = threading.Barrier(count + 1)

    async def run() -> None:
        client = connections.hasty_client(settings)
        sender = Sender(
            Egress(addresses.networks(settings.webhook_allowed_networks)), Seal(settings), settings.webhook_seconds
        )
        courier = Courier(settings, database, client, sender)
        made.append((asyncio.get_running_loop(), courier))
        up.wait()
        await courier.run()
        await sender.close()
        client.close()

    threads = [threading.Thread(target=lambda: asyncio.run(run())) for _ in range(count)]
    for thread in threads:
        thread.start()
    up.wait()
    try:
        yield [courier for _, courier in made]
    finally:
        for loop, courier in made:
            loop.call_soon_threadsafe(courier.stop)
        for thread in threads:
            thread.join()


def ingest(store, document_id: str, source=SOURCE) -> None:
    """What workers would record of a document of three pages and two chunks."""
    store.create(document_id, source)
    for status in (Status.PARSING, Status.CHUNKING, Status.LOADING):
        store.record(document_id, 1, status, "...")
    store.record(document_id, 1, Status.LOADING, "Loaded", stage=Stage(2, 2, "chunks"))
    store.record(document_id, 1, Status.COMPLETED, "Completed", progress=100)


def types_of(received: list[dict]) -> list[str]:
    return [json.loads(one["body"])["type"] for one in received]


def test_every_change_of_status_reaches_who_wants_it_signed_and_in_order(
    settings, database, store, receiver, add, client, tmp_path: Path
):
    """The ids join them with the events of the stream, the counts are the document's, and the outbox is empty."""
    add("ok", "all")
    add("ok", "some", ("ingestion.completed", "ingestion.failed"))
    add("ok", "others", tenant="another")
    ingest(store, "d1")
    with couriers(settings, database):
        wait_until(lambda: len(receiver.at("/ok/all")) == 4, what="four deliveries")
        wait_until(lambda: receiver.at("/ok/some"))
    got = receiver.at("/ok/all")
    assert all(one["verified"] for one in receiver.received)
    assert [one["headers"]["webhook-id"] for one in got] == [
        "msg_d1_2_parsing",
        "msg_d1_3_chunking",
        "msg_d1_4_loading",
        "msg_d1_6_completed",
    ]
    events = [json.loads(data) for _, data in store.histories([("d1", 0)])["d1", 0].events]
    last = json.loads(got[-1]["body"])
    assert last == {
        "type": "ingestion.completed",
        "timestamp": events[-1]["at"],
        "data": {
            "id": "d1",
            "filename": "a.pdf",
            "status": "COMPLETED",
            "attempt": 1,
            "seq": events[-1]["seq"],
            "counts": {"chunks": 2},
            "links": {"status": "/status/d1", "stream": "/status/stream/d1", "chunks": "/ingestions/d1/chunks"},
        },
    }
    assert types_of(receiver.at("/ok/some")) == ["ingestion.completed"]
    assert receiver.at("/ok/others") == []
    assert client.exists(keys.OUTBOX, keys.outbox("d1")) == 0
