"""One pub/sub connection to Redis. It knows RESP2 and nothing of documents.

redis-py opens it (address, TLS, authentication); from then on it is a socket and a hiredis reader, because whoever owns
it must *know* when a connection was lost rather than have it mended behind its back. One thread may receive while
another sends.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import hiredis
import redis
from redis.connection import AbstractConnection

#: Messages are small; one read takes many, but not so many that nobody else has a turn for long.
READ_BYTES = 64 * 1024

#: The answer to PING while nothing is subscribed to.
PONG = b"PONG"

#: So begins what a Redis that can't save answers to PING. Of what is sent here it refuses nothing else.
CAN_NOT_SAVE = "MISCONF "

_INCOMPLETE = object()

#: ``[b"message", channel, data]``, ``[b"subscribe", channel, count]``, or ``[b"pong", b""]``; ``b"PONG"`` while nothing
#: is subscribed to.
Message = Sequence[Any]


class PubSub:
    """A connection in subscriber state. Every method raises `redis.ConnectionError` when the connection is lost."""

    def __init__(self, connection: AbstractConnection, patience_seconds: float) -> None:
        """Open the connection. `receive` waits for so long at a time, and `send` no longer."""
        connection.connect()  # type: ignore[no-untyped-call]
        opened = connection._get_socket()  # noqa: SLF001 - redis-py has no public name for it
        if opened is None:
            raise redis.ConnectionError("the connection has no socket")
        self._connection = connection
        self._socket: socket.socket = opened
        self._socket.settimeout(patience_seconds)
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._buffer = bytearray(READ_BYTES)

    def send(self, *command: str) -> None:
        """Send a command; its answer comes among the messages."""
        self._connection.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]

    def receive(self) -> list[Message]:
        """Wait for messages, and take all that have arrived whole: none, when the patience is over."""
        self._read()
        messages = []
        while (message := self._reader.gets()) is not _INCOMPLETE:
            if isinstance(message, Exception) and str(message).startswith(CAN_NOT_SAVE):
                message = PONG
            if isinstance(message, Exception):
                raise redis.ConnectionError(f"Redis refused: {message}") from message
            messages.append(message)
        return messages

    def abort(self) -> None:
        """Have `receive` end at once, in whichever thread that is."""
        with suppress(OSError):  # it may be closed already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.disconnect()  # type: ignore[no-untyped-call]

    def _read(self) -> None:
        try:
            count = self._socket.recv_into(self._buffer)
        except TimeoutError:
            return
        except OSError as error:
            raise redis.ConnectionError(f"reading from Redis: {error}") from error
        if not count:
            raise redis.ConnectionError("Redis closed the connection")
        self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type] # it takes any buffer
