"""Real worker processes against a real broker: what happens when they are stopped, killed or badly set up."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from shared import keys, task_names
from shared.broker import make_celery
from shared.config import Settings
from shared.database import ChunkTable
from shared.jobs import Status
from shared.options import Options
from shared.protocol import State
from shared.storage import Storage, source_path
from shared.store import Source, Store
from tests import pdfs
from tests.awaiting import wait_until
from tests.stack import ROOT, Process, Stack

LONG = 250  # pages: many seconds of work


class Floor(Stack):
    """A worker with one pool child, and everything to give it work."""

    def __enter__(self) -> Floor:
        super().__enter__()
        self.settings = Settings.from_environment(self.environment)
        self.client = self.redis()
        self.store = Store(self.client, self.settings)
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        super().__exit__(*error)

    @property
    def worker(self) -> Process:
        return self.workers[0]

    def upload(self, document_id: str, pdf: bytes) -> None:
        with Storage.from_settings(self.settings).writing(source_path(document_id)) as file:
            file.write(pdf)
        sha256 = hashlib.sha256(pdf).hexdigest()
        options = Options.from_form({}, self.settings)
        source = Source("a.pdf", "application/pdf", len(pdf), sha256, source_path(document_id), options)
        self.store.create(document_id, source)
        with closing(make_celery(self.settings)) as app:
            app.send_task(task_names.PARSE, args=(document_id, 1))

    def ended(self, document_id: str) -> State:
        wait_until(lambda: self.store.state(document_id).is_final, within_seconds=60, what=self.worker.output())
        return self.store.state(document_id)

    def parsing(self, document_id: str) -> None:
        """Return when some pages have been parsed."""

        def some_pages() -> bool:
            state = self.store.state(document_id)
            return state.status is Status.PARSING and state.progress > 1

        wait_until(some_pages, what="pages parsed")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.worker.pid).children(recursive=True)

    def waiting(self) -> int:
        return self.client.llen(f"{keys.BROKER_PREFIX}{task_names.QUEUE}")

    def unacknowledged(self) -> int:
        return self.client.hlen(f"{keys.BROKER_PREFIX}unacked")


@pytest.fixture
def floor(tmp_path) -> Iterator[Floor]:
    with Floor(tmp_path / "stack", web=0) as floor:
        yield floor


def test_a_worker_ingests_what_is_sent_to_it(floor):
    """From a message to rows in the database; every message is acknowledged, and the log has a line a step."""
    floor.upload("one", pdfs.prose(5))
    floor.upload("two", pdfs.encrypted("secret"))
    assert floor.ended("one").status is Status.COMPLETED
    assert floor.ended("two").status is Status.FAILED
    with closing(ChunkTable.from_settings(floor.settings)) as table:
        assert len(list(table.of("one"))) > 1
    wait_until(lambda: floor.unacknowledged() == 0, what="acknowledged")
    assert floor.waiting() == 0
    lines = [line for line in floor.worker.output().splitlines() if "ingest_worker" in line]
    assert len(lines) == 4
    assert "Traceback" not in floor.worker.output()


def test_every_key_of_the_broker_has_its_prefix(floor):
    """So the broker and the record share a Redis, and other users of it are not disturbed."""
    floor.upload("one", pdfs.prose(1))
    floor.ended("one")
    names = {key.decode() for key in floor.client.keys("*")}
    assert all(name.startswith((keys.BROKER_PREFIX, f"{keys.PREFIX}{{", keys.INDEX)) for name in names)


def test_a_worker_told_to_stop_hands_its_work_back(floor):
    """It exits within seconds, the message is in the queue again, and the next worker ends the work."""
    floor.upload("long", pdfs.prose(LONG))
    floor.parsing("long")
    floor.worker.signal(signal.SIGTERM)
    wait_until(lambda: not floor.worker.alive, what="the worker's end")
    assert (floor.waiting(), floor.unacknowledged()) == (1, 0)
    assert floor.store.state("long").status is Status.PARSING

    floor.worker.start()
    assert floor.ended("long").status is Status.COMPLETED
    progress = [event.progress for event in _events(floor.store, "long")]
    assert progress == sorted(progress)


def test_an_idle_worker_stops_at_once(floor):
    """There is nothing to wait for."""
    floor.worker.signal(signal.SIGTERM)
    wait_until(lambda: not floor.worker.alive, what="the worker's end")


def test_a_document_whose_worker_is_killed_in_mid_task_does_not_hang(floor):
    """The pool child dies as by the kernel for want of memory: FAILED, and the next document is ingested."""
    floor.upload("long", pdfs.prose(LONG))
    floor.parsing("long")
    for child in floor.children():
        child.kill()
    failed = floor.ended("long")
    assert (failed.status, failed.error.code) == (Status.FAILED, "internal")
    floor.upload("next", pdfs.prose(1))
    assert floor.ended("next").status is Status.COMPLETED
    wait_until(lambda: floor.unacknowledged() == 0, what="acknowledged")


def test_cancelling_frees_the_worker(floor):
    """At the next page, so that the next document begins long before the first would have ended."""
    floor.upload("long", pdfs.prose(2000))
    floor.parsing("long")
    floor.store.record("long", 1, Status.CANCELLED, "Cancelled")
    floor.upload("next", pdfs.prose(1))
    wait_until(lambda: floor.store.state("next").is_final, within_seconds=30, what="the next document")
    assert floor.store.state("long").status is Status.CANCELLED


def test_an_outage_of_redis_in_mid_task_costs_no_document(floor):
    """The worker waits for the record to come back and goes on; nothing is marked as failed."""
    floor.upload("long", pdfs.prose(LONG))
    floor.parsing("long")
    floor.cut_redis()
    floor.restore_redis()
    assert floor.ended("long").status is Status.COMPLETED


def test_settings_that_are_not_valid_are_one_clear_line():
    """The worker does not start, and says which variable is at fault, without a traceback."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "ingest_worker.main", "worker"],
            cwd=ROOT,
            env={**os.environ, "INGEST_VAR": folder, "INGEST_CHUNK_SIZE": "huge"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode != 0
        (line,) = done.stderr.splitlines()
        assert line.startswith("The worker can't start: INGEST_CHUNK_SIZE: ")
        assert list(Path(folder).iterdir()) == []


def _events(store: Store, document_id: str) -> list[State]:
    return [State.from_json(data) for _, data in store.histories({document_id: 0})[document_id].events]
