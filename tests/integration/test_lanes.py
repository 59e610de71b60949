"""Deliveries and their lanes, on SQLite and on PostgreSQL: entered once, claimed once, in order, none forgotten."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, delete, event, func, select, text

from ingest_worker.lanes import Claim, Lanes, Outcome, Verdict
from ingest_worker.shares import Bounds, Shares
from shared.database import make_engine
from shared.deliveries import Attempt, Deliveries, DeliveryState, Fault, disable, lock
from shared.endpoints import BY_OWNER, Endpoint, Endpoints, upload_endpoint_id
from shared.errors import EndpointDisabled, UnknownDelivery, UnknownEndpoint
from shared.webhook_tables import (
    ATTEMPTS,
    DELIVERIES,
    ENDPOINTS,
    LANES,
    MESSAGES,
    TABLES,
    TOUCH_SECONDS,
    WebhookDatabase,
)
from shared.webhooks import EventType, Kind, Message
from tests.awaiting import wait_until

LEASE_SECONDS = 20.0

#: PostgreSQL: how many connections to this database wait for a lock.
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

DELIVERED = Verdict(DeliveryState.DELIVERED)
GIVEN_UP = Verdict(DeliveryState.FAILED)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(request, tmp_path_factory) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("postgres").fresh_url()
    return f"sqlite:///{tmp_path_factory.mktemp('lanes') / 'db.sqlite3'}"


@pytest.fixture
def database(url) -> Iterator[WebhookDatabase]:
    """The tables, empty."""
    with closing(WebhookDatabase(make_engine(url))) as database:
        with database.writing() as transaction:
            for table in TABLES:
                transaction.execute(delete(table))
        yield database


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoints(database, clock) -> Endpoints:
    return Endpoints(database, clock)


@pytest.fixture
def deliveries(database, clock) -> Deliveries:
    return Deliveries(database, clock)


@pytest.fixture
def lanes(database, clock) -> Lanes:
    return Lanes(database, clock)


@pytest.fixture
def add(endpoints) -> Callable[..., Endpoint]:
    numbers = itertools.count(1)

    def make(events: tuple[str, ...] = (), tenant: str = "default") -> Endpoint:
        return endpoints.create(tenant, f"https://example.com/{next(numbers)}", events, "", "sealed")

    return make


def message(document: str, seq: int, **values) -> Message:
    kind = values.pop("type", EventType.STAGE_CHANGED)
    return Message(f"msg_{document}_{seq}_x", values.pop("tenant", "default"), kind, "{}", document, seq, **values)


def shares(room: int = 100, most: int = 100, in_hand: Sequence[Endpoint] = ()) -> Shares:
    return Shares(Bounds(room, tenant=room, host=room, endpoint=most), in_hand)


def claim(lanes: Lanes, room: int = 100, most: int = 100, in_hand: Sequence[Endpoint] = ()) -> list[Claim]:
    return list(lanes.claim(shares(room, most, in_hand), LEASE_SECONDS).claims)


def names(claims: list[Claim]) -> list[str]:
    return sorted(one.message_id for one in claims)


def outcome(one: Claim, verdict: Verdict = DELIVERED, error: str | None = None, at: float = 1_800_000_000.0) -> Outcome:
    status = 200 if verdict.state is DeliveryState.DELIVERED else 500
    return Outcome(one, Attempt(at, 12, {"webhook-id": one.message_id}, status, "answer", error), verdict)


def retry_at(due_at: float, **values) -> Verdict:
    return Verdict(DeliveryState.PENDING, due_at=due_at, **values)


def rows(database: WebhookDatabase, table) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_what_is_entered_twice_is_delivered_once(database, deliveries, lanes, add):
    """Whoever takes an outbox over may crash and begin again, or two may do it at once."""
    add()
    messages = [message("d", 1), message("d", 2)]
    deliveries.enter(messages)
    deliveries.enter(messages[:1])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(deliveries.enter, [messages] * 8))
    assert (rows(database, MESSAGES), rows(database, DELIVERIES), rows(database, LANES)) == (2, 2, 1)
    assert names(claim(lanes)) == ["msg_d_1_x"]


def test_who_is_told_of_what(deliveries, lanes, add, endpoints):
    """The tenant's endpoints that have chosen the type, and the one that the upload named."""
    everything = add()
    add(("ingestion.completed",))
    add(tenant="acme")
    named = endpoints.of_upload("default", "https://example.com/named", lambda: "sealed")
    stranger = endpoints.of_upload("acme", "https://example.com/named", lambda: "sealed")
    deliveries.enter([message("a", 1), message("b", 1, endpoint_id=named.id), message("c", 1, endpoint_id=stranger.id)])
    found = sorted((one.message_id, one.endpoint.id) for one in claim(lanes))
    assert found == sorted(
        [*((f"msg_{name}_1_x", everything.id) for name in "abc"), ("msg_b_1_x", named.id)],
    )


