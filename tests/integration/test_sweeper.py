"""The sweeper on a real Valkey, one sweep after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta

import pytest
from ulid import ULID

from ingest_worker.sweeper import TIDY_SECONDS, Sweeper
from ingest_worker.tasks import expire_documents, remove_forgotten
from ingest_worker.workbench import Workbench
from shared import connections, keys, task_names
from shared.broker import make_celery
from shared.documents import Chunk
from shared.errors import UnknownIngestion
from shared.jobs import Status
from shared.parts import PLAN, pages
from shared.protocol import Failure, State
from shared.store import Store, utc_now
from shared.worklist import Plan, Worklist
from tests.awaiting import wait_until
from tests.records import SOURCE


@pytest.fixture
def settings(settings):
    """Leases that end soon."""
    return settings.model_copy(update={"lease_seconds": 0.5, "max_parts_in_flight": 4})


@pytest.fixture
def app(settings, client) -> Iterator:
    with make_celery(settings) as app:
        yield app


@pytest.fixture
def sweeper(app, client, settings) -> Sweeper:
    return Sweeper(app, client, settings)


@pytest.fixture
def worklist(client, settings) -> Worklist:
    return Worklist(client, settings)


def sent(client) -> int:
    return client.llen(keys.BROKER_PREFIX + task_names.QUEUE)


def test_it_calls_a_worker_for_each_part_that_may_be_claimed(sweeper, store, worklist, client):
    """And not again for those that have been called for; a flushed queue is filled again."""
    store.create("d", SOURCE)
    sweeper.sweep()
    assert sent(client) == 1
    worklist.settle(worklist.claim(), rest=[pages(n, n) for n in range(1, 10)], plan=Plan(9, 0, "pages"))
    sweeper.sweep()
    sweeper.sweep()
    assert sent(client) == 4
    client.delete(keys.BROKER_PREFIX + task_names.QUEUE)
    sweeper.sweep()
    assert sent(client) == 4


def test_it_sends_nothing_when_there_is_nothing_to_do(sweeper, client):
    """An idle service is quiet."""
    sweeper.sweep()
    assert sent(client) == 0


def test_it_takes_back_what_a_lost_worker_had(sweeper, store, worklist):
    """Viewers hear of it, and then that the document waits; what is final by then it strikes off."""
    store.create("d", SOURCE)
    store.create("e", SOURCE)
    worklist.claim()
    other = worklist.claim()
    store.record("e", 1, Status.CANCELLED, "Cancelled")

    def taken_back() -> bool:
        sweeper.sweep()
        return store.state("d").queue_position == 1

    wait_until(taken_back, what="the end of the lease")
    told = [State.from_json(event).message for _, event in store.histories([("d", 0)])["d", 0].events]
    assert told[-2:] == ["Worker lost, starting this step again", "Waiting for a worker"]
    again = worklist.claim()
    assert (again.document_id, again.part, again.lost) == ("d", PLAN, 1)
    assert other.document_id == "e"
    assert worklist.claim() is None


def test_after_an_outage_nobody_is_taken_for_lost_at_once(sweeper, store, worklist, settings):
    """No lease could be renewed meanwhile: its holder has the time of a lease to do so."""
    store.create("d", SOURCE)
    claim = worklist.claim()
    wait_until(lambda: worklist._redis.zscore(keys.running("d"), "plan") / 1000 < utc_now().timestamp())
    sweeper.pause()
    sweeper.sweep()
    worklist.renew(claim)
    assert worklist.in_hand() == ["d"]
    assert store.state("d").message == "Waiting for a worker"


def test_one_sweeps_at_a_time(sweeper, app, settings, store, client):
    """The second does nothing as long as the first sweeps, and takes over when it is gone."""
    other = Sweeper(app, connections.patient_client(settings), settings)
    other._name = "another"
    sweeper.sweep()
    store.create("d", SOURCE)
    other.sweep()
    assert sent(client) == 0
    client.delete(keys.SWEEPING)
    other.sweep()
    assert sent(client) == 1


def test_whatever_leads_to_a_document_is_mended_in_time(sweeper, store, worklist, client):
    """Names in the sorted sets that are missing, or that lead to what is final or gone."""
    store.create("lost", SOURCE)
    store.create("over", SOURCE)
    store.record("over", 1, Status.CANCELLED, "Cancelled")
    client.delete(keys.READY, keys.LEASED, keys.FINISHED)
    client.zadd(keys.ACTIVE, {"over": 1, "never": 1})
    client.zadd(keys.READY, {"over": 1, "never": 1})

    def mended() -> bool:
        sweeper.sweep()
        return client.zrange(keys.ACTIVE, 0, -1) == [b"lost"]

    wait_until(mended, what="a full audit")
    assert client.zrange(keys.READY, 0, -1) == [b"lost"]
    assert client.zrange(keys.FINISHED, 0, -1) == [b"over"]
    assert worklist.claim().document_id == "lost"


def test_a_name_whose_document_is_created_meanwhile_is_not_struck_off(sweeper, store, worklist, client, monkeypatch):
    """The sweeper found no document behind it; the document is there, and its upload answered, when it goes on."""
    forget = sweeper._store.forget

    def forget_late(document_id: str) -> None:
        store.create(document_id, SOURCE)
        forget(document_id)

    monkeypatch.setattr(sweeper._store, "forget", forget_late)
    client.zadd(keys.ACTIVE, {"d": 5})  # as `create` begins
    client.zadd(keys.QUEUED, {"d": 5})
    wait_until(lambda: (sweeper.sweep(), client.exists(keys.state("d")))[1], what="the audit that comes by")
    assert (worklist.overview().queued, worklist.overview().running) == (1, 0)
    assert list(worklist.every()) == ["d"]
    assert worklist.claim().document_id == "d"


def test_a_name_that_is_struck_off_before_its_document_is_there_is_entered_again(
    sweeper, store, worklist, client, monkeypatch
):
    """By whoever creates it: the sweeper was done with it in between."""
    create = store._create

    def create_late(**how):
        wait_until(lambda: (sweeper.sweep(), not client.exists(keys.ACTIVE))[1], what="a full audit")
        return create(**how)

    monkeypatch.setattr(store, "_create", create_late)
    store.create("d", SOURCE)
    assert (worklist.overview().queued, worklist.overview().running) == (1, 0)
    assert list(worklist.every()) == ["d"]
    assert worklist.claim().document_id == "d"


def test_what_ended_just_when_its_name_was_struck_off_is_retired(sweeper, store, worklist, client):
    """Also when whoever recorded the end came no further."""
    store.create("d", SOURCE)
    store.record("d", 1, Status.CANCELLED, "Cancelled")
    client.delete(keys.FINISHED, keys.READY)
    store.forget("d")
    wait_until(lambda: (sweeper.sweep(), client.exists(keys.FINISHED))[1], what="a full audit")
    assert not client.exists(keys.ACTIVE, keys.QUEUED)
    assert worklist.claim() is None


def test_who_waits_is_told_the_place_in_the_queue(sweeper, store, worklist):
    """From 1; it moves up when one before has begun, and has none when its own turn has come."""
    for name in ("a", "b", "c"):
        store.create(name, SOURCE)
    sweeper.sweep()
    assert [store.state(name).queue_position for name in "abc"] == [1, 2, 3]
    assert store.state("c").message == "Waiting for a worker, 2 documents ahead"
    before = store.state("c").seq
    sweeper.sweep()
    assert store.state("c").seq == before

    claim = worklist.claim()
    store.record("a", 1, Status.PARSING, "Opening the file", progress=0, held=claim.held)
    sweeper.sweep()
    assert [store.state(name).queue_position for name in "abc"] == [None, 1, 2]


def test_a_document_that_a_worker_was_lost_with_before_it_was_begun_waits_where_it_stood(
    sweeper, store, worklist, client
):
    """It is counted, and told its place, as before: no two have the same."""
    for name in "abc":
        store.create(name, SOURCE)
    before = worklist.overview()
    lost = worklist.claim()
    client.zadd(keys.running(lost.document_id), {PLAN.name: 1})  # its lease ends
    sweeper.sweep()
    assert [store.state(name).queue_position for name in "abc"] == [1, 2, 3]
    assert worklist.overview().queued == before.queued == 3
    assert worklist.overview().oldest_queued_seconds >= before.oldest_queued_seconds


def test_no_document_is_counted_among_those_that_wait_when_it_does_not(sweeper, store, worklist, client, monkeypatch):
    """Whatever was left amiss there; also when it ends, or goes, while it is looked over."""
    for name in "ab":
        store.create(name, SOURCE)
    claim = worklist.claim()
    store.record(claim.document_id, 1, Status.PARSING, "Opening the file", progress=0, held=claim.held)
    client.zadd(keys.QUEUED, {claim.document_id: 1})
    sweeper.sweep()
    assert client.zrange(keys.QUEUED, 0, -1) == [b"b"]
    lapse = worklist._lapse

    def lapse_early(**how):
        answer = lapse(**how)
        store.record("b", 1, Status.CANCELLED, "Cancelled")
        return answer

    monkeypatch.setattr(worklist, "_lapse", lapse_early)
    worklist.lapse("b")
    assert worklist.overview().queued == 0


def test_who_waits_is_told_the_time_when_there_is_a_rate(app, settings, store, worklist, client):
    """What is served until the document is done, at the rate of all workers: no more of another than of itself."""
    now = [0.0]
    sweeper = Sweeper(app, client, settings, clock=lambda: now[0])
    store.create("a", SOURCE)
    sweeper.sweep()
    assert store.state("a").eta_seconds is None
    now[0] = 50.0
    sweeper.sweep()  # nothing was in hand until then
    now[0] = 60.0
    client.incrby(keys.SERVED, SOURCE.size_bytes)
    sweeper.sweep()
    assert store.state("a").eta_seconds == 10.0
    claim = worklist.claim()
    store.record("a", 1, Status.PARSING, "Opening the file", progress=0, held=claim.held)
    store.create("b", dataclasses.replace(SOURCE, size_bytes=1))
    sweeper.sweep()
    assert store.state("b").eta_seconds == pytest.approx(2 * 10 / SOURCE.size_bytes, abs=0.06)


def test_what_is_over_is_removed_with_all_that_is_stored(app, client, settings, store):
    """Record, files and rows of a document whose retention has ended, and of no other."""
    bench = Workbench(settings)
    bench.store = store
    early = Store(client, settings, lambda: utc_now() - timedelta(seconds=settings.retention_seconds + 1))
    chunk = Chunk("c", 0, "text", 1, 1, 0, 4)
    for name, then in (("old", early), ("new", store), ("waiting", early)):
        then.create(name, SOURCE)
        bench.table.replace(name, [chunk])
        with bench.storage.writing(f"{name}/source") as file:
            file.write(b"%PDF")
        if name != "waiting":
            then.record(name, 1, Status.FAILED, "No.", error=Failure("unreadable", "No."))

    Sweeper(app, client, settings).sweep()
    assert task_names.EXPIRE.encode() in b"".join(client.lrange(keys.BROKER_PREFIX + task_names.QUEUE, 0, -1))
    expire_documents(bench)

    with pytest.raises(UnknownIngestion):
        store.state("old")
    assert client.keys(f"{keys.state('old')}*") == [keys.outbox("old").encode()]  # that it FAILED is still to be told
    assert list(bench.table.of("old")) == []
    with pytest.raises(FileNotFoundError), bench.storage.reading("old/source"):
        pass
    for name in ("new", "waiting"):
        assert store.state(name).id == name
        assert list(bench.table.of(name)) == [chunk]
    bench.table.close()


@pytest.fixture
def over(client, settings, store) -> Iterator[Workbench]:
    """The documents a, b and c have failed, and their retention has ended."""
    early = Store(client, settings, lambda: utc_now() - timedelta(seconds=settings.retention_seconds + 1))
    bench = Workbench(settings)
    bench.store = store
    for name in "abc":
        early.create(name, SOURCE)
        early.record(name, 1, Status.FAILED, "No.", error=Failure("unreadable", "No."))
        client.zadd(keys.FINISHED, {name: 1})
        with bench.storage.writing(f"{name}/source") as file:
            file.write(b"%PDF")
    yield bench
    bench.table.close()


def test_a_retry_that_was_accepted_is_not_removed(over, store, monkeypatch):
    """Nor what has ended again since it was looked for: the retention is that of the last attempt."""
    remove = over.storage.remove

    def remove_late(path: str) -> None:
        if path == "a":
            store.begin_attempt("b")
            store.begin_attempt("c")
            store.record("c", 2, Status.CANCELLED, "Cancelled")
        remove(path)

    monkeypatch.setattr(over.storage, "remove", remove_late)
    expire_documents(over)
    assert (store.state("b").status, store.state("c").status) == (Status.PENDING, Status.CANCELLED)
    for name in "bc":
        with over.storage.reading(f"{name}/source") as file:
            assert file.read() == b"%PDF"


def test_what_is_being_removed_can_not_be_tried_again(over, store, client, monkeypatch):
    """Its files may be gone already: a retry finds no such document, and no trace of it is left."""
    remove = over.storage.remove

    def remove_meanwhile(path: str) -> None:
        with pytest.raises(UnknownIngestion):
            store.begin_attempt(path)
        remove(path)

    monkeypatch.setattr(over.storage, "remove", remove_meanwhile)
    expire_documents(over)
    assert over.retention.expired(10) == []
    assert client.keys(f"{keys.state('a')}*") == [keys.outbox("a").encode()]
    assert client.exists(keys.ACTIVE, keys.QUEUED, keys.READY, keys.FINISHED) == 0


def test_what_can_not_be_removed_keeps_no_other(over, store, client, monkeypatch):
    """Its record is gone like the others'. What is stored of it is left alone for a while; then it is tried again."""
    remove = over.storage.remove

    def remove_some(path: str) -> None:
        if path == "a":
            raise PermissionError(13, path)
        remove(path)

    monkeypatch.setattr(over.storage, "remove", remove_some)
    expire_documents(over)
    assert client.zrange(keys.FINISHED, 0, -1) == [b"a"]
    assert over.retention.expired(10) == []
    assert not client.exists(keys.state("a"))
    monkeypatch.undo()
    client.zadd(keys.FINISHED, {"a": 1})
    expire_documents(over)
    assert not client.exists(keys.FINISHED)
    assert over.storage.names("a") == set()


