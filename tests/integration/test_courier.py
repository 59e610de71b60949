"""The courier on a real Valkey and a real database, with a receiver that is a process of its own."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from ingest_worker import collector as collector_module
from ingest_worker import courier as courier_module
from ingest_worker.collector import Collector
from ingest_worker.courier import Courier
from ingest_worker.lanes import Claim
from ingest_worker.sender import Sender, Sent
from ingest_worker.sweeper import Sweeper
from shared import connections, keys, signing
from shared.broker import make_celery
from shared.deliveries import Deliveries, DeliveryState
from shared.endpoints import Endpoint, Endpoints, upload_endpoint_id
from shared.errors import StoreUnavailable, UnknownEndpoint
from shared.jobs import Status
from shared.outbox import Outbox
from shared.protocol import Failure, Stage
from shared.sealing import Seal
from shared.store import Store
from shared.webhook_tables import DELIVERIES, MESSAGES, WebhookDatabase
from tests.awaiting import wait_until
from tests.couriers import couriers
from tests.records import SOURCE


@pytest.fixture
def settings(settings):
    """This machine may be called, and retries come soon."""
    return settings.model_copy(
        update={
            "webhook_allowed_networks": "127.0.0.0/8",
            "webhook_retry_seconds": "0.1,0.1,0.1",
            "webhook_seconds": 1.0,
        }
    )


@pytest.fixture
def database(settings) -> Iterator[WebhookDatabase]:
    with closing(WebhookDatabase.from_settings(settings)) as database:
        yield database


@pytest.fixture
def endpoints(database) -> Endpoints:
    return Endpoints(database)


@pytest.fixture
def deliveries(database) -> Deliveries:
    return Deliveries(database)


@pytest.fixture
def add(endpoints, settings, receiver) -> Callable[..., Endpoint]:
    """Makes an endpoint; the receiver knows its secret."""
    secrets: dict[str, str] = {}

    def make(way: str, name: str, events: tuple[str, ...] = (), tenant: str = "default") -> Endpoint:
        secret = signing.new_secret()
        secrets[f"/{way}/{name}"] = secret
        receiver.tell_secrets(secrets)
        return endpoints.create(tenant, receiver.url(way, name), events, "", Seal(settings).close(secret))

    return make


def ingest(store, document_id: str, source=SOURCE) -> None:
    """What workers would record of a document of three pages and two chunks."""
    store.create(document_id, source)
    for status in (Status.PARSING, Status.CHUNKING, Status.LOADING):
        store.record(document_id, 1, status, "...")
    store.record(document_id, 1, Status.LOADING, "Loaded", stage=Stage(2, 2, "chunks"))
    store.record(document_id, 1, Status.COMPLETED, "Completed", progress=100)


def types_of(received: list[dict]) -> list[str]:
    return [json.loads(one["body"])["type"] for one in received]


def test_every_change_of_status_reaches_who_wants_it_signed_and_in_order(
    settings, database, store, receiver, add, client
):
    """The ids join them with the events of the stream, the counts are the document's, and the outbox is empty."""
    add("ok", "all")
    add("ok", "some", ("ingestion.completed", "ingestion.failed"))
    add("ok", "others", tenant="another")
    ingest(store, "d1")
    with couriers(settings, database):
        wait_until(lambda: len(receiver.at("/ok/all")) == 4, what="four deliveries")
        wait_until(lambda: receiver.at("/ok/some"))
    got = receiver.at("/ok/all")
    assert all(one["verified"] for one in receiver.received)
    assert [one["headers"]["webhook-id"] for one in got] == [
        "msg_d1_2_parsing",
        "msg_d1_3_chunking",
        "msg_d1_4_loading",
        "msg_d1_6_completed",
    ]
    events = [json.loads(data) for _, data in store.histories([("d1", 0)])["d1", 0].events]
    last = json.loads(got[-1]["body"])
    assert last == {
        "type": "ingestion.completed",
        "timestamp": events[-1]["at"],
        "data": {
            "id": "d1",
            "filename": "a.pdf",
            "status": "COMPLETED",
            "attempt": 1,
            "seq": events[-1]["seq"],
            "counts": {"chunks": 2},
            "links": {"status": "/status/d1", "stream": "/status/stream/d1", "chunks": "/ingestions/d1/chunks"},
        },
    }
    assert types_of(receiver.at("/ok/some")) == ["ingestion.completed"]
    assert receiver.at("/ok/others") == []
    assert client.exists(keys.OUTBOX, keys.outbox("d1")) == 0


