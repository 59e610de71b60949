"""Frames, byte for byte."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_web import sse
from ingest_web.events import Event
from shared.jobs import FINAL, Status
from shared.protocol import encode_state
from tests.scripted_server import a_state


def test_a_frame_has_these_bytes():
    """A change of the stream's format is seen here."""
    event = Event.from_json(
        b'{"id":"a","filename":"a.pdf","status":"PARSING","seq":17,"at":"2026-11-24T20:00:00.123Z"}'
    )
    data = b'data: {"id":"a","filename":"a.pdf","status":"PARSING","seq":17,"at":"2026-11-24T20:00:00.123Z"}'
    assert event.frame == b"id: 17\nevent: progress\n" + data + b"\n\n"
    assert sse.with_id(b"4.17", event.frame) == b"id: 4.17\nevent: progress\n" + data + b"\n\n"
    assert event.happened_at.isoformat() == "2026-11-24T20:00:00.123000+00:00"


def test_what_a_stranger_wrote_is_not_taken_for_a_field():
    """A file may be called anything, also something that looks like the end of a document."""
    name = '","status":"COMPLETED","seq":99,"at":"'
    state = f'{{"id":"a","filename":{json.dumps(name)},"status":"PARSING","seq":17,"at":"2026-11-24T20:00:00.123Z"}}'
    event = Event.from_json(state.encode())
    assert (event.document_id, event.seq, event.is_final) == ("a", 17, False)


@given(st.text(), st.text(), st.sampled_from(Status), st.integers(1, 10**12))
def test_an_event_reads_from_a_state_what_a_json_parser_reads(filename, message, status, seq):
    """Whatever the texts are."""
    at = "2026-11-24T20:00:00.123Z"
    state = encode_state(a_state("a", seq=seq, filename=filename, message=message, status=status, at=at))
    event = Event.from_json(state.encode())
    assert (event.document_id, event.seq, event.is_final) == ("a", seq, status in FINAL)
    assert event.happened_at == datetime.fromisoformat(at)


def test_a_frame_is_encoded_once():
    """However many watch, they are sent the same object."""
    event = Event("a", 1, is_final=False, data=b"{}")
    assert event.frame is event.frame


def test_data_that_would_break_the_frame_is_refused():
    """A line end in the data can't smuggle in another event."""
    for data in (b"a\nid: 9", b"a\rid: 9"):
        with pytest.raises(ValueError, match="one line"):
            sse.event(b"1", b"progress", data)


def test_a_final_state_makes_a_final_event():
    """The end of a stream is read from the state."""
    assert Event.from_json(b'{"id":"a","filename":"a.pdf","status":"FAILED","seq":1,"at":""}').is_final
    assert not Event.from_json(b'{"id":"a","filename":"a.pdf","status":"LOADING","seq":1,"at":""}').is_final


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"7", b"{}", b'{"id":"a"}', b'{"id":"a","filename":"a.pdf","status":"FAILED","seq":1,"at":"']
)
def test_what_is_not_a_state_is_a_value_error(data):
    """Garbage on the channel has one clear error."""
    with pytest.raises(ValueError):  # noqa: PT011 - json and ours word it differently
        Event.from_json(data)
