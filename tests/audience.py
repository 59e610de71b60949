"""Viewers that behave like a browser's `EventSource`, by the thousand, on one thread; each checks what it is sent.

They reconnect with Last-Event-ID after the `retry` that they were told, give up at any answer but 200, and stop at 204.
An address that refuses is tried again, or the next one. What a viewer must never see is noted in `Viewer.wrong`.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import random
import select
import socket
import threading
import time
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple, Self

from shared.jobs import FINAL

#: What an EventSource waits before it has been told anything else.
FIRST_RETRY_SECONDS = 1.0
#: After an address has refused.
REFUSED_RETRY_SECONDS = 0.1
READ_BYTES = 64 * 1024

Address = tuple[str, int]


class End(Enum):
    """How a stream ended, for the viewer."""

    FINAL = "after a final event"
    DISMISSED = "asked to come back"
    LEFT = "of its own will"
    CUT = "without a word"


class Sight(NamedTuple):
    """What a viewer was sent last of a document."""

    seq: int
    attempt: int
    progress: float
    final: bool
    at: float


class Opening(NamedTuple):
    """A stream that was asked for: where, when, and what was answered (0: nothing)."""

    address: Address
    at: float
    status: int


class Ending(NamedTuple):
    """A stream that was answered 200 and has ended: where, when, and how."""

    address: Address
    at: float
    how: End


class Viewer:
    """One `EventSource`. The audience's thread writes to it; anyone may read."""

    def __init__(self, document_ids: Sequence[str], addresses: Sequence[Address], chance: random.Random) -> None:
        self.ids = tuple(document_ids)
        self.addresses = list(addresses)
        self.chance = chance
        #: Bytes after which it leaves of itself, in the middle of whatever comes, and returns at once; 0: never.
        self.patience_bytes = 0
        self.sights: dict[str, Sight] = {}
        self.wrong: list[str] = []
        self.openings: list[Opening] = []
        self.endings: list[Ending] = []
        #: What it was told at the end of streams; what it was told at their beginning is the same for all.
        self.delays_ms: list[int] = []
        self.events = self.gaps = 0
        self.last_event_id = ""
        self.stopped_at = 0.0  # told so by 204
        self.asked_at = 0.0  # for the stream that is open, or is being opened
        self.streaming = False
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._address = self.addresses[0]
        self._seen_ids: set[str] = set()
        self._frames = 0
        self._end = End.CUT

    @property
    def done(self) -> bool:
        return self.stopped_at > 0 or any(opening.status not in (0, 200, 204) for opening in self.openings)

    def request(self, address: Address) -> bytes:
        self._address = address
        self.asked_at = time.monotonic()
        path = f"/status/stream/{self.ids[0]}"
        if len(self.ids) > 1:
            path = "/status/stream?" + "&".join(f"id={document_id}" for document_id in self.ids)
        # HTTP/1.0: a balancer then sends the body as it is, and not in chunks.
        lines = [f"GET {path} HTTP/1.0", "Host: test", "Accept: text/event-stream"]
        if self.last_event_id:
            lines.append(f"Last-Event-ID: {self.last_event_id}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def answered(self, status: int) -> None:
        self.openings.append(Opening(self._address, self.asked_at, status))
        self.streaming = status == 200
        self._frames, self._end = 0, End.CUT
        if status == 204:
            self.stopped_at = time.monotonic()
            self._check_the_end()
        elif status not in (0, 200):
            self.wrong.append(f"answered {status}: an EventSource gives up")

    def frame(self, frame: bytes) -> None:
        """One event, comment or `retry`, without the blank line at its end."""
        fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n") if not line.startswith(b":"))
        self._frames += 1
        if b"retry" in fields:
            self._retry_seconds = int(fields[b"retry"]) / 1000
            if self._frames > 1:
                self._end = End.DISMISSED
                self.delays_ms.append(int(fields[b"retry"]))
        if b"data" in fields:
            self.last_event_id = fields[b"id"].decode()
            self._look_at(self.last_event_id, json.loads(fields[b"data"]))

    def ended(self, *, left: bool) -> None:
        if self.streaming:
            self.endings.append(Ending(self._address, time.monotonic(), End.LEFT if left else self._end))
        self.streaming = False

    def comes_back_in(self, *, refused: bool, left: bool) -> float:
        """Seconds until the next try."""
        if left:
            return 0.0
        return REFUSED_RETRY_SECONDS if refused else self._retry_seconds

    def _look_at(self, event_id: str, state: dict[str, Any]) -> None:
        self.events += 1
        document_id = state["id"]
        sight = Sight(state["seq"], state["attempt"], state["progress"], state["status"] in FINAL, time.monotonic())
        before = self.sights.get(document_id)
        self.sights[document_id] = sight
        self._end = End.FINAL if sight.final else End.CUT
        if event_id in self._seen_ids:
            self._complain(document_id, f"event id {event_id} twice")
        self._seen_ids.add(event_id)
        if event_id.split(".")[self.ids.index(document_id)] != str(sight.seq):
            self._complain(document_id, f"event id {event_id} for seq {sight.seq}")
        if before is None:
            return
        self.gaps += sight.seq > before.seq + 1
        if sight.seq <= before.seq:
            self._complain(document_id, f"seq {sight.seq} after {before.seq}")
        if sight.attempt < before.attempt:
            self._complain(document_id, f"attempt {sight.attempt} after {before.attempt}")
        if sight.attempt == before.attempt and sight.progress < before.progress:
            self._complain(document_id, f"progress {sight.progress} after {before.progress}")
        if sight.attempt == before.attempt and before.final:
            self._complain(document_id, f"seq {sight.seq} after the final {before.seq}")

    def _check_the_end(self) -> None:
        for document_id in self.ids:
            sight = self.sights.get(document_id)
            if sight is None or not sight.final:
                self._complain(document_id, f"204 before a final state was seen, after {sight}")

    def _complain(self, document_id: str, fault: str) -> None:
        self.wrong.append(f"{document_id}: {fault}")


class _Stream:
    """A connection of a viewer."""

    def __init__(self, viewer: Viewer, client: socket.socket, patience_bytes: int) -> None:
        self.viewer = viewer
        self.socket = client
        self.answered = False
        self.data = b""
        self.patience_bytes = patience_bytes
        self.left = False

    def read(self) -> bool:
        """Take what has come. False at the end, or when the viewer's patience is."""
        received = self.socket.recv(READ_BYTES)
        if self.patience_bytes:
            received = received[: self.patience_bytes]
            self.patience_bytes -= len(received)
            self.left = not self.patience_bytes
        self.data += received
        if not self.answered and b"\r\n\r\n" in self.data:
            head, self.data = self.data.split(b"\r\n\r\n", 1)
            self.answered = True
            self.viewer.answered(int(head.split(b" ", 2)[1]))
        if self.answered and self.viewer.streaming:
            self._frames()
        return bool(received) and not self.left and not self.viewer.done

    def _frames(self) -> None:
        *frames, self.data = self.data.split(b"\n\n")
        for frame in frames:
            self.viewer.frame(frame)


class Audience:
    """All viewers of a test, on a thread of their own. A context: no connection is left at the end."""

    def __init__(self, seed: int = 1) -> None:
        self.viewers: list[Viewer] = []
        self.chance = random.Random(seed)
        self._epoll = select.epoll()
        self._streams: dict[int, _Stream] = {}
        self._due: list[tuple[float, int, Viewer]] = []
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audience", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for stream in self._streams.values():
            stream.socket.close()
        self._epoll.close()
        if self._failure:
            raise self._failure

    def add(self, document_ids: Sequence[str], addresses: Sequence[Address], *, patience_bytes: int = 0) -> Viewer:
        """A viewer more, of documents, which asks one of the addresses, and any of them when it comes back."""
        viewer = Viewer(document_ids, addresses, random.Random(self.chance.random()))
        viewer.patience_bytes = patience_bytes
        self.viewers.append(viewer)
        self._later(viewer, 0.0)
        return viewer

    @property
    def wrong(self) -> list[str]:
        """What any viewer saw that it must not have seen."""
        return [fault for viewer in self.viewers for fault in viewer.wrong]

    @property
    def waiting(self) -> list[Viewer]:
        """Viewers that have not been told to stop."""
        return [viewer for viewer in self.viewers if not viewer.done]

    def _later(self, viewer: Viewer, seconds: float) -> None:
        with self._lock:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), viewer))

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                self._open_those_due()
                for fd, events in self._epoll.poll(0.01):
                    self._serve(self._streams[fd], events)
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits for the viewers
            self._failure = error

    def _open_those_due(self) -> None:
        while True:
            with self._lock:
                if not self._due or self._due[0][0] > time.monotonic():
                    return
                _, _, viewer = heapq.heappop(self._due)
            self._open(viewer)

    def _open(self, viewer: Viewer) -> None:
        client = socket.socket()
        client.setblocking(False)
        patience_bytes = viewer.chance.randint(1, viewer.patience_bytes) if viewer.patience_bytes else 0
        address = viewer.chance.choice(viewer.addresses)
        stream = _Stream(viewer, client, patience_bytes)
        stream.data = viewer.request(address)
        self._streams[client.fileno()] = stream
        self._epoll.register(client.fileno(), select.EPOLLOUT)
        if client.connect_ex(address) not in (0, errno.EINPROGRESS):
            self._close(stream, refused=True)

    def _serve(self, stream: _Stream, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                stream.socket.sendall(stream.data)
                stream.data = b""
                self._epoll.modify(stream.socket.fileno(), select.EPOLLIN)
            elif not stream.read():
                self._close(stream)
        except OSError:
            self._close(stream, refused=not stream.answered)

    def _close(self, stream: _Stream, *, refused: bool = False) -> None:
        viewer = stream.viewer
        del self._streams[stream.socket.fileno()]
        self._epoll.unregister(stream.socket.fileno())
        stream.socket.close()
        if not stream.answered:
            viewer.answered(0)
        viewer.ended(left=stream.left)
        if not viewer.done:
            self._later(viewer, viewer.comes_back_in(refused=refused, left=stream.left))
