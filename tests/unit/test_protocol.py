"""The message: its bytes, its fields, its document."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.sweeper import MOST_TOLD
from shared import keys, protocol, scripts, store
from shared.jobs import Status
from shared.protocol import FIELDS, Failure, Notice, Stage, State, encode, encode_fields, encode_state, timestamp

PROTOCOL = (Path(protocol.__file__).parent / "PROTOCOL.md").read_text()

EXAMPLE = State(
    id="01jd",
    filename="annual “report”\n章.pdf",
    status=Status.PARSING,
    progress=30.0,
    message="Parsed 150 of 500 pages",
    stage=Stage(150, 500, "pages"),
    eta_seconds=21.5,
    queue_position=None,
    attempt=1,
    seq=17,
    at="2026-11-23T20:00:00.123Z",
    created_at="2026-11-23T19:59:50.000Z",
    updated_at="2026-11-23T20:00:00.123Z",
    alive_at="2026-11-23T20:00:00.100Z",
    finished_at=None,
    error=None,
    warnings=(Notice("page_fallback", "One page was read differently", (3, 7)),),
)

EXAMPLE_JSON = (
    '{"id":"01jd","filename":"annual “report”\\n章.pdf","status":"PARSING","progress":30,'
    '"message":"Parsed 150 of 500 pages","stage":{"done":150,"total":500,"unit":"pages"},"eta_seconds":21.5,'
    '"queue_position":null,"attempt":1,"seq":17,"at":"2026-11-23T20:00:00.123Z","created_at":"2026-11-23T19:59:50.000Z",'
    '"updated_at":"2026-11-23T20:00:00.123Z","alive_at":"2026-11-23T20:00:00.100Z","finished_at":null,"error":null,'
    '"warnings":[{"code":"page_fallback","message":"One page was read differently","pages":[3,7]}]}'
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.floats(0, 1e6, allow_nan=False).map(lambda value: round(value, 3))
STATES = st.builds(
    State,
    id=TEXT,
    filename=TEXT,
    status=st.sampled_from(Status),
    progress=NUMBERS,
    message=TEXT,
    stage=st.none() | st.builds(Stage, st.integers(0), st.integers(0), TEXT),
    eta_seconds=st.none() | NUMBERS,
    queue_position=st.none() | st.integers(1),
    attempt=st.integers(1),
    seq=st.integers(1),
    at=TEXT,
    created_at=TEXT,
    updated_at=TEXT,
    alive_at=st.none() | TEXT,
    finished_at=st.none() | TEXT,
    error=st.none() | st.builds(Failure, TEXT, TEXT),
    warnings=st.lists(st.builds(Notice, TEXT, TEXT, st.lists(st.integers(1)).map(tuple))).map(tuple),
)


def test_the_message_has_these_bytes():
    """A change of the wire format is seen here."""
    assert encode_state(EXAMPLE) == EXAMPLE_JSON


@given(STATES)
def test_a_state_survives_the_wire(state):
    """Whatever a state holds, who decodes the message has the same state, on one line."""
    message = encode_state(state)
    assert State.from_json(message) == state
    assert "\n" not in message
    assert "\r" not in message


@given(STATES)
def test_the_hash_holds_the_message_byte_for_byte(state):
    """Joining the fields of the hash gives the message, so that status and events can't differ."""
    fields = encode_fields({name: getattr(state, name) for name in FIELDS})
    stored = {name.encode(): value.encode() for name, value in fields.items()}
    assert protocol.json_of_hash(stored) == encode_state(state).encode()


def test_a_field_that_came_later_does_not_disturb():
    """A client of today understands a server of tomorrow."""
    message = json.loads(EXAMPLE_JSON) | {"colour": "green"}
    assert State.from_json(json.dumps(message)) == EXAMPLE


@pytest.mark.parametrize("data", ["", "[]", "null", "{}", '{"id":1}', EXAMPLE_JSON.replace("PARSING", "DANCING")])
def test_what_is_not_a_state_is_a_value_error(data):
    """Garbage on the channel has one clear error."""
    with pytest.raises(ValueError):  # noqa: PT011 - json and ours word it differently
        State.from_json(data)


def test_a_hash_with_a_hole_is_a_value_error():
    """A record that lacks a field is not passed on as if it were whole."""
    with pytest.raises(ValueError, match="no field"):
        protocol.json_of_hash({b"id": b'"x"'})


def test_unknown_fields_are_never_written():
    """A misspelt field is an error of the writer, not a field of the record."""
    with pytest.raises(ValueError, match="progres"):
        encode_fields({"progres": 1})


def test_numbers_that_json_lacks_are_refused():
    """NaN never reaches a browser's parser."""
    with pytest.raises(ValueError, match="JSON"):
        encode(float("nan"))


def test_times_are_utc_with_milliseconds():
    """Whatever zone a clock is in, the wire has UTC."""
    vienna = timezone(timedelta(hours=1))
    assert timestamp(datetime(2026, 11, 23, 21, 0, 0, 123456, vienna)) == "2026-11-23T20:00:00.123Z"
    assert timestamp(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"


def test_lua_and_python_have_the_same_fields_in_the_same_order():
    """The script composes what Python decodes."""
    listing = re.search(r"local FIELDS = \{(.*?)\}", scripts.load(scripts.RECORD_EVENT), re.DOTALL)
    assert listing is not None
    assert tuple(re.findall(r"'(\w+)'", listing[1])) == FIELDS


def test_the_document_lists_every_field_state_key_and_answer():
    """PROTOCOL.md and the code say the same."""
    section = PROTOCOL.split("## The state")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == FIELDS
    common = (
        keys.index("<tenant>"),
        keys.ACTIVE,
        keys.QUEUED,
        keys.READY,
        keys.CLOCK,
        keys.LEASED,
        keys.FINISHED,
        keys.SERVED,
        keys.SWEEPING,
        keys.OUTBOX,
        keys.COURIER,
        keys.COLLECTING,
        keys.ATTEMPTS,
    )
    for name in (*keys.of_document("<id>"), *common):
        assert f"`{name}`" in PROTOCOL
    for status in Status:
        assert f"`{status}`" in PROTOCOL
    answers = {"recorded", "behind", "unknown_ingestion", *(code.decode() for code in store._REFUSALS)}
    listed = PROTOCOL.split("## The one write")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)) == answers


def test_the_document_says_how_many_are_told_their_place():
    """Who reads null there knows why."""
    [row] = [line for line in PROTOCOL.splitlines() if line.startswith("| `queue_position` |")]
    assert f"The first {MOST_TOLD} that wait" in row
