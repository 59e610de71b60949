"""What is sent, in which order, and what is not worth sending any more."""

from __future__ import annotations

import time

import pytest

from ingest_web.cursor import Cursor
from ingest_web.events import Event
from ingest_web.relay import BEHIND_SECONDS, SLICE_VIEWERS, Relay
from ingest_web.tally import Tally
from ingest_web.topic import Topic
from ingest_web.viewer import QueuedViewer


def event(seq: int) -> Event:
    return Event("d", seq, is_final=False, data=b"{}")


class Watching(QueuedViewer):
    """A viewer that only remembers."""

    def __init__(self, relay: Relay | None = None) -> None:
        super().__init__(Cursor(["d"]), retry_ms=1)
        self.seqs: list[int] = []
        self._relay = relay

    def offer(self, event: Event) -> None:
        self.seqs.append(event.seq)
        if self._relay is not None:
            self._relay.run()  # as another thread would, in the middle of it


class Failing(Watching):
    def offer(self, event: Event) -> None:
        raise RuntimeError("a fault of ours")


@pytest.fixture
def topic() -> Topic:
    return Topic("d", now=0.0)


@pytest.fixture
def relay() -> Relay:
    return Relay(Tally())


def test_events_go_to_every_viewer_in_their_order(topic, relay):
    """Whoever else calls meanwhile, nothing overtakes and nothing comes twice."""
    topic.viewers = {Watching(relay) for _ in range(3 * SLICE_VIEWERS)}
    relay.put(topic, [event(seq) for seq in (1, 2, 3)], time.monotonic())
    relay.run()
    assert all(viewer.seqs == [1, 2, 3] for viewer in topic.viewers)


def test_while_the_process_is_behind_only_the_latest_is_sent(topic, relay):
    """What has waited for long and is followed by something newer would only make everything else wait, too."""
    viewer = Watching()
    topic.viewers = {viewer}
    events = [event(seq) for seq in (1, 2, 3)]
    topic.latest = events[-1]
    relay.put(topic, events, time.monotonic() - 2 * BEHIND_SECONDS)
    relay.run()
    assert viewer.seqs == [3]
    assert relay._tally.taken().conflated == 2


def test_a_rewind_is_never_skipped(topic, relay):
    """Without it, viewers would want nothing of what follows."""
    viewer = Watching()
    topic.viewers = {viewer}
    topic.latest = event(5)
    relay.put(topic, [event(4).as_rewind(), topic.latest], time.monotonic() - 2 * BEHIND_SECONDS)
    relay.run()
    assert viewer.seqs == [4, 5]


def test_a_viewer_that_fails_takes_nothing_from_the_others(topic, relay):
    """It is closed, and comes back."""
    good, bad = Watching(), Failing()
    topic.viewers = {good, bad}
    relay.put(topic, [event(1)], time.monotonic())
    relay.run()
    assert (good.seqs, good.closed, bad.closed) == ([1], False, True)
    relay.put(topic, [event(2)], time.monotonic())
    relay.run()
    assert good.seqs == [1, 2]
