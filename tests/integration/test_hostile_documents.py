"""Files made to hurt whoever reads them. Each ends soon, in bounded memory, and costs the page that is bad alone."""

from __future__ import annotations

import time

import psutil
import pytest

from ingest_worker.sandbox import Sandbox, Walls
from ingest_worker.stages.findings import Findings
from ingest_worker.stages.pdf import opened
from ingest_worker.stages.reading import Limits, Problem, Reading
from shared.config import Engine
from shared.errors import DocumentError, TooManyPages, Unreadable
from shared.protocol import Notice
from tests import pdfs

LIMITS = Limits(pages=1000, page_characters=200_000)
PAGE_SECONDS = 1.5

#: Whatever a file does: two tries at a page, and the other pages.
BOUND_SECONDS = 60

LEFT_OUT = {f"page_{problem}" for problem in Problem}

every_engine = pytest.mark.parametrize("engine", list(Engine))


@pytest.fixture
def read(tmp_path):
    """Reads bytes within the walls, and checks that they held; gives the readings and the warnings."""

    def read(pdf: bytes, engine: Engine) -> tuple[list[Reading], tuple[Notice, ...]]:
        path = tmp_path / "file.pdf"
        path.write_bytes(pdf)
        inherited = psutil.Process().memory_info().vms
        walls = Walls(PAGE_SECONDS, inherited + (200 << 20))
        findings = Findings()
        began = time.monotonic()
        with Sandbox(lambda: opened(path, engine, LIMITS), walls=walls, tick=lambda: None) as document:
            count = document.page_count
            readings = [document.reading(number, (number + 1) % (count + 1)) for number in range(1, count + 1)]
            findings.repaired = document.repaired
        for reading in readings:
            findings.note(reading)
        assert time.monotonic() - began < BOUND_SECONDS
        assert 0 < document.peak_bytes < walls.address_space_bytes
        return readings, findings.warnings()

    return read


@every_engine
@pytest.mark.parametrize(
    "make",
    [
        lambda: pdfs.flate_bomb(3, bomb=2, inflated_bytes=1 << 30),
        lambda: pdfs.form_bomb(3, bomb=2, levels=40),
        lambda: pdfs.form_within_itself(3, bomb=2),
        lambda: pdfs.character_bomb(3, bomb=2, characters=1_000_000),
    ],
    ids=["a gigabyte of spaces", "a trillion forms", "a form within itself", "a million characters"],
)
def test_a_bomb_costs_the_page_it_is_on(read, engine, make):
    """That page is named with the reason; the others have their text."""
    readings, warnings = read(make(), engine)
    assert [reading.page.text for reading in readings] == ["Page 1: harmless", "", "Page 3: harmless"]
    (warning,) = warnings
    assert warning.code in LEFT_OUT
    assert warning.pages == (2,)


@every_engine
def test_arrays_within_arrays_do_not_hold_up_the_other_pages(read, engine):
    """PDFium passes over them; pdfplumber, which does not, is stopped."""
    readings, warnings = read(pdfs.nested_arrays(3, bomb=2, depth=1_000_000), engine)
    assert [reading.page.text for reading in readings] == ["Page 1: harmless", "", "Page 3: harmless"]
    (warning,) = warnings
    assert warning.code in (LEFT_OUT if engine is Engine.PDFPLUMBER else {"pages_without_text"})
    assert warning.pages == (2,)


@every_engine
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: pdfs.page_references(100_000), TooManyPages),
        (lambda: pdfs.truncated(3, 0.5), Unreadable),
        (pdfs.noise_after_a_good_header, Unreadable),
    ],
    ids=["a hundred thousand pages", "truncated", "noise"],
)
def test_a_file_that_is_no_document_is_refused(read, engine, make, error):
    """At once, with a code."""
    began = time.monotonic()
    with pytest.raises(DocumentError) as refused:
        read(make(), engine)
    assert refused.type is error
    assert time.monotonic() - began < BOUND_SECONDS


def test_a_thousand_references_to_one_page_are_a_thousand_pages(read):
    """As many as are allowed are read, one like the other."""
    readings, warnings = read(pdfs.page_references(LIMITS.pages), Engine.AUTO)
    assert len(readings) == LIMITS.pages
    assert [warning.code for warning in warnings] == ["no_text"]
