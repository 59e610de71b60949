"""Parts: their names, and how pages are divided among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.parts import CHUNK, LOAD, PLAN, halves, missing, pages, part_of, ranges, size_of_parts

TOTALS = st.integers(1, 500)
SIZES = st.integers(1, 64)


@pytest.mark.parametrize("part", [PLAN, CHUNK, LOAD, pages(1, 1), pages(33, 64)], ids=lambda part: part.name)
def test_a_name_leads_back_to_its_part(part):
    """What stands in Redis says all there is to know."""
    assert part_of(part.name) == part


@pytest.mark.parametrize("name", ["", "pages", "pages:0-3", "pages:4-3", "pages:1-2-3", "pages:-1-2", "Plan", "plan "])
def test_what_is_no_part_is_refused(name):
    """A name that nobody gave is an error, not a guess."""
    with pytest.raises(ValueError, match="not a part"):
        part_of(name)


@given(TOTALS, SIZES)
def test_ranges_cover_every_page_once(total, size):
    """In order, none larger than asked for, and all but equal."""
    parts = ranges(1, total, size)
    assert [page for part in parts for page in range(part.first, part.last + 1)] == list(range(1, total + 1))
    sizes = {part.pages for part in parts}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


@given(TOTALS, SIZES, st.data())
def test_what_is_missing_and_what_is_done_make_up_the_document(total, size, data):
    """Whichever ranges are done, however they were cut: no page twice, none left out."""
    cuts = sorted(data.draw(st.sets(st.integers(1, total), max_size=12)) | {total + 1})
    done = [pages(first, last - 1) for first, last in zip(cuts[::2], cuts[1::2], strict=False)]
    rest = missing(total, done, size)
    covered = sorted(page for part in [*done, *rest] for page in range(part.first, part.last + 1))
    assert covered == list(range(1, total + 1))
    assert all(part.pages <= size for part in rest)


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_halves_make_up_the_whole(first, more):
    """Both smaller than it was."""
    whole = pages(first, first + more)
    one, other = halves(whole)
    assert (one.first, one.last + 1, other.last) == (whole.first, other.first, whole.last)
    assert 0 <= one.pages - other.pages <= 1


def test_a_document_has_enough_parts_for_all_workers_to_end_together():
    """A long one has parts of the size that is set, a short one smaller ones, down to what is worth the taking."""
    assert [size_of_parts(total, 32) for total in (1, 100, 160, 352, 512, 2400)] == [8, 8, 10, 22, 32, 32]
    assert size_of_parts(2400, 4) == 4
