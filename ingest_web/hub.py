"""The hub: one per process. It turns what Redis publishes into what this process's viewers are sent.

It knows documents, events and viewers; it knows neither HTTP nor sockets. Two others know Redis for it: `Subscriber`
holds the process's only pub/sub connection, `Reader` reads documents. What is published and what is read are merged by
each document's `Topic`, and sent by the `Relay`.

- First viewer of a document: SUBSCRIBE. Last one gone: wait a moment, look again, UNSUBSCRIBE. So ``PUBSUB CHANNELS``
  shows what is being watched.
- A viewer joins when its documents are live, and is sent their latest states. Only one that has missed something
  needs Redis.
- Redis gone: the viewers stay. Once a subscription is confirmed again, the document is read again and what changed is
  sent. So it is when a number was left out, and (the watchdog) when a document was silent for too long.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from ingest_web.arrival import Arrival
from ingest_web.cursor import Cursor
from ingest_web.events import Event
from ingest_web.pubsub import Message
from ingest_web.reader import Histories, Reader
from ingest_web.relay import Relay
from ingest_web.replay import catch_up, newest
from ingest_web.subscriber import Connect, Subscriber
from ingest_web.tally import Joining, Tally
from ingest_web.topic import Topic
from ingest_web.turns import Turn
from ingest_web.viewer import BEATS, Ending, Viewer
from shared.errors import StoreUnavailable
from shared.store import Ask, History

log = structlog.stdlib.get_logger(__name__)

#: A document that nobody watches any more stays subscribed for so long: a page that reloads is back by then.
LINGER_SECONDS = 1.0

#: A viewer's documents must be live within this time.
JOIN_SECONDS = 5.0

#: How often the hub looks after what nobody tells it.
TICK_SECONDS = 0.5

#: A message, or the beginning or end of a subscription; the answer to PING is shorter.
MESSAGE_PARTS = 3

#: So many messages of Redis are looked at before those that they are for are sent them.
SLICE_MESSAGES = 128


class Hub:
    """The map from documents to viewers, kept true by Redis."""

    def __init__(
        self,
        connect: Connect,
        histories: Histories,
        heartbeat_seconds: float,
        watchdog_seconds: float,
        report: Callable[[Hub], None] = lambda _: None,
    ) -> None:
        """``report`` is called every `TICK_SECONDS`."""
        self._report = report
        self._heartbeat_seconds = heartbeat_seconds
        self._watchdog_seconds = watchdog_seconds
        self._lock = threading.Lock()
        self._topics: dict[str, Topic] = {}
        #: The same, by the name of their channel as it stands in a message.
        self._channels: dict[bytes, Topic] = {}
        self._viewers: set[Viewer] = set()
        #: Documents whose last viewer has gone, and when; the longest ago first.
        self._emptied_at: dict[str, float] = {}
        #: Who waits for a document to become live.
        self._arrivals: dict[str, list[Arrival]] = {}
        self._readings = itertools.count(1)
        self._started = False
        self._draining = False
        self._stopping = threading.Event()
        self._subscriber = Subscriber(connect, self)
        self._reader = Reader(histories)
        self._threads = [
            threading.Thread(target=target, name=f"hub{target.__name__}", daemon=True)
            for target in (self._tend, self._beat)
        ]
        self.is_connected = False
        self.tally = Tally()
        self._relay = Relay(self.tally)

    # -- what the routes call ------------------------------------------------------------------------------------------

    def join(self, viewer: Viewer) -> None:
        """Bring a viewer up to date and keep it so until it closes.

        When its documents are all final and it has seen that, its cursor is `finished` at once and nothing is sent.
        Raises `UnknownIngestion` with the unknown ids, `StoreUnavailable`; the viewer is closed then.
        """
        self._start()
        viewer.when_closed(self._leave)
        try:
            self._await_live(viewer)
            viewer.go_live(self._missed_by(viewer))
        except BaseException:
            viewer.close(Ending.FAILED)
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
        """Dismiss every viewer, evenly spread over the time, each with a random delay of its own for coming back.

        Nobody joins any more from now on.
        """
        with self._lock:
            self._draining = True
            viewers = list(self._viewers)
        random.shuffle(viewers)
        began = time.monotonic()
        for n, viewer in enumerate(viewers):
            ahead = began + over_seconds * n / len(viewers) - time.monotonic()
            time.sleep(max(0.0, ahead))
            viewer.dismiss(random.randint(retry_ms // 2, retry_ms * 3 // 2))  # noqa: S311 - jitter
        log.info("hub.drained", viewers=len(viewers))

    def stop(self) -> None:
        """Close the connections; the viewers are left as they are. Returns when they are closed."""
        self._stopping.set()
        if not self._started:
            return
        self._subscriber.stop()
        self._reader.stop()
        for thread in self._threads:
            thread.join()
        self._report(self)

    def _start(self) -> None:
        if self._started or not self._is_first():
            return
        self._subscriber.start()
        self._reader.start()
        for thread in self._threads:
            thread.start()

    def _is_first(self) -> bool:
        with self._lock:
            is_first, self._started = not self._started, True
            return is_first

    # -- joining and leaving -------------------------------------------------------------------------------------------

    def _await_live(self, viewer: Viewer) -> None:
        with self._lock:
            if self._draining:
                raise StoreUnavailable("This process is shutting down.")
            self._viewers.add(viewer)
            topics = [self._enter(document_id, viewer) for document_id in viewer.cursor.ids]
            waiting = [topic for topic in topics if not topic.live]
            if not waiting:
                return
            arrival = Arrival(topic.document_id for topic in waiting)
            for topic in waiting:
                self._arrivals.setdefault(topic.document_id, []).append(arrival)
                self._read_if_needed(topic)
            new = [topic.channel for topic in waiting if topic.claim()]
        self._subscriber.subscribe(new)
        try:
            arrival.wait(JOIN_SECONDS)
        except StoreUnavailable:
            self._forget(arrival, viewer.cursor.ids)
            raise

    def _enter(self, document_id: str, viewer: Viewer) -> Topic:
        topic = self._topics.get(document_id)
        if topic is None:
            topic = self._topics[document_id] = Topic(document_id, time.monotonic())
            self._channels[topic.channel.encode()] = topic
        topic.viewers.add(viewer)
        self._emptied_at.pop(document_id, None)
        return topic

    def _forget(self, arrival: Arrival, document_ids: Iterable[str]) -> None:
        with self._lock:
            for waiting in filter(None, map(self._arrivals.get, document_ids)):
                if arrival in waiting:
                    waiting.remove(arrival)

    def _missed_by(self, viewer: Viewer) -> list[Event]:
        cursor = viewer.cursor
        missed: list[Event] = []
        asks: list[Ask] = []
        for document_id in cursor.ids:
            latest, seen = self._latest(document_id), cursor.seq(document_id)
            # That a viewer has seen the end is the one thing that can't be put right later: it must be true, not known.
            if seen == 0 or (seen == latest.seq and not latest.is_final):
                missed += self._news(cursor, latest, [] if seen else [latest])
            else:
                asks.append((document_id, seen))
        turn = Turn()
        for (_, after), history in self._read(asks).items():
            turn.step()
            missed += self._news(cursor, newest(history), catch_up(history, after or 0))
        return missed

    def _news(self, cursor: Cursor, latest: Event, news: list[Event]) -> list[Event]:
        seen = cursor.seq(latest.document_id)
        if not news and latest.is_final:
            cursor.settle(latest.document_id, seen)
        self.tally.joined(Joining.of(seen, news))
        return news

    def _latest(self, document_id: str) -> Event:
        topic = self._topics.get(document_id)
        if topic is None or topic.latest is None:
            raise StoreUnavailable("The document is not known yet.")
        return topic.latest

    def _read(self, asks: list[Ask]) -> dict[Ask, History]:
        """What Redis holds, for a viewer that has missed something."""
        found: dict[Ask, History] = {}
        if not asks:
            return found
        arrival = Arrival(document_id for document_id, _ in asks)

        def answer(ask: Ask, history: History | None) -> None:
            if history is not None:
                found[ask] = history
            _settle(arrival, ask[0], history)

        for ask in asks:
            self._reader.ask(ask, partial(answer, ask))
        arrival.wait(JOIN_SECONDS)
        return found

    def _leave(self, viewer: Viewer, why: Ending) -> None:
        now = time.monotonic()
        with self._lock:
            self._viewers.discard(viewer)
            for document_id in viewer.cursor.ids:
                topic = self._topics.get(document_id)
                if topic is None:
                    continue
                topic.viewers.discard(viewer)
                if not topic.viewers:
                    self._emptied_at.setdefault(document_id, now)
        self.tally.closed(why, viewer.outbox.conflated)

    # -- what the subscriber tells -------------------------------------------------------------------------------------

    def connected(self) -> Iterable[str]:
        """There is a new connection: everything shall be subscribed to again."""
        with self._lock:
            self.is_connected = True
            for topic in self._topics.values():
                topic.asked = True
            return [topic.channel for topic in self._topics.values()]

    def lost(self) -> None:
        """The connection is gone: whatever is published from now on will be missed."""
        with self._lock:
            self.is_connected = False
            for topic in self._topics.values():
                topic.lost()
        if not self._stopping.is_set():
            self.tally.connection_lost()

    def received(self, messages: list[Message]) -> None:
        """Redis has published events, or confirmed subscriptions."""
        for first in range(0, len(messages), SLICE_MESSAGES):
            self._take(messages[first : first + SLICE_MESSAGES])
            self._relay.run()

    def _take(self, messages: list[Message]) -> None:
        now = time.monotonic()
        with self._lock:
            for message in messages:
                # The end of a subscription and the answer to PING need nothing: being heard from was the point.
                topic = self._channels.get(message[1]) if len(message) == MESSAGE_PARTS else None
                if topic is None:
                    continue
                if message[0] == b"message":
                    self._published(topic, message[2], now)
                elif message[0] == b"subscribe":
                    topic.confirmed = True
                    self._read_if_needed(topic)

    def _published(self, topic: Topic, data: bytes, now: float) -> None:
        if not data:  # the document was removed; read again, lest that is long ago and there is one anew
            topic.doubt()
            self._read_if_needed(topic)
            return
        try:
            event = Event.of(topic.document_id, topic.opening, data)
        except ValueError:
            log.warning("hub.foreign_message", document_id=topic.document_id, size_bytes=len(data))
            return
        if topic.published(event, now):
            self._relay.put(topic, (event,), now)
        else:
            self._read_if_needed(topic)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read_if_needed(self, topic: Topic) -> None:
        if topic.unread:
            topic.reading = next(self._readings)
            self._reader.ask((topic.document_id, topic.seq), partial(self._has_read, topic, topic.reading))

    def _has_read(self, topic: Topic, reading: int, history: History | None) -> None:
        now = time.monotonic()
        with self._lock:
            if topic.reading != reading or self._topics.get(topic.document_id) is not topic:
                return  # the connection was lost meanwhile: what was read may be older than the next subscription
            topic.reading = 0
            arrivals = self._arrivals.pop(topic.document_id, [])
            if history is not None and history.state is not None:
                missed, held_back = topic.read(history, now)
                self._relay.put(topic, missed + held_back, now)
                self._read_if_needed(topic)
                self.tally.healed(len(missed))
            doomed = list(topic.viewers) if history is not None and history.state is None else []
        for arrival in arrivals:
            _settle(arrival, topic.document_id, history)
        for viewer in doomed:
            viewer.close(Ending.GONE)  # its next connection will be told that there is no such document
        self._relay.run()

    # -- what nobody tells ---------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self._give_up_abandoned()
                self._watch()
                self._report(self)
            except Exception:  # a fault of ours must not leave every viewer of this process unwatched
                log.exception("hub.failed")

    def _give_up_abandoned(self) -> None:
        since = time.monotonic() - LINGER_SECONDS
        with self._lock:
            due = itertools.takewhile(lambda item: item[1] <= since, self._emptied_at.items())
            # A confirmation that is still on its way would be taken for a later subscription's, and say too much.
            # Without a connection there is no subscription either.
            abandoned = [name for name, _ in due if self._topics[name].confirmed or not self.is_connected]
            topics = [self._topics.pop(document_id) for document_id in abandoned]
            for topic in topics:
                del self._channels[topic.channel.encode()]
                del self._emptied_at[topic.document_id]
                self._arrivals.pop(topic.document_id, None)
        if topics:
            self._subscriber.unsubscribe(topic.channel for topic in topics)

    def _watch(self) -> None:
        """The watchdog: doubt what was silent for too long, and read whatever is unread."""
        silent_since = time.monotonic() - self._watchdog_seconds
        with self._lock:
            # Thousands that fell silent together are read one share after the other.
            share = 2 + int(2 * len(self._topics) * TICK_SECONDS / self._watchdog_seconds)
            silent = (topic for topic in self._topics.values() if topic.live and topic.heard_at < silent_since)
            for topic in itertools.islice(silent, share):
                topic.doubt()
            for topic in self._topics.values():
                self._read_if_needed(topic)

    def _beat(self) -> None:
        while not self._stopping.wait(self._heartbeat_seconds / BEATS):
            with self._lock:
                viewers = list(self._viewers)
            turn = Turn()
            for viewer in viewers:
                viewer.beat()
                turn.step()


def _settle(arrival: Arrival, document_id: str, history: History | None) -> None:
    if history is None:
        arrival.fail()
    elif history.state is None:
        arrival.miss(document_id)
    else:
        arrival.have(document_id)
