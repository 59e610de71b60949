"""Claims, leases, fencing tokens and the fan-in, on a real Valkey."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest
from redis.client import Pipeline

from ingest_worker.drain import Drain
from ingest_worker.lease import HandBack, Lease
from shared import connections, keys
from shared.access import DEFAULT_TENANT
from shared.errors import AlreadyFinished, LostLease, StoreUnavailable, UnknownIngestion
from shared.jobs import Status
from shared.parts import CHUNK, LOAD, PLAN, halves, pages, ranges
from shared.protocol import Failure, State
from shared.store import Store
from shared.worklist import Claim, Plan, Worklist
from tests import valkey
from tests.awaiting import wait_until
from tests.records import SOURCE


@pytest.fixture
def settings(settings):
    """Reports at every page; leases that end soon."""
    return settings.model_copy(update={"report_interval_seconds": 0.0, "lease_seconds": 0.5, "max_parts_in_flight": 3})


@pytest.fixture
def worklist(client, settings):
    return Worklist(client, settings)


def planned(store: Store, worklist: Worklist, name: str, total: int, size: int = 10) -> None:
    """A document whose pages wait, and nothing else."""
    store.create(name, SOURCE)
    claim = worklist.claim()
    assert (claim.document_id, claim.part) == (name, PLAN)
    store.record(name, 1, Status.PARSING, "Opening the file", progress=0.0, held=claim.held)
    worklist.settle(claim, rest=ranges(1, total, size), plan=Plan(total, 0, "pages"))


def finish(worklist: Worklist, claim: Claim) -> None:
    worklist.settle(claim, finished={claim.part: {}}, then=CHUNK, spent_seconds=1.0, characters=100, served_bytes=10)


def events(store: Store, name: str) -> list[State]:
    return [State.from_json(data) for _, data in store.histories([(name, 0)])[name, 0].events]


def test_a_part_is_claimed_once(store, worklist):
    """Whoever comes second gets the next part, and at the end nothing."""
    planned(store, worklist, "d", 20)
    assert [worklist.claim().part, worklist.claim().part, worklist.claim()] == [pages(1, 10), pages(11, 20), None]


def test_no_two_claims_have_the_same_token(store, worklist, client):
    """Not even when Redis comes back without its last second, and with it the first claim: both workers live on."""
    planned(store, worklist, "d", 10)
    kept = {key: client.dump(key) for key in client.keys("*")}
    first = worklist.claim()
    client.flushall()
    for key, value in kept.items():
        client.restore(key, 0, value)
    second = worklist.claim()
    assert first.part == second.part
    assert first.token != second.token
    with pytest.raises(LostLease):
        finish(worklist, first)
    finish(worklist, second)


def test_a_redis_that_is_restarted_in_mid_claim_costs_no_claim(store, worklist, client, monkeypatch):
    """It has forgotten the scripts that it was sent a moment ago."""
    planned(store, worklist, "d", 10)
    load = Pipeline.load_scripts
    monkeypatch.setattr(Pipeline, "load_scripts", lambda pipe: (load(pipe), client.script_flush()))
    assert worklist.claim().part == pages(1, 10)


def test_a_claim_says_what_the_document_has_cost(store, worklist):
    """Limits on the whole document are kept by whoever works on a part of it."""
    planned(store, worklist, "d", 20)
    finish(worklist, worklist.claim())
    claim = worklist.claim()
    assert (claim.attempt, claim.lost, claim.spent_seconds, claim.characters, claim.total) == (1, 0, 1.0, 100, 20)


def test_what_a_lost_worker_has_spent_counts_too(store, worklist, settings):
    """From its claim to its last sign of life: else a document could cost workers without end."""
    planned(store, worklist, "d", 10)
    lost = worklist.claim()
    threading.Event().wait(0.2)
    worklist.renew(lost)
    wait_until(lambda: worklist.lapse("d").lost, what="the end of the lease")
    assert 0.2 <= worklist.claim().spent_seconds < 0.2 + settings.lease_seconds


def test_no_more_parts_of_a_document_are_in_hand_than_may_be(store, worklist):
    """The others get their turn; a part that is settled makes room for the next."""
    planned(store, worklist, "large", 100)
    held = [worklist.claim() for _ in range(3)]
    assert worklist.claim() is None
    planned(store, worklist, "small", 5)
    assert worklist.claim().document_id == "small"
    finish(worklist, held[0])
    assert worklist.claim().part == pages(31, 40)


def test_a_small_document_passes_a_large_one(store, worklist):
    """It is begun, parsed, chunked and loaded while the large one gets a range in between at most."""
    planned(store, worklist, "large", 500)
    for _ in range(5):
        finish(worklist, worklist.claim())
    store.create("small", SOURCE)
    served = []
    for _ in range(6):
        claim = worklist.claim()
        served.append(f"{claim.document_id} {claim.part.name}")
        if claim.part == PLAN:
            worklist.settle(claim, rest=[pages(1, 3)], plan=Plan(3, 0, "pages"))
        elif claim.part == CHUNK:
            worklist.settle(claim, then=LOAD)
        elif claim.part == LOAD:
            break
        else:
            finish(worklist, claim)
    assert served[-1] == "small load"
    assert sum(name.startswith("large") for name in served) <= 2


def test_what_was_lost_or_handed_back_is_next(store, worklist):
    """Its document has not been served after all: it does not wait behind those that have."""
    for name in ("c", "b", "a"):
        planned(store, worklist, name, 30)
    lost = worklist.claim()
    wait_until(lambda: worklist.lapse(lost.document_id).lost, what="the end of the lease")
    again = worklist.claim()
    assert (again.document_id, again.part) == (lost.document_id, lost.part)
    worklist.settle(again, rest=[again.part])
    assert worklist.claim().document_id == lost.document_id


def test_a_document_that_is_handed_back_before_it_was_begun_waits_where_it_stood(store, worklist):
    """It is counted and told its place again; one that was cancelled meanwhile is not."""
    for name in "ab":
        store.create(name, SOURCE)
    before = worklist.queue(10)
    claims = [worklist.claim(), worklist.claim()]
    assert worklist.queue(10) == []
    for claim in claims:
        worklist.give_back(claim)
    assert worklist.queue(10) == before
    claim = worklist.claim()
    store.record(claim.document_id, 1, Status.CANCELLED, "Cancelled")
    with pytest.raises(AlreadyFinished):
        worklist.give_back(claim)
    assert worklist.overview().queued == 1


def test_documents_of_one_size_take_turns(store, worklist):
    """None is served twice before another is served once."""
    for name in "cba":
        planned(store, worklist, name, 30)
    served = []
    for _ in range(9):
        claim = worklist.claim()
        served.append(claim.document_id)
        finish(worklist, claim)
    assert [set(served[n : n + 3]) for n in (0, 3, 6)] == [set("abc")] * 3


def test_who_comes_while_nobody_waits_does_not_begin_at_the_first_turn(store, worklist):
    """A document whose last range is in hand is not made to wait for as many pages of the new one as it had itself."""
    planned(store, worklist, "a", 500)
    for _ in range(49):
        finish(worklist, worklist.claim())
    last = worklist.claim()
    assert worklist.claim() is None  # an idle worker looks, and strikes it off
    planned(store, worklist, "b", 500)
    finish(worklist, last)
    served = []
    while (claim := worklist.claim()).document_id == "b":
        served.append(claim.part)
        finish(worklist, claim)
    assert claim.part == CHUNK
    assert len(served) <= 1


def test_a_retry_begins_where_the_clock_of_the_turns_stands(store, worklist):
    """It has no more right to be served than another that comes now."""
    planned(store, worklist, "a", 20)
    finish(worklist, worklist.claim())
    last = worklist.claim()
    assert worklist.claim() is None
    store.create("b", SOURCE)
    store.record("b", 1, Status.CANCELLED, "Cancelled")
    store.begin_attempt("b")
    assert last.part == pages(11, 20)
    assert worklist._redis.zscore(keys.READY, "b") == 11  # the plan's turn and ten pages


def test_the_last_range_leads_on_just_once(store, settings, client):
    """Many workers settle at the same time: chunking begins when all pages are there, and only once."""
    worklist = Worklist(client, settings.model_copy(update={"max_parts_in_flight": 100}))
    planned(store, worklist, "d", 120, size=2)
    settled: Counter[str] = Counter()
    early: list[str] = []

    def work(seed: int) -> None:
        mine = Worklist(connections.patient_client(settings), settings.model_copy(update={"max_parts_in_flight": 100}))
        chance = random.Random(seed)
        while (claim := mine.claim()) is not None:
            if claim.part == CHUNK:
                early.extend(["early"] if len(mine.done("d")) < 60 else [])
                mine.settle(claim, then=LOAD)
            elif claim.part == LOAD:
                settled["load"] += 1
                return
            elif chance.random() < 0.3:
                mine.settle(claim, rest=[claim.part])
                continue
            elif chance.random() < 0.2 and claim.part.pages > 1:
                one, other = halves(claim.part)
                mine.settle(claim, finished={one: {}}, rest=[other], then=CHUNK)
            else:
                finish(mine, claim)
            settled[claim.part.name] += 1

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    # a worker may have found nothing while the last range was in hand
    work(9)
    assert (settled["chunk"], settled["load"], early) == (1, 1, [])
    covered = sorted(page for part in worklist.done("d") for page in range(part.first, part.last + 1))
    assert covered == list(range(1, 121))


def test_a_lease_that_ends_gives_the_part_to_another(store, worklist):
    """Viewers are told where it goes on; the bar stays; whoever was thought lost is refused from then on."""
    planned(store, worklist, "d", 20)
    finish(worklist, worklist.claim())
    slow = worklist.claim()
    worklist.renew(slow, read=7)
    before = store.state("d")
    assert before.message == "Parsed 17 of 20 pages"
    wait_until(lambda: worklist.lapse("d").lost == (pages(11, 20),), what="the end of the lease")
    told = store.state("d")
    assert (told.message, told.progress) == ("Worker lost, resuming at page 11", before.progress)

    again = worklist.claim()
    assert (again.part, again.lost) == (pages(11, 20), 1)
    for late in (lambda: worklist.renew(slow, read=9), lambda: finish(worklist, slow)):
        with pytest.raises(LostLease):
            late()
    with pytest.raises(LostLease):
        store.record("d", 1, Status.CHUNKING, "late", held=slow.held)
    finish(worklist, again)
    assert worklist.claim().part == CHUNK


def test_the_bar_never_falls_when_pages_are_read_again(store, worklist):
    """It stands until the pages that are read again are more than were counted."""
    planned(store, worklist, "d", 20)
    lost = worklist.claim()
    worklist.renew(lost, read=8)
    wait_until(lambda: worklist.lapse("d").lost, what="the end of the lease")
    again = worklist.claim()
    for read in range(11):
        worklist.renew(again, read)
    bars = [event.progress for event in events(store, "d")]
    assert bars == sorted(bars)
    assert store.state("d").stage.done == 10


def test_a_lease_that_is_renewed_does_not_end(store, worklist, settings):
    """However long the part takes."""
    planned(store, worklist, "d", 5)
    claim = worklist.claim()
    for _ in range(8):
        threading.Event().wait(settings.lease_seconds / 4)
        worklist.renew(claim)
        assert worklist.lapse("d").lost == ()


def test_a_sign_of_life_tells_slow_from_stalled(store, worklist, monkeypatch):
    """While nothing new is read, an event comes now and then, and `alive_at` moves on with it."""
    monkeypatch.setattr("shared.worklist.BEAT_SECONDS", 0.2)
    planned(store, worklist, "d", 5)
    claim = worklist.claim()
    worklist.renew(claim, read=1)
    first = store.state("d")

    def beat() -> bool:
        worklist.renew(claim)
        return store.state("d").alive_at > first.alive_at

    wait_until(beat, what="a sign of life")
    assert store.state("d").message == "Parsed 1 of 5 pages"


def test_there_is_a_sign_of_life_in_every_stage(store, worklist, monkeypatch):
    """Also where no pages are counted: while the file is opened, the text is split, the chunks are loaded."""
    store.create("d", SOURCE)
    claim = worklist.claim()
    worklist.renew(claim)
    assert store.state("d").alive_at is None  # nobody has begun
    for stage in (Status.PARSING, Status.CHUNKING, Status.LOADING):
        monkeypatch.setattr("shared.worklist.BEAT_SECONDS", 0.0)
        store.record("d", 1, stage, "at work")
        worklist.renew(claim)
        monkeypatch.setattr("shared.worklist.BEAT_SECONDS", 60.0)
        worklist.renew(claim)  # too soon for another
        begun, alive = events(store, "d")[-2:]
        assert (begun.status, alive.status, alive.message) == (stage, stage, "at work")
        assert alive.alive_at == alive.at


def leased(worklist, *, lease_seconds: float = 600, **how) -> Lease:
    """A lease on the next part, which is being renewed."""
    settings = {"lease_seconds": lease_seconds, "report_interval_seconds": 0.1}
    return Lease(worklist, worklist.claim(), Drain(), **settings, **how).hold()


def test_the_lease_of_work_that_hangs_ends_and_its_process_too(store, client, settings):
    """It would be renewed for ever else, and the document would look alive. To wait for one's turn is not to hang."""
    worklist = Worklist(client, settings.model_copy(update={"lease_seconds": 0.6}))
    planned(store, worklist, "d", 5)
    silent = threading.Event()
    lease = leased(worklist, lease_seconds=0.6, silence_seconds=0.3, when_silent=silent.set)
    assert not silent.wait(0.6)
    with lease:
        for _ in range(6):
            lease.check()
            assert not silent.wait(0.1)
        assert silent.wait(10)
        wait_until(lambda: worklist.lapse("d").lost, what="the part is taken back")


