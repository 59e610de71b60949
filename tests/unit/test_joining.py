"""Joining a stream, as values: the cursor, the replay, and both together under every interleaving."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_web.cursor import Cursor, parse_event_id
from ingest_web.events import Event
from ingest_web.replay import catch_up
from ingest_web.viewer import QueuedViewer, latest_of_each
from shared.store import History


def state(seq: int, document_id: str = "a", status: str = "PARSING") -> bytes:
    return json.dumps({"id": document_id, "seq": seq, "status": status}).encode()


def history(first: int, last: int, after: int, *, now: int | None = None, status: str = "PARSING") -> History:
    """What Redis answers when its stream holds the events first..last, and the state is at ``now``."""
    present = last if now is None else now
    stored = tuple((seq, state(seq, status=status)) for seq in range(max(first, after + 1), last + 1))
    return History(state(present, status=status), stored if after else ())


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


def test_a_newcomer_gets_the_state_as_it_stands():
    """The first event comes at once, whatever was before."""
    assert seqs(catch_up(history(1, 9, 0), 0)) == [9]


def test_who_missed_some_gets_just_these_in_order():
    """Last-Event-ID brings what was missed."""
    assert seqs(catch_up(history(1, 9, 6), 6)) == [7, 8, 9]


def test_who_missed_nothing_gets_nothing():
    """An event is never sent twice."""
    assert catch_up(history(1, 9, 9), 9) == []


def test_a_trimmed_history_is_bridged_by_the_state_alone():
    """Nothing is invented between what was seen and what is."""
    assert seqs(catch_up(history(20, 30, 5), 5)) == [30]


def test_an_event_between_the_two_reads_is_not_lost_to_a_trimmed_history():
    """The state is read before the events: the newer of the two is the truth."""
    assert seqs(catch_up(history(20, 31, 5, now=30), 5)) == [31]


def test_a_redis_that_has_lost_its_last_second_is_believed():
    """The truth may have a lower number than what was sent; it is sent all the same."""
    [event] = catch_up(history(1, 4, 7), 7)
    assert (event.seq, event.rewinds) == (4, True)
    cursor = Cursor(["a"], "7")
    assert cursor.wants(event)
    cursor.advance(event)
    assert not cursor.wants(event)
    assert cursor.wants(Event.from_json(state(5)))


@given(st.data())
def test_no_interleaving_makes_a_gap_or_a_repetition(data):
    """Subscribe, read, merge: every viewer sees each event after its cursor exactly once, in order, to the last."""
    total = data.draw(st.integers(1, 12), label="events in all")
    subscribed = data.draw(st.integers(0, total), label="events before the subscription")
    read = data.draw(st.integers(max(1, subscribed), total), label="events before the read")
    trimmed = data.draw(st.integers(0, read - 1), label="events trimmed before the read")
    seen = data.draw(st.integers(0, read), label="events seen before")

    viewer = QueuedViewer(Cursor(["a"], str(seen) if seen else None), retry_ms=1)
    for seq in range(subscribed + 1, total + 1):
        if seq == read + 1:
            viewer.go_live(catch_up(history(trimmed + 1, read, seen), seen))
        viewer.offer(Event.from_json(state(seq)))
    if viewer._early is not None:
        viewer.go_live(catch_up(history(trimmed + 1, read, seen), seen))

    sent = [event.seq for event in viewer._take(0) if viewer.cursor.wants(event) and viewer.encode(event)]
    resumable = seen and seen >= trimmed
    expected = list(range(seen + 1, total + 1)) if resumable else list(range(read, total + 1))
    assert sent == expected


@given(st.lists(st.integers(0, 10**15 - 1), min_size=1, max_size=20))
def test_an_event_id_resumes_every_document(numbers):
    """The id that a cursor gives is the id that it takes."""
    ids = [f"d{n}" for n in range(len(numbers))]
    cursor = Cursor(ids)
    for document_id, seq in zip(ids, numbers, strict=True):
        cursor.advance(Event(document_id, seq, is_final=False, data=b"{}"))
    resumed = Cursor(ids, cursor.event_id)
    assert [resumed.seq(document_id) for document_id in ids] == numbers


@pytest.mark.parametrize("value", [None, "", "x", "-1", "1.", ".1", "1..2", "1.2", "\uff11", "9" * 16, "1\n"])
def test_a_last_event_id_that_is_not_ours_counts_as_none(value):
    """Whatever a client sends, it gets the state as it stands."""
    assert parse_event_id(value, 1) is None


@given(st.text())
def test_no_last_event_id_breaks_the_parser(value):
    """Any text is either an event id or none."""
    parsed = parse_event_id(value, 2)
    assert parsed is None or len(parsed) == 2


def test_a_stream_of_several_documents_ends_with_the_last_of_them():
    """It is finished when each document's final event was sent."""
    cursor = Cursor(["a", "b"])
    cursor.advance(Event.from_json(state(3, "a", "COMPLETED")))
    assert not cursor.finished
    cursor.settle("b", 9)
    assert cursor.finished
    assert cursor.event_id == "3.9"


def test_a_retry_opens_a_finished_document_again():
    """The next attempt's first event takes the place of the final one."""
    cursor = Cursor(["a"])
    cursor.advance(Event.from_json(state(3, "a", "FAILED")))
    cursor.advance(Event.from_json(state(4, "a", "PENDING")))
    assert not cursor.finished


def test_a_queue_that_grows_too_long_keeps_the_latest_of_each_document():
    """Memory is bounded, and final states, being the latest, are never dropped."""
    events = [Event.from_json(state(1, "a")), Event.from_json(state(1, "b")), Event.from_json(state(2, "a"))]
    assert [(event.document_id, event.seq) for event in latest_of_each(events)] == [("b", 1), ("a", 2)]
