"""A page is found by way of the counts in the tree of pages, or else by looking at all of them."""

from __future__ import annotations

import io

import pdfplumber
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.stages import plumbing
from tests import pdfs

LEAF = st.sampled_from([0, 300, 400])
TREES = st.recursive(LEAF, lambda kids: st.lists(kids, min_size=1, max_size=4), max_leaves=12)


def opened(content: bytes) -> pdfplumber.PDF:
    return pdfplumber.open(io.BytesIO(content))


def found(pages: plumbing.Pages, number: int) -> tuple[object, float]:
    """The object that the page is, and how wide it is."""
    assert pages.has(number)
    with pages.page(number) as page:
        return page.page_obj.pageid, page.width


@given(st.lists(TREES, min_size=1, max_size=4), st.randoms(), st.sampled_from([0, 0, 1]))
def test_a_page_is_the_one_that_pdfplumber_has_at_its_number(tree, order, untold):
    """Whatever the tree, in whatever order they are asked for, and though the tree may tell of fewer than there are."""
    content = pdfs.page_tree(tree, untold)
    expected = [(page.page_obj.pageid, page.width) for page in opened(content).pages]
    numbers = list(range(1, len(expected) + 1))
    order.shuffle(numbers)
    pages = plumbing.Pages(opened(content), len(expected))
    assert [found(pages, number) for number in numbers] == [expected[number - 1] for number in numbers]


def test_the_other_pages_are_not_looked_at():
    """To look at all pages of a long document takes longer than to read a few of them."""
    pdf = opened(pdfs.page_tree([[300] * 10 for _ in range(10)]))
    seen: list[int] = []
    getobj = pdf.doc.getobj
    pdf.doc.getobj = lambda number: (seen.append(number), getobj(number))[1]

    found(plumbing.Pages(pdf, 100), 55)

    assert len(set(seen)) == 1 + 10 + 1  # the root, its nodes to be counted, the page


@pytest.mark.parametrize("count", [9, 11])
def test_no_page_is_there_when_it_is_not_as_many_as_another_counts(count):
    """Who is right is not for this one to say."""
    pages = plumbing.Pages(opened(pdfs.page_tree([[300] * 5, [300] * 5])), count)
    assert not pages.has(1)
