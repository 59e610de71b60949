"""The parts of a document against a real Valkey and a real database, worked on in this process, one after another."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.engine import make_url

from ingest_worker import sandbox, shift
from ingest_worker.desk import Desk
from ingest_worker.drain import Drain
from ingest_worker.pipeline import LOSSES_TO_GIVE_UP, LOSSES_TO_HALVE
from ingest_worker.sandbox import Sandbox
from ingest_worker.shift import Shift
from ingest_worker.stages import parse
from ingest_worker.stages.reading import Document, Problem, Reading
from ingest_worker.tasks import work_for_a_while
from ingest_worker.workbench import Workbench
from shared import database, keys, task_names
from shared.access import DEFAULT_TENANT
from shared.broker import hint, make_celery
from shared.errors import StoreUnavailable, UnknownIngestion
from shared.jobs import Status
from shared.media import MediaType
from shared.options import Options
from shared.parts import CHUNK, LOAD, PLAN, Part, pages
from shared.protocol import State
from shared.sealing import Seal
from shared.source import Source
from shared.storage import pages_folder, sections_path, source_path, text_path
from shared.store import Store, utc_now
from shared.worklist import Claim, Worklist
from tests import pdfs, texts
from tests.awaiting import wait_until

DOCUMENT = "01hzzzzzzzzzzzzzzzzzzzzzzz"


class Bench:
    """Uploads documents and plays the worker, one part at a time."""

    def __init__(self, app: Celery, workbench: Workbench, client: redis.Redis) -> None:
        self.app = app
        self.client = client
        self._workbench = workbench
        self.settings = workbench.settings
        self.store = workbench.store
        self.storage = workbench.storage
        self.table = workbench.table

    def upload(
        self,
        pdf: bytes,
        name: str = DOCUMENT,
        password: str = "",
        media_type: MediaType = MediaType.PDF,
        **options: int,
    ) -> None:
        with self.storage.writing(source_path(name)) as file:
            file.write(pdf)
        sha256 = hashlib.sha256(pdf).hexdigest()
        chosen = Options(**{"chunk_size": 500, "chunk_overlap": 50, "engine": "pdfplumber", **options})
        sealed = Seal(self.settings).close(password) if password else ""
        self.store.create(name, Source("a.pdf", media_type, len(pdf), sha256, source_path(name), chosen, sealed))

    def run(self, parts: int = 1000) -> int:
        """Work on so many parts, if there are. Gives how many there were."""
        call = partial(hint, self.app)
        with Desk(self._workbench) as desk, Shift(self._workbench, desk, Drain(), call, seconds=60) as shift:
            return sum(1 for _ in itertools.takewhile(lambda _: shift.work_on_next(), range(parts)))

    def work(self) -> None:
        """What a message has a worker do."""
        work_for_a_while(self.app, self._workbench, Drain())

    def ingest(self, pdf: bytes) -> State:
        self.upload(pdf)
        self.run()
        return self.state()

    def before_report(self, number: int, happens: Callable[[], object]) -> None:
        """Something happens just before the worker's report of that number, counted from 1."""
        reports = itertools.count(1)

        def clock() -> datetime:
            if next(reports) == number:
                happens()
            return utc_now()

        self._workbench.store = Store(self.client, self._workbench.settings, clock)
        self._workbench.worklist = Worklist(self.client, self._workbench.settings, clock)

    def cancel_before_report(self, number: int) -> None:
        """Someone else cancels the document."""
        other = self.store
        self.before_report(number, lambda: other.record(DOCUMENT, 1, Status.CANCELLED, "Cancelled"))

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """The worker's connection leads nowhere."""
        connected = self._workbench.worklist
        with redis.Redis(port=_closed_port(), retry=Retry(NoBackoff(), 0)) as client:
            self._workbench.worklist = Worklist(client, self._workbench.settings)
            yield
        self._workbench.worklist = connected

    @contextmanager
    def forgetful_redis(self) -> Iterator[None]:
        """What is written in the block is lost with the end of it, as with the power of the machine."""
        kept = {key: self.client.dump(key) for key in self.client.keys("*")}
        yield
        self.client.flushall()
        for key, value in kept.items():
            self.client.restore(key, 0, value)

    def lose_part(self, expected: Part | None = None) -> None:
        """A worker claims a part and is gone."""
        worklist = self._workbench.worklist
        part = worklist.claim().part
        assert expected in {None, part}
        self.client.zadd(keys.running(DOCUMENT), {part.name: 1})  # the lease ends
        worklist.lapse(DOCUMENT)

    def watch_settling(self) -> list[int]:
        """How many parts are in hand each time that one of them is settled."""
        settle, in_hand = self._workbench.worklist.settle, []

        def watched(claim: Claim, **outcome: Any) -> int:
            in_hand.append(self.client.zcard(keys.running(DOCUMENT)))
            return settle(claim, **outcome)

        self._workbench.worklist.settle = watched
        return in_hand

    def state(self) -> State:
        return self.store.state(DOCUMENT)

    def events(self) -> list[State]:
        history = self.store.histories([(DOCUMENT, 0)])[DOCUMENT, 0]
        return [State.from_json(data) for _, data in history.events]

    def sent(self) -> int:
        """How many messages were sent to the broker."""
        return self.client.llen(f"{keys.BROKER_PREFIX}{task_names.QUEUE}")


