"""Couriers in this process, for tests that look at what they do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ingest_worker.courier import Courier
from ingest_worker.egress import Egress
from ingest_worker.sender import Sender
from shared import addresses, connections
from shared.config import Settings
from shared.sealing import Seal
from shared.webhook_tables import WebhookDatabase


@contextmanager
def couriers(settings: Settings, database: WebhookDatabase, count: int = 1) -> Iterator[list[Courier]]:
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
