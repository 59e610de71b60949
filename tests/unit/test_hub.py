"""The hub against a connection that does just what the test says."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
import redis

from ingest_web import hub as hub_module
from ingest_web import subscriber
from ingest_web.cursor import Cursor
from ingest_web.hub import Hub
from ingest_web.viewer import Ending, QueuedViewer
from shared import keys
from shared.errors import StoreUnavailable, UnknownIngestion
from shared.store import Ask, History
from tests.awaiting import wait_until


class ScriptedPubSub:
    """A connection in subscriber state, played by the test."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, ...]] = []
        self._messages: queue.Queue[list[bytes | int | None] | None] = queue.Queue()

    def send(self, *command: str) -> None:
        self.sent.append(command)

    def receive(self) -> list[list[bytes | int | None]]:
        try:
            message = self._messages.get(timeout=subscriber.PING_SECONDS)
        except queue.Empty:
            return []
        if message is None:
            raise redis.ConnectionError("hung up")
        return [message]

    def abort(self) -> None:
        self.hangs_up()

    def close(self) -> None:
        pass

    def hangs_up(self) -> None:
        self._messages.put(None)

    def says(self, *message: bytes | int) -> None:
        self._messages.put(list(message))

    def publishes(self, document_id: str, seq: int) -> None:
        self.says(b"message", keys.channel(document_id).encode(), state(seq, document_id))

    def confirms(self, document_id: str) -> None:
        self.says(b"subscribe", keys.channel(document_id).encode(), 1)

    def was_asked_for(self, document_id: str) -> bool:
        return any(command[0] == "SUBSCRIBE" and keys.channel(document_id) in command for command in self.sent)


def state(seq: int, document_id: str = "d") -> bytes:
    return f'{{"id":"{document_id}","filename":"a.pdf","status":"PARSING","seq":{seq},"at":""}}'.encode()


class Redis:
    """What Redis holds of some documents, and the connections that it has been asked for."""

    def __init__(self, **newest: int) -> None:
        self.newest = newest
        self.connections: list[ScriptedPubSub] = []
        self.reads: list[Ask] = []

    def connect(self) -> ScriptedPubSub:
        self.connections.append(ScriptedPubSub())
        return self.connections[-1]

    @property
    def pubsub(self) -> ScriptedPubSub:
        """The connection that there is now."""
        return wait_until(lambda: self.connections)[-1]

    def histories(self, asks: Iterable[Ask]) -> dict[Ask, History]:
        self.reads += asks
        return {ask: self._history(*ask) for ask in asks}

    def _history(self, document_id: str, after: int | None) -> History:
        last = self.newest.get(document_id)
        if last is None:
            return History(None, ())
        events = () if after is None else tuple((n, state(n, document_id)) for n in range(after + 1, last + 1))
        return History(state(last, document_id), events)


@pytest.fixture
def hub_over(monkeypatch) -> Iterator[Callable[..., Hub]]:
    """A hub over such a Redis, with settings as told."""
    monkeypatch.setattr(subscriber, "BACKOFF_FIRST_SECONDS", 0.0)
    hubs: list[Hub] = []

    def make(played: Redis, watchdog_seconds: float = 60) -> Hub:
        hubs.append(Hub(played.connect, played.histories, heartbeat_seconds=60, watchdog_seconds=watchdog_seconds))
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.stop()


class Watching:
    """A viewer, and what it was sent."""

    def __init__(self, hub: Hub, *document_ids: str, last_event_id: str | None = None) -> None:
        self.viewer = QueuedViewer(Cursor(document_ids, last_event_id), retry_ms=1)
        self.error: BaseException | None = None
        self.seqs: list[int] = []
        self.joining = threading.Thread(target=self._join, args=(hub,))
        self.joining.start()

    def _join(self, hub: Hub) -> None:
        try:
            hub.join(self.viewer)
        except (StoreUnavailable, UnknownIngestion) as error:
            self.error = error

    def joined(self) -> Watching:
        self.joining.join()
        assert self.error is None
        return self

    def has(self, *seqs: int) -> bool:
        self.seqs += [int(line[4:]) for line in self.viewer._next(0).decode().splitlines() if line.startswith("id: ")]
        return self.seqs == list(seqs)


