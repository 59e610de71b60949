"""Streams that leave the request behind: the socket goes to the hub, the request's greenlet is gone.

Only under `ingest_web.worker.RelayWorker` on a plain TCP or Unix socket. A viewer here is a descriptor, two watchers on
the event loop and, while its socket is full, one latest state per document. Everything runs on the loop's one thread.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIEnvironment

import gevent
from flask import Response
from gunicorn.workers.base_async import ALREADY_HANDLED

from ingest_web import sse
from ingest_web.cursor import Cursor
from ingest_web.events import Event
from ingest_web.viewer import Viewer

#: What a client sends on a stream's connection is thrown away, so much at a time.
DISCARD_BYTES = 4096

#: Unacknowledged data for so long means that the other side is gone without a word.
TCP_USER_TIMEOUT_MS = 30_000

_READ = 1
_WRITE = 2


def can_hand_over(environ: WSGIEnvironment) -> bool:
    """Whether the request came over a socket that can be taken from the server: gunicorn's, and not TLS or HTTP/2."""
    client = environ.get("gunicorn.socket")
    return (
        environ.get("ingest.handover", False)
        and isinstance(client, socket.socket)
        and environ.get("wsgi.url_scheme") == "http"
        and not hasattr(client, "pending")
        and environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1")
    )


class SocketViewer(Viewer):
    """A viewer whose frames are written straight to its socket, without blocking.

    When the socket is full the viewer is *congested*: ``_tail`` is the rest of the frame that was cut, ``_waiting`` the
    latest event of each document that has news. Both go out when the socket drains; if it does not within
    ``stall_seconds``, the viewer is closed and resumes by its Last-Event-ID.
    """

    __slots__ = ("_ending", "_fd", "_reading", "_retry_ms", "_stall", "_stall_seconds", "_tail", "_waiting", "_writing")

    def __init__(self, cursor: Cursor, retry_ms: int, stall_seconds: float) -> None:
        super().__init__(cursor)
        self._retry_ms = retry_ms
        self._stall_seconds = stall_seconds
        self._fd = -1
        self._tail = b""
        self._waiting: dict[str, Event] | None = None
        self._ending = False
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
        self._fd = os.dup(client.fileno())
        os.set_blocking(self._fd, False)
        _prepare(client)
        self._reading = gevent.get_hub().loop.io(self._fd, _READ)
        self._reading.start(self._on_readable)
        gathered, self._early = self._early or [], None
        frames = [self.encode(event) for event in gathered if self.cursor.wants(event)]
        self._ending = self.cursor.finished
        self._write(b"".join((head, sse.retry(self._retry_ms), *frames)))

    def go_live(self, missed: Sequence[Event]) -> None:
        """The socket comes with `attach`; until then what was missed waits in front of what came in meanwhile."""
        self._early = [*missed, *(self._early or ())]

    def offer(self, event: Event) -> None:
        if self._early is not None:
            self._early.append(event)
        elif self._tail:
            self._put_off(event)
        elif self.cursor.wants(event) and not self._ending:
            frame = self.encode(event)
            self._ending = self.cursor.finished
            self._write(frame)

    def beat(self) -> None:
        if self._early is None and not self._tail and not self.closed:
            self._write(sse.HEARTBEAT)

    def dismiss(self, retry_ms: int) -> None:
        if self._early is None and not self._tail and not self.closed:
            self._ending = True
            self._write(sse.retry(retry_ms))
        else:
            self.close()

    def close(self) -> None:
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
        super().close()

    def _put_off(self, event: Event) -> None:
        waiting = self._waiting if self._waiting is not None else {}
        self._waiting = waiting
        newer_waits = event.document_id in waiting and waiting[event.document_id].seq >= event.seq
        if event.rewinds or (self.cursor.wants(event) and not newer_waits):
            waiting[event.document_id] = event

    def _write(self, data: bytes) -> None:
        if self.closed:
            return
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.close()
            return
        if written < len(data):
            self._tail = data[written:]
            self._wait_until_writable()
        elif self._ending:
            self.close()

    def _wait_until_writable(self) -> None:
        if self._writing is None:
            loop = gevent.get_hub().loop
            self._writing = loop.io(self._fd, _WRITE)
            self._writing.start(self._on_writable)
            self._stall = loop.timer(self._stall_seconds)
            self._stall.start(self.close)

    def _on_writable(self) -> None:
        tail, self._tail = self._tail, b""
        self._write(tail)
        while self._waiting and not self._tail and not self.closed:
            event = self._waiting.pop(next(iter(self._waiting)))
            if self.cursor.wants(event):
                frame = self.encode(event)
                self._ending = self.cursor.finished
                self._write(frame)
        if self.closed:
            return
        if self._tail:
            self._stall.stop()
            self._stall.start(self.close)  # it took something: its time starts again
        else:
            self._relax()

    def _relax(self) -> None:
        for watcher in (self._writing, self._stall):
            watcher.stop()
            watcher.close()
        self._writing = self._stall = self._waiting = None

    def _on_readable(self) -> None:
        try:
            received = os.read(self._fd, DISCARD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.close()


class HandedOver(Response):
    """A response whose connection belongs to a `SocketViewer` as soon as the WSGI server asks for it."""

    def __init__(self, viewer: SocketViewer) -> None:
        super().__init__(headers=sse.HEADERS)
        self._viewer = viewer

    def __call__(self, environ: WSGIEnvironment, _start_response: StartResponse) -> Iterable[bytes]:
        """Write the head and let gunicorn know that the socket is no longer its own."""
        try:
            self._viewer.attach(environ["gunicorn.socket"], self._head(environ))
        except BaseException:
            self._viewer.close()
            raise
        return cast("Iterable[bytes]", ALREADY_HANDLED)

    def _head(self, environ: WSGIEnvironment) -> bytes:
        headers = self.get_wsgi_headers(environ)
        headers.remove("Content-Length")
        headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _prepare(client: socket.socket) -> None:
    if client.family in (socket.AF_INET, socket.AF_INET6):
        # An event must not wait for the acknowledgement of the one before.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