def test_an_upload_s_endpoint_hears_what_it_has_chosen(deliveries, lanes, endpoints):
    """As others do; a test is sent whatever that is."""
    named = endpoints.of_upload("default", "https://example.com/", lambda: "sealed")
    endpoints.change("default", named.id, events=("ingestion.completed",))
    test = message("t", 1, type=EventType.ENDPOINT_TEST, endpoint_id=named.id, alone=True)
    completed = message("c", 1, type=EventType.COMPLETED, endpoint_id=named.id)
    deliveries.enter([message("d", 1, endpoint_id=named.id), completed, test])
    assert names(claim(lanes)) == ["msg_c_1_x", "msg_t_1_x"]


def test_what_nobody_wants_to_hear_is_not_kept(database, deliveries):
    """An installation without webhooks has no rows."""
    assert deliveries.enter([message("d", 1)]) == 0
    assert rows(database, MESSAGES) == rows(database, LANES) == 0


def test_the_next_of_a_document_waits_until_the_one_before_is_over(deliveries, lanes, add, clock):
    """Delivered or given up; other documents and other endpoints go on meanwhile."""
    add()
    deliveries.enter([message("d", 1), message("d", 2), message("d", 3), message("e", 1)])
    first, other = sorted(claim(lanes), key=lambda one: one.message_id)
    assert names([first, other]) == ["msg_d_1_x", "msg_e_1_x"]
    lanes.settle([outcome(other), outcome(first, retry_at(clock.now + 5), "refused")])
    assert claim(lanes) == []
    clock.now += 5
    (again,) = claim(lanes)
    assert (again.message_id, again.tries, again.attempts) == ("msg_d_1_x", 1, 1)
    lanes.settle([outcome(again, GIVEN_UP, "refused")])
    (second,) = claim(lanes)
    deliveries.enter([message("d", 4)])
    assert claim(lanes) == []
    lanes.settle([outcome(second)])
    assert names(claim(lanes)) == ["msg_d_3_x"]


def test_a_lane_without_anything_to_do_is_gone(database, deliveries, lanes, add):
    """And comes back with the next message."""
    add()
    deliveries.enter([message("d", 1)])
    lanes.settle([outcome(one) for one in claim(lanes)])
    assert rows(database, LANES) == 0
    deliveries.enter([message("d", 2)])
    assert names(claim(lanes)) == ["msg_d_2_x"]


def test_what_a_killed_courier_had_in_hand_is_due_again_by_its_lease(deliveries, lanes, add, clock):
    """Not before; and what the first one reports late counts no more."""
    add()
    deliveries.enter([message("d", 1)])
    (lost,) = claim(lanes)
    clock.now += LEASE_SECONDS - 1
    assert claim(lanes) == []
    clock.now += 1
    (again,) = claim(lanes)
    assert again.delivery_id == lost.delivery_id
    assert lanes.settle([outcome(lost, GIVEN_UP)]) == []
    assert len(lanes.settle([outcome(again)])) == 1
    assert deliveries.get(again.endpoint.id, again.delivery_id).state is DeliveryState.DELIVERED


def test_what_is_handed_back_is_due_at_once(deliveries, lanes, add):
    """A courier that is told to stop delays nothing."""
    add()
    deliveries.enter([message("d", 1)])
    taken = claim(lanes)
    lanes.release(taken)
    (again,) = claim(lanes)
    lanes.release(taken)  # too late: it is another's
    assert claim(lanes) == []
    assert again.tries == 0


def test_couriers_never_have_the_same_in_hand(deliveries, lanes, add):
    """However many claim at the same time, each lane is one's, and all are somebody's."""
    for _ in range(3):
        add()
    deliveries.enter([message(f"d{n}", 1) for n in range(40)])
    start = threading.Barrier(6)

    def work() -> list[Claim]:
        start.wait()
        found: list[Claim] = []
        for _ in range(20):
            found += claim(lanes, room=5, most=3)
        return found

    with ThreadPoolExecutor(6) as pool:
        taken = [one for found in [pool.submit(work) for _ in range(6)] for one in found.result()]
    assert len(taken) == len({one.delivery_id for one in taken}) == 120


def test_settling_and_entering_at_the_same_time_forgets_nothing(database, deliveries, lanes, add):
    """The moment in which a lane ends is the moment in which the next message comes: over and over."""
    add()
    stop = threading.Event()

    def settle() -> int:
        count = 0
        while not stop.is_set() or rows(database, LANES):
            taken = claim(lanes)
            lanes.settle([outcome(one) for one in taken])
            count += len(taken)
        return count

    with ThreadPoolExecutor(2) as pool:
        settled = [pool.submit(settle) for _ in range(2)]
        for seq in range(1, 101):
            deliveries.enter([message("d", seq)])
        stop.set()
        assert sum(one.result() for one in settled) == 100


