"""The hub against a connection that does just what the test says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from ingest_web import hub as hub_module
from ingest_web.cursor import Cursor
from ingest_web.handover import SocketViewer
from ingest_web.hub import Hub
from ingest_web.viewer import QueuedViewer
from shared import keys
from shared.errors import StoreUnavailable, UnknownIngestion
from shared.store import History
from tests.awaiting import wait_until


class ScriptedPubSub:
    """A connection in subscriber state, played by the test."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, ...]] = []
        self._messages: list[list[bytes | int | None]] = []
        self._ours, self._theirs = socket.socketpair()

    def fileno(self) -> int:
        return self._ours.fileno()

    def send(self, *command: str) -> None:
        self.sent.append(command)

    def receive(self) -> list[list[bytes | int | None]]:
        if not self._ours.recv(1):
            raise redis.ConnectionError("hung up")
        return [self._messages.pop(0)]

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()

    def hangs_up(self) -> None:
        self._theirs.shutdown(socket.SHUT_RDWR)

    def says(self, *message: bytes | int) -> None:
        self._messages.append(list(message))
        self._theirs.send(b"\0")

    def confirms(self, document_id: str) -> None:
        self.says(b"subscribe", keys.channel(document_id).encode(), 1)


def state(seq: int, document_id: str = "d") -> bytes:
    return json.dumps({"id": document_id, "seq": seq, "status": "PARSING"}).encode()


@pytest.fixture
def pubsub() -> ScriptedPubSub:
    return ScriptedPubSub()


@pytest.fixture
def hub_over(pubsub) -> Iterator[Callable[..., Hub]]:
    """A hub over the scripted connection, that reads histories as told."""
    hubs: list[Hub] = []

    def make(histories: Callable) -> Hub:
        hubs.append(Hub(lambda: pubsub, histories, heartbeat_seconds=60))
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.stop()


def test_the_state_is_read_only_after_redis_has_confirmed(hub_over, pubsub):
    """Read before that, an event between the two would be lost."""
    confirmed = threading.Event()
    read_after_confirmation = []

    def histories(after):
        read_after_confirmation.append(confirmed.is_set())
        return {"d": History(state(3), ())}

    viewer = QueuedViewer(Cursor(["d"]), retry_ms=1)
    joining = threading.Thread(target=hub_over(histories).join, args=(viewer,))
    joining.start()
    wait_until(lambda: ("SUBSCRIBE", keys.channel("d")) in pubsub.sent)
    assert read_after_confirmation == []
    confirmed.set()
    pubsub.confirms("d")
    joining.join()
    assert read_after_confirmation == [True]


def test_what_is_published_during_the_read_comes_after_it_once(hub_over, pubsub):
    """The subscription and the read overlap: their events are merged by number."""
    viewer = QueuedViewer(Cursor(["d"], "1"), retry_ms=1)
    hub = None

    def histories(after):
        for seq in (2, 3, 4):
            pubsub.says(b"message", keys.channel("d").encode(), state(seq))
        wait_until(lambda: viewer._early is not None and len(viewer._early) == 3)
        return {"d": History(state(3), ((2, state(2)), (3, state(3))))}

    hub = hub_over(histories)
    joining = threading.Thread(target=hub.join, args=(viewer,))
    joining.start()
    wait_until(lambda: pubsub.sent)
    pubsub.confirms("d")
    joining.join()
    sent = [event.seq for event in viewer._take(0) if viewer.cursor.wants(event) and viewer.encode(event)]
    assert sent == [2, 3, 4]


def test_a_subscription_that_is_not_confirmed_ends_in_time(hub_over, monkeypatch):
    """Redis that takes the command and says nothing keeps nobody waiting for ever; nobody is left behind."""
    monkeypatch.setattr(hub_module, "CONFIRM_SECONDS", 0.05)
    hub = hub_over(lambda after: {})
    viewer = QueuedViewer(Cursor(["d"]), retry_ms=1)
    with pytest.raises(StoreUnavailable):
        hub.join(viewer)
    assert viewer.closed
    assert hub.viewer_count == 0