@pytest.fixture
def bench_with(settings, client) -> Iterator[Callable[..., Bench]]:
    """Makes pipelines over an empty Valkey that report every page and take ten pages at a time."""
    made: list[Bench] = []

    def make(**changes: object) -> Bench:
        changed = settings.model_copy(update={"report_interval_seconds": 0.0, "pages_per_part": 10, **changes})
        workbench = Workbench(changed)
        workbench.store = Store(client, changed)
        workbench.worklist = Worklist(client, changed)
        made.append(Bench(make_celery(changed), workbench, client))
        return made[-1]

    yield make
    for bench in made:
        bench.table.close()
        bench.app.close()


@pytest.fixture
def bench(bench_with) -> Bench:
    """One of them."""
    return bench_with()


def test_a_document_passes_every_stage_and_is_completed(bench):
    """It ends at 100 with its counts in the message; the bar never fell on the way, and each stage was seen."""
    final = bench.ingest(pdfs.prose(20))
    events = bench.events()
    chunks = list(bench.table.of(DOCUMENT))
    assert (final.status, final.progress) == (Status.COMPLETED, 100)
    assert final.message == f"Completed: 20 pages, {len(chunks)} chunks"
    assert list(dict.fromkeys(event.status for event in events)) == [
        Status.PENDING, Status.PARSING, Status.CHUNKING, Status.LOADING, Status.COMPLETED,
    ]  # fmt: skip
    assert [event.progress for event in events] == sorted(event.progress for event in events)
    messages = [event.message for event in events]
    assert messages.count("Parsed 15 of 20 pages") == 1
    assert "Split 20 of 20 pages" in messages
    assert f"Loaded {len(chunks)} of {len(chunks)} chunks" in messages
    assert [event.progress for event in events if event.progress == 100] == [100]


def test_what_is_stored_fits_together(bench):
    """Every chunk in the database is the slice of the stored text that it says, on pages that exist."""
    bench.ingest(pdfs.prose(20))
    with bench.storage.reading(text_path(DOCUMENT)) as file:
        text = file.read().decode()
    chunks = list(bench.table.of(DOCUMENT))
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert (chunks[0].page_first, chunks[-1].page_last) == (1, 20)


def test_nothing_of_the_work_is_left_when_a_document_is_completed(bench):
    """No key of a part, no lease, no file of pages: what was uploaded, the text, the chunks and the record are left."""
    bench.ingest(pdfs.prose(25))
    left = {key.decode() for key in bench.client.keys("*") if not key.startswith(keys.BROKER_PREFIX.encode())}
    documents = {keys.state(DOCUMENT), keys.events(DOCUMENT), keys.source(DOCUMENT)}
    result = keys.result(bench.store.source(DOCUMENT).fingerprint)
    to_be_told = {keys.outbox(DOCUMENT), keys.OUTBOX}
    of_all = {keys.index(DEFAULT_TENANT), keys.FINISHED, keys.SERVED, keys.CLOCK}
    assert left == documents | to_be_told | of_all | {result}
    assert _stored(bench) == ["chunks.jsonl", "source", "text.txt"]


def test_whoever_finds_more_than_one_can_do_calls_two_others_once(bench):
    """Or as many as are of use. They do the same when they come, so all workers are there soon."""
    bench.upload(pdfs.prose(40))
    bench.run(1)
    assert bench.sent() == 2
    bench.run(3)
    assert bench.sent() == 4
    bench.run()  # two parts are left
    assert bench.sent() == 5


def test_the_next_part_is_claimed_while_the_last_page_of_one_is_read(bench):
    """So the reading goes on while pages are stored. At the end of the shift what was claimed and not begun is free."""
    bench.upload(pdfs.prose(40))
    in_hand = bench.watch_settling()
    bench.run(3)
    assert in_hand == [1, 2, 2, 1]  # the plan, two ranges, and the one that is handed back
    bench.run()
    assert in_hand[4:] == [2, 2, 1, 1]  # three ranges, and the chunks
    assert bench.state().status is Status.COMPLETED


def test_a_part_that_a_worker_was_lost_with_takes_no_other_along(bench):
    """Else a page that is not to blame could be left out in the end."""
    bench.upload(pdfs.prose(40))
    bench.run(1)
    bench.lose_part()
    in_hand = bench.watch_settling()
    bench.run(1)
    assert in_hand == [1]


def test_a_part_that_was_claimed_ahead_does_not_wait_for_a_page_that_hangs(bench_with):
    """It is handed back, and another worker is called: it may be all there is of a small document."""
    bench = bench_with(page_seconds=3)
    bench.upload(pdfs.form_bomb(20, 6, 60))
    bench.run(1)
    called, in_hand = bench.sent(), bench.watch_settling()
    bench.run(1)
    assert in_hand == [2, 1]  # the range that begins with page 7, and then the one that ends with the bomb
    assert bench.sent() == called + 1 + 2  # for what was handed back, and since there is more than one can do