def test_what_was_recorded_before_any_courier_ran_is_delivered_also_of_a_document_that_is_gone(
    settings, database, store, receiver, add, client
):
    """A crash after the final event, a lost hint and a deletion: none of it loses the news, and it is told once."""
    add("ok", "crash", ("ingestion.completed",))
    ingest(store, "d1")
    client.delete(keys.OUTBOX)  # as if the worker had been killed between the script and what follows it
    store.delete("d1")
    with couriers(settings, database, 2):
        wait_until(lambda: receiver.at("/ok/crash"))
        wait_until(lambda: not client.exists(keys.OUTBOX, keys.outbox("d1")), what="the outbox to be empty")
    assert types_of(receiver.at("/ok/crash")) == ["ingestion.completed"]


def test_an_outbox_is_not_dropped_before_its_entries_are_kept(
    settings, database, store, deliveries, client, add, monkeypatch
):
    """A courier that is killed in between leaves it as it was; so does a database that is away."""
    endpoint = add("ok", "kept")
    ingest(store, "d1")

    def away(_messages: object) -> int:
        raise StoreUnavailable("The database can't be reached.")

    outbox = Outbox(client, "one")
    broken = Deliveries(database)
    monkeypatch.setattr(broken, "enter", away)
    with pytest.raises(StoreUnavailable):
        Collector(outbox, broken).collect()
    assert client.hlen(keys.outbox("d1")) == 4
    Collector(outbox, deliveries).collect()
    assert client.exists(keys.OUTBOX, keys.outbox("d1")) == 0
    assert len(deliveries.of_endpoint(endpoint.id, 9)) == 4


def test_what_is_due_is_sent_though_what_is_old_can_not_be_removed(
    settings, database, store, receiver, add, monkeypatch
):
    """However long that lasts."""

    def away(_deliveries: Deliveries, _before: float) -> int:
        raise StoreUnavailable("The database took too long.")

    monkeypatch.setattr(Deliveries, "purge", away)
    add("ok", "unpurged")
    ingest(store, "d1")
    with couriers(settings, database):
        wait_until(lambda: len(receiver.at("/ok/unpurged")) == 4)


def test_what_is_old_is_removed_between_turns(settings, database, store, deliveries, receiver, add, monkeypatch):
    """A batch at a time, until nothing is left."""
    monkeypatch.setattr("shared.deliveries.PURGE_BATCH", 2)
    endpoint = add("ok", "old")
    ingest(store, "d1")
    short = settings.model_copy(update={"webhook_retention_seconds": 1})
    with couriers(short, database):
        wait_until(lambda: len(receiver.at("/ok/old")) == 4)
    with database.writing() as transaction:
        for table in (DELIVERIES, MESSAGES):
            transaction.execute(update(table).values(created_at=0.0))
    with couriers(short, database):
        wait_until(lambda: deliveries.of_endpoint(endpoint.id, 9) == [])


def test_what_comes_while_an_outbox_is_taken_over_is_not_lost(store, deliveries, client, monkeypatch, add):
    """Neither the entry nor the way to it."""
    endpoint = add("ok", "meanwhile")
    store.create("d1", SOURCE)
    store.record("d1", 1, Status.PARSING, "...")
    outbox = Outbox(client, "one")
    read = outbox.entries

    def slowly(filled: list) -> list:
        found = read(filled)
        store.record("d1", 1, Status.FAILED, "No.", error=Failure("unreadable", "No."))
        return found

    monkeypatch.setattr(outbox, "entries", slowly)
    Collector(outbox, deliveries).collect()
    assert client.zrange(keys.OUTBOX, 0, -1) == [b"d1"]
    monkeypatch.undo()
    Collector(outbox, deliveries).collect()
    assert [one.type for one in deliveries.of_endpoint(endpoint.id, 9)] == ["ingestion.failed", "ingestion.started"]