def test_a_lease_is_renewed_again_once_a_full_redis_has_room(store, worklist, client, monkeypatch):
    """Whatever is not recorded meanwhile: else the worker would lose the part, and every one after it."""
    planned(store, worklist, "d", 5)
    monkeypatch.setattr("ingest_worker.lease.BEAT_SECONDS", 0.02)
    tried = []
    renew = worklist.renew
    monkeypatch.setattr(worklist, "renew", lambda claim: (tried.append(claim), renew(claim)))
    with leased(worklist, silence_seconds=60):
        with valkey.full(client):
            so_far = len(tried)
            wait_until(lambda: len(tried) > so_far + 1, what="a renewal that is refused")
        ends_at = client.zscore(keys.running("d"), "pages:1-5")
        wait_until(lambda: client.zscore(keys.running("d"), "pages:1-5") > ends_at, what="a renewal")


def test_what_a_full_redis_refuses_leaves_no_trace(store, worklist, client):
    """Nor half of it is done: the part is in hand as before, a document that was to be tried again is kept."""
    planned(store, worklist, "d", 20)
    held = worklist.claim()
    store.create("e", SOURCE)
    store.record("e", 1, Status.FAILED, "No.", error=Failure("internal", "No."))
    before = {key: client.dump(key) for key in client.keys("*")}
    for refused in (
        lambda: worklist.renew(held, read=1),
        lambda: store.record("d", 1, Status.CANCELLED, "Cancelled"),
        lambda: store.begin_attempt("e"),
        lambda: store.retire("e"),
        lambda: store.create("f", SOURCE),
        worklist.claim,
    ):
        with valkey.full(client), pytest.raises(StoreUnavailable):
            refused()
    assert {key: client.dump(key) for key in client.keys("*")} == before
    assert client.pttl(keys.state("e")) > 0
    finish(worklist, held)
    store.begin_attempt("e")