def test_a_part_that_a_worker_was_lost_with_is_not_begun_ahead(bench, monkeypatch):
    """What was read before it would be lost with it again."""
    bench.upload(pdfs.prose(20))
    bench.run(1)
    first = bench._workbench.worklist.claim()
    bench.lose_part(pages(7, 13))
    bench._workbench.worklist.settle(first, rest=[first.part])
    reading, ahead = Sandbox.reading, {}
    monkeypatch.setattr(
        Sandbox, "reading", lambda document, *numbers: (ahead.update([numbers]), reading(document, *numbers))[1]
    )
    bench.run(3)
    assert (ahead[5], ahead[6], ahead[12], ahead[13]) == (6, 0, 13, 0)


@pytest.mark.parametrize(
    ("pdf", "code"),
    [(pdfs.encrypted("secret"), "encrypted"), (pdfs.noise_after_a_good_header(), "unreadable")],
    ids=["encrypted", "unreadable"],
)
def test_a_fault_of_the_document_fails_it_with_a_code(bench, caplog, pdf, code):
    """The owner gets the code and a sentence; nothing is handed on; the log has one line and no traceback."""
    caplog.set_level(logging.INFO, "ingest_worker")
    bench.upload(pdf)
    bench.run()
    final = bench.state()
    assert (final.status, final.error.code) == (Status.FAILED, code)
    assert final.finished_at
    assert final.error.message == final.message
    assert bench.sent() == 0


def test_a_password_opens_an_encrypted_file(bench, capsys):
    """One that was sealed on upload. It is in no log, and the result is given to nobody by the bytes alone."""
    bench.upload(pdfs.encrypted("secret"), password="secret")
    bench.run()
    assert bench.state().status is Status.COMPLETED
    assert "Page 1" in next(iter(bench.table.of(DOCUMENT))).text
    assert "secret" not in capsys.readouterr().out
    assert bench.store.source(DOCUMENT).sealed_password == ""
    assert bench.store.earlier_result(bench.store.source(DOCUMENT)) is None


def test_the_result_of_an_encrypted_file_is_kept_back_whoever_loads_it(bench):
    """The parts may fall to workers that have never seen its password."""
    bench.upload(pdfs.encrypted("secret"), password="secret")
    for _ in range(10):
        if not bench.state().is_final:
            bench.run(1)
    assert bench.state().status is Status.COMPLETED
    assert bench.store.earlier_result(bench.store.source(DOCUMENT)) is None


def test_a_wrong_password_can_be_mended_by_the_next_attempt(bench):
    """FAILED with a code, and retried with the right one."""
    bench.upload(pdfs.encrypted("secret"), password="wrong")
    bench.run()
    assert bench.state().error.code == "encrypted"
    bench.store.begin_attempt(DOCUMENT, Seal(bench.settings).close("secret"))
    bench.run()
    assert bench.state().status is Status.COMPLETED


def test_a_new_password_is_known_to_the_worker_that_had_the_wrong_one(bench):
    """Also when it has looked at no other document between the attempts."""
    bench.upload(pdfs.encrypted("secret"), password="wrong")
    with Desk(bench._workbench) as desk, Shift(bench._workbench, desk, Drain(), lambda: None, seconds=60) as working:
        working.work_on_next()
        bench.store.begin_attempt(DOCUMENT, Seal(bench.settings).close("secret"))
        while working.work_on_next():
            pass
    assert bench.state().status is Status.COMPLETED


def test_our_own_fault_fails_the_document_without_telling_tales(bench, capsys):
    """The owner reads a safe sentence; the traceback is in the log only."""
    bench.upload(pdfs.prose(1))
    bench.storage.remove(DOCUMENT)
    bench.run()
    final = bench.state()
    assert (final.status, final.error.code) == (Status.FAILED, "internal")
    assert "source" not in final.error.message
    assert "FileNotFoundError" in capsys.readouterr().out


def test_warnings_of_parsing_are_there_to_the_end(bench):
    """A document without text completes, and says that it may be a scan."""
    final = bench.ingest(pdfs.scanned(2))
    assert final.message == "Completed: 2 pages, 0 chunks"
    assert [warning.code for warning in final.warnings] == ["no_text"]
    assert list(bench.table.of(DOCUMENT)) == []


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        (MediaType.TEXT, b"\n\n   \n"),
        (MediaType.HTML, b"<html><body></body></html>"),
        (MediaType.DOCX, texts.docx(1, "<w:p/>")),
    ],
    ids=["text", "html", "docx"],
)
def test_what_has_no_pages_is_not_called_a_scan(bench, media_type, content):
    """It is empty, and its owner is told just that."""
    bench.upload(content, media_type=media_type)
    bench.run()
    (warning,) = bench.state().warnings
    assert (warning.code, warning.message) == ("no_text", "The file holds no text")