def test_a_long_queue_of_one_endpoint_leaves_room_for_the_others(deliveries, lanes, add):
    """An endpoint has so many in hand and no more, and one at a time while it fails."""
    slow = add(("ingestion.stage_changed",))
    deliveries.enter([message(f"d{n}", 1) for n in range(500)])
    quick = add()
    deliveries.enter([message("late", 1, type=EventType.COMPLETED)])
    found = claim(lanes, room=50, most=8)
    assert [one.endpoint.id for one in found].count(slow.id) == 8
    assert [one.endpoint.id for one in found].count(quick.id) == 1
    assert claim(lanes, room=50, most=8, in_hand=[slow] * 8) == []
    lanes.settle([outcome(one, retry_at(1e10), "refused") for one in found if one.endpoint.id == slow.id])
    assert len(claim(lanes, room=50, most=8)) == 1
    assert claim(lanes, room=50, most=8, in_hand=[slow]) == []


def test_many_slow_endpoints_of_one_tenant_leave_room_for_the_others(deliveries, lanes, add, endpoints, clock):
    """Each upload may name a URL of its own: neither another tenant waits for them, nor another host of the same."""
    urls = [f"https://slow.example/done?job={number}" for number in range(200)]
    slow = [endpoints.of_upload("slow", url, lambda: "sealed") for url in urls]
    deliveries.enter([message(f"d{n}", 1, tenant="slow", endpoint_id=one.id) for n, one in enumerate(slow)])
    clock.now += 1
    others = {add(tenant="other").id, add(tenant="slow").id}
    deliveries.enter([message("e", 1, tenant="other"), message("f", 1, tenant="slow")])
    bounds = Bounds.of(total=128, endpoint=8)
    in_hand: list[Endpoint] = []
    for _ in range(3):
        in_hand += [one.endpoint for one in lanes.claim(Shares(bounds, in_hand), LEASE_SECONDS).claims]
    taken = Counter(one.url.partition("?")[0] for one in in_hand)
    assert taken["https://slow.example/done"] == bounds.host == 16
    assert {one.id for one in in_hand} >= others


def test_an_endpoint_that_was_well_meanwhile_is_not_disabled(deliveries, lanes, endpoints, add):
    """Two couriers have deliveries to it; one is taken, and the time-out of the other is a failure like any other."""
    endpoint = add()
    deliveries.enter([message(document, 1) for document in "abc"])
    (failed,) = claim(lanes, room=1)
    lanes.settle([outcome(failed, retry_at(0.0), "refused", at=1.0)])
    first, second = claim(lanes, room=1) + claim(lanes, room=1)
    long_failing = retry_at(2e9, disabled_because="failing", failing_since=1.0)
    lanes.settle([outcome(first)])
    (settled,) = lanes.settle([outcome(second, long_failing, "timed_out")])
    assert (settled.verdict.state, settled.verdict.disabled_because) == (DeliveryState.PENDING, None)
    assert endpoints.get("default", endpoint.id).is_enabled
    states = [one.state for one in deliveries.of_endpoint(endpoint.id, 9)]
    assert sorted(states) == ["delivered", "pending", "pending"]


def test_an_endpoint_that_has_only_failed_is_disabled(deliveries, lanes, endpoints, add):
    """With what was to be tried again."""
    endpoint = add()
    deliveries.enter([message("a", 1)])
    (failed,) = claim(lanes)
    lanes.settle([outcome(failed, retry_at(0.0), "refused", at=1.0)])
    (again,) = claim(lanes)
    long_failing = retry_at(2e9, disabled_because="failing", failing_since=1.0)
    (settled,) = lanes.settle([outcome(again, long_failing, "refused")])
    assert (settled.verdict.state, settled.verdict.disabled_because) == (DeliveryState.FAILED, "failing")
    assert not endpoints.get("default", endpoint.id).is_enabled
    assert [one.state for one in deliveries.of_endpoint(endpoint.id, 9)] == ["failed"]


def test_of_secrets_that_are_made_at_the_same_time_none_is_lost(endpoints, add):
    """Each was shown to somebody, and messages are signed with it."""
    new = ["one", "two", "three"]
    with ThreadPoolExecutor(len(new)) as pool:
        for _ in range(20):  # so that the threads do meet
            rotate = partial(endpoints.rotate, "default", add().id, overlap_seconds=60.0)
            rotated = list(pool.map(rotate, new))
            kept = {secret.sealed for secret in endpoints.get("default", rotated[0].id).secrets}
            assert kept == {"sealed", *new}


