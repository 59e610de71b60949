"""A proxy between a web node and Redis that does to their connections what networks do, when told to.

It tells the two kinds of connections apart: one that has sent SUBSCRIBE is for pub/sub, the others are for commands.
A connection that has been silenced stays so until one end gives it up, as after a lost route: bytes that were swallowed
do not come back.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path
from typing import Any, Self

from tests.stack import Port

READ_BYTES = 64 * 1024

#: Whether the message of a channel, with this data, is to be lost.
Loses = Callable[[bytes, bytes], bool]


class Kind(Flag):
    """What a connection is for."""

    COMMANDS = auto()
    PUBSUB = auto()
    ANY = COMMANDS | PUBSUB


class Way(Flag):
    """Where bytes go."""

    TO_REDIS = auto()
    TO_NODE = auto()
    BOTH = TO_REDIS | TO_NODE


@dataclass
class Bitten:
    """How often a fault did something."""

    cut: int = 0
    swallowed_bytes: int = 0
    lost_messages: int = 0
    delayed: int = 0


class _Connection:
    """A connection of the node, and the one to Redis that it stands for."""

    def __init__(self, node: asyncio.StreamWriter, redis: asyncio.StreamWriter) -> None:
        self.node = node
        self.redis = redis
        self.kind = Kind.COMMANDS
        self.silent = Way(0)

    def end(self, *, reset: bool) -> None:
        for writer in (self.node, self.redis):
            client = writer.get_extra_info("socket")
            if reset and client is not None and client.family == socket.AF_INET:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()


class FaultProxy:
    """Listens on a port of this machine and passes on to the Unix socket of a Redis. A context."""

    def __init__(self, seed: int = 1) -> None:
        self._port = Port()
        self.url = f"redis://127.0.0.1:{self._port.number}/0"
        self.upstream = Path()
        self.bitten = Bitten()
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: tuple[Kind, Way] = (Kind(0), Way(0))
        self._delay_ms = (0.0, 0.0)
        self._loses: Loses | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._port.close()

    # -- what can be done to the connections ---------------------------------------------------------------------------

    def cut(self, *, reset: bool = True, kind: Kind = Kind.ANY) -> None:
        """End the connections there are, with a RST, or with a FIN as a Redis does that shuts down."""
        self._do(self._cut(reset, kind))

    def refuse(self) -> None:
        """Take no new connection: nobody listens."""
        self._do(self._deafen())

    def silence(self, kind: Kind = Kind.ANY, way: Way = Way.BOTH) -> None:
        """Swallow what connections of a kind send that way: those there are, and those that are made until `heal`."""
        self._do(self._silence(kind, way))

    def delay(self, ms: float, jitter_ms: float = 0.0) -> None:
        """Let everything wait, in order, for so long."""
        self._delay_ms = (ms, jitter_ms)

    def lose(self, loses: Loses) -> None:
        """Let published messages vanish one by one; everything else gets through."""
        self._loses = loses

    def heal(self) -> None:
        """No more faults for what comes. Connections that were silenced stay dead."""
        self._delay_ms, self._loses, self._silent = (0.0, 0.0), None, (Kind(0), Way(0))
        self._do(self._listen())

    # -- on the proxy's loop -------------------------------------------------------------------------------------------

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, sock=self._port.listen())

    async def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self, reset: bool, kind: Kind) -> None:
        for connection in [connection for connection in self._connections if connection.kind in kind]:
            connection.end(reset=reset)
            self.bitten.cut += 1

    async def _silence(self, kind: Kind, way: Way) -> None:
        self._silent = (kind, way)
        for connection in self._connections:
            self._quieten(connection)

    async def _stop(self) -> None:
        await self._deafen()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            from_redis, to_redis = await asyncio.open_unix_connection(str(self.upstream))
        except OSError:
            writer.close()
            return
        connection = _Connection(writer, to_redis)
        self._connections.add(connection)
        try:
            await self._carry(connection, reader, from_redis)
        finally:
            self._connections.discard(connection)
            connection.end(reset=False)

    async def _carry(
        self, connection: _Connection, from_node: asyncio.StreamReader, from_redis: asyncio.StreamReader
    ) -> None:
        ways = [
            asyncio.ensure_future(self._upwards(connection, from_node)),
            asyncio.ensure_future(self._downwards(connection, from_redis)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _upwards(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(READ_BYTES):
            if b"SUBSCRIBE" in data:
                connection.kind = Kind.PUBSUB
            self._quieten(connection)
            await self._pass_on(data, connection, Way.TO_REDIS, connection.redis)

    async def _downwards(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        rest = b""
        while data := await reader.read(READ_BYTES):
            if connection.kind is Kind.PUBSUB:
                replies, rest = whole_replies(rest + data)
                data = b"".join(reply for reply in replies if not self._is_lost(reply))
            await self._pass_on(data, connection, Way.TO_NODE, connection.node)

    async def _pass_on(self, data: bytes, connection: _Connection, way: Way, writer: asyncio.StreamWriter) -> None:
        ms, jitter_ms = self._delay_ms
        if ms:
            self.bitten.delayed += 1
            await asyncio.sleep((ms + self._chance.uniform(-jitter_ms, jitter_ms)) / 1000)
        if way in connection.silent:
            self.bitten.swallowed_bytes += len(data)
            return
        writer.write(data)
        await writer.drain()

    def _quieten(self, connection: _Connection) -> None:
        kind, way = self._silent
        if connection.kind in kind:
            connection.silent |= way

    def _is_lost(self, reply: bytes) -> bool:
        message = published(reply)
        if message is None or self._loses is None or not self._loses(*message):
            return False
        self.bitten.lost_messages += 1
        return True


def whole_replies(data: bytes) -> tuple[list[bytes], bytes]:
    """The RESP2 replies that ``data`` begins with, each as its bytes, and the rest."""
    replies, first = [], 0
    while (end := _end_of_reply(data, first)) is not None:
        replies.append(data[first:end])
        first = end
    return replies, data[first:]


def published(reply: bytes) -> tuple[bytes, bytes] | None:
    """Channel and data when a RESP2 reply is a published message."""
    if not reply.startswith(b"*3\r\n$7\r\nmessage\r\n"):
        return None
    _, channel, data = (reply[first:end] for first, end in _items(reply))
    return channel, data


def _end_of_reply(data: bytes, first: int) -> int | None:
    line_end = data.find(b"\r\n", first)
    if line_end < 0:
        return None
    kind, rest, end = data[first : first + 1], data[first + 1 : line_end], line_end + 2
    if kind == b"$" and int(rest) >= 0:
        end += int(rest) + 2
    if kind == b"*":
        for _ in range(int(rest)):
            after = _end_of_reply(data, end)
            if after is None:
                return None
            end = after
    return end if end <= len(data) else None


def _items(reply: bytes) -> list[tuple[int, int]]:
    """Where the strings of an array of strings are."""
    found, at = [], reply.index(b"\r\n") + 2
    while at < len(reply):
        first = reply.index(b"\r\n", at) + 2
        length = int(reply[at + 1 : first - 2])
        found.append((first, first + length))
        at = first + length + 2
    return found
