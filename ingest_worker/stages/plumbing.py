"""The pages of a document for pdfplumber, one at a time.

pdfplumber makes an object of every page before it gives the first, and pdfminer keeps what it ever read of the file. To
look at all pages of a long document takes longer than to read a few of them. So a page is looked for from the root of
the tree down, by the counts that stand there, as PDFium does. Where they don't fit what is found, all pages are looked
at after all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import structlog
from pdfminer.pdfpage import LITERAL_PAGE, LITERAL_PAGES, PDFPage
from pdfminer.pdftypes import dict_value, int_value, list_value
from pdfplumber.page import Page
from pdfplumber.pdf import PDF

from ingest_worker.stages import drawing

log = structlog.get_logger(__name__)

#: Where a page is in the file (the number of its object), and what it takes over from the nodes above it.
Place = tuple[int, dict[str, Any]]

#: Real trees have two to five.
MOST_LEVELS = 32

#: A node of no more kids than this is looked at kid by kid: there may be nodes without pages, and others with many.
#: To look at a kid takes half a millisecond, which in a flat tree of thousands of pages would be felt.
FEW_KIDS = 16


class Pages:
    """The pages of ``pdf``, which are ``count`` by another's account."""

    def __init__(self, pdf: PDF, count: int) -> None:
        self._pdf = pdf
        self._count = count
        self._tree: _Tree | None = _Tree(pdf.doc)
        self._listed: list[Place] = []

    def has(self, number: int) -> bool:
        """Whether pdfminer comes to the page. Numbers begin with 1. Raises whatever pdfminer raises."""
        if self._tree:
            try:
                self._tree.place(number - 1, self._count)
            except Exception as error:  # noqa: BLE001 - pdfminer raises anything at all on strange bytes
                log.debug("pages.not_as_counted", page=number, error=repr(error))
                self._tree, self._listed = None, list(self._all())
            finally:
                self._forget()
        return self._tree is not None or len(self._listed) == self._count

    @contextmanager
    def page(self, number: int) -> Iterator[Page]:
        """A page that there is, described, for the block."""
        doc = self._pdf.doc
        where, inherited = self._tree.place(number - 1, self._count) if self._tree else self._listed[number - 1]
        page = Page(self._pdf, PDFPage(doc, where, inherited | dict_value(doc.getobj(where)), None), page_number=number)
        try:
            page._objects = drawing.objects(page)  # noqa: SLF001 - where it looks first, and what its `close` forgets
            yield page
        finally:
            page.close()  # it refers to itself, so nothing else would let go of it soon
            self._forget()

    def _all(self) -> Iterator[Place]:
        """Some 200 bytes for each."""
        for page in PDFPage.create_pages(self._pdf.doc):
            where: Any = page.pageid
            own = dict_value(self._pdf.doc.getobj(where))
            yield where, {name: page.attrs[name] for name in page.attrs.keys() & PDFPage.INHERITABLE_ATTRS - own.keys()}
            self._forget()

    def _forget(self) -> None:
        self._pdf.doc._cached_objs.clear()  # noqa: SLF001 - it has no bound of its own


class _Miscounted(Exception):
    """The tree is not as it says."""


@dataclass(frozen=True, slots=True)
class _Node:
    """``starts`` says how many pages come before each of the kids; None where each of many is taken for a page."""

    kids: list[Any]
    starts: list[int] | None
    inherited: dict[str, Any]


class _Tree:
    """The tree of pages. The nodes that led to a page are kept, with some 200 bytes for each of their kids."""

    def __init__(self, doc: Any) -> None:
        self._doc = doc
        self._nodes: dict[int, _Node] = {}

    def place(self, index: int, count: int) -> Place:
        """Where the page is that ``index`` others of the ``count`` come before.

        Raises `_Miscounted`, and whatever pdfminer raises.
        """
        ref, inherited, within = self._doc.catalog["Pages"], _inheritable(self._doc.catalog), count
        for _ in range(MOST_LEVELS):
            node = self._node(ref, within, inherited)
            if node.starts is None:
                if dict_value(node.kids[index])["Type"] is not LITERAL_PAGE:
                    raise _Miscounted
                return node.kids[index].objid, node.inherited
            kid = bisect_right(node.starts, index) - 1
            ref, inherited = node.kids[kid], node.inherited
            if dict_value(ref)["Type"] is LITERAL_PAGE:
                return ref.objid, inherited
            index, within = index - node.starts[kid], node.starts[kid + 1] - node.starts[kid]
        raise _Miscounted

    def _node(self, ref: Any, count: int, inherited: dict[str, Any]) -> _Node:
        """The node, which must say that it has ``count`` pages."""
        if ref.objid not in self._nodes:
            own = dict_value(ref)
            kids = list(list_value(own["Kids"]))
            starts = None if len(kids) == count > FEW_KIDS else [*accumulate(map(_size, kids), initial=0)]
            if _size(ref) != count or (starts and starts[-1] != count):
                raise _Miscounted
            self._nodes[ref.objid] = _Node(kids, starts, inherited | _inheritable(own))
        return self._nodes[ref.objid]


def _size(ref: Any) -> int:
    """How many pages are there, by its own account: as many as it has kids at least, or it hides some.

    A kid may be a node without pages, and then this is wrong; but that is rare, and looking at all pages is right.
    """
    own = dict_value(ref)
    if own["Type"] is LITERAL_PAGE:
        return 1
    if own["Type"] is not LITERAL_PAGES or int_value(own["Count"]) < len(list_value(own["Kids"])):
        raise _Miscounted
    return int_value(own["Count"])


def _inheritable(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in attributes.keys() & PDFPage.INHERITABLE_ATTRS}