def test_a_part_that_is_settled_while_redis_is_full_is_neither_lost_nor_done_twice(store, worklist, client):
    """Whether it was refused as a whole or only what leads to the rest: the document goes on."""
    planned(store, worklist, "d", 20)
    held = worklist.claim()
    with valkey.full(client), pytest.raises(StoreUnavailable):
        finish(worklist, held)
    for part in client.zrange(keys.running("d"), 0, -1):
        client.zadd(keys.running("d"), {part: 1})  # its lease ends
    worklist.lapse("d")
    while (claim := worklist.claim()).part != CHUNK:
        finish(worklist, claim)
    assert list(worklist.done("d")) == [pages(1, 10), pages(11, 20)]


def test_what_is_read_is_stored_by_a_worker_that_stops_but_not_for_a_document_that_is_cancelled(store, worklist):
    """To stop is no reason to throw pages away; that nobody wants them is."""
    planned(store, worklist, "d", 5)
    drain = Drain()
    lease = Lease(worklist, worklist.claim(), drain, lease_seconds=0.6, report_interval_seconds=0.1, silence_seconds=60)
    with lease.hold():
        drain._begin()
        with pytest.raises(HandBack):
            lease.check()
        lease.check_ours()
        store.record("d", 1, Status.CANCELLED, "Cancelled")
        with pytest.raises(AlreadyFinished):
            wait_until(lease.check_ours, what="the renewal is refused")


