"""Real worker processes against a real broker: what happens when they are stopped, killed or badly set up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared import keys
from shared.database import ChunkTable
from shared.jobs import Status
from shared.store import Store
from shared.worklist import Worklist
from tests import pdfs
from tests.awaiting import wait_until
from tests.stack import ROOT
from tests.system.floor import Floor, events

LONG = 250  # pages: many seconds of work


@pytest.fixture
def floor(tmp_path) -> Iterator[Floor]:
    with Floor(tmp_path / "stack", web=0) as floor:
        yield floor


def test_a_worker_ingests_what_is_sent_to_it(floor):
    """From a message to rows in the database; every message is acknowledged, and the log has a line a part."""
    floor.upload("one", pdfs.prose(5))
    floor.upload("two", pdfs.encrypted("secret"))
    assert floor.ended("one").status is Status.COMPLETED
    assert floor.ended("two").status is Status.FAILED
    with closing(ChunkTable.from_settings(floor.settings)) as table:
        assert len(list(table.of("one"))) > 1
    wait_until(lambda: floor.unacknowledged() == 0, what="acknowledged")

    def lines() -> list[str]:
        return [line for line in floor.worker.output().splitlines() if "ingest_worker" in line]

    wait_until(lambda: len(lines()) >= 5, what="a line of the log for each part")  # a document is final before that
    assert len(lines()) == 5
    assert "Traceback" not in floor.worker.output()


def test_every_key_has_its_prefix(floor):
    """So the broker and the record share a Redis, and other users of it are not disturbed."""
    floor.upload("one", pdfs.prose(1))
    floor.ended("one")
    names = {key.decode() for key in floor.client.keys("*")}
    assert all(name.startswith(keys.PREFIX) for name in names)


def test_a_worker_told_to_stop_hands_its_work_back(floor):
    """It exits within seconds, the pages read so far are kept, and the next worker ends the work; nobody was lost."""
    floor.upload("long", pdfs.prose(LONG))
    floor.parsing("long")
    floor.worker.signal(signal.SIGTERM)
    wait_until(lambda: not floor.worker.alive, within_seconds=5, what="the worker's end")
    assert floor.unacknowledged() == 0
    assert floor.client.zcard(keys.running("long")) == 0
    seen = floor.store.state("long").stage.done
    assert sum(part.pages for part in Worklist(floor.client, floor.settings).done("long")) >= seen

    floor.worker.start()
    assert floor.ended("long").status is Status.COMPLETED
    told = events(floor.store, "long")
    assert [event.progress for event in told] == sorted(event.progress for event in told)
    assert not any("lost" in event.message for event in told)


def test_an_idle_worker_stops_at_once(floor):
    """There is nothing to wait for."""
    floor.worker.signal(signal.SIGTERM)
    wait_until(lambda: not floor.worker.alive, what="the worker's end")


@pytest.mark.parametrize("whole", [False, True], ids=["child", "tree"])
def test_a_document_whose_worker_is_killed_goes_on(floor, whole):
    """As by the kernel for want of memory, or with its machine: viewers are told within 10 s, and another ends it."""
    floor.upload("long", pdfs.prose(LONG))
    floor.parsing("long")
    killed = time.monotonic()
    if whole:
        floor.worker.kill()
        floor.worker.start()
    else:
        for child in floor.children():
            child.kill()
    wait_until(lambda: _told_of_loss(floor.store, "long"), what="the event")
    assert time.monotonic() - killed < 10
    assert floor.ended("long").status is Status.COMPLETED
    bars = [event.progress for event in events(floor.store, "long")]
    assert bars == sorted(bars)
    floor.nothing_left("long")


def test_a_queue_that_is_flushed_costs_no_document(floor):
    """The sweeper sees that something waits, and calls for workers."""
    floor.worker.kill()
    for name in ("one", "two"):
        floor.upload(name, pdfs.prose(2))
    floor.client.delete(*[key for key in floor.client.keys("*") if key.startswith(keys.BROKER_PREFIX.encode())])
    floor.worker.start()
    assert floor.ended("one").status is Status.COMPLETED
    assert floor.ended("two").status is Status.COMPLETED


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


def _told_of_loss(store: Store, document_id: str) -> bool:
    return any(event.message.startswith("Worker lost, resuming at page") for event in events(store, document_id))
