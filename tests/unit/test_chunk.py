"""Chunks have exact places in the stored text and lasting ids, however long the document is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.stages.chunk import PAGE_SEPARATOR, UNBROKEN_CHUNKS, chunks, stretches
from ingest_worker.stages.tables import laid_out, markdown
from shared.documents import Chunk, Page
from shared.options import Options

OPTIONS = Options(chunk_size=60, chunk_overlap=20)
SHA = "0" * 64

#: As small as it gets, a few chunks: then even short documents need many.
WINDOW = 0

CELLS = st.none() | st.text(alphabet="ab 字|\n.", max_size=15)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=3).map(tuple), min_size=2, max_size=12).map(tuple)
TEXT = st.text(alphabet="ab 字.\n#-*`>1\u0301", max_size=40) | st.text(max_size=40)
LONG_TEXT = st.builds(lambda text, times: text * times, TEXT, st.integers(0, 12))
TEXTS = st.builds(lambda texts, times: texts * times, st.lists(LONG_TEXT, max_size=6), st.integers(1, 6))
BLOCKS = st.lists(st.text(alphabet="ab 字.\n#-", max_size=200) | ROWS, max_size=5)
LAID_OUT = st.builds(lambda pages, times: pages * times, st.lists(BLOCKS, max_size=4), st.integers(1, 6))
ALL_OPTIONS = st.builds(Options, chunk_size=st.integers(50, 120), chunk_overlap=st.integers(0, 49))


def pages(*texts: str) -> list[Page]:
    return [Page(number, text) for number, text in enumerate(texts, start=1)]


def with_tables(*pages: list) -> list[Page]:
    return [Page(number, *laid_out(blocks)) for number, blocks in enumerate(pages, start=1)]


def split(pages: list[Page], options: Options = OPTIONS, **how) -> list[Chunk]:
    return list(chunks(pages, SHA, options, **how))


@given(TEXTS, ALL_OPTIONS, st.booleans())
def test_a_chunk_is_the_slice_of_the_text_that_it_says_it_is(texts, options, markup):
    """Offsets count characters, whatever the script; a chunk keeps to its size, and its pages hold its ends."""
    text = PAGE_SEPARATOR.join(texts)
    starts = [len(PAGE_SEPARATOR.join([*texts[:number], ""])) for number in range(len(texts))]
    for index, chunk in enumerate(split(pages(*texts), options, markup=markup, window=WINDOW)):
        assert chunk.index == index
        assert text[chunk.start : chunk.end] == chunk.text
        assert 0 < len(chunk.text) <= options.chunk_size
        assert chunk.page_first == sum(start <= chunk.start for start in starts)
        assert chunk.page_last == sum(start < chunk.end for start in starts)


@given(TEXTS, ALL_OPTIONS, st.booleans())
def test_no_word_is_lost(texts, options, markup):
    """Whatever is not in a chunk is white space, also where one window ends and the next begins."""
    text = PAGE_SEPARATOR.join(texts)
    found = split(pages(*texts), options, markup=markup, window=WINDOW)
    covered = {at for chunk in found for at in range(chunk.start, chunk.end)}
    assert not "".join(char for at, char in enumerate(text) if at not in covered).strip()
    assert all(one.start < other.start and one.end < other.end for one, other in pairwise(found))


def test_a_window_gives_nothing_away_twice():
    """What the next one begins with is cut anew, and may end before what the one before gave away."""
    text = "1111`1`\n>" + "1111111111`1`\n>" * 6 + "111111"
    options = Options(chunk_size=50, chunk_overlap=5)
    found = split(pages(*[text] * 4), options, markup=True, window=0)
    assert all(one.end < other.end for one, other in pairwise(found))


@pytest.mark.parametrize("markup", [False, True])
def test_text_without_white_space_is_cut_by_force(markup):
    """What looks for better places takes a time that grows with the square of the length."""
    options = Options(chunk_size=50, chunk_overlap=0)
    text = "x" * (3 * UNBROKEN_CHUNKS * 50 + 7)
    assert list(stretches(f"a {text} b", UNBROKEN_CHUNKS * 50))[1:3] == [(5002, 10002), (10002, 15002)]
    found = split(pages(text), options, markup=markup, window=WINDOW)
    assert "".join(chunk.text for chunk in found) == text


def test_other_text_is_not_cut_by_force():
    """However long it is."""
    text = "a word, " * 10_000
    assert list(stretches(text, 10)) == [(0, len(text))]


@given(LAID_OUT, ALL_OPTIONS, st.booleans())
def test_a_table_that_fits_is_never_cut(blocks, options, markup):
    """It is whole in one chunk at least, and whole in every chunk that has a part of it; its cells are there too."""
    found = split(with_tables(*blocks), options, markup=markup, window=WINDOW)
    for start, rows in _placed(with_tables(*blocks)):
        end = start + len(markdown(rows))
        near = [chunk for chunk in found if chunk.start < end and start < chunk.end]
        if end - start <= options.chunk_size:
            assert near
            assert all(chunk.start <= start and end <= chunk.end for chunk in near)
            assert all(rows in chunk.tables for chunk in near)


@given(LAID_OUT, ALL_OPTIONS, st.booleans())
def test_a_larger_table_is_cut_between_its_rows(blocks, options, markup):
    """Each piece has the header's cells and those of its rows, so that none is lost; a row that fits is whole."""
    found = split(with_tables(*blocks), options, markup=markup, window=WINDOW)
    for start, rows in _placed(with_tables(*blocks)):
        at = start
        for number, line in enumerate(markdown(rows).split("\n")):
            near = [chunk for chunk in found if chunk.start < at + len(line) and at < chunk.end]
            assert near
            if len(line) <= options.chunk_size:
                assert all(chunk.start <= at and at + len(line) <= chunk.end for chunk in near)
            for chunk in near:
                assert any(rows[0] == table[0] and (number < 2 or rows[number - 1] in table) for table in chunk.tables)
            at += len(line) + 1


