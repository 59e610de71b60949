"""Never wrong: whatever happens, in whatever order, a viewer sees each event once, in order, and in the end the truth.

A small world in one thread: the record in Redis, two nodes that each play the hub's part over the real `Topic`,
`Outbox` and `Cursor`, and viewers that come and go. What takes time is cut into steps (published, under way, heard;
asked, state read, events read, answered; sent, received), and hypothesis chooses which step is next. The viewers check
what they are sent as those of `tests.audience` do.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ingest_web.cursor import Cursor
from ingest_web.events import Event
from ingest_web.outbox import Outbox
from ingest_web.replay import REPLAY_EVENTS, catch_up, newest
from ingest_web.topic import Topic
from shared.jobs import FINAL, RETRYABLE, Status
from shared.protocol import Failure, State, encode_state
from shared.store import History
from tests.audience import Viewer

DOCUMENTS = ("a", "b", "c")
NODES = 2
VIEWERS = 6
PIECE_BYTES = 1000

documents = st.sampled_from(DOCUMENTS)
nodes = st.integers(0, NODES - 1)
somebody = st.integers(0, VIEWERS - 1)
#: The nodes to which a message gets lost: mostly none.
lost_on = st.sampled_from([set(), set(), set(), {0}, {1}, {0, 1}])

#: No step asks what time it is.
NOW = 0.0


class Record:
    """A document in Redis: its state, and the events that are still kept."""

    def __init__(self, document_id: str) -> None:
        self.document_id = document_id
        self.kept: list[tuple[int, bytes]] = []
        self.status, self.attempt, self.progress, self.seq = Status.PENDING, 1, 0.0, 0
        self.write(1, Status.PENDING, 0.0)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def state(self) -> bytes:
        return self.kept[-1][1]

    def write(self, attempt: int, status: Status, progress: float) -> Event | None:
        """The event that is published; None when the writer is refused, as the script does it."""
        if attempt != self.attempt or (self.is_final and self.seq):
            return None
        return self._next(status, progress)

    def retry(self) -> Event:
        self.attempt += 1
        return self._next(Status.PENDING, 0.0)

    def after(self, seq: int) -> tuple[tuple[int, bytes], ...]:
        return tuple(event for event in self.kept if event[0] > seq)

    def _next(self, status: Status, progress: float) -> Event:
        self.status, self.progress, self.seq = status, progress, self.seq + 1
        error = Failure("unreadable", "No.") if status is Status.FAILED else None
        state = State(
            id=self.document_id, filename="a.pdf", status=status, progress=progress, message="", stage=None,
            eta_seconds=None, queue_position=None, attempt=self.attempt, seq=self.seq, at="", created_at="",
            updated_at="", alive_at=None, finished_at=None, error=error, warnings=(),
        )  # fmt: skip
        self.kept.append((self.seq, encode_state(state).encode()))
        return Event.from_json(self.state)


@dataclass(eq=False)
class Reading:
    """A read of a document on its way: asked for, then the state read, then the events, then answered."""

    document_id: str
    after: int
    state: bytes | None = None
    events: tuple[tuple[int, bytes], ...] | None = None

    def step(self, record: Record) -> None:
        if self.state is None:
            self.state = record.state
        elif self.events is None:
            self.events = record.after(self.after)

    @property
    def answer(self) -> History | None:
        return None if self.events is None else History(self.state, self.events)


@dataclass(eq=False)
class Stream:
    """A connection of a viewer to a node."""

    viewer: Viewer
    outbox: Outbox
    #: Documents that were not live when it came, and have not been read since.
    expected: set[str] = field(default_factory=set)
    #: What it has to be read for this viewer; None before that is known.
    readings: list[Reading] | None = None
    #: What is known of those that it has seen nothing of.
    news: list[Event] = field(default_factory=list)
    congested: bool = False
    sent: bytes = b""
    over: bool = False
    #: Where its documents stood when it was asked for.
    asked: dict[str, int] = field(default_factory=dict)

    def offer(self, event: Event) -> None:
        if self.congested or not self.outbox.live:
            self.outbox.put(event)
        elif not self.over and (frame := self.outbox.frame(event)):
            self._send(frame)

    def drain(self) -> None:
        self.congested = False
        while self.outbox and self.outbox.live and not self.over:
            self._send(self.outbox.take(PIECE_BYTES))

    def _send(self, frames: bytes) -> None:
        self.sent += frames
        self.over = self.outbox.cursor.finished

    def receive(self) -> None:
        """The client reads all that was sent."""
        *frames, rest = self.sent.split(b"\n\n")
        assert rest == b""
        self.sent = b""
        for frame in frames:
            self.viewer.frame(frame)


class Node:
    """The hub's part, a step at a time."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.streams: list[Stream] = []
        #: What Redis has sent on the connection and the node has not heard yet: events, and names that are confirmed.
        self.under_way: deque[Event | str] = deque()
        self.subscribed: set[str] = set()
        self.connected = True
        #: The connection is dead, and nobody here knows.
        self.dead = False
        self.readings: list[tuple[Reading, Topic, int]] = []
        self.outgoing: deque[tuple[Topic, Event]] = deque()
        self._numbers = itertools.count(1)

    def publish(self, event: Event) -> None:
        if event.document_id in self.subscribed:
            self.under_way.append(event)

    def subscribe(self, document_id: str) -> None:
        if self.connected and not self.dead:
            self.subscribed.add(document_id)
            self.under_way.append(document_id)

    def arrive(self, stream: Stream) -> None:
        self.streams.append(stream)
        for document_id in stream.viewer.ids:
            topic = self.topics.get(document_id)
            if topic is None:
                topic = self.topics[document_id] = Topic(document_id, NOW)
                self.subscribe(document_id)
            topic.viewers.add(stream)
            if not topic.live:
                stream.expected.add(document_id)
                self.read_if_needed(topic)

    def leave(self, stream: Stream) -> None:
        self.streams.remove(stream)
        for document_id in stream.viewer.ids:
            self.topics[document_id].viewers.discard(stream)

    def abandon(self, document_id: str) -> None:
        """Nobody watches it any more: UNSUBSCRIBE."""
        del self.topics[document_id]
        self.subscribed.discard(document_id)

    def hear(self) -> None:
        heard = self.under_way.popleft()
        topic = self.topics.get(heard if isinstance(heard, str) else heard.document_id)
        if topic is None:
            return
        if isinstance(heard, str):
            topic.confirmed = True
        elif topic.published(heard, NOW):
            self.outgoing.append((topic, heard))
        self.read_if_needed(topic)

    def read_if_needed(self, topic: Topic) -> None:
        if topic.unread:
            topic.reading = next(self._numbers)
            self.readings.append((Reading(topic.document_id, topic.seq or 0), topic, topic.reading))

    def has_read(self, n: int) -> None:
        reading, topic, number = self.readings.pop(n)
        if topic.reading != number or self.topics.get(topic.document_id) is not topic:
            return  # the connection was lost meanwhile, or the document given up
        assert reading.answer is not None
        missed, held_back = topic.read(reading.answer, NOW)
        self.outgoing += [(topic, event) for event in missed + held_back]
        for stream in self.streams:
            stream.expected.discard(topic.document_id)
        self.read_if_needed(topic)

    def relay(self) -> None:
        topic, event = self.outgoing.popleft()
        for stream in tuple(topic.viewers):
            stream.offer(event)

    def lose(self) -> None:
        self.connected = self.dead = False
        self.under_way.clear()
        self.subscribed.clear()
        for topic in self.topics.values():
            topic.lost()

    def die(self) -> None:
        self.dead = True
        self.under_way.clear()
        self.subscribed.clear()

    def connect(self) -> None:
        self.connected = True
        for document_id in self.topics:
            self.subscribe(document_id)

    def watch(self) -> None:
        for topic in self.topics.values():
            if topic.live:
                topic.doubt()
            self.read_if_needed(topic)

    # -- a viewer that joins -------------------------------------------------------------------------------------------

    def look(self, stream: Stream) -> None:
        """Its documents are live: what has to be read for it?"""
        cursor = stream.outbox.cursor
        seen = {document_id: cursor.seq(document_id) for document_id in stream.viewer.ids}
        stream.news = [self._latest(document_id) for document_id, seq in seen.items() if not seq]
        stream.readings = [
            Reading(document_id, seq)
            for document_id, seq in seen.items()
            if seq and (seq != self._latest(document_id).seq or self._latest(document_id).is_final)
        ]

    def let_in(self, stream: Stream) -> None:
        """All has been read: bring it up to date. It is over at once when it has seen every final event."""
        cursor = stream.outbox.cursor
        missed = stream.news
        for reading in stream.readings or ():
            assert reading.answer is not None
            news = catch_up(reading.answer, reading.after)
            missed += news
            if not news and newest(reading.answer).is_final:
                cursor.settle(reading.document_id, reading.after)
        stream.outbox.open(missed)
        if cursor.finished:
            stream.over = True
            stream.viewer.answered(204)
        else:
            stream.viewer.answered(200)
            stream.drain()

    def _latest(self, document_id: str) -> Event:
        latest = self.topics[document_id].latest
        assert latest is not None
        return latest


