"""Joining a stream, as values: the cursor, the replay, and both together under every interleaving."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_web.cursor import Cursor, parse_event_id
from ingest_web.events import Event
from ingest_web.outbox import MOST_BYTES, MOST_EVENTS, Outbox, latest_of_each
from ingest_web.replay import REPLAY_EVENTS, catch_up
from shared.store import History


def state(seq: int, document_id: str = "a", status: str = "PARSING") -> bytes:
    return f'{{"id":"{document_id}","filename":"a.pdf","status":"{status}","seq":{seq},"at":""}}'.encode()


def history(first: int, last: int, after: int, *, now: int | None = None, status: str = "PARSING") -> History:
    """What Redis answers when its stream holds the events first..last, and the state is at ``now``."""
    present = last if now is None else now
    stored = tuple((seq, state(seq, status=status)) for seq in range(max(first, after + 1), last + 1))
    return History(state(present, status=status), stored if after else ())


def sent_by(outbox: Outbox) -> list[int]:
    """The numbers of what it has to send."""
    return [json.loads(line[6:])["seq"] for line in outbox.take(10**9).splitlines() if line.startswith(b"data: ")]


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
    """The truth may have a lower number than what was sent; it is sent all the same, and what follows it, too."""
    [event] = catch_up(history(1, 4, 7), 7)
    assert (event.seq, event.rewinds) == (4, True)
    outbox = Outbox(Cursor(["a"], "7"))
    outbox.open([event, Event.from_json(state(5))])
    assert sent_by(outbox) == [4, 5]


def test_who_missed_very_much_gets_the_state_alone():
    """A replay is bounded, however much is stored."""
    assert seqs(catch_up(history(1, REPLAY_EVENTS + 3, 3), 3)) == list(range(4, REPLAY_EVENTS + 4))
    assert seqs(catch_up(history(1, REPLAY_EVENTS + 4, 3), 3)) == [REPLAY_EVENTS + 4]


@given(st.data())
def test_no_interleaving_makes_a_gap_or_a_repetition(data):
    """Subscribe, read, merge: every viewer sees each event after its cursor exactly once, in order, to the last."""
    total = data.draw(st.integers(1, 12), label="events in all")
    subscribed = data.draw(st.integers(0, total), label="events before the subscription")
    read = data.draw(st.integers(max(1, subscribed), total), label="events before the read")
    trimmed = data.draw(st.integers(0, read - 1), label="events trimmed before the read")
    seen = data.draw(st.integers(0, read), label="events seen before")

    outbox = Outbox(Cursor(["a"], str(seen) if seen else None))
    for seq in range(subscribed + 1, total + 1):
        if seq == read + 1:
            outbox.open(catch_up(history(trimmed + 1, read, seen), seen))
        outbox.put(Event.from_json(state(seq)))
    if not outbox.live:
        outbox.open(catch_up(history(trimmed + 1, read, seen), seen))

    resumable = seen and seen >= trimmed
    expected = list(range(seen + 1, total + 1)) if resumable else list(range(read, total + 1))
    assert sent_by(outbox) == expected


@given(st.lists(st.integers(0, 10**15 - 1), min_size=1, max_size=20))
def test_an_event_id_resumes_every_document(numbers):
    """The id that a cursor gives is the id that it takes."""
    ids = [f"d{n}" for n in range(len(numbers))]
    cursor = Cursor(ids)
    for document_id, seq in zip(ids, numbers, strict=True):
        cursor.frame(Event(document_id, seq, is_final=False, data=b"{}"))
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
    cursor.frame(Event.from_json(state(3, "a", "COMPLETED")))
    assert not cursor.finished
    cursor.settle("b", 9)
    assert cursor.finished
    assert cursor.event_id == "3.9"


def test_a_retry_opens_a_finished_document_again():
    """The next attempt's first event takes the place of the final one."""
    cursor = Cursor(["a"])
    cursor.frame(Event.from_json(state(3, "a", "FAILED")))
    cursor.frame(Event.from_json(state(4, "a", "PENDING")))
    assert not cursor.finished


def test_large_states_that_wait_for_a_viewer_are_few():
    """What waits beyond the latest of each document is bounded in bytes, whatever the size of a state."""
    outbox = Outbox(Cursor(["a", "b"]))
    outbox.open([])
    for seq in range(1, 40):
        for document_id in "ab":
            outbox.put(Event(document_id, seq, False, b"x" * 8_000))
    assert sum(len(event.frame) for event in outbox._events) <= MOST_BYTES + 3 * 8_100
    assert [event.seq for event in latest_of_each(outbox._events)] == [39, 39]


def test_who_falls_behind_is_owed_the_latest_of_each_document():
    """Memory is bounded, and final states, being the latest, are never dropped."""
    outbox = Outbox(Cursor(["a", "b"]))
    outbox.open([])
    for seq in range(1, 1000):
        outbox.put(Event.from_json(state(seq, "a")))
    outbox.put(Event.from_json(state(1, "b", "COMPLETED")))
    assert outbox.conflated >= 999 - MOST_EVENTS
    sent = sent_by(outbox)
    assert len(sent) <= MOST_EVENTS + 1
    assert sent[-2:] == [999, 1]


def test_a_replay_is_bounded_in_bytes_too():
    """Who missed much that is large gets the latest of each document; what is small comes event by event."""
    for pad, expected in ((b"x" * 500, list(range(2, 12))), (b"x" * 8_000, [11])):
        outbox = Outbox(Cursor(["a"], "1"))
        outbox.open(Event("a", seq, False, b'{"seq":%d,"pad":"%b"}' % (seq, pad)) for seq in range(2, 12))
        assert sent_by(outbox) == expected


def test_latest_of_each_keeps_the_order_in_which_they_came():
    """What came last comes last."""
    events = [Event.from_json(state(1, "a")), Event.from_json(state(1, "b")), Event.from_json(state(2, "a"))]
    assert [(event.document_id, event.seq) for event in latest_of_each(events)] == [("b", 1), ("a", 2)]


def test_an_outbox_is_emptied_in_pieces():
    """As much as a socket takes, and the rest later; nothing twice."""
    outbox = Outbox(Cursor(["a"]))
    outbox.open(Event.from_json(state(seq)) for seq in range(1, 11))
    one = len(Event.from_json(state(1)).frame)
    pieces = [outbox.take(3 * one) for _ in range(4)]
    assert [piece.count(b"id: ") for piece in pieces] == [3, 3, 3, 1]
    assert not outbox


def test_nothing_follows_the_final_event():
    """A stream whose documents are all over is finished, whatever waits behind."""
    outbox = Outbox(Cursor(["a"]))
    outbox.open([Event.from_json(state(3, status="FAILED")), Event.from_json(state(4, status="PENDING"))])
    assert sent_by(outbox) == [3]
    assert outbox.cursor.finished
    assert not outbox


def test_events_that_come_twice_are_no_reason_to_leave_any_out():
    """The replay and what was held back while it was read overlap: more than may wait, and no event is lost."""
    outbox = Outbox(Cursor(["a"], "1"))
    events = [Event.from_json(state(seq)) for seq in range(2, 2 + MOST_EVENTS)]
    for event in events:
        outbox.put(event)
    outbox.open(events)
    assert sent_by(outbox) == seqs(events)
    assert outbox.conflated == 0