@pytest.mark.parametrize("unreadable", ["{}", "[]", "no JSON"])
def test_one_entry_that_can_t_be_read_holds_up_no_other_and_is_kept(
    store, deliveries, client, add, monkeypatch, unreadable
):
    """One of a later version, say: the courier that can read it comes later. Others are looked at before it."""
    monkeypatch.setattr(collector_module, "BATCH", 1)
    endpoint = add("ok", "unreadable")
    ingest(store, "d1")
    readable = client.hget(keys.outbox("d1"), 2)
    client.hset(keys.outbox("d1"), 2, unreadable)
    ingest(store, "d2")
    collector = Collector(Outbox(client, "one"), deliveries)
    while collector.collect():
        pass
    assert len(deliveries.of_endpoint(endpoint.id, 9)) == 7
    assert client.hgetall(keys.outbox("d1")) == {b"2": unreadable.encode()}
    assert client.zrange(keys.OUTBOX, 0, -1) == [b"d1"]
    client.hset(keys.outbox("d1"), 2, readable)
    while collector.collect():
        pass
    assert len(deliveries.of_endpoint(endpoint.id, 9)) == 8
    assert client.exists(keys.OUTBOX, keys.outbox("d1")) == 0


def test_the_sweeper_leads_to_an_outbox_that_nobody_was_led_to(settings, store, client):
    """Of a document on its way; a final one is led to when it is retired."""
    store.create("d1", SOURCE)
    store.record("d1", 1, Status.PARSING, "...")
    client.delete(keys.OUTBOX)
    with make_celery(settings) as app:
        sweeper = Sweeper(app, client, settings)
        sweeper.sweep()  # to find out which documents there are
        sweeper.sweep()
    assert client.zrange(keys.OUTBOX, 0, -1) == [b"d1"]


def test_attempts_are_counted_by_what_came_of_them(settings, database, store, add, client):
    """For operators; the outboxes and what is due, too."""
    add("fail", "counted", ("ingestion.started",))
    add("ok", "counted", ("ingestion.started", "ingestion.completed"))
    ingest(store, "d1")
    outbox = Outbox(client)
    assert (outbox.figures().filled, outbox.figures().attempts) == (1, {})
    expected = {"delivered": 2, "to_be_retried": 3, "given_up": 1}
    with couriers(settings, database):
        wait_until(lambda: outbox.figures().attempts == expected, what=str(outbox.figures().attempts))
    assert (outbox.figures().filled, outbox.figures().oldest_seconds, Deliveries(database).due()) == (0, 0.0, (0, 0.0))


def test_retries_end_and_the_next_is_sent_then(settings, database, store, receiver, add, deliveries):
    """Four attempts by this schedule; each is listed with what was sent, what came back and how long it took."""
    endpoint = add("fail", "always", ("ingestion.started", "ingestion.completed"))
    ingest(store, "d1")
    with couriers(settings, database):
        wait_until(lambda: len([one for one in deliveries.of_endpoint(endpoint.id, 2) if one.finished_at]) == 2)
    completed, started = deliveries.of_endpoint(endpoint.id, 2)
    for delivery in (started, completed):
        assert (delivery.state, delivery.error) == (DeliveryState.FAILED, "refused")
        assert [one.number for one in delivery.attempts] == [1, 2, 3, 4]
        assert all((one.status, one.answer) == (500, "no") for one in delivery.attempts)
        waits = [later.at - before.at for before, later in pairwise(delivery.attempts)]
        assert all(wait >= 0.1 for wait in waits)
    assert completed.attempts[0].at > started.attempts[-1].at
    got = receiver.at("/fail/always")
    assert [one["headers"]["webhook-id"] for one in got] == [started.message_id] * 4 + [completed.message_id] * 4
    assert all(one["verified"] for one in got)
    assert len({one["body"] for one in got}) == 2


def test_an_endpoint_that_stalls_delays_no_other(settings, database, store, receiver, add):
    """Fifty documents are told of elsewhere before the first stalled attempt is given up."""
    add("stall", "busy")
    add("ok", "quick", ("ingestion.completed",))
    for number in range(50):
        ingest(store, f"d{number:02}")
    with couriers(settings.model_copy(update={"webhook_seconds": 5.0}), database):
        wait_until(lambda: len(receiver.at("/ok/quick")) == 50, within_seconds=10)
        stalled = receiver.at("/stall/busy")
    assert len(stalled) <= settings.webhook_endpoint_concurrency
    assert max(one["at"] for one in receiver.at("/ok/quick")) < min(one["at"] for one in stalled) + 5.0


