"""The record: one write, fenced, in order, all or nothing. On a real Valkey, and on fakeredis for the data
structures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import fakeredis
import pytest
import redis

from shared import connections, keys, outbox
from shared.access import DEFAULT_TENANT
from shared.errors import AlreadyFinished, OutOfOrder, Refused, StaleAttempt, StoreUnavailable, UnknownIngestion
from shared.jobs import FINAL, TRANSITIONS, Status
from shared.protocol import Failure, Notice, Stage, State
from shared.source import Source
from shared.store import EXPIRY_MARGIN_SECONDS, Store
from tests.records import SOURCE

NOW = datetime(2026, 11, 23, 20, 0, 0, 123_000, UTC)

#: How a document gets into each state.
PATH = [Status.PENDING, Status.PARSING, Status.CHUNKING, Status.LOADING, Status.COMPLETED]


@pytest.fixture(params=["valkey", "fakeredis"])
def any_client(request, settings) -> Iterator[redis.Redis]:
    if request.param == "fakeredis":
        yield fakeredis.FakeRedis(server_type="valkey")
        return
    yield request.getfixturevalue("client")


@pytest.fixture
def any_store(any_client, settings) -> Store:
    return Store(any_client, settings, clock=lambda: NOW)


def bring_to(store: Store, status: Status) -> State:
    state = store.create("d", SOURCE)
    path = PATH[1 : PATH.index(status) + 1] if status in PATH else [status]
    for step in path:
        state = store.record("d", 1, step, "moved")
    return state


def messages(client: redis.Redis) -> list[bytes]:
    return [fields[b"state"] for _, fields in client.xrange(keys.events("d"))]


def test_a_new_document_is_pending_with_its_first_event(any_store, any_client):
    """Creation writes the state and event 1 at once."""
    state = any_store.create("d", SOURCE)
    assert (state.status, state.seq, state.attempt, state.progress) == (Status.PENDING, 1, 1, 0)
    assert state.created_at == "2026-11-23T20:00:00.123Z"
    assert messages(any_client) == [any_store.state_json("d")]
    assert any_store.source("d") == SOURCE


def test_creating_twice_creates_once(any_store, any_client):
    """A creation that is repeated changes nothing and gives the state as it is."""
    any_store.create("d", SOURCE)
    moved = any_store.record("d", 1, Status.PARSING, "going")
    assert any_store.create("d", SOURCE) == moved
    assert len(messages(any_client)) == 2


def test_state_stream_and_channel_say_the_same_bytes(any_store, any_client):
    """One write, three places, no difference."""
    subscription = any_client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(keys.channel("d"))
    subscription.get_message(timeout=1)
    any_store.create("d", SOURCE)
    any_store.record(
        "d", 1, Status.PARSING, "Parsed 1 of 3 pages", progress=30.0, stage=Stage(1, 3, "pages"), eta_seconds=1.5
    )
    published = [subscription.get_message(timeout=1)["data"] for _ in range(2)]
    assert published == messages(any_client)
    assert published[-1] == any_store.state_json("d")
    subscription.close()


@pytest.mark.parametrize("target", list(Status))
@pytest.mark.parametrize("source", list(Status))
def test_the_script_allows_just_what_the_table_allows(any_store, any_client, source, target):
    """For every pair of states, the write happens or leaves no trace."""
    bring_to(any_store, source)
    before = messages(any_client)
    if target in TRANSITIONS[source]:
        assert any_store.record("d", 1, target, "moved").status is target
        return
    with pytest.raises(AlreadyFinished if source in FINAL else OutOfOrder):
        any_store.record("d", 1, target, "moved")
    assert messages(any_client) == before
    assert any_store.state("d").status is source


@pytest.mark.parametrize("attempt", [0, 2, 11])
def test_a_writer_of_another_attempt_is_refused(any_store, attempt):
    """The attempt is a fencing token."""
    bring_to(any_store, Status.PARSING)
    with pytest.raises(StaleAttempt):
        any_store.record("d", attempt, Status.PARSING, "late")


def test_progress_never_falls(any_store, any_client):
    """Reporting less than was reported already changes nothing and is no error."""
    bring_to(any_store, Status.PARSING)
    any_store.record("d", 1, Status.PARSING, "half", progress=45.5)
    state = any_store.record("d", 1, Status.PARSING, "a task that was delivered twice", progress=3.0)
    assert (state.progress, state.message) == (45.5, "half")
    assert len(messages(any_client)) == 3


def test_a_failure_keeps_the_bar_and_says_why(any_store):
    """FAILED carries a code and a message; the bar stays where it was."""
    bring_to(any_store, Status.PARSING)
    any_store.record("d", 1, Status.PARSING, "some", progress=12.5)
    state = any_store.record("d", 1, Status.FAILED, "Encrypted", error=Failure("encrypted", "It needs a password."))
    assert (state.progress, state.error) == (12.5, Failure("encrypted", "It needs a password."))
    assert state.finished_at == state.at


def test_warnings_stay_until_they_are_replaced(any_store):
    """A later event that says nothing of warnings keeps them."""
    bring_to(any_store, Status.PARSING)
    warning = Notice("no_text", "There is no text.", (1, 2))
    any_store.record("d", 1, Status.PARSING, "w", warnings=[warning])
    assert any_store.record("d", 1, Status.CHUNKING, "on").warnings == (warning,)


def test_text_of_strangers_survives(any_store):
    """Quotes, line ends, any script: what was written is what is read."""
    name = 'a"b\\c\n\r\u2028 年度 \U0001f600 {}.pdf'
    any_store.create("d", Source(name, media_type="m", size_bytes=1, sha256="s", path="p", options=SOURCE.options))
    assert any_store.state("d").filename == name
    assert any_store.source("d").filename == name


def test_an_unknown_document_is_unknown_everywhere(any_store):
    """Nothing comes into being by asking for it or reporting on it."""
    for ask in (any_store.state, any_store.state_json, any_store.source):
        with pytest.raises(UnknownIngestion):
            ask("d")
    with pytest.raises(UnknownIngestion):
        any_store.record("d", 1, Status.PARSING, "ghost")
    assert any_store.histories([("d", 5)])["d", 5].state is None


def test_histories_hold_what_came_after(any_store):
    """For a reconnect: the state and the events after a number, as many as are wanted; for a newcomer: the state."""
    bring_to(any_store, Status.CHUNKING)
    any_store.create("e", SOURCE)
    found = any_store.histories([("d", 1), ("d", 2), ("e", None)])
    assert [seq for seq, _ in found["d", 1].events] == [2, 3]
    assert [seq for seq, _ in found["d", 2].events] == [3]
    assert found["d", 1].state == found["d", 1].events[-1][1]
    assert (found["e", None].state, found["e", None].events) == (any_store.state_json("e"), ())
    assert [seq for seq, _ in any_store.histories([("d", 1)], most_events=1)["d", 1].events] == [2]


def test_the_newest_come_first_and_the_gone_are_skipped(any_store, any_client):
    """The list is in order of creation, page by page; what has expired leaves it."""
    for name in ("a", "b", "c", "d"):
        any_store.create(name, SOURCE)
    any_client.delete(keys.state("c"))
    listed = [State.from_json(state).id for state in any_store.newest(DEFAULT_TENANT, 3)]
    assert listed == ["d", "b"]
    assert [State.from_json(state).id for state in any_store.newest(DEFAULT_TENANT, 3, before="b")] == ["a"]
    assert any_client.zcard(keys.index(DEFAULT_TENANT)) == 3


def test_a_document_on_its_way_never_expires(any_store, any_client):
    """However long it waits for a worker."""
    bring_to(any_store, Status.PARSING)
    assert lives_of_all_but_the_outbox(any_client) == {-1}


@pytest.mark.parametrize("status", sorted(FINAL))
def test_every_key_of_a_finished_document_expires(any_store, any_client, settings, status):
    """No final event leaves a key behind that lives for ever; the next attempt makes them stay again."""
    bring_to(any_store, status)
    for seconds in lives_of_all_but_the_outbox(any_client, f"{keys.state('d')}*"):
        assert settings.retention_seconds < seconds <= settings.retention_seconds + EXPIRY_MARGIN_SECONDS
    if status is not Status.COMPLETED:
        any_store.begin_attempt("d")
        assert lives_of_all_but_the_outbox(any_client) == {-1}


def lives_of_all_but_the_outbox(client, pattern: str = "*") -> set[int]:
    """How many seconds keys live; -1: for ever."""
    return {client.ttl(key) for key in client.keys(pattern) if key.decode() != keys.outbox("d")}


@pytest.mark.parametrize("status", sorted(FINAL))
def test_the_outbox_outlives_all_else_of_a_document(any_store, any_client, status):
    """What webhooks are to hear is there when all else has expired, and is forgotten when no courier ever comes."""
    bring_to(any_store, status)
    others = lives_of_all_but_the_outbox(any_client)
    assert max(others) < any_client.ttl(keys.outbox("d")) <= outbox.KEPT_MS / 1000


def test_deleting_leaves_nothing_but_what_is_to_be_told(any_store, any_client):
    """No key, no name in the index; a courier is led to the outbox."""
    bring_to(any_store, Status.PARSING)
    any_client.delete(keys.OUTBOX)  # as if whoever recorded that had not come to it
    any_store.delete("d")
    assert sorted(any_client.keys("*")) == [keys.OUTBOX.encode(), keys.outbox("d").encode()]
    assert any_client.zrange(keys.OUTBOX, 0, -1) == [b"d"]


def test_the_history_is_capped(client, settings):
    """A document with very many events keeps about the last ones."""
    store = Store(client, settings.model_copy(update={"history_events": 50}))
    store.create("d", SOURCE)
    for n in range(400):
        store.record("d", 1, Status.PENDING, f"{n}")
    assert 50 <= client.xlen(keys.events("d")) < 200


def test_writers_at_the_same_time_make_one_row_of_numbers(settings, client):
    """However many write at once, events are numbered without holes and the bar never falls."""
    settings = settings.model_copy(update={"history_events": 1000})  # all of them shall be there to be looked at
    Store(client, settings).create("d", SOURCE)

    def write(worker: int) -> None:
        mine = Store(connections.patient_client(settings), settings)
        for n in range(50):
            try:
                mine.record("d", 1, Status.PARSING, f"{worker}", progress=float(n))
            except Refused as error:  # pragma: no cover - a failure of the test
                raise AssertionError from error

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    events = [State.from_json(message) for message in messages(client)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    bars = [event.progress for event in events]
    assert bars == sorted(bars)
    assert len(events) >= 51


def test_a_redis_that_is_gone_has_one_error(settings, tmp_path):
    """Callers see StoreUnavailable, not what the client library raises."""
    lonely = settings.model_copy(update={"redis_url": f"unix://{tmp_path}/none.sock"})
    store = Store(connections.hasty_client(lonely), lonely)
    for ask in (
        store.ping,
        lambda: store.state("d"),
        lambda: store.newest(DEFAULT_TENANT, 1),
        lambda: store.create("d", SOURCE),
    ):
        with pytest.raises(StoreUnavailable):
            ask()


def test_a_redis_that_forgets_a_script_again_and_again_is_not_there(client):
    """It is restarted time after time: that is an outage, and no fault of whatever was asked for."""
    with pytest.raises(StoreUnavailable), connections.translated():
        client.evalsha("0" * 40, 0)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_a_retry_is_the_next_attempt(any_store, any_client, status):
    """The bar begins again, the numbers go on, and writers of the attempt before are refused."""
    bring_to(any_store, Status.PARSING)
    any_store.record("d", 1, Status.PARSING, "half", progress=45.0, warnings=[Notice("w", "w")])
    error = Failure("internal", "No.") if status is Status.FAILED else None
    last = any_store.record("d", 1, status, "over", error=error)
    state = any_store.begin_attempt("d")
    assert (state.status, state.attempt, state.seq, state.progress) == (Status.PENDING, 2, last.seq + 1, 0)
    assert (state.error, state.finished_at, state.warnings, state.created_at) == (None, None, (), last.created_at)
    assert messages(any_client)[-1] == any_store.state_json("d")
    with pytest.raises(StaleAttempt):
        any_store.record("d", 1, Status.PARSING, "late")
    assert any_store.record("d", 2, Status.PARSING, "again").attempt == 2


@pytest.mark.parametrize("status", PATH)
def test_only_what_failed_or_was_cancelled_can_be_tried_again(any_store, any_client, status):
    """A running document can't be started twice, a completed one has its result."""
    bring_to(any_store, status)
    before = messages(any_client)
    with pytest.raises(OutOfOrder):
        any_store.begin_attempt("d")
    assert messages(any_client) == before
    with pytest.raises(UnknownIngestion):
        any_store.begin_attempt("nobody")