def test_a_new_url_inherits_nothing_from_the_old_one(deliveries, lanes, endpoints, add):
    """Neither how long it has failed, nor the wait that it asked for."""
    endpoint = add()
    deliveries.enter([message("a", 1)])
    (failed,) = claim(lanes)
    lanes.settle([outcome(failed, retry_at(2e9, resume_at=2e9), "refused", at=1.0)])
    assert endpoints.get("default", endpoint.id).failing_since == 1.0
    changed = endpoints.change("default", endpoint.id, url="https://new.example/")
    assert (changed.failing_since, changed.resume_at) == (None, None)


@pytest.mark.parametrize(
    "verdict",
    [Verdict(DeliveryState.FAILED, disabled_because="gone"), retry_at(2e9, resume_at=2e9)],
    ids=["gone", "asked to wait"],
)
def test_what_the_old_url_answered_last_is_not_held_against_the_new_one(deliveries, lanes, endpoints, add, verdict):
    """What was on its way when the URL was changed is sent to the new one at once."""
    endpoint = add()
    deliveries.enter([message("a", 1)])
    (sent,) = claim(lanes)
    endpoints.change("default", endpoint.id, url="https://new.example/")
    (counted,) = lanes.settle([outcome(sent, verdict, "refused", at=1.0)])
    assert counted.verdict.disabled_because is None
    changed = endpoints.get("default", endpoint.id)
    assert (changed.is_enabled, changed.failing_since, changed.resume_at) == (True, None, None)
    (again,) = claim(lanes)
    assert (again.delivery_id, again.endpoint.url) == (sent.delivery_id, "https://new.example/")


def test_an_endpoint_waits_for_no_other_of_its_tenant(deliveries, lanes, add):
    """Also when others on the same host have all that the tenant may: one of it is always on its way."""
    slow = [add(("ingestion.stage_changed",)) for _ in range(6)]
    deliveries.enter([message(f"d{n}", 1) for n in range(50)])
    bounds = Bounds.of(128, 8)
    in_hand = [one.endpoint for one in lanes.claim(Shares(bounds, ()), LEASE_SECONDS).claims]
    assert len(in_hand) >= bounds.tenant
    assert {one.id for one in in_hand} == {one.id for one in slow}
    well = add(("ingestion.completed",))
    deliveries.enter([message("late", n, type=EventType.COMPLETED) for n in (1, 2)])
    (one,) = lanes.claim(Shares(bounds, in_hand), LEASE_SECONDS).claims
    assert one.endpoint.id == well.id
    assert lanes.claim(Shares(bounds, [*in_hand, well]), LEASE_SECONDS).claims == ()


def test_no_tenant_has_more_than_its_share(deliveries, lanes, endpoints):
    """Also with as many hosts as it has endpoints."""
    urls = [f"https://slow{number}.example/" for number in range(100)]
    slow = [endpoints.of_upload("slow", url, lambda: "sealed") for url in urls]
    deliveries.enter([message(f"d{n}", 1, tenant="slow", endpoint_id=one.id) for n, one in enumerate(slow)])
    taken = [one.endpoint for one in lanes.claim(Shares(Bounds.of(128, 8)), LEASE_SECONDS).claims]
    assert len(taken) == 32
    assert lanes.claim(Shares(Bounds.of(128, 8), taken), LEASE_SECONDS).claims == ()


@pytest.mark.parametrize("path", ["?n={}", "/{}"])
def test_a_slow_host_of_uploads_leaves_room_for_others_of_its_tenant(deliveries, lanes, endpoints, clock, path):
    """However its URLs are written."""
    urls = [f"https://slow.example{path.format(number)}" for number in range(160)] + ["https://well.example/"]
    named = [endpoints.of_upload("default", url, lambda: "sealed") for url in urls]
    messages = [message(f"d{number}", 1, endpoint_id=one.id) for number, one in enumerate(named)]
    deliveries.enter(messages[:-1])
    clock.now += 1  # so that all of the slow host's come first
    deliveries.enter(messages[-1:])
    bounds, in_hand = Bounds.of(128, 8), []
    for _ in range(5):
        in_hand += [one.endpoint for one in lanes.claim(Shares(bounds, in_hand), LEASE_SECONDS).claims]
    hosts = Counter(urlsplit(one.url).hostname for one in in_hand)
    assert hosts["well.example"] == 1
    assert hosts["slow.example"] <= bounds.host


def test_a_lease_lasts_from_when_there_was_a_turn_to_write(deliveries, database, add, clock, monkeypatch):
    """That may be long in coming where another writes."""
    add()
    deliveries.enter([message("d", 1)])
    writing = database.writing

    def late():
        clock.now += LEASE_SECONDS
        return writing()

    with monkeypatch.context() as patch:
        patch.setattr(database, "writing", late)
        assert len(claim(Lanes(database, clock))) == 1
    assert claim(Lanes(database, clock)) == []