def test_a_process_that_hangs_is_ended_as_by_a_crash():
    """Whatever it is in the middle of."""
    code = "from ingest_worker.lease import end_process; end_process()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def test_a_long_lease_is_renewed_as_often_as_signs_of_life_are_due(store, worklist, monkeypatch):
    """What an operator chooses for leases does not make the clock of a viewer coarse."""
    monkeypatch.setattr("shared.worklist.BEAT_SECONDS", 0.1)
    monkeypatch.setattr("ingest_worker.lease.BEAT_SECONDS", 0.1)
    planned(store, worklist, "d", 5)
    planned_at = store.state("d").alive_at
    with leased(worklist, silence_seconds=60):
        wait_until(lambda: store.state("d").alive_at > planned_at, within_seconds=5, what="a sign of life")


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.FAILED])
def test_a_final_state_ends_all_claims(store, worklist, client, status):
    """No part waits, none can be claimed, held or settled; what was parsed is kept for the next attempt."""
    planned(store, worklist, "d", 30)
    finish(worklist, worklist.claim())
    held = worklist.claim()
    error = Failure("internal", "No.") if status is Status.FAILED else None
    store.record("d", 1, status, "over", error=error)
    assert worklist.claim() is None
    for late in (lambda: worklist.renew(held, read=1), lambda: finish(worklist, held), lambda: worklist.lapse("d")):
        with pytest.raises(AlreadyFinished):
            late()
    left = {key.decode() for key in client.keys("*")}
    assert left == {
        *(keys.state("d"), keys.events("d"), keys.source("d"), keys.done("d")),
        *(keys.index(DEFAULT_TENANT), keys.FINISHED, keys.SERVED, keys.CLOCK),
        *(keys.outbox("d"), keys.OUTBOX),
    }
    assert list(worklist.done("d")) == [pages(1, 10)]


