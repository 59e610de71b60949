"""What was odd about a document, in a few warnings, whoever read which of its pages."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.stages.findings import MAX_PAGES_NAMED, SENTENCES, Findings
from ingest_worker.stages.reading import Problem, Reader, Reading
from shared.documents import Page

readings = st.tuples(
    st.sampled_from(Reader), st.booleans(), st.none() | st.sampled_from(Problem), st.sampled_from(" x")
)


def noted(pages: list[Reading], *, repaired: bool = False) -> Findings:
    findings = Findings()
    for reading in pages:
        findings.note(reading)
    findings.repaired = repaired
    return findings


def test_a_warning_names_a_bounded_number_of_pages():
    """The message still counts all of them."""
    findings = noted([Reading(Page(number, ""), Reader.NOBODY, fell_back=True) for number in range(1, 10_001)])
    (warning,) = findings.warnings()
    assert warning.pages == tuple(range(1, MAX_PAGES_NAMED + 1))
    assert warning.message == "10000 pages could not be read; the first 100 are listed"


@pytest.mark.parametrize("problem", list(Problem))
def test_every_problem_of_a_page_has_its_own_code(problem):
    """The page is named once, under that code alone, and does not count as one without text."""
    findings = noted([Reading(Page(1, "words"), Reader.PDFIUM), Reading.left_out(2, problem)])
    (warning,) = findings.warnings()
    assert (warning.code, warning.pages) == (f"page_{problem}", (2,))
    assert warning.message.startswith("1 page left out for ")


def test_what_has_no_pages_is_told_of_its_sections():
    """In every warning that counts them."""
    findings = noted([Reading(Page(1, "words"), Reader.ONLY), Reading.left_out(2, Problem.TOO_LARGE)], repaired=True)
    assert [warning.message for warning in findings.warnings("sections")] == [
        "The file was damaged; 1 section was recovered",
        "1 section left out for too many characters",
    ]


@given(st.lists(readings, max_size=40), st.integers(1, 9), st.booleans(), st.randoms(use_true_random=False))
def test_findings_of_ranges_merge_to_those_of_the_whole(drawn, size, repaired, chance):
    """However the pages are cut, whichever range is done first, and after a way through JSON."""
    pages = [Reading(Page(n, text), who, fell, problem) for n, (who, fell, problem, text) in enumerate(drawn, 1)]
    pieces = [noted(pages[at : at + size]) for at in range(0, len(pages), size)] + [noted([], repaired=repaired)]
    chance.shuffle(pieces)
    merged = Findings.merge(Findings.from_json(piece.to_json()) for piece in pieces)
    assert merged == noted(pages, repaired=repaired)
    assert merged.warnings() == noted(pages, repaired=repaired).warnings()


@pytest.mark.parametrize("seed", range(3))
def test_merged_findings_name_the_first_pages_of_all(seed):
    """Not those of the range that was done first."""
    pages = [Reading.left_out(number, Problem.TIMED_OUT) for number in range(1, 1001)]
    pieces = [noted(pages[at : at + 32]) for at in range(0, 1000, 32)]
    random.Random(seed).shuffle(pieces)
    assert Findings.merge(pieces).warnings() == noted(pages).warnings()


def test_there_is_a_sentence_for_each_problem():
    """And for nothing that is none."""
    assert {f"page_{problem}" for problem in Problem} < SENTENCES.keys()
