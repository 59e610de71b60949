"""Workers come and go while documents are on their way; documents share them."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest

from shared import keys
from shared.jobs import Status
from shared.protocol import State
from tests import pdfs
from tests.awaiting import wait_until
from tests.system.floor import Floor, events

PAGES = 400

#: Enough to be on its way while workers start and stop.
MANY_PAGES = 1600


@pytest.fixture
def floor(tmp_path) -> Iterator[Floor]:
    """One worker with one child."""
    with Floor(tmp_path / "stack", web=0) as floor:
        yield floor


def parts_of(output: str, document_id: str) -> list[str]:
    """The ranges of a document that a worker says it has done."""
    return re.findall(rf"part\.done .* id={document_id} part=(pages:\d+-\d+) ", output)


def test_workers_come_and_go_within_one_document(floor):
    """1, 4 and 1 again: all have a share in it, every page is parsed once, and nobody is taken for lost."""
    floor.upload("long", pdfs.prose(MANY_PAGES))
    floor.parsing("long")
    others = [floor.add_worker() for _ in range(3)]
    for other in others:
        wait_until(
            lambda other=other: parts_of(other.output(), "long"), within_seconds=60, what=f"work of {other.name}"
        )
    for other in others:
        other.signal(signal.SIGTERM)
    for other in others:
        wait_until(lambda other=other: not other.alive, what=f"the end of {other.name}")
    assert not floor.store.state("long").is_final, "the document was too small for this test"
    assert floor.ended("long").status is Status.COMPLETED

    told = events(floor.store, "long")
    assert [event.progress for event in told] == sorted(event.progress for event in told)
    assert not any("lost" in event.message for event in told)
    floor.nothing_left("long")


def test_a_small_document_does_not_wait_behind_a_large_one(floor):
    """Though there is but one worker: it is completed while the large one is still at its beginning."""
    floor.upload("large", pdfs.prose(PAGES))
    floor.parsing("large")
    floor.upload("small", pdfs.prose(2))
    assert floor.ended("small").status is Status.COMPLETED
    assert floor.store.state("large").progress < 60


def test_a_document_is_cancelled_within_two_seconds(floor):
    """While it is parsed, and the worker is free at once for the next; also while no worker is there at all."""
    floor.upload("long", pdfs.prose(PAGES))
    floor.parsing("long")
    floor.store.record("long", 1, Status.CANCELLED, "Cancelled")
    cancelled = time.monotonic()
    floor.upload("next", pdfs.prose(1))
    wait_until(lambda: floor.store.state("next").status is not Status.PENDING, what="the next document")
    assert time.monotonic() - cancelled < 2
    assert floor.store.state("long").status is Status.CANCELLED

    floor.ended("next")
    floor.worker.kill()
    floor.upload("alone", pdfs.prose(1))
    assert floor.store.record("alone", 1, Status.CANCELLED, "Cancelled").status is Status.CANCELLED
    assert not floor.client.exists(keys.waiting("alone"), keys.work("alone"))


def test_the_time_that_is_told_is_about_the_time_it_takes(floor):
    """From the rate that was measured, not from a guess."""
    floor.upload("a", pdfs.prose(150))
    floor.parsing("a")

    def told() -> State | None:
        state = floor.store.state("a")
        return state if state.eta_seconds else None

    state = wait_until(told, what="a time")
    began = time.monotonic()
    assert floor.ended("a").status is Status.COMPLETED
    took = time.monotonic() - began
    assert state.eta_seconds / 4 < took < state.eta_seconds * 4