def test_a_disabled_endpoint_is_told_nothing_again(deliveries, lanes, endpoints, add, clock):
    """What it has heard stays over, and nothing waits for ever."""
    endpoint = add()
    deliveries.enter([message("d", 1)])
    lanes.settle([outcome(one) for one in claim(lanes)])
    deliveries.disable(endpoint.id, "by_owner")
    for seq in (1, 2):
        deliveries.tell(message("d", seq), endpoint.id)
    assert {one.state for one in deliveries.of_endpoint(endpoint.id, 9)} <= {"delivered", "failed"}


def test_an_endpoint_that_asks_for_time_gets_it(deliveries, lanes, add, clock):
    """With all that is meant for it; the next success ends that."""
    add()
    deliveries.enter([message("d", 1), message("e", 1)])
    (one,) = claim(lanes, room=1)
    lanes.settle([outcome(one, retry_at(clock.now + 60, resume_at=clock.now + 60), "refused")])
    found = lanes.claim(shares(), LEASE_SECONDS)
    assert (found.claims, found.next_at) == ((), clock.now + 60)
    clock.now += 60
    (one,) = claim(lanes)
    lanes.settle([outcome(one)])
    assert len(claim(lanes)) == 1


def test_it_says_when_something_will_be_due(deliveries, lanes, add, clock):
    """So that nobody has to look all the time."""
    add()
    assert lanes.claim(shares(), LEASE_SECONDS).next_at is None
    deliveries.enter([message("d", 1)])
    (one,) = claim(lanes)
    lanes.settle([outcome(one, retry_at(clock.now + 7), "refused")])
    assert lanes.claim(shares(), LEASE_SECONDS).next_at == clock.now + 7
    clock.now += 10
    assert deliveries.due() == (1, 3.0)


def test_a_failing_endpoint_is_disabled_and_the_others_hear_of_it(deliveries, lanes, add, endpoints, clock):
    """What is pending has failed; what happens from then on can be recovered as well."""
    gone, other, uninterested = add(), add(), add(("ingestion.completed",))
    deliveries.enter([message("d", 1), message("d", 2)])
    mine = next(one for one in claim(lanes) if one.endpoint.id == gone.id)
    lanes.settle([outcome(mine, replace(GIVEN_UP, disabled_because="gone"), "refused")])
    disabled = endpoints.get("default", gone.id)
    assert (disabled.is_enabled, disabled.disabled_reason) == (False, "gone")
    deliveries.enter([message("e", 1)])
    found = deliveries.of_endpoint(gone.id, 10)
    assert [(one.message_id, one.state, one.error) for one in found] == [
        ("msg_e_1_x", DeliveryState.FAILED, Fault.ENDPOINT_DISABLED),
        ("msg_d_2_x", DeliveryState.FAILED, Fault.ENDPOINT_DISABLED),
        ("msg_d_1_x", DeliveryState.FAILED, "refused"),
    ]
    assert [one.type for one in deliveries.of_endpoint(other.id, 10)].count("endpoint.disabled") == 1
    assert deliveries.of_endpoint(uninterested.id, 10) == []

    deliveries.enable(gone.id)
    assert [one for one in claim(lanes) if one.endpoint.id == gone.id] == []
    clock.now += 1
    assert deliveries.recover(gone.id, clock.now) == 0
    assert deliveries.recover(gone.id, clock.now - 1) == 3
    assert names([one for one in claim(lanes) if one.endpoint.id == gone.id]) == ["msg_d_1_x", "msg_e_1_x"]


def test_what_comes_while_an_endpoint_is_disabled_or_removed_is_not_pending(database, deliveries, lanes, add, url):
    """Whoever enters it waits until that is over: it would wait for ever otherwise."""

    def waits(entering: Future[int]) -> bool:
        if url.startswith("sqlite"):  # there is one writer at a time
            return True
        with database.reading() as connection:
            return entering.done() or connection.execute(text(WAITING)).scalar_one() > 0

    one, other = add(), add()
    with ThreadPoolExecutor(1) as pool:
        with database.writing() as transaction:
            disable(transaction, one.id, "gone", 1.0)
            transaction.execute(delete(ENDPOINTS).where(ENDPOINTS.c.id == other.id))
            entering = pool.submit(deliveries.enter, [message("d", 1)])
            wait_until(lambda: waits(entering))
        assert entering.result() == 1
    assert [found.state for found in deliveries.of_endpoint(one.id, 9)] == [DeliveryState.FAILED]
    assert rows(database, LANES) == 0


