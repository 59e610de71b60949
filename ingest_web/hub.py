"""The hub: one per process. It turns what Redis publishes into what this process's viewers are sent.

It owns the process's only pub/sub connection, and one thread of its own (a greenlet under gevent) is the only one that
touches it. It knows documents, events and viewers; it knows neither HTTP nor sockets of viewers.

- First viewer of a document: SUBSCRIBE. Last one gone: wait a moment, look again, UNSUBSCRIBE. So ``PUBSUB CHANNELS``
  shows what is being watched.
- Redis gone: the viewers stay. Reconnect with backoff, subscribe to everything again, and once Redis has confirmed
  that, read every watched document again and send what changed.
- A half-open connection is found by a PING that must be answered in time.
"""

from __future__ import annotations

import itertools
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

import redis
import structlog

from ingest_web.events import Event
from ingest_web.pubsub import PubSub
from ingest_web.replay import catch_up
from ingest_web.viewer import Viewer
from shared import keys
from shared.errors import IngestError, StoreUnavailable, UnknownIngestion
from shared.protocol import Seq
from shared.store import History

log = structlog.stdlib.get_logger(__name__)

#: A document that nobody watches any more stays subscribed for so long: a page that reloads is back by then.
LINGER_SECONDS = 1.0

#: Redis must confirm a subscription within this time.
CONFIRM_SECONDS = 5.0

#: The loop never turns faster than this for nothing.
LEAST_PATIENCE_SECONDS = 0.01

#: With nothing heard for so long, ask; with no answer for as long again, the connection is dead.
PING_SECONDS = 5.0

BACKOFF_FIRST_SECONDS = 0.05
BACKOFF_MOST_SECONDS = 2.0

#: Channels in one SUBSCRIBE, and documents in one re-reading.
BATCH = 500

#: The loop is given to others when one event has taken so long, looked at after so many viewers.
SLICE_SECONDS = 0.002
SLICE_VIEWERS = 32

Histories = Callable[[Mapping[str, Seq | None]], Mapping[str, History]]
Connect = Callable[[], PubSub]


class _Topic:
    """A watched document."""

    __slots__ = ("confirmed", "seq", "viewers", "waiting")

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.confirmed = False
        self.waiting: list[threading.Event] = []
        self.seq: Seq = 0


class _Unread:
    """After a reconnect: the documents that Redis has not confirmed yet, and what it published of the others meanwhile.

    It is held back until all have been read again: relayed first, it would hide what was missed before it.
    """

    def __init__(self, document_ids: Iterable[str]) -> None:
        self.documents = set(document_ids)
        self.held_back: list[Event] = []


