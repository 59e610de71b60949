"""Streams through the generator path, under Flask's own client: the same promises as on gunicorn."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from ingest_web import ids, services
from ingest_web.hub import LINGER_SECONDS
from ingest_web.subscriber import PING_SECONDS
from shared import keys
from shared.jobs import Status
from tests.awaiting import wait_until
from tests.records import finish, new_document


class Stream:
    """A stream that is read frame by frame."""

    def __init__(self, http, path: str, last_event_id: str | None = None):
        headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
        self.answer = http.get(path, headers=headers)
        self._chunks: Iterator[bytes] = self.answer.iter_encoded()
        self._buffer = b""

    def frame(self) -> bytes | None:
        """The next frame without its blank line; None at the end."""
        while b"\n\n" not in self._buffer:
            chunk = next(self._chunks, None)
            if chunk is None:
                assert self._buffer == b""
                return None
            self._buffer += chunk
        frame, self._buffer = self._buffer.split(b"\n\n", 1)
        return frame

    def event(self) -> tuple[str, dict] | None:
        """The next event as id and state, passing over heartbeats."""
        while (frame := self.frame()) is not None and frame == b":":
            pass
        if frame is None:
            return None
        id_line, event_line, data_line = frame.split(b"\n")
        assert event_line == b"event: progress"
        return id_line.removeprefix(b"id: ").decode(), json.loads(data_line.removeprefix(b"data: "))

    def rest(self) -> list[tuple[str, dict]]:
        return list(iter(self.event, None))

    def close(self) -> None:
        self.answer.close()


@pytest.fixture
def document(store) -> str:
    return new_document(store)


def test_a_stream_is_announced_as_one(http, document):
    """Its headers keep caches and proxies from holding it back."""
    stream = Stream(http, f"/status/stream/{document}")
    headers = stream.answer.headers
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no"
    assert stream.frame() == b"retry: 2000"
    stream.close()


def test_the_state_comes_first_then_each_event_then_the_end(http, store, document):
    """From the first look to the final state, in order, each with its number."""
    stream = Stream(http, f"/status/stream/{document}")
    assert stream.frame() == b"retry: 2000"
    assert stream.event()[0] == "1"
    for n in (1, 2, 3):
        store.record(document, 1, Status.PARSING, f"Parsed {n} of 3 pages", progress=n * 30.0)
    finish(store, document)
    events = stream.rest()
    assert [event_id for event_id, _ in events] == ["2", "3", "4", "5"]
    assert [state["status"] for _, state in events] == ["PARSING"] * 3 + ["FAILED"]


def test_the_data_is_what_status_answers(http, store, document):
    """Polling and watching say the same, byte for byte."""
    finish(store, document)
    stream = Stream(http, f"/status/stream/{document}")
    stream.frame()
    data = stream.frame().split(b"\ndata: ")[1]
    assert data == http.get(f"/status/{document}").data


@pytest.mark.parametrize("last_event_id", ["1", "2", "3", "4"])
def test_a_reconnect_brings_just_what_was_missed(http, store, document, last_event_id):
    """In order, none twice, whatever was the last that was seen."""
    for n in range(3):
        store.record(document, 1, Status.PARSING, f"{n}", progress=float(n))
    finish(store, document)
    stream = Stream(http, f"/status/stream/{document}", last_event_id)
    stream.frame()
    assert [event_id for event_id, _ in stream.rest()] == ["2", "3", "4", "5"][int(last_event_id) - 1 :]


@pytest.mark.parametrize("last_event_id", ["", "x", "1.2", "99999999999999999999"])
def test_a_foreign_last_event_id_brings_the_state(http, store, document, last_event_id):
    """What is not ours counts as none."""
    finish(store, document)
    stream = Stream(http, f"/status/stream/{document}", last_event_id)
    stream.frame()
    assert [event_id for event_id, _ in stream.rest()] == ["2"]


def test_a_trimmed_history_brings_the_state_and_nothing_invented(http, store, client, document):
    """Too long away: one event, the state as it stands."""
    for n in range(3):
        store.record(document, 1, Status.PARSING, f"{n}")
    finish(store, document)
    client.xtrim(keys.events(document), maxlen=2, approximate=False)
    stream = Stream(http, f"/status/stream/{document}", "1")
    stream.frame()
    assert [event_id for event_id, _ in stream.rest()] == ["5"]


def test_who_has_seen_the_end_is_told_to_stop(http, store, document):
    """204, at which an EventSource gives up in peace."""
    finish(store, document)
    answer = http.get(f"/status/stream/{document}", headers={"Last-Event-ID": "2"})
    assert (answer.status_code, answer.data) == (204, b"")


def test_several_documents_share_a_stream_and_resume_together(http, store):
    """One connection, one event id for all, 204 when all are final."""
    first, second = (new_document(store) for _ in range(2))
    path = f"/status/stream?id={first}&id={second}"
    stream = Stream(http, path)
    stream.frame()
    assert [stream.event()[0], stream.event()[0]] == ["1.0", "1.1"]
    store.record(second, 1, Status.PARSING, "on")
    event_id, state = stream.event()
    assert (event_id, state["id"]) == ("1.2", second)
    stream.close()

    finish(store, first)
    finish(store, second)
    again = Stream(http, path, event_id)
    again.frame()
    assert [(event_id, state["id"]) for event_id, state in again.rest()] == [("2.2", first), ("2.3", second)]
    assert http.get(path, headers={"Last-Event-ID": "2.3"}).status_code == 204


def test_a_stream_with_an_unknown_document_names_it(http, document):
    """404 with the ids that are unknown, so that a client can go on with the others."""
    gone = ids.new_id()
    answer = http.get(f"/status/stream?id={document}&id={gone}")
    assert (answer.status_code, answer.json["code"], answer.json["ids"]) == (404, "unknown_ingestion", [gone])


@pytest.mark.parametrize("query", ["", "?" + "&".join(f"id={n:026d}" for n in range(501))])
def test_a_stream_has_a_bounded_number_of_documents(http, query):
    """None, or too many, is an error of the request."""
    assert http.get(f"/status/stream{query}").json["code"] == "invalid_option"


def test_a_quiet_stream_shows_that_it_lives(make_app, document):
    """A comment, again and again."""
    http = make_app(heartbeat_seconds=0.05).test_client()
    stream = Stream(http, f"/status/stream/{document}")
    assert [stream.frame().split(b"\n")[0] for _ in range(4)] == [b"retry: 2000", b"id: 1", b":", b":"]
    stream.close()


def test_redis_shows_what_is_watched(http, app, client, document):
    """One subscription for any number of viewers; none a moment after the last has gone."""
    streams = [Stream(http, f"/status/stream/{document}") for _ in range(3)]
    channel = keys.channel(document).encode()
    assert client.pubsub_channels() == [channel]
    assert client.pubsub_numsub(channel) == [(channel, 1)]
    assert services.of(app).hub.viewer_count == 3
    for stream in streams:
        stream.close()
    assert services.of(app).hub.viewer_count == 0
    # The hub is woken for it, and does not wait for its next PING.
    wait_until(lambda: client.pubsub_channels() == [], within_seconds=LINGER_SECONDS + PING_SECONDS / 2)


def test_a_document_that_comes_back_in_a_moment_stays_subscribed(http, app, client, store, document):
    """A reload does not cost Redis an UNSUBSCRIBE, and nothing is missed across it, however often it happens."""
    before = client.info("commandstats").get("cmdstat_unsubscribe", {}).get("calls", 0)
    for _ in range(3):
        Stream(http, f"/status/stream/{document}").close()
    stream = Stream(http, f"/status/stream/{document}")
    stream.frame()
    stream.event()
    finish(store, document)
    assert [event_id for event_id, _ in stream.rest()] == ["2"]
    wait_until(lambda: services.of(app).hub.watched == frozenset())
    wait_until(lambda: client.info("commandstats").get("cmdstat_unsubscribe", {}).get("calls", 0) == before + 1)


def test_a_fault_in_the_hub_does_not_end_it(http, app, store, document, monkeypatch):
    """Whatever goes wrong, it connects again and brings every viewer up to date."""
    hub = services.of(app).hub
    stream = Stream(http, f"/status/stream/{document}")
    stream.frame()
    stream.event()
    with monkeypatch.context() as patch:
        patch.delattr(hub, "_channels")
        store.record(document, 1, Status.PARSING, "into the dark", progress=1.0)
        wait_until(lambda: not hub.is_connected)
    finish(store, document)
    assert [event_id for event_id, _ in stream.rest()] == ["2", "3"]


def test_a_foreign_message_on_the_channel_is_passed_over(http, client, store, document):
    """Garbage harms nobody who watches."""
    stream = Stream(http, f"/status/stream/{document}")
    stream.frame()
    stream.event()
    for garbage in (b"", b"{}", b"\xff", b'{"id":"x","seq":1,"status":"PARSING"}'):
        client.publish(keys.channel(document), garbage)
    finish(store, document)
    assert [event_id for event_id, _ in stream.rest()] == ["2"]


def test_a_lost_subscription_is_made_good(http, client, store, document):
    """The connection is cut, events happen, and every viewer is brought up to date: in order, none twice."""
    stream = Stream(http, f"/status/stream/{document}")
    stream.frame()
    stream.event()
    client.client_kill_filter(_type="pubsub", skipme=True)
    store.record(document, 1, Status.PARSING, "unseen", progress=10.0)
    finish(store, document)
    assert [event_id for event_id, _ in stream.rest()] == ["2", "3"]


def test_many_viewers_see_the_same(http, store, document):
    """Each of twenty viewers, joining while events happen, sees every event after its first exactly once."""
    seen: list[list[int]] = []

    def watch() -> None:
        stream = Stream(http, f"/status/stream/{document}")
        stream.frame()
        seen.append([int(event_id) for event_id, _ in stream.rest()])

    viewers = [threading.Thread(target=watch) for _ in range(20)]
    for n, viewer in enumerate(viewers):
        viewer.start()
        store.record(document, 1, Status.PARSING, f"{n}", progress=float(n))
    finish(store, document)
    for viewer in viewers:
        viewer.join()
    assert all(numbers == list(range(numbers[0], 23)) for numbers in seen)
    assert len(seen) == 20


def test_a_stream_too_many_is_asked_to_come_back_and_finds_room_later(make_app, document):
    """200 with the reason and a delay of its own: an EventSource would give up for good on anything else."""
    app = make_app(max_streams_per_address=1)
    first = Stream(app.test_client(), f"/status/stream/{document}")
    first.frame()
    refused = Stream(app.test_client(), f"/status/stream/{document}")
    assert refused.answer.status_code == 200
    assert refused.frame().startswith(b": Your address has 1 streams")
    assert 2000 <= int(refused.frame().removeprefix(b"retry: ")) <= 6000
    assert refused.frame() is None
    first.close()
    assert Stream(app.test_client(), f"/status/stream/{document}").frame() == b"retry: 2000"


def test_a_stream_that_is_refused_holds_no_seat(make_app, store, document):
    """Neither an unknown document nor one that is over keeps others out."""
    app = make_app(max_streams=1)
    finish(store, document)
    for _ in range(2):
        assert app.test_client().get(f"/status/stream/{'0' * 26}").status_code == 404
        answer = app.test_client().get(f"/status/stream/{document}", headers={"Last-Event-ID": "2"})
        assert answer.status_code == 204
    assert services.of(app).admission.taken == 0


@pytest.mark.parametrize(("proxies", "second_is_let_in"), [(0, False), (1, True)])
def test_addresses_are_told_apart_as_far_as_proxies_are_trusted(make_app, document, proxies, second_is_let_in):
    """What a client writes into X-Forwarded-For counts only when a proxy of ours has written it."""
    app = make_app(max_streams_per_address=1, trusted_proxies=proxies)
    frames = []
    held = []
    for address in ("192.0.2.1", "192.0.2.2"):
        answer = app.test_client().get(f"/status/stream/{document}", headers={"X-Forwarded-For": address})
        held.append(answer)
        frames.append(next(answer.iter_encoded()))
    assert frames[0] == b"retry: 2000\n\n"
    assert (frames[1] == b"retry: 2000\n\n") is second_is_let_in
    for answer in held:
        answer.close()


def test_the_head_of_a_stream_is_that_of_its_events(http, store, document):
    """Whether it goes on, is over, has ended for whoever saw that, or never was; and nothing is left open."""
    over, never = new_document(store), ids.new_id()
    finish(store, over)
    admission = services.of(http.application).admission
    several = (f"?id={document}&id={over}", f"?id={document}&id={never}", "")
    for path in (f"/{document}", f"/{over}", f"/{never}", *several):
        for seen in ("", "2", "1.2"):
            asked = {"path": f"/status/stream{path}", "headers": {"Last-Event-ID": seen}}
            head = http.head(**asked)
            assert admission.taken == 0
            with http.get(**asked) as whole:
                answered = (whole.status_code, whole.content_type, whole.headers.get("Cache-Control"))
            assert (head.status_code, head.content_type, head.headers.get("Cache-Control")) == answered, asked
            assert head.data == b""