def _placed(pages: list[Page]) -> Iterator[tuple[int, tuple]]:
    offset = 0
    for page in pages:
        yield from ((offset + table.start, table.rows) for table in page.tables)
        offset += len(page.text) + len(PAGE_SEPARATOR)


@given(LAID_OUT, ALL_OPTIONS, st.booleans())
def test_how_the_pages_come_makes_no_difference(blocks, options, markup):
    """All at once or one by one, today or tomorrow."""
    given_pages = with_tables(*blocks)
    once = list(chunks(given_pages, SHA, options, markup=markup, window=WINDOW))
    assert list(chunks(iter(given_pages), SHA, options, markup=markup, window=WINDOW)) == once


def test_a_table_shares_its_chunk_with_its_neighbours():
    """When there is room: the words that lead to it belong with it."""
    rows = (("a", "b"), ("c", "d"))
    (chunk,) = split(with_tables(["See here:", rows, "So it is."]), Options(chunk_size=100, chunk_overlap=0))
    assert chunk.text == "See here:\n\n| a | b |\n| --- | --- |\n| c | d |\n\nSo it is."
    assert chunk.tables == (rows,)


def test_the_pieces_of_a_large_table_know_its_header():
    """The text is cut, not repeated; the structure says what the columns are."""
    rows = (("name", "value"), *((f"row {number}", str(number)) for number in range(1, 6)))
    found = split(with_tables([rows]), Options(chunk_size=50, chunk_overlap=0))
    assert [chunk.text.count("\n") + 1 for chunk in found] == [3, 3, 1]
    assert [chunk.tables for chunk in found] == [
        ((rows[0], rows[1]),),
        ((rows[0], *rows[2:5]),),
        ((rows[0], rows[5]),),
    ]


@given(TEXTS)
def test_the_text_is_told_page_by_page(texts):
    """Joined by an empty line, so that the stored text of a document is known from its pages."""
    told: list[str] = []
    split(pages(*texts), wrote=told.append)
    assert len(told) == len(texts)
    assert "".join(told) == PAGE_SEPARATOR.join(texts)


def test_pages_are_joined_by_an_empty_line():
    """An empty page among them leaves two."""
    told: list[str] = []
    split(pages("one", "", "three"), wrote=told.append)
    assert "".join(told) == "one\n\n\n\nthree"


def test_a_chunk_knows_the_pages_it_spans():
    """Short pages share a chunk, and an empty page counts."""
    (chunk,) = split(pages("First.", "", "Third."))
    assert (chunk.page_first, chunk.page_last) == (1, 3)
    first, second = split(pages("a" * 60, "Second."))
    assert (first.page_first, first.page_last) == (1, 1)
    assert (second.text, second.page_first, second.page_last) == ("Second.", 2, 2)


def test_neighbours_overlap():
    """The end of one is the beginning of the next, so that a sentence on the border is whole somewhere."""
    text = "One two three four five six seven. "
    found = split(pages(*[text * 10] * 20), Options(chunk_size=100, chunk_overlap=40), window=WINDOW)
    on_one_page = [(one, other) for one, other in pairwise(found) if one.page_last == other.page_first]
    assert len(on_one_page) > 100
    assert all(other.start < one.end for one, other in on_one_page)


def test_markup_is_cut_between_its_elements():
    """A heading goes with what stands under it, where in prose it would fill up the chunk before."""
    options = Options(chunk_size=60, chunk_overlap=0)
    one, two = "# One\n\n" + "a" * 30, "# Two\n\n" + "b" * 20
    text = pages(f"{one}\n\n{two}")
    assert [chunk.text for chunk in split(text, options, markup=True)] == [one, two]
    assert [chunk.text for chunk in split(text, options)] == [f"{one}\n\n# Two", "b" * 20]


def test_ids_are_the_same_for_the_same_bytes_and_options():
    """Ingested again, a document has the ids that it had; no two chunks of it share one."""
    text = pages("One two three. " * 40)
    ids = [chunk.id for chunk in split(text)]
    assert ids == [chunk.id for chunk in split(text)]
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
    (one,), (other,) = chunks(pages("Short."), sha, options), chunks(pages("Short."), SHA, OPTIONS)
    assert one.id != other.id


def test_white_space_makes_no_chunk():
    """A scan has none, however many pages it has."""
    assert split(pages("", " \n ", "")) == []
    assert split(pages()) == []
    assert split(pages(*[" " * 100] * 100), window=WINDOW) == []


def test_a_long_document_takes_no_more_memory_than_a_short_one():
    """Ten thousand pages of prose, thirty million characters: at any time a few windows of them are there."""
    page = "The progress of every document reaches each browser that watches it.\n" * 43

    def long() -> Iterator[Page]:
        yield from (Page(number, f"Page {number}\n{page}") for number in range(1, 10_001))

    tracemalloc.start()
    count = sum(1 for _ in chunks(long(), SHA, Options(chunk_size=1000, chunk_overlap=100)))
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 30_000
    assert most_bytes < 10_000_000