def test_the_state_is_read_only_after_redis_has_confirmed(hub_over):
    """Read before that, an event between the two would be lost."""
    played = Redis(d=3)
    watching = Watching(hub_over(played), "d")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    assert played.reads == []
    played.pubsub.confirms("d")
    assert watching.joined().has(3)
    assert played.reads == [("d", None)]


def test_what_is_published_during_the_read_comes_after_it_once(hub_over):
    """The subscription and the read overlap: their events are merged by number."""

    class Slow(Redis):
        def histories(self, asks: Iterable[Ask]) -> dict[Ask, History]:
            for seq in (2, 3, 4):
                self.pubsub.publishes("d", seq)
            wait_until(self.pubsub._messages.empty)
            return super().histories(asks)

    played = Slow(d=3)
    watching = Watching(hub_over(played), "d", last_event_id="1")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    played.pubsub.confirms("d")
    watching.joined()
    wait_until(lambda: watching.has(2, 3, 4))


def test_who_comes_second_costs_redis_nothing(hub_over):
    """The state of a document that is being watched is known here."""
    played = Redis(d=3)
    hub = hub_over(played)
    first = Watching(hub, "d")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    played.pubsub.confirms("d")
    first.joined()
    played.pubsub.publishes("d", 4)
    wait_until(lambda: first.has(3, 4))
    assert Watching(hub, "d").joined().has(4)
    assert Watching(hub, "d", last_event_id="4").joined().has()
    assert played.reads == [("d", None)]


def test_who_resumes_is_sent_what_was_missed(hub_over):
    """A Last-Event-ID that is not the latest is what the stored events are read for."""
    played = Redis(d=5)
    watching = Watching(hub_over(played), "d", last_event_id="2")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    played.pubsub.confirms("d")
    assert watching.joined().has(3, 4, 5)


def test_a_subscription_that_is_not_confirmed_ends_in_time(hub_over, monkeypatch):
    """Redis that takes the command and says nothing keeps nobody waiting for ever; nobody is left behind."""
    monkeypatch.setattr(hub_module, "JOIN_SECONDS", 0.05)
    hub = hub_over(Redis(d=1))
    watching = Watching(hub, "d")
    watching.joining.join()
    assert isinstance(watching.error, StoreUnavailable)
    assert watching.viewer.closed
    assert hub.viewer_count == 0
    assert not any(hub._arrivals.values())


def test_an_unknown_document_leaves_no_subscription(hub_over, monkeypatch):
    """Asking for what is not there costs an UNSUBSCRIBE, a moment later, and no more."""
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.05)
    played = Redis()
    hub = hub_over(played)
    watching = Watching(hub, "d")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    played.pubsub.confirms("d")
    watching.joining.join()
    assert isinstance(watching.error, UnknownIngestion)
    wait_until(lambda: ("UNSUBSCRIBE", keys.channel("d")) in played.pubsub.sent)
    assert hub.watched == frozenset()


def test_a_connection_that_does_not_answer_is_given_up(hub_over, monkeypatch):
    """A half-open connection looks healthy; a PING that is not answered in time says otherwise, whatever else is
    heard."""
    monkeypatch.setattr(subscriber, "PING_SECONDS", 0.1)
    played = Redis(d=1, e=1)
    watching = Watching(hub_over(played), "d")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    first = played.pubsub
    seq = itertools.count(2)

    def still_alone() -> bool:
        first.publishes("d", next(seq))
        return len(played.connections) >= 2

    wait_until(still_alone)
    assert ("PING",) in first.sent

    def confirmed() -> bool:
        played.pubsub.confirms("d")
        return not watching.joining.is_alive()

    wait_until(confirmed)
    assert watching.joined().has(1)


