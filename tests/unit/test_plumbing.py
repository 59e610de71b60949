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
TREES = st.recursive(LEAF, lambda kids: st.lists(kids, max_size=4), max_leaves=12)


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
    pdf = opened(pdfs.page_tree([[300] * 20 for _ in range(10)]))
    seen: list[int] = []
    getobj = pdf.doc.getobj
    pdf.doc.getobj = lambda number: (seen.append(number), getobj(number))[1]

    found(plumbing.Pages(pdf, 200), 55)

    assert len(set(seen)) == 1 + 10 + 1  # the root, its nodes to be counted, the page


@pytest.mark.parametrize("silent", [0, 1])
def test_a_node_that_hides_pages_does_not_put_others_in_their_place(silent):
    """Who has a kid more than pages, and none at all most of all: the pages after it would each be one too early."""
    tree = [[300] * (silent + 1), [400, 500, 600]]
    content = pdfs.page_tree(tree, counts={2: silent + 3, 3: silent})
    assert len(opened(content).pages) == silent + 4
    pages = plumbing.Pages(opened(content), silent + 3)
    assert not pages.has(silent + 1)


def test_a_page_is_the_right_one_when_wrong_counts_make_up_for_each_other():
    """The sum is right, so nobody else finds anything amiss."""
    content = pdfs.page_tree([[300], [400, [], 500]], counts={3: 0, 5: 3})
    expected = [(page.page_obj.pageid, page.width) for page in opened(content).pages]
    assert [found(plumbing.Pages(opened(content), 3), number) for number in (1, 2, 3)] == expected


@pytest.mark.parametrize("count", [9, 11])
def test_no_page_is_there_when_it_is_not_as_many_as_another_counts(count):
    """Who is right is not for this one to say."""
    pages = plumbing.Pages(opened(pdfs.page_tree([[300] * 5, [300] * 5])), count)
    assert not pages.has(1)