@pytest.mark.parametrize("media_type", [MediaType.TEXT, MediaType.HTML])
def test_a_text_with_broken_bytes_is_told_so(bench, media_type):
    """Nothing else is lost of it."""
    bench.upload("<html>Größe ".encode() + b"\xff", media_type=media_type)
    while bench.run(1):  # each part falls to another
        pass
    final = bench.state()
    assert final.status is Status.COMPLETED
    (warning,) = final.warnings
    assert (warning.code, warning.message) == ("repaired", "The file was damaged; 1 section was recovered")
    assert "Größe" in next(iter(bench.table.of(DOCUMENT))).text


def test_a_new_attempt_keeps_the_pages_that_are_parsed(bench):
    """And no others: the bar begins where they end, and the result is that of an undisturbed run."""
    bench.ingest(pdfs.prose(35))
    expected = list(bench.table.of(DOCUMENT))
    bench.store.delete(DOCUMENT)
    bench.upload(pdfs.prose(35))
    bench.run(3)  # the plan and two ranges
    bench.store.record(DOCUMENT, 1, Status.CANCELLED, "Cancelled")
    assert bench.run() == 0
    bench.store.begin_attempt(DOCUMENT)
    assert bench.run() == 1 + 3 + 2
    final = bench.state()
    assert (final.status, final.attempt) == (Status.COMPLETED, 2)
    again = [event.message for event in bench.events() if event.attempt == 2]
    assert "Parsed 14 of 35 pages" in again
    assert "Parsed 13 of 35 pages" not in again
    assert list(bench.table.of(DOCUMENT)) == expected


@pytest.mark.parametrize("parts", [3, 4], ids=["parsing", "chunking"])
def test_a_document_whose_end_redis_forgot_is_completed_again(bench, parts):
    """Its pages were removed by then; the chunks are those that it had."""
    bench.upload(pdfs.prose(20))
    bench.run(parts)  # the plan, two ranges; the chunks
    with bench.forgetful_redis():
        bench.run()
        expected = list(bench.table.of(DOCUMENT))
    assert not bench.state().is_final
    bench.run()
    assert bench.state().status is Status.COMPLETED
    assert list(bench.table.of(DOCUMENT)) == expected


def test_no_document_is_complete_without_a_range_that_is_on_no_record(bench):
    """Whatever took it from the record: the pages are parsed before the text is cut."""
    bench.ingest(pdfs.prose(20))
    expected = list(bench.table.of(DOCUMENT))
    bench.store.delete(DOCUMENT)
    bench.upload(pdfs.prose(20))
    bench.run(2)  # the plan and a range
    waiting = keys.waiting(DOCUMENT)
    assert bench.client.zcard(waiting) > 0
    bench.client.delete(waiting)
    bench.client.zadd(waiting, {CHUNK.name: 0})
    bench.run()
    assert bench.state().message.startswith("Completed: 20 pages")
    assert list(bench.table.of(DOCUMENT)) == expected


def test_a_range_that_was_counted_and_is_on_no_record_is_parsed_again(bench):
    """Its pages are not counted twice: nobody is shown more than all of them."""
    bench.ingest(pdfs.prose(20))
    expected = list(bench.table.of(DOCUMENT))
    bench.store.delete(DOCUMENT)
    bench.upload(pdfs.prose(20))
    while bench.client.zscore(keys.waiting(DOCUMENT), CHUNK.name) is None:
        assert bench.run(1)
    bench.client.hdel(keys.done(DOCUMENT), "pages:1-6")
    bench.run()
    shown = [state.progress for state in bench.events()]
    assert shown == sorted(shown)
    assert bench.state().message.startswith("Completed: 20 pages")
    assert list(bench.table.of(DOCUMENT)) == expected


def test_a_page_that_was_left_out_is_read_again_by_the_next_attempt(bench, monkeypatch):
    """It may have been a busy machine. The range that it is of is counted once, and the other ranges are kept."""
    bench.ingest(pdfs.prose(20))
    expected, message = list(bench.table.of(DOCUMENT)), bench.state().message
    bench.store.delete(DOCUMENT)
    bench.upload(pdfs.prose(20))
    reading = Sandbox.reading

    def reading_some(self: Sandbox, number: int, ahead: int = 0) -> Reading:
        return Reading.left_out(number, Problem.TIMED_OUT) if number == 3 else reading(self, number, ahead)

    with monkeypatch.context() as patch:
        patch.setattr(Sandbox, "reading", reading_some)
        bench.run(3)  # the plan and two ranges
    bench.store.record(DOCUMENT, 1, Status.CANCELLED, "Cancelled")
    kept = list(bench._workbench.worklist.done(DOCUMENT))
    assert kept[0].first <= 3 <= kept[0].last
    bench.store.begin_attempt(DOCUMENT)
    bench.run(1)
    assert list(bench._workbench.worklist.done(DOCUMENT)) == kept[1:]
    bench.run(len(kept[2:]) + 1 + 1)
    shown = [event.message for event in bench.events() if event.attempt == 2]
    assert f"Parsed {kept[1].pages + 1} of 20 pages" in shown
    assert "Parsed 1 of 20 pages" not in shown
    bench.run()
    final = bench.state()
    assert (final.status, final.message, final.warnings) == (Status.COMPLETED, message, ())
    assert list(bench.table.of(DOCUMENT)) == expected


