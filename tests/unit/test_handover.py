"""A viewer that writes to its socket itself, over a pair of sockets and no event loop."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ingest_web.cursor import Cursor
from ingest_web.events import Event
from ingest_web.handover import SocketViewer
from ingest_web.viewer import Ending

HEAD = b"head\r\n\r\n"


def event(seq: int, text: str = "", final: bool = False) -> Event:
    return Event("d", seq, final, text.encode())


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end and the client's."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def viewer(sockets) -> Iterator[SocketViewer]:
    """A viewer that has been sent its first event."""
    ours, theirs = sockets
    viewer = SocketViewer(Cursor(["d"]), retry_ms=7, stall_seconds=1)
    viewer.go_live([event(1)])
    viewer.attach(ours, HEAD)
    assert theirs.recv(1000) == HEAD + b"retry: 7\n\n" + event(1).frame
    yield viewer
    viewer.close(Ending.LEFT)


def unread(theirs: socket.socket) -> bytes:
    theirs.setblocking(False)
    try:
        return theirs.recv(100_000)
    except BlockingIOError:
        return b""


def test_a_heartbeat_is_for_those_who_were_sent_nothing(viewer, sockets):
    """One beat of two is silent, and an event is as good as a heartbeat."""
    _, theirs = sockets
    viewer.beat()
    assert unread(theirs) == b""
    viewer.beat()
    assert unread(theirs) == b":\n\n"
    viewer.beat()
    viewer.offer(event(2))
    viewer.beat()
    assert unread(theirs) == event(2).frame


def test_a_full_socket_is_owed_the_latest_and_nothing_is_cut(viewer, sockets):
    """What did not fit waits; the frame that was cut is finished, then comes the latest, then the end."""
    _, theirs = sockets
    last = 2
    while not viewer._tail:
        viewer.offer(event(last, "x" * 10_000))
        last += 1
    for seq in range(last, last + 1000):
        viewer.offer(event(seq))
    viewer.offer(event(last + 1000, final=True))
    assert viewer.outbox.conflated > 900
    received = b""
    while not viewer.closed:
        received += unread(theirs)
        viewer._on_writable()
    received += unread(theirs)
    frames = received.split(b"\n\n")
    assert frames.pop() == b""
    assert all(frame.startswith(b"id: ") for frame in frames)
    seqs = [int(frame.split(b"\n")[0][4:]) for frame in frames]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == last + 1000


def test_who_is_sent_away_is_told_when_to_come_back(viewer, sockets):
    """The last thing on the wire is the delay."""
    _, theirs = sockets
    endings: list[Ending] = []
    viewer.when_closed(lambda _, why: endings.append(why))
    viewer.dismiss(1234)
    assert unread(theirs) == b"retry: 1234\n\n"
    assert (viewer.closed, endings) == (True, [Ending.DISMISSED])


def test_a_viewer_closed_before_it_has_a_socket_takes_none():
    """Its client gets an empty stream, and no descriptor is left behind."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        viewer = SocketViewer(Cursor(["d"]), retry_ms=7, stall_seconds=1)
        viewer.close(Ending.GONE)
        viewer.attach(ours, b"head\r\n\r\n")
        assert theirs.recv(100) == b"head\r\n\r\nretry: 7\n\n"
        assert viewer._fd == -1