def test_endpoints_of_a_tenant_that_fail_at_the_same_time_do_not_lock_each_other_out(deliveries, lanes, add, endpoints):
    """Two couriers settle crosswise, and each tells the other's endpoint; meanwhile their owner sends things again."""
    made = [add() for _ in range(8)]
    deliveries.enter([message(f"d{n}", 1) for n in range(4)])
    taken = claim(lanes)
    gone = replace(GIVEN_UP, disabled_because="gone")
    start = threading.Barrier(3)

    def settle(share: list[Claim]) -> None:
        start.wait()
        for one in share:
            lanes.settle([outcome(one, gone, "refused")])

    def recover() -> None:
        start.wait()
        for one in made * 4:
            with suppress(EndpointDisabled):
                deliveries.recover(one.id, 0.0)

    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(settle, taken[::2]), pool.submit(settle, taken[::-2]), pool.submit(recover)]
        for one in work:
            one.result()
    assert not any(endpoints.get("default", one.id).is_enabled for one in made)


def test_failing_is_noted_from_the_first_failure_to_the_next_success(deliveries, lanes, add, endpoints, clock):
    """A failure that says nothing of the endpoint is not counted."""
    one = add()
    deliveries.enter([message("d", 1)])
    lanes.settle([outcome(c, retry_at(clock.now, is_telling=False), "refused") for c in claim(lanes)])
    assert endpoints.get("default", one.id).failing_since is None
    lanes.settle([outcome(c, retry_at(clock.now), "refused", at=100.0) for c in claim(lanes)])
    lanes.settle([outcome(c, retry_at(clock.now), "refused", at=200.0) for c in claim(lanes)])
    assert endpoints.get("default", one.id).failing_since == 100.0
    lanes.settle([outcome(c) for c in claim(lanes)])
    assert endpoints.get("default", one.id).failing_since is None


def test_one_delivery_can_be_sent_again(deliveries, lanes, add):
    """Whatever came of it, with all its tries before it; its attempts go on being counted."""
    endpoint = add()
    deliveries.enter([message("d", 1)])
    (first,) = claim(lanes)
    lanes.settle([outcome(first)])
    deliveries.redeliver(endpoint.id, first.delivery_id)
    (again,) = claim(lanes)
    assert (again.delivery_id, again.tries, again.attempts) == (first.delivery_id, 0, 1)
    lanes.settle([outcome(again, GIVEN_UP, "timed_out")])
    shown = deliveries.get(endpoint.id, first.delivery_id)
    assert [(one.number, one.status, one.error) for one in shown.attempts] == [(1, 200, None), (2, 500, "timed_out")]
    with pytest.raises(UnknownDelivery):
        deliveries.redeliver(endpoint.id, "dl_none")
    with pytest.raises(UnknownDelivery):
        deliveries.redeliver("ep_other", first.delivery_id)


def test_what_is_in_hand_is_not_sent_twice_on_demand(deliveries, lanes, add):
    """It is on its way already."""
    endpoint = add()
    deliveries.enter([message("d", 1)])
    (one,) = claim(lanes)
    deliveries.redeliver(endpoint.id, one.delivery_id)
    assert claim(lanes) == []


def test_what_is_to_be_sent_again_is_though_its_last_try_is_in_hand(deliveries, lanes, add, clock):
    """The answer to whoever asked said so."""
    endpoint = add()
    deliveries.enter([message("d", 1)])
    lanes.settle([outcome(c, retry_at(clock.now), "refused") for c in claim(lanes)])
    (last,) = claim(lanes)
    deliveries.redeliver(endpoint.id, last.delivery_id)
    lanes.settle([outcome(last, GIVEN_UP, "refused")])
    (again,) = claim(lanes)
    assert (again.delivery_id, again.tries, again.attempts) == (last.delivery_id, 1, 2)


def test_nothing_is_begun_again_for_an_endpoint_that_was_disabled_meanwhile(deliveries, lanes, add):
    """It would wait for ever."""
    endpoint = add()
    deliveries.enter([message("d", 1)])
    (sent,) = claim(lanes)
    deliveries.disable(endpoint.id, BY_OWNER)
    with pytest.raises(EndpointDisabled):
        deliveries.redeliver(endpoint.id, sent.delivery_id)
    with pytest.raises(EndpointDisabled):
        deliveries.recover(endpoint.id, 0.0)
    assert deliveries.get(endpoint.id, sent.delivery_id).state is DeliveryState.FAILED


def test_a_message_can_be_told_once_more(deliveries, lanes, endpoints, add):
    """As for an upload that names an endpoint and gets an earlier result. Others don't hear it again."""
    named = endpoints.of_upload("default", "https://example.com/", lambda: "sealed")
    add()
    told = message("d", 9)
    for _ in range(2):
        deliveries.tell(told, named.id)
        deliveries.tell(told, named.id)  # while it is pending that changes nothing
        (one,) = claim(lanes)
        lanes.settle([outcome(one)])
    assert claim(lanes) == []


