"""The three tasks against a real Valkey and a real database, run in this process, one after another."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.exceptions import Reject
from redis.backoff import NoBackoff
from redis.retry import Retry

from ingest_worker import tasks
from ingest_worker.workbench import Workbench
from shared import keys, task_names
from shared.broker import make_celery
from shared.documents import pages_from
from shared.errors import StoreUnavailable
from shared.jobs import Status
from shared.options import Options
from shared.protocol import State
from shared.storage import pages_path, source_path, text_path
from shared.store import Source, Store, utc_now
from tests import pdfs

DOCUMENT = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
STEPS = [task_names.PARSE, task_names.CHUNK, task_names.LOAD]


class Bench:
    """Uploads documents and plays the worker, one message at a time."""

    def __init__(self, app: Celery, workbench: Workbench, client: redis.Redis) -> None:
        self.app = app
        self.client = client
        self._workbench = workbench
        self.store = workbench.store
        self.storage = workbench.storage
        self.table = workbench.table

    def upload(self, pdf: bytes, **options: int) -> None:
        with self.storage.writing(source_path(DOCUMENT)) as file:
            file.write(pdf)
        sha256 = hashlib.sha256(pdf).hexdigest()
        chosen = Options(**{"chunk_size": 500, "chunk_overlap": 50, **options})
        source = Source("a.pdf", "application/pdf", len(pdf), sha256, source_path(DOCUMENT), chosen)
        self.store.create(DOCUMENT, source)

    def run(self, *names: str, attempt: int = 1) -> None:
        for name in names:
            self.app.tasks[name](DOCUMENT, attempt)

    def ingest(self, pdf: bytes) -> State:
        self.upload(pdf)
        self.run(*STEPS)
        return self.state()

    def before_report(self, number: int, happens: Callable[[], object]) -> None:
        """Something happens just before the worker's report of that number, counted from 1."""
        reports = itertools.count(1)

        def clock() -> datetime:
            if next(reports) == number:
                happens()
            return utc_now()

        self._workbench.store = Store(self.client, self._workbench.settings, clock)

    def cancel_before_report(self, number: int) -> None:
        """Someone else cancels the document."""
        other = self.store
        self.before_report(number, lambda: other.record(DOCUMENT, 1, Status.CANCELLED, "Cancelled"))

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """The worker's connection leads nowhere."""
        connected = self._workbench.store
        with redis.Redis(port=_closed_port(), retry=Retry(NoBackoff(), 0)) as client:
            self._workbench.store = Store(client, self._workbench.settings)
            yield
        self._workbench.store = connected

    def state(self) -> State:
        return self.store.state(DOCUMENT)

    def events(self) -> list[State]:
        history = self.store.histories({DOCUMENT: 0})[DOCUMENT]
        return [State.from_json(data) for _, data in history.events]

    def sent(self) -> list[list[object]]:
        """What was sent to the broker, oldest first: name, document, attempt."""
        messages = self.client.lrange(f"{keys.BROKER_PREFIX}{task_names.QUEUE}", 0, -1)
        return [_told(json.loads(message)) for message in reversed(messages)]


def _told(message: dict) -> list[object]:
    return [message["headers"]["task"], message["headers"]["argsrepr"]]


@pytest.fixture
def bench(settings, client) -> Iterator[Bench]:
    """A pipeline over an empty Valkey that reports every page."""
    settings = settings.model_copy(update={"report_interval_seconds": 0.0})
    app = make_celery(settings)
    workbench = Workbench(settings)
    tasks.register(app, workbench)
    workbench.store = Store(client, settings)
    yield Bench(app, workbench, client)
    workbench.table.close()
    app.close()


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
    with bench.storage.reading(pages_path(DOCUMENT)) as lines:
        assert [page.number for page in pages_from(lines)] == list(range(1, 21))
    chunks = list(bench.table.of(DOCUMENT))
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert (chunks[0].page_first, chunks[-1].page_last) == (1, 20)


def test_each_stage_sends_the_next_by_name(bench):
    """With the document and the attempt, and the last sends nothing."""
    bench.ingest(pdfs.prose(1))
    arguments = f"('{DOCUMENT}', 1)"
    assert bench.sent() == [[task_names.CHUNK, arguments], [task_names.LOAD, arguments]]


@pytest.mark.parametrize(
    ("pdf", "code"),
    [(pdfs.encrypted("secret"), "encrypted"), (pdfs.noise_after_a_good_header(), "unreadable")],
    ids=["encrypted", "unreadable"],
)
def test_a_fault_of_the_document_fails_it_with_a_code(bench, caplog, pdf, code):
    """The owner gets the code and a sentence; nothing is handed on; the log has one line and no traceback."""
    caplog.set_level(logging.INFO, "ingest_worker")
    bench.upload(pdf)
    bench.run(task_names.PARSE)
    final = bench.state()
    assert (final.status, final.error.code) == (Status.FAILED, code)
    assert final.finished_at
    assert final.error.message == final.message
    assert bench.sent() == []


def test_our_own_fault_fails_the_document_without_telling_tales(bench, capsys):
    """The owner reads a safe sentence; the traceback is in the log only."""
    bench.upload(pdfs.prose(1))
    bench.storage.remove(DOCUMENT)
    bench.run(task_names.PARSE)
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