class Hub:
    """The map from documents to viewers, kept true by Redis."""

    def __init__(self, connect: Connect, histories: Histories, heartbeat_seconds: float) -> None:
        self._connect = connect
        self._histories = histories
        self._heartbeat_seconds = heartbeat_seconds
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}
        self._viewers: set[Viewer] = set()
        self._to_subscribe: deque[str] = deque()
        #: Documents whose last viewer has gone, and when; the longest ago first.
        self._emptied_at: dict[str, float] = {}
        self._stopping = threading.Event()
        self._started = False
        self._threads: list[threading.Thread] = []
        self.connected = False

    # -- what the routes call ------------------------------------------------------------------------------------------

    def join(self, viewer: Viewer) -> None:
        """Bring a viewer up to date and keep it so until it closes.

        When its documents are all final and it has seen that, its cursor is `finished` at once and nothing is sent.
        Raises `UnknownIngestion` with the unknown ids, `StoreUnavailable`; the viewer is closed then.
        """
        self._start()
        viewer.when_closed(partial(self._leave, viewer))
        try:
            with self._lock:
                topics = [self._enter(document_id, viewer) for document_id in viewer.cursor.ids]
                self._viewers.add(viewer)
            self._wake()
            for topic in topics:
                self._await_confirmation(topic)
            viewer.go_live(self._missed_by(viewer))
        except BaseException:
            viewer.close()
            raise

    @property
    def viewer_count(self) -> int:
        """Open streams."""
        return len(self._viewers)

    @property
    def watched(self) -> frozenset[str]:
        """The documents that this process is subscribed to."""
        return frozenset(self._topics)

    def drain(self, over_seconds: float, retry_ms: int) -> None:
        """Dismiss every viewer, evenly spread over the time, each with a random delay of its own for coming back."""
        viewers = list(self._viewers)
        random.shuffle(viewers)
        began = time.monotonic()
        for n, viewer in enumerate(viewers):
            ahead = began + over_seconds * n / len(viewers) - time.monotonic()
            time.sleep(max(0.0, ahead))
            viewer.dismiss(random.randint(retry_ms // 2, retry_ms * 3 // 2))  # noqa: S311 - jitter
        log.info("hub.drained", viewers=len(viewers))

    def stop(self) -> None:
        """Close the connection; the viewers are left as they are. Returns when it is closed."""
        self._stopping.set()
        if not self._started:
            return
        self._wake()
        for thread in self._threads:
            thread.join()
        self._wake_receiver.close()
        self._wake_sender.close()

    # -- joining and leaving -------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
            self._wake_receiver, self._wake_sender = socket.socketpair()
            for end in (self._wake_receiver, self._wake_sender):
                end.setblocking(False)
        for target in (self._run, self._beat):
            thread = threading.Thread(target=target, name=f"hub{target.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _enter(self, document_id: str, viewer: Viewer) -> _Topic:
        topic = self._topics.get(document_id)
        if topic is None:
            topic = self._topics[document_id] = _Topic()
            self._to_subscribe.append(document_id)
        topic.viewers.add(viewer)
        self._emptied_at.pop(document_id, None)
        return topic

    def _await_confirmation(self, topic: _Topic) -> None:
        confirmed = threading.Event()
        with self._lock:
            if topic.confirmed:
                return
            topic.waiting.append(confirmed)
        if not confirmed.wait(CONFIRM_SECONDS):
            raise StoreUnavailable("Redis did not confirm the subscription in time.")

    def _missed_by(self, viewer: Viewer) -> list[Event]:
        cursor = viewer.cursor
        after = {document_id: cursor.seq(document_id) or None for document_id in cursor.ids}
        histories = self._histories(after)
        unknown = [document_id for document_id, history in histories.items() if history.state is None]
        if unknown:
            raise UnknownIngestion(f"There is no ingestion {', '.join(unknown)}.", ids=unknown)
        missed: list[Event] = []
        for document_id, history in histories.items():
            missed += self._news(viewer, document_id, history)
        return missed

    def _news(self, viewer: Viewer, document_id: str, history: History) -> list[Event]:
        assert history.state is not None  # noqa: S101 - for the type checker
        seen = viewer.cursor.seq(document_id)
        news = catch_up(history, seen)
        state = news[-1] if news else Event.from_json(history.state)
        topic = self._topics.get(document_id)
        if topic is not None:
            topic.seq = max(topic.seq, state.seq)
        if not news and state.is_final:
            viewer.cursor.settle(document_id, seen)
        return news

    def _leave(self, viewer: Viewer) -> None:
        emptied = False
        with self._lock:
            self._viewers.discard(viewer)
            for document_id in viewer.cursor.ids:
                topic = self._topics.get(document_id)
                if topic is None:
                    continue
                topic.viewers.discard(viewer)
                if not topic.viewers and document_id not in self._emptied_at:
                    self._emptied_at[document_id] = time.monotonic()
                    emptied = True
        if emptied:
            self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it is full of reasons to wake up already
            self._wake_sender.send(b"\0")

    # -- the one thread that owns the connection -----------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._serve_a_connection()
            except (redis.RedisError, IngestError, OSError) as error:
                log.warning("hub.connection_lost", error=str(error), watched=len(self._topics), failures=failures)
            except Exception:  # a fault of ours must not leave every viewer of this process in the dark
                log.exception("hub.failed")
            failures = 1 if time.monotonic() - began > PING_SECONDS else failures + 1
            self._stopping.wait(_backoff_seconds(failures))

    def _serve_a_connection(self) -> None:
        pubsub = self._connect()
        try:
            self._serve(pubsub)
        finally:
            self._disconnected()
            pubsub.close()

    def _serve(self, pubsub: PubSub) -> None:
        with self._lock:
            self._to_subscribe.clear()
            resuming = list(self._topics)
        for batch in _batches(resuming, BATCH):
            pubsub.send("SUBSCRIBE", *map(keys.channel, batch))
        unread = _Unread(resuming)
        self.connected = True
        log.info("hub.connected", resuming=len(resuming))

        poller = select.poll()
        poller.register(pubsub.fileno(), select.POLLIN)
        poller.register(self._wake_receiver.fileno(), select.POLLIN)
        heard_at, asked = time.monotonic(), False
        while not self._stopping.is_set():
            ready = {fd for fd, _ in poller.poll(self._patience_seconds(heard_at) * 1000)}
            if self._wake_receiver.fileno() in ready:
                self._drain_wakeups()
            if pubsub.fileno() in ready:
                heard_at, asked = time.monotonic(), False
                for message in pubsub.receive():
                    self._take(message, unread)
            elif time.monotonic() - heard_at >= (2 if asked else 1) * PING_SECONDS:
                if asked:
                    raise redis.ConnectionError("no answer to PING")
                pubsub.send("PING")
                asked = True
            self._send_subscriptions(pubsub)
            self._send_unsubscriptions(pubsub)

    def _patience_seconds(self, heard_at: float) -> float:
        """How long nothing needs to be done unless something happens."""
        now = time.monotonic()
        due = heard_at + PING_SECONDS
        if due <= now:
            due += PING_SECONDS
        with self._lock:
            for emptied_at in self._emptied_at.values():
                due = min(due, emptied_at + LINGER_SECONDS)
                break
        return max(LEAST_PATIENCE_SECONDS, due - now)

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_receiver.recv(4096):
                pass

    def _send_subscriptions(self, pubsub: PubSub) -> None:
        with self._lock:
            wanted = list(self._to_subscribe)
            self._to_subscribe.clear()
        for batch in _batches(wanted, BATCH):
            pubsub.send("SUBSCRIBE", *map(keys.channel, batch))

    def _send_unsubscriptions(self, pubsub: PubSub) -> None:
        with self._lock:
            abandoned = self._abandoned(time.monotonic() - LINGER_SECONDS)
            for document_id in abandoned:
                del self._topics[document_id]
                del self._emptied_at[document_id]
        for batch in _batches(abandoned, BATCH):
            pubsub.send("UNSUBSCRIBE", *map(keys.channel, batch))

    def _abandoned(self, since: float) -> list[str]:
        """The documents that nobody watches since then, of which Redis has confirmed the subscription.

        A confirmation that is still on its way would be taken for a later subscription's, and say too much.
        """
        due = itertools.takewhile(lambda item: item[1] <= since, self._emptied_at.items())
        return [document_id for document_id, _ in due if self._topics[document_id].confirmed]

    def _take(self, message: list[bytes | int | None], unread: _Unread) -> None:
        match message:
            case [b"message", bytes(channel), bytes(data)]:
                self._published(channel, data, unread)
            case [b"subscribe", bytes(channel), _]:
                self._confirmed(keys.document_id_of(channel.decode()), unread)
            case _:
                pass  # the end of a subscription, or the answer to PING: being heard from was the point

    def _published(self, channel: bytes, data: bytes, unread: _Unread) -> None:
        try:
            event = Event.from_json(data)
        except ValueError:
            log.warning("hub.foreign_message", channel=channel.decode(errors="replace"), size_bytes=len(data))
            return
        if unread.documents:
            unread.held_back.append(event)
        else:
            self._relay(event)

    def _confirmed(self, document_id: str, unread: _Unread) -> None:
        with self._lock:
            topic = self._topics.get(document_id)
            if topic is None:
                return
            topic.confirmed = True
            waiting, topic.waiting = topic.waiting, []
        for event in waiting:
            event.set()
        if document_id in unread.documents:
            unread.documents.discard(document_id)
            if not unread.documents:
                self._read_again()
                for held_back in unread.held_back:
                    self._relay(held_back)

    def _disconnected(self) -> None:
        self.connected = False
        with self._lock:
            for topic in self._topics.values():
                topic.confirmed = False

    # -- what viewers are sent -----------------------------------------------------------------------------------------

    def _read_again(self) -> None:
        """Send what happened to the watched documents while the connection was gone."""
        with self._lock:
            watched = {name: topic.seq for name, topic in self._topics.items() if topic.seq}
        for batch in _batches(list(watched), BATCH):
            for document_id, history in self._histories({name: watched[name] for name in batch}).items():
                if history.state is None:
                    self._gone(document_id)
                else:
                    for event in catch_up(history, watched[document_id]):
                        self._relay(event)
        log.info("hub.read_again", documents=len(watched))

    def _gone(self, document_id: str) -> None:
        """The document is no more; the viewers' next connection will be told so."""
        for viewer in self._viewers_of(document_id):
            viewer.close()

    def _relay(self, event: Event) -> None:
        topic = self._topics.get(event.document_id)
        if topic is None:
            return
        topic.seq = event.seq
        began = time.perf_counter()
        for n, viewer in enumerate(self._viewers_of(event.document_id), start=1):
            viewer.offer(event)
            if n % SLICE_VIEWERS == 0 and time.perf_counter() - began > SLICE_SECONDS:
                time.sleep(0)
                began = time.perf_counter()

    def _viewers_of(self, document_id: str) -> tuple[Viewer, ...]:
        with self._lock:
            topic = self._topics.get(document_id)
            return tuple(topic.viewers) if topic else ()

    def _beat(self) -> None:
        while not self._stopping.wait(self._heartbeat_seconds):
            with self._lock:
                viewers = list(self._viewers)
            for n, viewer in enumerate(viewers, start=1):
                viewer.beat()
                if n % SLICE_VIEWERS == 0:
                    time.sleep(0)


def _batches(names: list[str], size: int) -> Iterable[list[str]]:
    return (names[first : first + size] for first in range(0, len(names), size))


def _backoff_seconds(failures: int) -> float:
    """Full jitter under an exponential roof (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015)."""
    roof = min(BACKOFF_MOST_SECONDS, BACKOFF_FIRST_SECONDS * 2.0**failures)
    return random.uniform(0, roof)  # noqa: S311 - jitter