def test_who_is_told_alone_waits_for_no_other_endpoint(database, deliveries, endpoints, add, url):
    """A courier that settles has several and waits for the next: the two would lock each other out."""
    other = add()
    named = endpoints.of_upload("default", "https://example.com/", lambda: "sealed")
    with ThreadPoolExecutor(1) as pool:
        with database.writing() as transaction:
            lock(transaction, ENDPOINTS.c.id == other.id)
            telling = pool.submit(deliveries.tell, message("d", 1), named.id)
            if not url.startswith("sqlite"):  # there is one writer at a time
                telling.result(timeout=10)
        telling.result()
    assert [one.message_id for one in deliveries.of_endpoint(named.id, 9)] == ["msg_d_1_x"]
    assert deliveries.of_endpoint(other.id, 9) == []


def test_an_upload_s_endpoint_is_one_for_a_tenant_and_a_url(endpoints):
    """Whoever is first is told its secret, and nobody else."""
    start = threading.Barrier(4)
    numbers = itertools.count()

    def name(n: int) -> tuple[str, str | None]:
        start.wait()
        endpoint = endpoints.of_upload("default", "https://example.com/", lambda: f"s{next(numbers)}")
        return endpoint.secrets[0].sealed, endpoints.tell_secret(endpoint, f"upload {n}")

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(name, range(4)))
    assert len({sealed for sealed, _ in told}) == 1
    assert [secret for _, secret in told if secret] == [told[0][0]]
    assert endpoints.get("default", upload_endpoint_id("default", "https://example.com/")).kind is Kind.UPLOAD
    assert upload_endpoint_id("acme", "https://example.com/") != upload_endpoint_id("default", "https://example.com/")


def test_another_tenant_s_endpoint_is_not_there(endpoints, add):
    """To read, to change or to remove."""
    theirs = add(tenant="acme")
    for attempt in (endpoints.get, endpoints.change, endpoints.remove):
        with pytest.raises(UnknownEndpoint):
            attempt("default", theirs.id)
    assert endpoints.of_tenant("default", 10) == []
    assert endpoints.get("acme", theirs.id) == theirs


def test_an_endpoint_that_is_removed_takes_all_of_its_own_along(database, deliveries, lanes, add, endpoints):
    """Also while something for it is in hand: what comes of that is nobody's business any more."""
    one, other = add(), add()
    deliveries.enter([message("d", 1), message("d", 2)])
    taken = claim(lanes)
    lanes.settle([outcome(c, retry_at(0.0), "refused") for c in taken])
    taken = claim(lanes)
    endpoints.remove("default", one.id)
    lanes.settle([outcome(c) for c in taken])
    assert (rows(database, DELIVERIES), rows(database, LANES)) == (2, 1)
    assert rows(database, ATTEMPTS) == 2
    assert deliveries.of_endpoint(other.id, 10)[-1].state is DeliveryState.DELIVERED


def test_what_is_old_and_over_is_removed(database, deliveries, lanes, add, clock):
    """Deliveries with their attempts, and messages that nothing refers to; what is pending stays."""
    add()
    deliveries.enter([message("d", 1), message("e", 1)])
    done, waiting = claim(lanes)
    lanes.settle([outcome(done), outcome(waiting, retry_at(clock.now), "refused")])
    assert deliveries.purge(clock.now) == 0
    clock.now += 10
    assert deliveries.purge(clock.now) == 2
    assert deliveries.purge(clock.now) == 0
    assert (rows(database, DELIVERIES), rows(database, MESSAGES), rows(database, ATTEMPTS)) == (1, 1, 1)


only_where_several_write_at_a_time = pytest.mark.parametrize("url", ["postgres"], indirect=True, scope="module")


@contextmanager
def before_statement(database: WebhookDatabase, begins: str, do: Callable[[], object]) -> Iterator[Future]:
    """Just before the first statement that begins so, another does something, and is done or waits for us."""
    us, pool, work = threading.current_thread(), ThreadPoolExecutor(1), Future()
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")

    def is_blocked() -> bool:
        with database.reading() as connection:
            return connection.execute(waiting).scalar_one() > 0

    def listen(_connection, _cursor, statement: str, *_: object) -> None:
        if threading.current_thread() is us and statement.startswith(begins) and not work.done():
            doing = pool.submit(do)
            work.set_result(doing)
            wait_until(lambda: doing.done() or is_blocked())

    with pool:
        event.listen(Engine, "before_cursor_execute", listen)
        try:
            yield work
        finally:
            event.remove(Engine, "before_cursor_execute", listen)