def test_what_is_published_before_a_document_is_read_again_hides_nothing(hub_over):
    """After a reconnect, missed events come before newer ones, although those were heard first."""
    played = Redis(d=1, e=1)
    hub = hub_over(played)
    watchings = {name: Watching(hub, name) for name in "de"}
    for name, watching in watchings.items():
        wait_until(lambda name=name: played.pubsub.was_asked_for(name))
        played.pubsub.confirms(name)
        assert watching.joined().has(1)
    played.newest["d"] = 3
    first = played.pubsub
    first.hangs_up()
    wait_until(lambda: played.pubsub is not first and played.pubsub.was_asked_for("d"))
    played.pubsub.publishes("d", 4)
    played.pubsub.confirms("d")
    played.pubsub.publishes("d", 4)
    wait_until(lambda: watchings["d"].has(1, 2, 3, 4))
    assert watchings["e"].has(1)


def test_a_message_that_was_lost_is_noticed_by_the_next(hub_over):
    """A number that is left out is read before anything newer is sent."""
    played = Redis(d=1)
    watching = Watching(hub_over(played), "d")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    played.pubsub.confirms("d")
    assert watching.joined().has(1)
    played.newest["d"] = 3
    played.pubsub.publishes("d", 3)
    wait_until(lambda: watching.has(1, 2, 3))


def test_a_document_that_is_silent_for_too_long_is_read_again(hub_over):
    """The last message may be the one that is lost: only the watchdog can know."""
    played = Redis(d=1)
    watching = Watching(hub_over(played, watchdog_seconds=0.1), "d")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    played.pubsub.confirms("d")
    assert watching.joined().has(1)
    played.newest["d"] = 2
    wait_until(lambda: watching.has(1, 2))


def test_a_document_that_is_removed_is_not_watched_any_longer(hub_over):
    """Whoever watches it among others is told at once, and nobody is shown what was known of it."""
    played = Redis(d=1, e=1)
    hub = hub_over(played)
    watching = Watching(hub, "d", "e")
    for name in "de":
        wait_until(lambda name=name: played.pubsub.was_asked_for(name))
        played.pubsub.confirms(name)
    watching.joined()
    del played.newest["d"]
    played.pubsub.says(b"message", keys.channel("d").encode(), b"")
    wait_until(lambda: watching.viewer.closed)
    late = Watching(hub, "d")
    late.joining.join()
    assert isinstance(late.error, UnknownIngestion)


def test_a_document_that_could_not_be_read_is_read_later(hub_over):
    """An outage in the very moment of the reading is no reason to stay in the dark."""

    class Failing(Redis):
        fails = False

        def histories(self, asks: Iterable[Ask]) -> dict[Ask, History]:
            if self.fails:
                self.fails = False
                raise StoreUnavailable("Redis can't be reached.")
            return super().histories(asks)

    played = Failing(d=1)
    watching = Watching(hub_over(played), "d")
    wait_until(lambda: played.pubsub.was_asked_for("d"))
    played.pubsub.confirms("d")
    assert watching.joined().has(1)
    played.newest["d"], played.fails = 3, True
    played.pubsub.publishes("d", 3)
    wait_until(lambda: watching.has(1, 2, 3))


def test_an_outage_may_be_as_long_as_it_likes():
    """The waiting between two tries has a roof, whatever their number."""
    assert all(0 <= subscriber._backoff_seconds(failures) <= subscriber.BACKOFF_MOST_SECONDS for failures in (1, 10**6))


def test_nobody_joins_a_process_that_drains(hub_over):
    """Who comes late is asked to come back, to another node."""
    hub = hub_over(Redis(d=1))
    hub.drain(over_seconds=0, retry_ms=1)
    watching = Watching(hub, "d")
    watching.joining.join()
    assert isinstance(watching.error, StoreUnavailable)
    assert watching.viewer.closed


def test_a_stream_whose_document_is_gone_ends():
    """The generator is told, and does not beat on for nobody."""
    viewer = QueuedViewer(Cursor(["d"]), retry_ms=7)
    viewer.go_live([])
    frames = viewer.frames(heartbeat_seconds=60)
    assert next(frames) == b"retry: 7\n\n"
    closing = threading.Timer(0.05, viewer.close, [Ending.GONE])
    closing.start()
    assert list(frames) in ([], [b":\n\n"])
    closing.join()