def test_a_worker_of_an_earlier_attempt_is_refused(store, worklist):
    """Even when the next attempt has claimed the same part."""
    planned(store, worklist, "d", 5)
    old = worklist.claim()
    store.record("d", 1, Status.CANCELLED, "Cancelled")
    store.begin_attempt("d")
    worklist.settle(worklist.claim(), rest=[pages(1, 5)], plan=Plan(5, 0, "pages"))
    new = worklist.claim()
    assert new.part == old.part
    with pytest.raises(LostLease):
        finish(worklist, old)
    finish(worklist, new)


def test_an_unknown_document_has_no_work(worklist, store):
    """One that was deleted while a part of it was in hand."""
    planned(store, worklist, "d", 20)
    held = worklist.claim()
    store.delete("d")
    for late in (lambda: worklist.renew(held), lambda: finish(worklist, held), lambda: worklist.lapse("d")):
        with pytest.raises(UnknownIngestion):
            late()
    assert worklist.claim() is None


def test_whatever_a_crash_leaves_amiss_is_mended(store, worklist, client):
    """The sorted sets only lead to the work: with all of them gone, a look at the document puts it back."""
    planned(store, worklist, "d", 20)
    client.delete(keys.READY, keys.LEASED, keys.QUEUED)
    assert worklist.claim() is None
    assert worklist.lapse("d").waiting == 2
    assert worklist.claim().part == pages(1, 10)
    client.delete(keys.waiting("d"), keys.running("d"))
    worklist.lapse("d")
    assert worklist.claim().part == PLAN


def test_the_overview_counts_documents(store, worklist):
    """Those that wait for a worker and those that are worked on; none is left when they are final."""
    assert (worklist.overview().queued, worklist.overview().running, worklist.overview().oldest_seconds) == (0, 0, 0)
    planned(store, worklist, "a", 20)
    store.create("b", SOURCE)
    seen = worklist.overview()
    assert (seen.queued, seen.running) == (1, 1)
    assert seen.oldest_seconds >= seen.oldest_queued_seconds
    for name in "ab":
        store.record(name, 1, Status.CANCELLED, "Cancelled")
    assert (worklist.overview().queued, worklist.overview().running) == (0, 0)