class Service(RuleBasedStateMachine):
    """All of it."""

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.records = {document_id: Record(document_id) for document_id in DOCUMENTS}
        self.nodes = [Node() for _ in range(NODES)]
        self.viewers: list[Viewer] = []
        self.streams: dict[Viewer, tuple[Node, Stream]] = {}
        #: Whether all that anyone could miss was kept.
        self.kept_all = True
        for node in self.nodes:
            for document_ids in (DOCUMENTS[:1], DOCUMENTS):
                self._come(document_ids, node)

    # -- what workers do -----------------------------------------------------------------------------------------------

    @rule(document_id=documents, times=st.integers(1, 4), lost=lost_on)
    def progress(self, document_id: str, times: int, lost: set[int]) -> None:
        """The next events; their messages do not reach some nodes."""
        record = self.records[document_id]
        for _ in range(times):
            self._publish(record.write(record.attempt, Status.PARSING, min(99.0, record.progress + 1)), lost)

    @rule(document_id=documents, completed=st.booleans(), lost=lost_on)
    def finish(self, document_id: str, completed: bool, lost: set[int]) -> None:
        """The final event of the attempt."""
        record = self.records[document_id]
        status, progress = (Status.COMPLETED, 100.0) if completed else (Status.FAILED, record.progress)
        self._publish(record.write(record.attempt, status, progress), lost)

    @rule(document_id=documents, lost=lost_on)
    def retry(self, document_id: str, lost: set[int]) -> None:
        """The next attempt of one that failed; whoever writes for the one before is refused."""
        record = self.records[document_id]
        if record.status in RETRYABLE:
            self._publish(record.retry(), lost)
            assert record.write(record.attempt - 1, Status.PARSING, 99.0) is None

    def _publish(self, event: Event | None, lost: set[int]) -> None:
        for n, node in enumerate(self.nodes):
            if event is not None and n not in lost:
                node.publish(event)

    @rule(document_id=documents, keep=st.integers(1, 3))
    def trim(self, document_id: str, keep: int) -> None:
        """Redis forgets the oldest events."""
        record = self.records[document_id]
        self.kept_all = self.kept_all and len(record.kept) <= keep
        del record.kept[:-keep]

    # -- what happens to nodes -----------------------------------------------------------------------------------------

    @rule(node=nodes, steps=st.lists(st.integers(0, 2), min_size=1, max_size=8))
    def go_on(self, node: int, steps: list[int]) -> None:
        """A node hears, reads and sends, in this order."""
        for step in steps:
            self._step(self.nodes[node], step)

    @rule()
    def all_goes_well(self) -> None:
        """For a while nothing is in anybody's way."""
        self._settle()

    def _clear(self, node: Node) -> None:
        while node.under_way or node.readings or node.outgoing:
            for step in range(3):
                self._step(node, step)

    def _step(self, node: Node, step: int) -> None:
        match step:
            case 0 if node.under_way:
                node.hear()
            case 1 if node.readings:
                self._read(node, self.chance.randrange(len(node.readings)))
            case 2 if node.outgoing:
                node.relay()

    def _read(self, node: Node, n: int) -> None:
        reading = node.readings[n][0]
        if reading.answer is None:
            reading.step(self.records[reading.document_id])
        else:
            node.has_read(n)

    @rule(node=nodes)
    def lose(self, node: int) -> None:
        """Its connection is lost, and it knows."""
        self.nodes[node].lose()

    @rule(node=nodes)
    def die(self, node: int) -> None:
        """Its connection is dead, and it does not know."""
        self.nodes[node].die()

    @rule(node=nodes)
    def connect(self, node: int) -> None:
        """It has found out, and has a connection again."""
        if self.nodes[node].dead:
            self.nodes[node].lose()
        if not self.nodes[node].connected:
            self.nodes[node].connect()

    @rule(node=nodes)
    def watch(self, node: int) -> None:
        """The watchdog finds everything silent for too long."""
        self.nodes[node].watch()

    @rule(node=nodes, document_id=documents)
    def abandon(self, node: int, document_id: str) -> None:
        """Nobody has watched a document for a while."""
        topic = self.nodes[node].topics.get(document_id)
        if topic is not None and topic.confirmed and not topic.viewers:
            self.nodes[node].abandon(document_id)

    # -- what viewers do -----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.viewers) < VIEWERS)
    @rule(document_ids=st.lists(documents, min_size=1, unique=True), node=nodes)
    def come(self, document_ids: list[str], node: int) -> None:
        """A new viewer, of one document or several."""
        self._come(document_ids, self.nodes[node])

    @rule(which=somebody, node=nodes)
    def come_back(self, which: int, node: int) -> None:
        """Its connection is lost, with all that was sent and not received; it resumes, on this node or another."""
        viewer = self.viewers[which % len(self.viewers)]
        if not viewer.done:
            self._open(viewer, self.nodes[node])

    @rule(which=somebody, steps=st.integers(1, 4))
    def join(self, which: int, steps: int) -> None:
        """The node goes on with bringing a viewer up to date."""
        viewer = self.viewers[which % len(self.viewers)]
        for _ in range(steps):
            if viewer in self.streams:
                self._join(*self.streams[viewer])

    @rule(which=somebody, node=nodes, moment=st.integers(0, 3))
    def come_back_while_it_moves(self, which: int, node: int, moment: int) -> None:
        """At one moment of its joining there is an event, and it is sent to everyone at once."""
        viewer, there = self.viewers[which % len(self.viewers)], self.nodes[node]
        if viewer.done:
            return
        self._open(viewer, there)
        for step in range(4):
            if step == moment:
                self.progress(viewer.ids[0], 1, set())
                self._clear(there)
            if viewer in self.streams:
                self._join(*self.streams[viewer])

    @rule(which=somebody)
    def receive(self, which: int) -> None:
        """A viewer reads what was sent."""
        viewer = self.viewers[which % len(self.viewers)]
        if viewer in self.streams:
            self._receive(viewer)

    @rule(which=somebody, full=st.booleans())
    def congest(self, which: int, full: bool) -> None:
        """A viewer's socket is full, or has room again."""
        viewer = self.viewers[which % len(self.viewers)]
        if viewer in self.streams:
            _, stream = self.streams[viewer]
            stream.congested = True
            if not full:
                stream.drain()

    def _come(self, document_ids: Sequence[str], node: Node) -> None:
        self.viewers.append(Viewer(document_ids, [("", 0)], self.chance))
        self._open(self.viewers[-1], node)

    def _open(self, viewer: Viewer, node: Node) -> None:
        self._leave(viewer)
        viewer.request(("", 0))
        stream = Stream(viewer, Outbox(Cursor(viewer.ids, viewer.last_event_id or None)))
        stream.asked = {document_id: self.records[document_id].seq for document_id in viewer.ids}
        self.streams[viewer] = (node, stream)
        node.arrive(stream)

    def _leave(self, viewer: Viewer) -> None:
        if viewer in self.streams:
            node, stream = self.streams.pop(viewer)
            node.leave(stream)

    def _join(self, node: Node, stream: Stream) -> None:
        if stream.outbox.live or stream.expected:
            return
        if stream.readings is None:
            node.look(stream)
        elif unread := [reading for reading in stream.readings if reading.answer is None]:
            unread[0].step(self.records[unread[0].document_id])
        else:
            node.let_in(stream)
            if stream.viewer.done:
                self._leave(stream.viewer)
                assert all(stream.viewer.sights[name].seq >= seq for name, seq in stream.asked.items()), "204 too early"

    def _receive(self, viewer: Viewer) -> None:
        _, stream = self.streams[viewer]
        stream.receive()
        if stream.over:
            self._leave(viewer)

    # -- what must be true ---------------------------------------------------------------------------------------------

    @invariant()
    def nobody_saw_anything_wrong(self) -> None:
        """No event twice, none out of order, no bar that falls."""
        assert [fault for viewer in self.viewers for fault in viewer.wrong] == []

    def teardown(self) -> None:
        """Once all is mended and the watchdog has looked, everyone who has not been told to stop knows the truth."""
        for node in self.nodes:
            node.lose()
            node.connect()
        self._settle()
        for node in self.nodes:
            node.watch()
        for _ in range(3):
            self._settle()
        for viewer in self.viewers:
            if not viewer.done:
                seen = {document_id: viewer.sights[document_id].seq for document_id in viewer.ids}
                assert seen == {document_id: self.records[document_id].seq for document_id in viewer.ids}
                assert not all(viewer.sights[document_id].final for document_id in viewer.ids)
        self.nobody_saw_anything_wrong()
        # Who has missed more than that is sent the state as it stands.
        if self.kept_all and sum(record.seq for record in self.records.values()) <= REPLAY_EVENTS:
            assert sum(viewer.gaps for viewer in self.viewers) == 0

    def _settle(self) -> None:
        """Everything that is on its way arrives, and whoever has no stream opens one."""
        for viewer in self.viewers:
            if viewer not in self.streams and not viewer.done:
                self._open(viewer, self.nodes[0])
        for node in self.nodes:
            self._clear(node)
        for viewer, (node, stream) in list(self.streams.items()):
            while viewer in self.streams and not (stream.outbox.live or stream.expected):
                self._join(node, stream)
            if viewer in self.streams:
                stream.drain()
                self._receive(viewer)


def test_whatever_happens_in_whatever_order_no_viewer_is_wrong():
    """Lost messages, dead connections, trimmed histories, stale writers, congestion, reconnects at any point to any
    node: no event twice, no bar that falls, no gap that the history could fill, and in the end the truth."""
    run_state_machine_as_test(Service, settings=settings(max_examples=300, stateful_step_count=60, deadline=None))