def test_an_unknown_document_leaves_no_subscription(hub_over, pubsub, monkeypatch):
    """Asking for what is not there costs an UNSUBSCRIBE, a moment later, and no more."""
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.05)
    hub = hub_over(lambda after: {"d": History(None, ())})
    viewer = QueuedViewer(Cursor(["d"]), retry_ms=1)

    def join() -> None:
        with pytest.raises(UnknownIngestion):
            hub.join(viewer)

    joining = threading.Thread(target=join)
    joining.start()
    wait_until(lambda: pubsub.sent)
    pubsub.confirms("d")
    joining.join()
    wait_until(lambda: ("UNSUBSCRIBE", keys.channel("d")) in pubsub.sent)
    assert hub.watched == frozenset()


def test_a_silent_connection_is_asked_and_then_given_up(hub_over, pubsub, monkeypatch):
    """A half-open connection looks healthy; a PING that is not answered in time says otherwise."""
    monkeypatch.setattr(hub_module, "PING_SECONDS", 0.1)
    monkeypatch.setattr(hub_module, "CONFIRM_SECONDS", 5.0)
    hub = hub_over(lambda after: {"d": History(state(1), ())})
    connections = []
    hub._connect = lambda: connections.append(ScriptedPubSub()) or connections[-1]
    viewer = QueuedViewer(Cursor(["d"]), retry_ms=1)
    joining = threading.Thread(target=hub.join, args=(viewer,))
    joining.start()
    wait_until(lambda: len(connections) >= 2)
    assert ("PING",) in connections[0].sent
    wait_until(lambda: ("SUBSCRIBE", keys.channel("d")) in connections[-1].sent)
    while joining.is_alive():
        connections[-1].confirms("d")
        joining.join(0.05)
    assert [event.seq for event in viewer._take(0)] == [1]
    pubsub.close()


def test_what_is_published_while_others_are_not_confirmed_yet_hides_nothing(monkeypatch):
    """After a reconnect, missed events come before newer ones, although those were heard first."""
    monkeypatch.setattr(hub_module, "BACKOFF_FIRST_SECONDS", 0.0)
    connections = [ScriptedPubSub(), ScriptedPubSub()]
    waiting = iter(connections)
    newest = {"d": 1, "e": 1}

    def histories(after):
        return {
            name: History(state(newest[name], name), tuple((n, state(n, name)) for n in range((seq or 0) + 1, 4)))
            for name, seq in after.items()
        }

    hub = Hub(lambda: next(waiting), histories, heartbeat_seconds=60)
    viewers = {name: QueuedViewer(Cursor([name]), retry_ms=1) for name in newest}
    for name, viewer in viewers.items():
        joining = threading.Thread(target=hub.join, args=(viewer,))
        joining.start()
        wait_until(lambda name=name: any(keys.channel(name) in command for command in connections[0].sent))
        connections[0].confirms(name)
        joining.join()
    newest["d"] = 3
    connections[0].hangs_up()
    wait_until(lambda: connections[1].sent)
    connections[1].confirms("d")
    connections[1].says(b"message", keys.channel("d").encode(), state(4))
    connections[1].confirms("e")
    seen: list[int] = []
    viewer = viewers["d"]

    def all_seen() -> bool:
        seen.extend(event.seq for event in viewer._take(0) if viewer.cursor.wants(event) and viewer.encode(event))
        return len(seen) >= 4

    wait_until(all_seen)
    assert seen == [1, 2, 3, 4]
    hub.stop()


def test_a_stream_whose_document_is_gone_ends():
    """The generator is told, and does not beat on for nobody."""
    viewer = QueuedViewer(Cursor(["d"]), retry_ms=7)
    viewer.go_live([])
    frames = viewer.frames(heartbeat_seconds=60)
    assert next(frames) == b"retry: 7\n\n"
    closing = threading.Timer(0.05, viewer.close)
    closing.start()
    assert list(frames) in ([], [b":\n\n"])
    closing.join()


def test_a_viewer_closed_before_it_has_a_socket_takes_none():
    """Its client gets an empty stream, and no descriptor is left behind."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        viewer = SocketViewer(Cursor(["d"]), retry_ms=7, stall_seconds=1)
        viewer.close()
        viewer.attach(ours, b"head\r\n\r\n")
        assert theirs.recv(100) == b"head\r\n\r\nretry: 7\n\n"
        assert viewer._fd == -1
