"""The peer: the usual way to do this in Flask, as flask-sse does it. A generator and a Redis connection per viewer.

It relays what `shared.store.Store.record` publishes, byte for byte, so it does less than the service: no state at the
start, no event ids, no resuming, no heartbeat, no look at who has left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import redis
from flask import Flask, Response

from shared import keys

app = Flask("own_connection")
client = redis.Redis.from_url(os.environ["INGEST_REDIS_URL"], client_name="peer", max_connections=100_000)


@app.get("/readyz")
def ready() -> str:
    """Redis answers."""
    client.ping()
    return "ready"


@app.get("/status/stream/<document_id>")
def stream(document_id: str) -> Response:
    """The events of one document."""
    return Response(_events(document_id), headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})


def _events(document_id: str) -> Iterator[bytes]:
    pubsub = client.pubsub()
    try:
        pubsub.subscribe(keys.channel(document_id))
        for message in pubsub.listen():
            yield b"event: progress\ndata: %b\n\n" % message["data"] if message["type"] == "message" else b":\n\n"
    finally:
        pubsub.close()