def test_a_page_that_is_left_out_by_every_attempt_is_left_out_of_one_result(bench, monkeypatch):
    """Within an attempt it is not read again, also when the work is planned anew."""
    bench.upload(pdfs.prose(20))
    reading, read = Sandbox.reading, []

    def reading_some(self: Sandbox, number: int, ahead: int = 0) -> Reading:
        read.append(number)
        return Reading.left_out(number, Problem.CRASHED) if number == 3 else reading(self, number, ahead)

    monkeypatch.setattr(Sandbox, "reading", reading_some)
    bench.run(2)  # the plan and a range
    bench.client.delete(keys.waiting(DOCUMENT))
    bench.client.zadd(keys.waiting(DOCUMENT), {PLAN.name: 0})
    bench.run()
    assert read.count(3) == 1
    assert [(warning.code, warning.pages) for warning in bench.state().warnings] == [("page_crashed", (3,))]


def test_pages_that_are_gone_are_parsed_again_by_the_next_attempt(bench):
    """The record says that they are parsed; their files say more."""
    bench.upload(pdfs.prose(20))
    bench.run(3)  # the plan and two ranges
    bench.storage.remove(pages_folder(DOCUMENT))
    bench.run()
    assert bench.state().error.code == "internal"
    bench.store.begin_attempt(DOCUMENT)
    bench.run()
    assert bench.state().message.startswith("Completed: 20 pages")


def test_the_same_document_again_has_the_same_chunks(bench):
    """Ids and all; rows are replaced, not added."""
    bench.ingest(pdfs.prose(5))
    before = list(bench.table.of(DOCUMENT))
    bench.store.delete(DOCUMENT)
    bench.ingest(pdfs.prose(5))
    assert list(bench.table.of(DOCUMENT)) == before


def test_a_message_for_nothing_does_nothing(bench):
    """Nothing is raised, written or sent."""
    bench.work()
    assert bench.client.keys("*") == []


def test_a_cancelled_document_is_left_alone(bench):
    """The task stops before it has opened the file, and CANCELLED stands."""
    bench.upload(pdfs.prose(3))
    cancelled = bench.store.record(DOCUMENT, 1, Status.CANCELLED, "Cancelled")
    bench.run()
    assert bench.state() == cancelled
    assert bench.sent() == 0


def test_cancelling_in_the_middle_ends_parsing(bench):
    """At the next page; no half-written pages stay behind."""
    bench.upload(pdfs.prose(50))
    bench.before_report(8, lambda: bench.store.record(DOCUMENT, 1, Status.CANCELLED, "Cancelled"))
    bench.run()
    assert bench.state().status is Status.CANCELLED
    assert bench.events()[-2].message == "Parsed 4 of 50 pages"
    assert _stored(bench) == ["source"]


def test_cancelling_while_loading_leaves_no_rows(bench):
    """The last report comes before the rows become visible, so they never do."""
    bench.upload(pdfs.prose(3))
    assert bench.run(3) == 3  # the plan, the pages, the chunks
    bench.cancel_before_report(3)
    bench.run()
    assert bench.state().status is Status.CANCELLED
    assert bench.events()[-2].status is Status.LOADING
    assert list(bench.table.of(DOCUMENT)) == []


def test_removing_while_the_rows_become_visible_leaves_none(bench):
    """Who removed the document did not see them yet, and nobody looks for rows of what is gone."""
    bench.upload(pdfs.prose(3))
    assert bench.run(3) == 3  # the plan, the pages, the chunks
    record = bench.store
    bench.before_report(4, lambda: record.delete(DOCUMENT))  # COMPLETED
    bench.run()
    with pytest.raises(UnknownIngestion):
        bench.state()
    assert list(bench.table.of(DOCUMENT)) == []


def test_without_redis_the_work_is_put_down(bench):
    """The document isn't marked as failed: its part is claimed by whoever comes next."""
    bench.upload(pdfs.prose(1))
    with bench.without_redis():
        bench.work()
    assert bench.state().status is Status.PENDING


def test_a_moment_without_redis_is_not_the_fault_of_the_document(bench):
    """Even when Redis is back in time to record a failure, none is recorded."""
    bench.upload(pdfs.prose(5))

    def unavailable() -> None:
        raise StoreUnavailable("Redis can't be reached.")

    bench.before_report(6, unavailable)
    bench.work()
    assert bench.state().message == "Parsed 2 of 5 pages"


@pytest.mark.parametrize("number", [1, 2, 4, 9, 11])
def test_a_moment_without_room_in_redis_is_not_the_fault_of_the_document(bench, client, number):
    """It refuses what is to be written: the work is put down, and done by whoever comes next."""
    bench.upload(pdfs.prose(5))
    bench.before_report(number, lambda: client.config_set("maxmemory", 1))
    bench.work()
    client.config_set("maxmemory", 0)
    assert not bench.state().is_final
    for part in client.zrange(keys.running(DOCUMENT), 0, -1):
        client.zadd(keys.running(DOCUMENT), {part: 1})  # its lease ends
    bench._workbench.worklist.lapse(DOCUMENT)
    bench.work()
    assert bench.state().status is Status.COMPLETED


