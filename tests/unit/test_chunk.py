"""Chunks have exact places in the stored text and lasting ids."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.stages.chunk import join, split
from shared.documents import Page
from shared.options import Options

OPTIONS = Options(chunk_size=60, chunk_overlap=20)
SHA = "0" * 64


def pages(*texts: str) -> list[Page]:
    return [Page(number, text) for number, text in enumerate(texts, start=1)]


@given(st.lists(st.text(max_size=200), max_size=6), st.integers(50, 120), st.integers(0, 49))
def test_a_chunk_is_the_slice_of_the_text_that_it_says_it_is(texts, size, overlap):
    """Offsets count characters, whatever the script; a chunk keeps to its size, and its pages hold its ends."""
    text = join(pages(*texts))
    for index, chunk in enumerate(split(text, SHA, Options(chunk_size=size, chunk_overlap=overlap))):
        assert chunk.index == index
        assert text.text[chunk.start : chunk.end] == chunk.text
        assert 0 < len(chunk.text) <= size
        assert 1 <= chunk.page_first <= chunk.page_last <= len(texts)


@given(st.lists(st.text(alphabet="ab 字.\n", max_size=200), max_size=6))
def test_no_word_is_lost(texts):
    """Whatever is not in a chunk is white space."""
    text = join(pages(*texts))
    covered = {at for chunk in split(text, SHA, OPTIONS) for at in range(chunk.start, chunk.end)}
    assert not "".join(char for at, char in enumerate(text.text) if at not in covered).strip()


def test_pages_are_joined_by_an_empty_line():
    """So the stored text of a document is known from its pages."""
    assert join(pages("one", "", "three")).text == "one\n\n\n\nthree"


@given(st.lists(st.text(min_size=1, max_size=20), max_size=6))
def test_every_character_is_found_on_its_page(texts):
    """From the first of a page to its last."""
    text = join(pages(*texts))
    for number, (start, page) in enumerate(zip(text.page_starts, texts, strict=True), start=1):
        assert text.text[start : start + len(page)] == page
        assert (text.page_at(start), text.page_at(start + len(page) - 1)) == (number, number)


def test_a_chunk_knows_the_pages_it_spans():
    """Short pages share a chunk, and an empty page counts."""
    (chunk,) = split(join(pages("First.", "", "Third.")), SHA, OPTIONS)
    assert (chunk.page_first, chunk.page_last) == (1, 3)
    first, second = split(join(pages("a" * 60, "Second.")), SHA, OPTIONS)
    assert (first.page_first, first.page_last) == (1, 1)
    assert (second.text, second.page_first, second.page_last) == ("Second.", 2, 2)


def test_neighbours_overlap():
    """The end of one is the beginning of the next, so that a sentence on the border is whole somewhere."""
    text = join(pages("One two three four five six seven. " * 10))
    chunks = split(text, SHA, Options(chunk_size=100, chunk_overlap=40))
    assert all(second.start < first.end for first, second in pairwise(chunks))


def test_ids_are_the_same_for_the_same_bytes_and_options():
    """Ingested again, a document has the ids that it had; no two chunks of it share one."""
    text = join(pages("One two three. " * 40))
    ids = [chunk.id for chunk in split(text, SHA, OPTIONS)]
    assert ids == [chunk.id for chunk in split(text, SHA, OPTIONS)]
    assert len(set(ids)) == len(ids) > 1
    assert all(len(each) == 32 for each in ids)


@pytest.mark.parametrize(
    ("sha", "options"),
    [
        ("1" * 64, OPTIONS),
        (SHA, Options(chunk_size=60, chunk_overlap=0)),
        (SHA, Options(chunk_size=70, chunk_overlap=20)),
    ],
    ids=["other bytes", "other overlap", "other size"],
)
def test_other_bytes_or_options_give_other_ids(sha, options):
    """Even where the text of a chunk happens to be the same."""
    text = join(pages("Short."))
    assert split(text, sha, options)[0].id != split(text, SHA, OPTIONS)[0].id


def test_white_space_makes_no_chunk():
    """A scan has none."""
    assert split(join(pages("", " \n ", "")), SHA, OPTIONS) == []
    assert split(join([]), SHA, OPTIONS) == []
