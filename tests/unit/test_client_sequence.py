"""From events to states, with lists."""

from __future__ import annotations

import pytest
from httpx_sse import ServerSentEvent

from ingest_client.sequence import DEFAULT_RETRY_SECONDS, Sequence
from shared.jobs import Status
from shared.protocol import State, encode_state
from tests.scripted_server import a_state, completed


def progress(state: State, event_id: str = "") -> ServerSentEvent:
    return ServerSentEvent(event="progress", data=encode_state(state), id=event_id or str(state.seq))


def test_an_event_is_news_once() -> None:
    """The same event a second time brings nothing."""
    sequence = Sequence(["A"])
    assert [sequence.take(progress(a_state())) for _ in range(2)] == [a_state(), None]


def test_a_number_that_comes_again_with_another_time_is_news() -> None:
    """After a server has lost its last second, the numbers run once more, with other content."""
    sequence = Sequence(["A"])
    again = a_state(seq=2, at="2026-11-23T20:01:00.000Z")
    assert [sequence.take(progress(state)) for state in [a_state(seq=2), a_state(seq=3), again]][-1] == again


def test_the_event_id_is_kept_as_it_came() -> None:
    """What the client gives back is the server's own text; an event without an id changes nothing."""
    sequence = Sequence(["A", "B"])
    sequence.take(progress(a_state("A"), "17.4"))
    sequence.take(ServerSentEvent(event="message", data="", id=""))
    assert sequence.last_event_id == "17.4"


def test_the_server_sets_the_time_to_wait() -> None:
    """``retry`` counts from then on, in milliseconds."""
    sequence = Sequence(["A"])
    assert sequence.retry_seconds == DEFAULT_RETRY_SECONDS
    sequence.take(ServerSentEvent(retry=250))
    assert sequence.retry_seconds == 0.25


def test_other_events_and_other_documents_are_left_alone() -> None:
    """A kind of event that a later server may add does no harm."""
    sequence = Sequence(["A"])
    assert sequence.take(ServerSentEvent(event="disconnecting", data="{}")) is None
    assert sequence.take(progress(a_state("B"))) is None


def test_it_is_finished_with_the_last_final_state() -> None:
    """Every document has its own end."""
    sequence = Sequence(["A", "B"])
    sequence.take(progress(completed("B")))
    assert not sequence.finished
    sequence.take(progress(completed("A")))
    assert sequence.finished


def test_a_retry_in_the_meantime_takes_the_end_back() -> None:
    """While another document still runs, a finished one may start its next attempt."""
    sequence = Sequence(["A", "B"])
    sequence.take(progress(completed("A", seq=5)))
    sequence.take(progress(a_state("A", 6, Status.PENDING, 0, attempt=2)))
    sequence.take(progress(completed("B")))
    assert not sequence.finished


def test_the_server_may_declare_it_finished() -> None:
    """A 204 is the last word on all of them."""
    sequence = Sequence(["A", "B"])
    sequence.finish()
    assert sequence.finished


def test_what_is_no_state_is_an_error() -> None:
    """It is told rather than skipped: something else answers."""
    with pytest.raises(ValueError, match="not a state"):
        Sequence(["A"]).take(ServerSentEvent(event="progress", data='{"id":"A"}'))


def test_it_grows_by_newcomers_and_leaves_out_what_is_over() -> None:
    """The order is kept, the place to resume from is forgotten, and what was seen stays seen."""
    sequence = Sequence(["A", "B"])
    sequence.take(progress(completed("A"), "9.0"))
    sequence.take(progress(a_state("B", 4), "9.4"))
    sequence.grow(["C", "B"])
    assert (sequence.ids, sequence.last_event_id, sequence.running) == (("B", "C"), "", 2)
    assert sequence.take(progress(a_state("B", 4), "4.0")) is None


def test_it_grows_after_its_end() -> None:
    """A document that is added is a reason to go on."""
    sequence = Sequence(["A"])
    sequence.finish()
    sequence.grow(["B"])
    assert (sequence.ids, sequence.finished) == (("B",), False)