def test_what_may_be_claimed_is_counted(store, worklist):
    """So many messages are worth sending: not the parts of a document that has enough in hand."""
    planned(store, worklist, "z", 100)
    assert worklist.claimable(64) == 3
    worklist.claim()
    assert worklist.claimable(64) == 2
    planned(store, worklist, "b", 20)
    assert worklist.claimable(64) == 4
    assert worklist.claimable(3) == 3


def test_what_may_be_claimed_is_counted_behind_documents_that_have_enough_in_hand(store, worklist):
    """However many of them come first."""
    for name in "cba":
        planned(store, worklist, name, 40)
    busy = [worklist.claim() for _ in range(9)]
    planned(store, worklist, "d", 10)
    worklist._redis.zadd(keys.READY, {"d": 1e9})
    assert len({claim.document_id for claim in busy}) == 3
    assert worklist.claimable(2) == 1


def test_no_document_is_passed_over_when_those_before_it_are_struck_off(store, worklist, client, monkeypatch):
    """They lead to nothing any more, and the others have moved up in their place."""
    monkeypatch.setattr("shared.worklist.BATCH", 2)
    planned(store, worklist, "d", 10)
    client.zadd(keys.READY, {"gone": -2, "lost": -1})
    assert worklist.claim().document_id == "d"
    assert client.zrange(keys.READY, 0, -1) == [b"d"]


def test_the_time_left_follows_the_measured_rate(store, worklist):
    """None before there is a rate; then about what is left at the pace so far."""
    planned(store, worklist, "d", 10)
    assert store.state("d").eta_seconds is None
    claim = worklist.claim()
    for read in range(1, 6):
        threading.Event().wait(0.05)
        worklist.renew(claim, read)
    assert 0.05 * 5 * 0.9 <= store.state("d").eta_seconds <= 5


def time_passes(client, seconds: float) -> None:
    """As far as the time left is concerned: the clock is the server's, so what it is compared with goes back."""
    for field in ("mark_ms", "older_ms", "reported_ms", "due_ms"):
        if client.hexists(keys.work("d"), field):
            client.hincrby(keys.work("d"), field, round(-1000 * seconds))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_time_left_of_slow_pages_counts_down_between_them(store, worklist, client, workers):
    """Pages of 15 s: as soon as there is a rate it is told, and neither goes away nor grows while they are read."""
    planned(store, worklist, "d", 8, size=8 // workers)
    claims = [worklist.claim() for _ in range(workers)]
    whole = 8 * 15 // workers
    told = []
    for second in range(1, whole):
        time_passes(client, 1)
        for claim in claims:
            worklist.renew(claim, second // 15)
        told.append(store.state("d").eta_seconds)
    assert told[:14] == [None] * 14
    assert told[14:] == pytest.approx([whole - second for second in range(15, whole)], abs=3)


def test_the_time_left_stands_while_a_page_takes_longer_than_those_before(store, worklist, client):
    """At the time of the pages behind it. It never reaches zero before the end, and follows when the page has come."""
    planned(store, worklist, "d", 8)
    claim = worklist.claim()
    for read in (1, 2):
        time_passes(client, 15)
        worklist.renew(claim, read)
    told = []
    for _ in range(6):
        time_passes(client, 10)
        worklist.renew(claim, 2)
        told.append(store.state("d").eta_seconds)
    assert told == pytest.approx([80, 75, 75, 75, 75, 75], abs=2)
    worklist.renew(claim, 3)
    assert store.state("d").eta_seconds == pytest.approx(5 * 75 / 2, abs=2)
    worklist.renew(claim, 8)
    assert store.state("d").eta_seconds == 0


def test_the_time_left_of_pages_that_are_counted_again_is_not_that_of_before(store, worklist, client):
    """The plan was lost and made again: the rate is measured anew."""
    planned(store, worklist, "d", 20)
    time_passes(client, 10)
    worklist.renew(worklist.claim(), 2)
    assert store.state("d").eta_seconds == pytest.approx(90, abs=2)
    client.delete(keys.waiting("d"), keys.running("d"))
    worklist.lapse("d")
    worklist.settle(worklist.claim(), rest=[pages(1, 20)], plan=Plan(20, 0, "pages"))
    assert store.state("d").eta_seconds is None