def test_a_new_attempt_forgets_the_warnings_of_the_one_before(bench):
    """What parsing says about the document stands in the place of what was said before."""
    bench.ingest(pdfs.scanned(2))
    bench.client.hset(keys.state(DOCUMENT), mapping={"status": '"PENDING"', "attempt": "2", "progress": "0"})
    with bench.storage.writing(source_path(DOCUMENT)) as file:
        file.write(pdfs.prose(2))
    bench.run(*STEPS, attempt=2)
    assert (bench.state().status, bench.state().warnings) == (Status.COMPLETED, ())


def test_the_same_document_again_has_the_same_chunks(bench):
    """Ids and all; rows are replaced, not added."""
    bench.ingest(pdfs.prose(5))
    before = list(bench.table.of(DOCUMENT))
    bench.store.delete(DOCUMENT)
    bench.ingest(pdfs.prose(5))
    assert list(bench.table.of(DOCUMENT)) == before


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_message_delivered_again_after_its_stage_does_nothing(bench, done):
    """No event, no further message, no row: the record has moved on."""
    bench.upload(pdfs.prose(2))
    bench.run(*STEPS[:done])
    if done < len(STEPS):
        bench.run(STEPS[done])
    state, sent, rows = bench.state(), bench.sent(), list(bench.table.of(DOCUMENT))
    bench.run(STEPS[done - 1])
    assert (bench.state(), bench.sent(), list(bench.table.of(DOCUMENT))) == (state, sent, rows)


def test_a_message_delivered_again_before_the_next_stage_repeats_the_work(bench):
    """A worker that dies after the last page but before it hands on loses nothing."""
    bench.upload(pdfs.prose(2))
    bench.run(task_names.PARSE, *STEPS)
    assert bench.state().status is Status.COMPLETED


@pytest.mark.parametrize("name", STEPS)
def test_a_message_for_a_document_long_gone_does_nothing(bench, name):
    """Nothing is raised, written or sent."""
    bench.run(name)
    assert bench.client.keys("*") == []


def test_a_message_of_an_earlier_attempt_does_nothing(bench):
    """The present attempt goes on undisturbed."""
    bench.upload(pdfs.prose(1))
    before = bench.state()
    bench.run(task_names.PARSE, attempt=0)
    assert bench.state() == before


def test_a_message_out_of_order_does_nothing(bench):
    """A document that has not been parsed can't be loaded."""
    bench.upload(pdfs.prose(1))
    before = bench.state()
    bench.run(task_names.LOAD)
    bench.run(task_names.CHUNK)
    assert bench.state() == before


def test_a_cancelled_document_is_left_alone(bench):
    """The task stops before it has opened the file, and CANCELLED stands."""
    bench.upload(pdfs.prose(3))
    cancelled = bench.store.record(DOCUMENT, 1, Status.CANCELLED, "Cancelled")
    bench.run(task_names.PARSE)
    assert bench.state() == cancelled
    assert bench.sent() == []


def test_cancelling_in_the_middle_ends_parsing(bench):
    """At the next report; no half-written pages stay behind."""
    bench.upload(pdfs.prose(50))
    bench.cancel_before_report(5)
    bench.run(task_names.PARSE)
    assert bench.state().status is Status.CANCELLED
    assert bench.events()[-2].message == "Parsed 2 of 50 pages"
    assert _stored(bench) == ["source"]


def test_cancelling_while_loading_leaves_no_rows(bench):
    """The last report comes before the rows become visible, so they never do."""
    bench.ingest(pdfs.prose(3))
    reports = len(bench.events()) - 1  # the first is that of the upload
    bench.store.delete(DOCUMENT)
    bench.table.remove(DOCUMENT)

    bench.upload(pdfs.prose(3))
    bench.cancel_before_report(reports - 1)
    bench.run(*STEPS)
    assert bench.state().status is Status.CANCELLED
    assert bench.events()[-2].status is Status.LOADING
    assert list(bench.table.of(DOCUMENT)) == []


def test_without_redis_the_message_is_handed_back(bench):
    """The document isn't marked as failed: it will be delivered again."""
    bench.upload(pdfs.prose(1))
    with bench.without_redis(), pytest.raises(Reject) as rejected:
        bench.run(task_names.PARSE)
    assert rejected.value.requeue
    assert bench.state().status is Status.PENDING


def test_a_moment_without_redis_is_not_the_fault_of_the_document(bench):
    """Even when Redis is back in time to record a failure, none is recorded."""
    bench.upload(pdfs.prose(5))

    def unavailable() -> None:
        raise StoreUnavailable("Redis can't be reached.")

    bench.before_report(4, unavailable)
    with pytest.raises(Reject):
        bench.run(task_names.PARSE)
    assert bench.state().message == "Parsed 1 of 5 pages"


def test_without_a_broker_the_message_is_handed_back_too(bench):
    """The pages are there already; the next delivery finds the same ones and hands on."""
    bench.upload(pdfs.prose(1))
    bench.app.conf.broker_url = f"redis://127.0.0.1:{_closed_port()}/0"
    bench.app.conf.task_publish_retry = False
    with pytest.raises(Reject) as rejected:
        bench.run(task_names.PARSE)
    assert rejected.value.requeue
    assert bench.state().status is Status.PARSING


def _stored(bench: Bench) -> list[str]:
    folder = Path(bench.storage._full(DOCUMENT))
    return sorted(path.name for path in folder.iterdir())


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