@contextmanager
def _locked_database(bench: Bench) -> Iterator[None]:
    """Another writes, and doesn't end."""
    path = make_url(bench.settings.database_url).database
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def _broken_storage(bench: Bench) -> Iterator[None]:
    """No file of pages can be written."""
    in_the_way = Path(bench.storage._full(pages_folder(DOCUMENT)))
    in_the_way.touch()
    yield
    in_the_way.unlink()


OUTAGES = pytest.mark.parametrize(
    ("outage", "parts"), [(_locked_database, 3), (_broken_storage, 1)], ids=["database", "storage"]
)


@OUTAGES
def test_a_moment_without_database_or_storage_is_not_the_fault_of_the_document(bench_with, monkeypatch, outage, parts):
    """It waits where it is, no worker is counted as lost, and it completes when all is there again."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)
    monkeypatch.setattr(shift, "PAUSE_SECONDS", 0.01)
    bench = bench_with()
    bench.upload(pdfs.prose(5))
    bench.run(parts)
    with outage(bench):
        assert bench.run(2) == 2
    assert not bench.state().is_final
    bench.run()
    assert bench.state().status is Status.COMPLETED


@OUTAGES
def test_no_document_waits_for_ever_for_database_or_storage(bench_with, monkeypatch, outage, parts):
    """The time is the document's, and ends."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)
    monkeypatch.setattr(shift, "PAUSE_SECONDS", 0.3)
    bench = bench_with(document_seconds=1)
    bench.upload(pdfs.prose(5))
    bench.run(parts)
    with outage(bench):
        bench.run(10)
    assert bench.state().error.code == "took_too_long"


def _stored(bench: Bench) -> list[str]:
    folder = Path(bench.storage._full(DOCUMENT))
    return sorted(path.name for path in folder.iterdir())


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_chunks_are_there_before_the_document_is_completed(bench, make_app):
    """Of the pages from the first on without a gap; text, pages and places are those of the final text."""
    http = make_app().test_client()
    bench.upload(pdfs.prose(35))
    assert http.get(f"/ingestions/{DOCUMENT}/chunks").json["code"] == "not_ready"
    bench.run(1)
    assert http.get(f"/ingestions/{DOCUMENT}/chunks").json["code"] == "not_ready"
    first = bench._workbench.worklist.claim()
    bench.run(1)
    assert http.get(f"/ingestions/{DOCUMENT}/chunks").json["code"] == "not_ready"  # page 1 is in other hands
    bench._workbench.worklist.settle(first, rest=[first.part])
    bench.run(1)
    answer = http.get(f"/ingestions/{DOCUMENT}/chunks")
    early = [json.loads(line) for line in answer.data.splitlines()]
    assert answer.headers["Ingest-Partial"] == "true"
    assert {chunk["partial"] for chunk in early} == {True}
    assert [chunk["index"] for chunk in early] == list(range(len(early)))
    assert (early[0]["page_first"], early[-1]["page_last"]) == (1, 14)

    bench.run()
    with bench.storage.reading(text_path(DOCUMENT)) as file:
        text = file.read().decode()
    assert all(text[chunk["start"] : chunk["end"]] == chunk["text"] for chunk in early)
    answer = http.get(f"/ingestions/{DOCUMENT}/chunks")
    assert answer.headers["Ingest-Partial"] == "false"
    assert all("partial" not in json.loads(line) for line in answer.data.splitlines())


def test_a_range_that_takes_too_long_is_cut(bench_with):
    """What is read of it stays, the rest waits again; the result is that of an undisturbed run."""
    quiet = bench_with()
    quiet.ingest(pdfs.prose(12))
    expected = list(quiet.table.of(DOCUMENT))
    quiet.store.delete(DOCUMENT)
    bench = bench_with(part_seconds=1e-6)
    bench.upload(pdfs.prose(12))
    assert bench.run() == 1 + 12 + 2
    assert list(bench.table.of(DOCUMENT)) == expected


@pytest.mark.parametrize(
    ("limit", "code"),
    [({"max_document_characters": 5000}, "too_much_text"), ({"document_seconds": 1e-6}, "took_too_long")],
    ids=["characters", "seconds"],
)
def test_a_document_that_costs_too_much_fails(bench_with, limit, code):
    """With a code, as soon as it is known, not at the end."""
    bench = bench_with(**limit)
    bench.upload(pdfs.prose(50))
    parts = bench.run()
    assert (bench.state().status, bench.state().error.code) == (Status.FAILED, code)
    assert parts < 5


