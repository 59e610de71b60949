"""The pages of a document for pdfplumber, one at a time and described in as few words as text and tables need.

pdfplumber makes an object of every page before it gives the first, and pdfminer keeps what it ever read of the file.
pdfplumber describes each character with two dozen attributes, its colours and its font among them, which takes about as
long as pdfminer takes to find it. Text needs thirteen of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pdfminer.layout import LTChar, LTContainer, LTCurve, LTImage, LTLine, LTRect
from pdfminer.pdfpage import PDFPage
from pdfminer.pdftypes import dict_value
from pdfplumber.page import Page
from pdfplumber.pdf import PDF


class Pages:
    """Where the pages of ``pdf`` are in the file, some 200 bytes for each. Raises whatever pdfminer raises."""

    def __init__(self, pdf: PDF) -> None:
        self._pdf = pdf
        self._places: list[tuple[Any, dict[str, Any]]] = []
        for page in PDFPage.create_pages(pdf.doc):
            where: Any = page.pageid
            own = dict_value(pdf.doc.getobj(where))
            inherited = {name: page.attrs[name] for name in page.attrs.keys() & PDFPage.INHERITABLE_ATTRS - own.keys()}
            self._places.append((where, inherited))
            self._forget()

    def __len__(self) -> int:
        return len(self._places)

    @contextmanager
    def page(self, number: int) -> Iterator[Page]:
        """The page, described, for the block. Numbers begin with 1."""
        where, inherited = self._places[number - 1]
        own = dict_value(self._pdf.doc.getobj(where))
        page = Page(self._pdf, PDFPage(self._pdf.doc, where, inherited | own, None), page_number=number)
        try:
            describe(page)
            yield page
        finally:
            self._forget()

    def _forget(self) -> None:
        self._pdf.doc._cached_objs.clear()  # noqa: SLF001 - it has no bound of its own


def describe(page: Any) -> None:
    """Give pdfplumber's ``page`` its objects, before it makes them itself. Places are its own: in points, y downwards.

    Images are left out: no text and no ruled table is made of them.
    """
    objects: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    left, above = page.mediabox[0], page.mediabox[1] + page.height
    for item in _laid_out(page.layout):
        if isinstance(item, LTImage):
            continue
        if isinstance(item, LTCurve) and not isinstance(item, LTLine | LTRect):
            objects["curve"].append(page.process_object(item))
            continue
        kind = "char" if isinstance(item, LTChar) else "rect" if isinstance(item, LTRect) else "line"
        top = above - item.y1
        described = {
            "object_type": kind,
            "x0": item.x0 + left,
            "x1": item.x1 + left,
            "y0": item.y0,
            "y1": item.y1,
            "top": top,
            "bottom": above - item.y0,
            "doctop": page.initial_doctop + top,
            "width": item.width,
            "height": item.height,
        }
        if isinstance(item, LTChar):
            described |= {"text": item.get_text(), "size": item.size, "upright": item.upright}
        objects[kind].append(described)
    page._objects = dict(objects)  # noqa: SLF001 - where it looks first, and what its `close` forgets


def _laid_out(container: Any) -> Iterator[Any]:
    """Everything on the page and in the forms within it."""
    for item in container._objs:  # noqa: SLF001 - pdfplumber reads it there too
        if isinstance(item, LTContainer):
            yield from _laid_out(item)
        else:
            yield item
