"""Frames, byte for byte."""

from __future__ import annotations

import pytest

from ingest_web import sse
from ingest_web.events import Event


def test_a_frame_has_these_bytes():
    """A change of the stream's format is seen here."""
    event = Event.from_json(b'{"id":"a","seq":17,"status":"PARSING"}')
    assert event.frame == b'id: 17\nevent: progress\ndata: {"id":"a","seq":17,"status":"PARSING"}\n\n'


def test_a_frame_is_encoded_once():
    """However many watch, they are sent the same object."""
    event = Event("a", 1, is_final=False, data=b"{}")
    assert event.frame is event.frame


def test_data_that_would_break_the_frame_is_refused():
    """A line end in the data can't smuggle in another event."""
    for data in (b"a\nid: 9", b"a\rid: 9"):
        with pytest.raises(ValueError, match="one line"):
            sse.body("progress", data)


def test_a_final_state_makes_a_final_event():
    """The end of a stream is read from the state."""
    assert Event.from_json(b'{"id":"a","seq":1,"status":"FAILED"}').is_final
    assert not Event.from_json(b'{"id":"a","seq":1,"status":"LOADING"}').is_final


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"{}", b'{"id":"a"}'])
def test_what_is_not_a_state_is_a_value_error(data):
    """Garbage on the channel has one clear error."""
    with pytest.raises(ValueError):  # noqa: PT011 - json and ours word it differently
        Event.from_json(data)
