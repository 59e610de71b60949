"""sse-starlette on redis-py's asyncio client, in two ways: `own`, with a pub/sub connection for each stream, and
`shared`, with one for the process, whose messages are handed to the streams through queues.

Both say that they are there, by a comment, once Redis has confirmed the subscription, and relay what is published, as
it is: no state at the start, no event ids, no resuming.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator

import redis.asyncio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

client = redis.asyncio.Redis.from_url(
    os.environ["BENCH_REDIS_URL"], max_connections=100_000, socket_timeout=None, decode_responses=True
)
PING_SECONDS = int(os.environ["BENCH_PING_SECONDS"])

HERE = ServerSentEvent(comment="here", sep="\n")


class Fan:
    """The process's one subscription connection, and the queues of those who watch each channel."""

    def __init__(self) -> None:
        self._pubsub = client.pubsub()
        self._queues: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)
        self._confirmed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def join(self, channel: str) -> asyncio.Queue[str]:
        """A queue that gets what is published from now on."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        first = not self._queues[channel]
        self._queues[channel].add(queue)
        if first:
            await self._subscribe(channel)
        await self._confirmed[channel].wait()
        return queue

    async def leave(self, channel: str, queue: asyncio.Queue[str]) -> None:
        """Nobody reads the queue any more."""
        self._queues[channel].discard(queue)
        if not self._queues[channel]:
            del self._queues[channel], self._confirmed[channel]
            await self._pubsub.unsubscribe(channel)

    async def _subscribe(self, channel: str) -> None:
        async with self._lock:  # the connection is made by the first; reading it ends with the last subscription
            await self._pubsub.subscribe(channel)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._pubsub.listen():
            if message["type"] == "message":
                for queue in self._queues[message["channel"]]:
                    queue.put_nowait(message["data"])
            elif message["type"] == "subscribe":
                self._confirmed[message["channel"]].set()


fan = Fan()


async def own(request: Request) -> EventSourceResponse:
    """A pub/sub connection of the stream's own."""
    return _response(_own(request.path_params["name"]))


async def shared(request: Request) -> EventSourceResponse:
    """The connection that all share."""
    return _response(_shared(request.path_params["name"]))


async def ready(_request: Request) -> PlainTextResponse:
    """The process answers."""
    return PlainTextResponse("ready")


def _response(events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    return EventSourceResponse(events, sep="\n", ping=PING_SECONDS)


async def _own(channel: str) -> AsyncIterator[ServerSentEvent]:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        async for message in pubsub.listen():
            if message["type"] == "message":
                yield ServerSentEvent(message["data"], event="progress", sep="\n")
            else:
                yield HERE


async def _shared(channel: str) -> AsyncIterator[ServerSentEvent]:
    queue = await fan.join(channel)
    try:
        yield HERE
        while True:
            yield ServerSentEvent(await queue.get(), event="progress", sep="\n")
    finally:
        await fan.leave(channel, queue)


app = Starlette(
    routes=[Route("/own/{name}", own), Route("/shared/{name}", shared), Route("/readyz", ready)],
)