def test_files_that_no_document_leads_to_are_removed(over, store, settings, monkeypatch):
    """Once no document of their age would be kept; and nothing else, whatever its name. One that stays keeps none."""
    days = settings.retention_seconds / 86400 + 1
    stuck, old, known, new = (
        str(ULID.from_datetime(utc_now() - timedelta(days=age))).lower()
        for age in (days + 0.2, days + 0.1, days + 0.1, days - 0.1)
    )
    store.create(known, SOURCE)
    for name in (stuck, old, known, new):
        with over.storage.writing(f"{name}/pages/000001.1.1.jsonl") as file:
            file.write(b"{}")
    over.table.replace(old, [Chunk("c", 0, "text", 1, 1, 0, 4)])
    remove = over.storage.remove

    def remove_some(path: str) -> None:
        if path == stuck:
            raise PermissionError(13, path)
        remove(path)

    monkeypatch.setattr(over.storage, "remove", remove_some)
    remove_forgotten(over)
    assert over.storage.names("") == {"a", "b", "c", stuck, known, new}
    assert list(over.table.of(old)) == []


def test_a_worker_is_asked_to_look_for_such_files_every_hour(app, client, settings):
    """And not at once: an idle service is quiet."""
    clock = [0.0]
    sweeper = Sweeper(app, client, settings, lambda: clock[0])
    asked = []
    for clock[0] in (0.0, TIDY_SECONDS - 1, TIDY_SECONDS, TIDY_SECONDS + 1, 2 * TIDY_SECONDS):
        sweeper.sweep()
        asked.append(sent(client))
    assert asked == [0, 0, 1, 1, 2]
    assert task_names.TIDY.encode() in client.lindex(keys.BROKER_PREFIX + task_names.QUEUE, 0)