def test_what_earlier_attempts_have_read_counts_towards_the_characters(bench_with):
    """However often a document is tried again, it gives no more than it may."""
    bench = bench_with(max_document_characters=5000)
    bench.upload(pdfs.prose(30))
    bench.run()
    done = bench._workbench.worklist.done(DOCUMENT)
    for _ in range(5):
        bench.store.begin_attempt(DOCUMENT)
        bench.run()
        assert bench.state().error.code == "too_much_text"
    assert bench._workbench.worklist.done(DOCUMENT) == done


def test_a_range_that_workers_are_lost_with_is_halved_until_the_page_is_alone(bench):
    """That page is given up in the end, and named; all others are there."""
    bench.upload(pdfs.prose(8))
    bench.run(1)
    worklist = bench._workbench.worklist
    losses: Counter[Part] = Counter()
    while (claim := worklist.claim()) is not None:
        part = claim.part
        if part.first <= 6 <= part.last and losses[part] < LOSSES_TO_GIVE_UP:
            losses[part] += 1
            bench.client.zadd(keys.running(DOCUMENT), {part.name: 1})  # the lease ends
            worklist.lapse(DOCUMENT)
            if losses[part] < LOSSES_TO_HALVE or part.pages == 1:
                continue
        else:
            worklist.settle(claim, rest=[part])
        bench.run(1)
    final = bench.state()
    assert final.status is Status.COMPLETED
    assert [(warning.code, warning.pages) for warning in final.warnings] == [("page_crashed", (6,))]
    assert losses[pages(6, 6)] == LOSSES_TO_GIVE_UP


@pytest.mark.parametrize(("done", "step"), [(0, PLAN), (2, CHUNK), (3, LOAD)], ids=["plan", "chunk", "load"])
def test_a_step_that_workers_are_lost_with_again_and_again_fails_the_document(bench, done, step):
    """With a code, so that it takes no more workers along. The next attempt may have better luck."""
    bench.upload(pdfs.prose(3))
    bench.run(done)
    for _ in range(LOSSES_TO_GIVE_UP):
        bench.lose_part(step)
    assert bench.run() == 1
    final = bench.state()
    assert (final.status, final.error.code) == (Status.FAILED, "workers_lost")
    assert final.error.message.startswith(f"{LOSSES_TO_GIVE_UP} workers")
    bench.store.begin_attempt(DOCUMENT)
    bench.run()
    assert bench.state().status is Status.COMPLETED


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        (MediaType.TEXT, b"Some words.\n\n" * 4000),
        (MediaType.MARKDOWN, texts.markdown(12)),
        (MediaType.HTML, texts.html(12)),
        (MediaType.DOCX, texts.docx(12)),
    ],
    ids=["text", "markdown", "html", "docx"],
)
def test_other_formats_pass_every_stage_too(bench, media_type, content):
    """Their sections count as pages do, and a table is in one chunk, with its cells."""
    bench.upload(content, media_type=media_type)
    bench.run()
    final = bench.state()
    assert final.status is Status.COMPLETED
    told = [event.stage for event in bench.events() if event.status is Status.PARSING and event.stage]
    assert {stage.unit for stage in told} == {"sections"}
    assert told[-1].done == told[-1].total > 3
    chunks = list(bench.table.of(DOCUMENT))
    with bench.storage.reading(text_path(DOCUMENT)) as file:
        text = file.read().decode()
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    tables = [table for chunk in chunks for table in chunk.tables]
    assert [len(table) for table in tables] == ([] if media_type is MediaType.TEXT else [3])


@pytest.fixture
def conversions(monkeypatch, tmp_path) -> Callable[[], int]:
    """How often a file was opened by the reader of its format, in whatever process."""
    opened, opening = tmp_path / "opened", parse.opened
    opened.touch()

    def counted(*how: Any) -> AbstractContextManager[Document]:
        with opened.open("a") as file:
            file.write("x")
        return opening(*how)

    monkeypatch.setattr(parse, "opened", counted)
    return lambda: len(opened.read_text())


WITHOUT_PAGES = pytest.mark.parametrize(
    ("media_type", "content"),
    [
        (MediaType.TEXT, b"Some words.\n\n" * 10_000),
        (MediaType.MARKDOWN, texts.markdown(40)),
        (MediaType.HTML, texts.html(40)),
        (MediaType.DOCX, texts.docx(40)),
    ],
    ids=["text", "markdown", "html", "docx"],
)


@WITHOUT_PAGES
def test_a_file_without_pages_is_converted_once_for_all_workers(
    bench_with, monkeypatch, conversions, media_type, content
):
    """Each part falls to another, who opens the document anew; the chunks are those that a single one makes."""
    bench = bench_with(pages_per_part=4)
    bench.upload(content, media_type=media_type)
    bench.run()
    expected = list(bench.table.of(DOCUMENT))
    bench.store.delete(DOCUMENT)
    bench.storage.remove(DOCUMENT)
    before = conversions()
    monkeypatch.setattr(sandbox, "PAGES_PER_PROCESS", 3)  # of a PDF
    bench.upload(content, media_type=media_type)
    parts = sum(bench.run(1) for _ in range(20))
    assert parts > 1 + 2 + 2
    assert conversions() == before + 1
    assert bench.state().status is Status.COMPLETED
    assert list(bench.table.of(DOCUMENT)) == expected
    assert _stored(bench) == ["chunks.jsonl", "source", "text.txt"]


