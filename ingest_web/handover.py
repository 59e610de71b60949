"""Streams that leave the request behind: the socket goes to the hub, the request's greenlet is gone.

Only under `ingest_web.worker.RelayWorker` on a plain TCP or Unix socket. A viewer here is a descriptor, a watcher on
the event loop and, while its socket is full, two more and what the outbox holds. All on the loop's one thread.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from functools import cache
from typing import Any
from wsgiref.types import WSGIEnvironment

import gevent

from ingest_web import sse
from ingest_web.cursor import Cursor
from ingest_web.events import Event
from ingest_web.viewer import BEATS, Ending, Viewer

#: What a client sends on a stream's connection is thrown away, so much at a time.
DISCARD_BYTES = 4096

#: The kernel takes so much for a client that does not read, and accounts for twice as much. Left to itself it would
#: take megabytes, all of it stale by the time it is read.
SEND_BUFFER_BYTES = 16 * 1024

#: What waits is written in pieces of about this size.
PIECE_BYTES = 16 * 1024

#: The kernel asks an idle connection after so much of the stall time, and again after so much. It ends one when the
#: stall time is over and any of its questions is unanswered, so there must be room for several: packets get lost.
KEEPALIVE_IDLE = 1 / 2
KEEPALIVE_INTERVAL = 1 / 6

_READ = 1
_WRITE = 2


def can_hand_over(environ: WSGIEnvironment) -> bool:
    """Whether the request came over a socket that can be taken from the server: gunicorn's, and not TLS or HTTP/2."""
    client = environ.get("gunicorn.socket")
    return (
        environ.get("ingest.handover", False)
        and isinstance(client, socket.socket)
        and not hasattr(client, "pending")
        and environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1")
    )


class SocketViewer(Viewer):
    """A viewer whose frames are written straight to its socket, without blocking.

    When the socket is full the viewer is *congested*: ``_tail`` is the rest of what was cut, everything else waits in
    the outbox. Both go out when the socket drains; if it does not within ``stall_seconds``, the viewer is closed and
    resumes by its Last-Event-ID. The kernel closes one that is gone without a word, idle or not, after about as long.
    """

    __slots__ = (
        "_ending", "_fd", "_reading", "_retry_ms", "_silences", "_stall", "_stall_seconds", "_tail", "_writing",
    )  # fmt: skip

    def __init__(self, cursor: Cursor, retry_ms: int, stall_seconds: float) -> None:
        super().__init__(cursor)
        self._retry_ms = retry_ms
        self._stall_seconds = stall_seconds
        self._fd = -1
        self._tail = b""
        #: Beats since something was written.
        self._silences = 0
        #: Why the stream is over once the tail is out; None while it goes on.
        self._ending: Ending | None = None
        self._reading: Any = None
        self._writing: Any = None
        self._stall: Any = None

    def attach(self, client: socket.socket, head: bytes) -> None:
        """Take a duplicate of the client's descriptor, and send the response head and everything that has gathered.

        A viewer that was closed before it had a socket takes none: the client gets an empty stream and comes back.
        """
        if self.closed:
            client.sendall(head + sse.retry(self._retry_ms))
            return
        _prepare(client, self._stall_seconds)
        self._fd = os.dup(client.fileno())
        os.set_blocking(self._fd, False)
        self._reading = gevent.get_hub().loop.io(self._fd, _READ)
        self._reading.start(self._on_readable)
        self._write(head + sse.retry(self._retry_ms) + self._next_piece())
        self._flush()

    def go_live(self, missed: Iterable[Event]) -> None:
        """The socket comes with `attach`; until then everything waits."""
        self.outbox.open(missed)

    def offer(self, event: Event) -> None:
        outbox = self.outbox
        if self._fd < 0 or self._tail or not outbox.live:
            outbox.put(event)
        elif self._ending is None and (frame := outbox.frame(event)):
            if outbox.cursor.finished:
                self._ending = Ending.FINISHED
            self._write(frame)

    def beat(self) -> None:
        self._silences += 1
        if self._silences >= BEATS and self._fd >= 0 and not self._tail:
            self._write(sse.HEARTBEAT)

    def dismiss(self, retry_ms: int) -> None:
        if self._fd >= 0 and not self._tail:
            self._ending = Ending.DISMISSED
            self._write(sse.retry(retry_ms))
        else:
            self.close(Ending.DISMISSED)

    def close(self, why: Ending) -> None:
        if self.closed:
            return
        for watcher in (self._reading, self._writing, self._stall):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reading = self._writing = self._stall = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close(why)

    def _next_piece(self) -> bytes:
        piece = self.outbox.take(PIECE_BYTES)
        if self.cursor.finished:
            self._ending = Ending.FINISHED
        return piece

    def _flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self.outbox and not self._tail and not self.closed:
            self._write(self._next_piece())

    def _write(self, data: bytes) -> None:
        if self.closed:
            return
        self._silences = 0
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.close(Ending.LEFT)
            return
        if written < len(data):
            self._tail = data[written:]
            self._wait_until_writable()
        elif self._ending is not None:
            self.close(self._ending)

    def _wait_until_writable(self) -> None:
        if self._writing is None:
            loop = gevent.get_hub().loop
            self._writing = loop.io(self._fd, _WRITE)
            self._writing.start(self._on_writable)
            self._stall = loop.timer(self._stall_seconds)
            self._stall.start(self.close, Ending.STALLED)

    def _on_writable(self) -> None:
        tail, self._tail = self._tail, b""
        self._write(tail)
        self._flush()
        if self.closed:
            return
        if self._tail:
            self._stall.stop()
            self._stall.start(self.close, Ending.STALLED)  # it took something: its time starts again
        else:
            self._relax()

    def _relax(self) -> None:
        for watcher in (self._writing, self._stall):
            watcher.stop()
            watcher.close()
        self._writing = self._stall = None

    def _on_readable(self) -> None:
        try:
            received = os.read(self._fd, DISCARD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.close(Ending.LEFT)


def _prepare(client: socket.socket, stall_seconds: float) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if client.family in (socket.AF_INET, socket.AF_INET6):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _tcp_options(stall_seconds):
            client.setsockopt(socket.IPPROTO_TCP, option, value)


@cache
def _tcp_options(stall_seconds: float) -> tuple[tuple[int, int], ...]:
    """Those that this system has."""
    wanted = {
        # An event must not wait for the acknowledgement of the one before.
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": max(1, round(stall_seconds * KEEPALIVE_IDLE)),
        "TCP_KEEPINTVL": max(1, round(stall_seconds * KEEPALIVE_INTERVAL)),
        "TCP_KEEPCNT": round((1 - KEEPALIVE_IDLE) / KEEPALIVE_INTERVAL),
        # How long anything may stay unacknowledged, or the client's window shut. It counts for keepalive, too.
        "TCP_USER_TIMEOUT": max(1, round(stall_seconds * 1000)),
    }
    return tuple((getattr(socket, name), value) for name, value in wanted.items() if hasattr(socket, name))