@only_where_several_write_at_a_time
def test_what_is_asked_for_again_while_old_ones_are_removed_is_sent_or_refused(database, deliveries, lanes, add, clock):
    """Whoever is told that it will be sent is told the truth."""
    endpoint = add()
    deliveries.enter([message("d", 1)])
    lanes.settle([outcome(one, GIVEN_UP, "refused") for one in claim(lanes)])
    again = partial(deliveries.recover, endpoint.id, 0)
    with before_statement(database, "DELETE FROM webhook_deliveries", again) as work:
        deliveries.purge(clock.now + 1)
    assert work.result().result() == len(claim(lanes)) == 0
    deliveries.enter([message("d", 2)])
    lanes.settle([outcome(one, GIVEN_UP, "refused") for one in claim(lanes)])
    with database.writing() as transaction:
        transaction.execute(select(DELIVERIES.c.id).with_for_update())
        with ThreadPoolExecutor(1) as pool:  # whoever has it in hand is about to ask for it
            assert pool.submit(deliveries.purge, clock.now + 1).result() == 0


@only_where_several_write_at_a_time
def test_what_is_told_while_old_messages_are_removed_is_sent(database, deliveries, lanes, endpoints, add, clock):
    """Though the message was there, and nobody else was to hear it any more."""
    add()
    late = endpoints.of_upload("default", "https://example.com/late", lambda: "sealed")
    deliveries.enter([message("d", 1)])
    lanes.settle([outcome(one) for one in claim(lanes)])
    told = message("d", 1)
    with before_statement(database, "DELETE FROM webhook_messages", lambda: deliveries.tell(told, late.id)) as work:
        deliveries.purge(clock.now + 1)
    work.result().result()
    assert names(claim(lanes)) == [told.message_id]
    assert len(deliveries.of_endpoint(late.id, 9)) == 1


def test_what_has_failed_since_is_sent_again_whenever_it_began(deliveries, lanes, add, clock):
    """Some are given up days after they were entered."""
    endpoint = add()
    deliveries.enter([message("d", 1)])
    clock.now += 300_000
    lanes.settle([outcome(one, GIVEN_UP, "refused") for one in claim(lanes)])
    assert deliveries.recover(endpoint.id, clock.now + 1) == 0
    assert deliveries.recover(endpoint.id, clock.now - 1) == 1


def test_what_is_pending_for_an_endpoint_that_is_gone_is_removed(database, deliveries, add, clock):
    """Nobody will ever settle it."""
    gone = add()
    deliveries.enter([message("d", 1)])
    with database.writing() as transaction:
        transaction.execute(delete(ENDPOINTS).where(ENDPOINTS.c.id == gone.id))
    clock.now += 10
    assert deliveries.purge(clock.now) == 2
    assert (rows(database, DELIVERIES), rows(database, MESSAGES), rows(database, LANES)) == (0, 0, 0)


def test_an_upload_s_endpoint_that_none_names_any_more_is_forgotten(database, deliveries, lanes, add, endpoints, clock):
    """Not while something for it is kept, nor when it was in use since, nor what its owner has chosen of it."""
    idle, busy, named, retried, chosen, refused, moved, rotated = (
        endpoints.of_upload("default", f"https://example.com/{way}", lambda: "sealed") for way in range(8)
    )
    add()
    endpoints.change("default", moved.id, url="https://moved.example/")
    endpoints.rotate("default", rotated.id, "new", 0.0)
    deliveries.disable(refused.id, BY_OWNER)
    endpoints.change("default", chosen.id, description="Kept by hand.")
    clock.now += 2 * TOUCH_SECONDS
    endpoints.of_upload("default", named.url, lambda: "sealed")
    endpoints.keep("default", retried.id)
    deliveries.enter([message("d", 1, endpoint_id=busy.id)])
    assert endpoints.forget(clock.now - TOUCH_SECONDS) == 0
    assert endpoints.forget(clock.now - TOUCH_SECONDS + 1) == 1
    assert rows(database, ENDPOINTS) == 8
    with pytest.raises(UnknownEndpoint):
        endpoints.get("default", idle.id)
    assert endpoints.of_upload("default", idle.url, lambda: "another").secrets[0].sealed == "another"


def test_deliveries_are_listed_page_by_page(deliveries, add):
    """The newest first."""
    endpoint = add()
    for seq in range(1, 6):
        deliveries.enter([message("d", seq)])
    first = deliveries.of_endpoint(endpoint.id, 2)
    rest = deliveries.of_endpoint(endpoint.id, 9, first[-1].id)
    assert [one.message_id for one in (*first, *rest)] == [f"msg_d_{seq}_x" for seq in (5, 4, 3, 2, 1)]