def test_a_signal_wakes_a_courier_and_none_is_needed(settings, database, store, receiver, add, client):
    """With it an endpoint hears within a fraction of a second, without it within a second or so."""
    add("ok", "soon", ("ingestion.started",))
    with couriers(settings, database):
        wait_until(lambda: client.pubsub_numsub(keys.COURIER)[0][1])
        store.create("d1", SOURCE)
        told = store.record("d1", 1, Status.PARSING, "...")
        wait_until(lambda: receiver.at("/ok/soon"))
        delay = receiver.at("/ok/soon")[0]["at"] - datetime.fromisoformat(told.at).timestamp()
        assert delay < 0.9, "it was found by looking, not by being woken"
        store.create("d2", SOURCE)
        mute = connections.hasty_client(settings)
        mute.publish = lambda *_: 0
        Store(mute, settings).record("d2", 1, Status.PARSING, "...")
        wait_until(lambda: len(receiver.at("/ok/soon")) == 2)
        mute.close()


def test_an_endpoint_that_is_gone_is_disabled_and_another_hears_of_it(
    settings, database, store, receiver, add, endpoints
):
    """410 is the last that it is asked."""
    gone = add("gone", "for-good")
    add("ok", "watching", ("endpoint.disabled",))
    ingest(store, "d1")
    with couriers(settings, database):
        wait_until(lambda: receiver.at("/ok/watching"))
    assert (endpoints.get("default", gone.id).is_enabled, len(receiver.at("/gone/for-good"))) == (False, 1)
    body = json.loads(receiver.at("/ok/watching")[0]["body"])
    assert body["type"] == "endpoint.disabled"
    assert body["data"] == {"id": gone.id, "url": gone.url, "reason": "gone"}


def test_an_endpoint_that_only_fails_is_disabled_in_the_end(settings, database, store, add, endpoints):
    """After the time that is set, by whichever delivery fails then."""
    failing = add("fail", "for-long")
    ingest(store, "d1")
    with couriers(settings.model_copy(update={"webhook_disable_seconds": 0.3}), database):
        wait_until(lambda: not endpoints.get("default", failing.id).is_enabled)
    assert endpoints.get("default", failing.id).disabled_reason == "failing"


def test_who_is_busy_is_left_alone_for_as_long_as_they_say(settings, database, store, receiver, add):
    """Two seconds here, with every document; the schedule alone would have come sooner."""
    add("busy", "today", ("ingestion.completed",))
    for name in ("d1", "d2", "d3"):
        ingest(store, name)
    with couriers(settings.model_copy(update={"webhook_endpoint_concurrency": 1}), database):
        wait_until(lambda: len(receiver.at("/busy/today")) >= 2)
    first, second = (one["at"] for one in receiver.at("/busy/today")[:2])
    assert second - first >= 2.0


def test_a_courier_that_is_told_to_stop_hands_back_what_it_has(settings, database, store, receiver, add, monkeypatch):
    """Within its grace; another begins with it at once, long before a lease would have ended."""
    monkeypatch.setattr(courier_module, "GRACE_SECONDS", 0.2)
    add("stall", "handed-back", ("ingestion.completed",))
    ingest(store, "d1")
    patient = settings.model_copy(update={"webhook_seconds": 60.0})
    for times in (1, 2):
        with couriers(patient, database):
            wait_until(lambda times=times: len(receiver.at("/stall/handed-back")) == times, within_seconds=5)


def test_a_courier_with_another_key_sends_nothing_unsigned(settings, database, store, add, deliveries):
    """It says so, and tries again: an operator can mend that."""
    endpoint = add("ok", "another-key", ("ingestion.completed",))
    ingest(store, "d1")
    with couriers(settings.model_copy(update={"secret_key": SecretStr("another")}), database):
        wait_until(lambda: [one for one in deliveries.of_endpoint(endpoint.id, 1) if one.attempts])
    (delivery,) = deliveries.of_endpoint(endpoint.id, 1)
    assert (delivery.attempts[0].error, delivery.attempts[0].headers) == ("sealed_otherwise", {})


def test_an_attempt_that_breaks_off_is_one_like_others(settings, database, store, add, deliveries, monkeypatch):
    """Whatever it was that nobody had thought of: it is listed, and the schedule comes to its end."""
    endpoint = add("ok", "broken-off", ("ingestion.completed",))
    ingest(store, "d1")

    async def send(*_: object) -> None:
        raise OverflowError("unheard of")

    monkeypatch.setattr(Sender, "send", send)
    with couriers(settings, database):
        wait_until(lambda: [one for one in deliveries.of_endpoint(endpoint.id, 1) if one.finished_at])
    (delivery,) = deliveries.of_endpoint(endpoint.id, 1)
    assert [one.error for one in delivery.attempts] == ["courier_failed"] * 4


