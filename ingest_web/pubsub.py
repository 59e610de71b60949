"""One pub/sub connection to Redis, for one owner. It knows RESP2 and nothing of documents.

redis-py opens it (address, TLS, authentication); from then on it is a socket and a hiredis reader, because the hub must
wait for messages and for its own callers at once, and must *know* when a connection was lost rather than have it mended
behind its back.
"""

from __future__ import annotations

import socket

import hiredis
import redis
from redis.connection import AbstractConnection

#: Messages are small; one read takes many.
READ_BYTES = 256 * 1024

_INCOMPLETE = object()


class PubSub:
    """A connection in subscriber state. Every method raises `redis.ConnectionError` when the connection is lost."""

    def __init__(self, connection: AbstractConnection) -> None:
        """Open the connection."""
        connection.connect()  # type: ignore[no-untyped-call]
        opened = connection._get_socket()  # noqa: SLF001 - redis-py has no public name for it
        if opened is None:
            raise redis.ConnectionError("the connection has no socket")
        self._connection = connection
        self._socket: socket.socket = opened
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)

    def fileno(self) -> int:
        """For `select.poll`."""
        return self._socket.fileno()

    def send(self, *command: str) -> None:
        """Send a command; its answer comes among the messages."""
        self._connection.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]

    def receive(self) -> list[list[bytes | int | None]]:
        """All messages that have arrived; call it when the socket is readable."""
        try:
            data = self._socket.recv(READ_BYTES)
            while self._pending():
                data += self._socket.recv(READ_BYTES)
        except OSError as error:
            raise redis.ConnectionError(f"reading from Redis: {error}") from error
        if not data:
            raise redis.ConnectionError("Redis closed the connection")
        self._reader.feed(data)
        return self._messages()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.disconnect()  # type: ignore[no-untyped-call]

    def _messages(self) -> list[list[bytes | int | None]]:
        messages = []
        while (message := self._reader.gets()) is not _INCOMPLETE:
            if isinstance(message, Exception):
                raise redis.ConnectionError(f"Redis refused: {message}") from message
            messages.append(message)
        return messages

    def _pending(self) -> int:
        # TLS may hold decrypted bytes that no poll on the socket will ever announce.
        pending = getattr(self._socket, "pending", None)
        return pending() if pending is not None else 0