def test_the_next_attempt_converts_nothing_again(bench, conversions):
    """What the one before had converted is there, as the pages are that it had parsed."""
    bench.upload(texts.html(40), media_type=MediaType.HTML)
    bench.run(2)  # the plan and a range
    bench.store.record(DOCUMENT, 1, Status.CANCELLED, "Cancelled")
    bench.store.begin_attempt(DOCUMENT)
    bench.run()
    assert (bench.state().status, bench.state().attempt) == (Status.COMPLETED, 2)
    assert conversions() == 1


def test_a_conversion_that_is_gone_is_made_again(bench_with, conversions):
    """By whoever needs it, for all that come after."""
    bench = bench_with(pages_per_part=4)
    bench.upload(texts.html(40), media_type=MediaType.HTML)
    bench.run(2)  # the plan and a range
    bench.storage.remove(sections_path(DOCUMENT, bench._workbench.worklist.planned(DOCUMENT)["sections"]))
    parts = sum(bench.run(1) for _ in range(20))
    assert parts > 2 + 2
    assert bench.state().status is Status.COMPLETED
    assert conversions() == 2


def test_what_a_worker_converted_that_lost_the_document_is_read_by_nobody(bench):
    """Each has a file of its own, and the record says which one counts."""
    bench.upload(texts.html(12), media_type=MediaType.HTML)
    with bench.storage.writing(sections_path(DOCUMENT, "1.0")) as file:
        file.write(b"nonsense\n")
    bench.run(1)
    with bench.storage.writing(sections_path(DOCUMENT, "1.1")) as file:
        file.write(b"nonsense\n")
    bench.run()
    assert bench.state().status is Status.COMPLETED


def test_a_conversion_is_stored_only_as_far_as_text_is_taken(bench_with):
    """A small file may become a text without end."""
    bench = bench_with(max_document_characters=20_000)
    bench.upload(texts.html(40), media_type=MediaType.HTML)
    assert bench.run() == 1
    assert bench.state().error.code == "too_much_text"
    assert bench.storage.names(pages_folder(DOCUMENT)) == set()


def test_a_section_that_is_too_large_is_left_out_and_taken_once_it_may_be_larger(bench_with):
    """The limit is that of the worker that reads it, not of the one that has converted the file."""
    strict = bench_with(max_page_characters=5000)
    strict.upload(texts.html(40), media_type=MediaType.HTML)
    strict.run(2)  # the plan and a range
    bench = bench_with()
    bench.run()
    left_out = {number for warning in bench.state().warnings for number in warning.pages}
    assert left_out
    assert max(left_out) <= 8


def test_who_waits_for_a_conversion_sees_that_it_goes_on(bench, monkeypatch, tmp_path):
    """What is done, and signs of life; how far it is nobody knows."""
    monkeypatch.setattr("shared.worklist.BEAT_SECONDS", 0.05)
    monkeypatch.setattr("ingest_worker.lease.BEAT_SECONDS", 0.05)
    opening, enough = parse.opened, tmp_path / "enough"

    def slow(*how: Any) -> AbstractContextManager[Document]:
        wait_until(enough.exists)
        return opening(*how)

    monkeypatch.setattr(parse, "opened", slow)
    bench.upload(texts.html(12), media_type=MediaType.HTML)
    worker = threading.Thread(target=bench.run)
    worker.start()
    wait_until(lambda: bench.state().message == "Converting the file")
    first = bench.state().alive_at
    wait_until(lambda: bench.state().alive_at > first)
    assert bench.state().progress == 0
    enough.touch()
    worker.join()
    assert bench.state().status is Status.COMPLETED


def test_chunks_of_a_file_without_pages_are_there_before_the_document_is_completed(bench, make_app):
    """What is stored beside the ranges is none of them."""
    http = make_app().test_client()
    bench.upload(texts.html(40), media_type=MediaType.HTML)
    bench.run(2)  # the plan and a range
    answer = http.get(f"/ingestions/{DOCUMENT}/chunks")
    assert answer.headers["Ingest-Partial"] == "true"
    assert json.loads(answer.data.splitlines()[0])["page_first"] == 1


def test_every_row_of_a_large_table_is_in_one_chunk(bench):
    """With the header, however many sections and chunks the table takes."""
    rows = (("name", "number", "about"), *((f"item {n}", str(n * 7), f"some words about {n}") for n in range(2000)))
    page = f"<html><h1>T</h1>{texts.html_table(rows)}</html>"
    bench.upload(page.encode(), media_type=MediaType.HTML, chunk_overlap=0)
    bench.run()
    chunks = list(bench.table.of(DOCUMENT))
    with bench.storage.reading(text_path(DOCUMENT)) as file:
        text = file.read().decode()
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    tables = [table for chunk in chunks for table in chunk.tables]
    assert {table[0] for table in tables} == {rows[0]}
    assert [row for table in tables for row in table[1:]] == list(rows[1:])