def test_receivers_that_stall_keep_nobody_else_waiting(settings, database, store, receiver, add):
    """Though they have more than all the room there is: who is answered at once needs some for a moment only."""
    small = settings.model_copy(update={"webhook_concurrency": 4, "webhook_seconds": 50.0})
    tenants = ("one", "two", "three", "four")
    for tenant, number in itertools.product(tenants, range(2)):
        add("stall", f"{tenant}-{number}", ("ingestion.started",), tenant)
    stalled = [f"/stall/{tenant}-{number}" for tenant, number in itertools.product(tenants, range(2))]
    for tenant in tenants:
        ingest(store, tenant, replace(SOURCE, tenant=tenant))
    add("ok", "at-once")
    with couriers(small, database):
        wait_until(lambda: all(receiver.at(path) for path in stalled))
        ingest(store, "d1")
        wait_until(lambda: len(receiver.at("/ok/at-once")) == 4)
    assert all(len(receiver.at(path)) == 1 for path in stalled), "None was given up before."


def test_a_message_whose_lease_was_over_comes_again_with_the_lease(
    settings, database, store, receiver, add, deliveries, monkeypatch
):
    """No attempt is listed: none was made."""
    endpoint = add("ok", "lease-over", ("ingestion.completed",))
    ingest(store, "d1")
    monkeypatch.setattr(courier_module, "LEASE_MARGIN_SECONDS", 0.1)
    send, late = Sender.send, iter([True])

    async def lately(sender: Sender, claim: Claim) -> Sent:
        return await send(sender, replace(claim, until=0.0) if next(late, False) else claim)

    monkeypatch.setattr(Sender, "send", lately)
    with couriers(settings, database):
        wait_until(lambda: receiver.at("/ok/lease-over"))
        wait_until(lambda: deliveries.of_endpoint(endpoint.id, 1)[0].state is DeliveryState.DELIVERED)
    (delivery,) = deliveries.of_endpoint(endpoint.id, 1)
    assert len(delivery.attempts) == 1


def test_a_turn_that_fails_is_not_the_last(settings, database, store, receiver, add, monkeypatch):
    """Whatever it was that nobody had thought of, the next one comes a second later."""
    add("ok", "after-all", ("ingestion.completed",))
    ingest(store, "d1")
    failures = iter([ValueError("unheard of")])
    take = Courier._take

    def fail_once(courier: Courier, *arguments: object) -> object:
        for failure in failures:
            raise failure
        return take(courier, *arguments)

    monkeypatch.setattr(Courier, "_take", fail_once)
    with couriers(settings, database):
        wait_until(lambda: receiver.at("/ok/after-all"))


def test_while_redis_is_away_what_is_entered_already_is_delivered(settings, database, store, receiver, add, client):
    """And the other way round it waits; see the outbox above."""
    add("ok", "without-redis", ("ingestion.completed",))
    ingest(store, "d1")
    Collector(Outbox(client, "one"), Deliveries(database)).collect()
    nowhere = settings.model_copy(update={"redis_url": "unix:///nowhere/valkey.sock"})
    with couriers(nowhere, database):
        wait_until(lambda: receiver.at("/ok/without-redis"), within_seconds=30)


def test_whom_an_upload_named_is_known_as_long_as_the_document_is_kept(settings, database, receiver):
    """A retry may come late, and tells them; deliveries may be kept for a shorter time."""
    day_seconds = 24 * 3600.0
    for name, age_days in (("gone", 12), ("kept", 10)):
        then = Endpoints(database, clock=lambda age=age_days: time.time() - age * day_seconds)
        then.of_upload("default", receiver.url("ok", name), lambda: "sealed")
    kept = {"retention_seconds": 10 * day_seconds, "webhook_retention_seconds": day_seconds}
    with couriers(settings.model_copy(update=kept), database):
        wait_until(lambda: known(database, receiver.url("ok", "gone")) is None)
    assert known(database, receiver.url("ok", "kept")) is not None


def known(database, url: str) -> str | None:
    """The id of the endpoint of uploads with this URL, while there is one."""
    try:
        return Endpoints(database).get("default", upload_endpoint_id("default", url)).id
    except UnknownEndpoint:
        return None
