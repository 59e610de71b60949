"""The pages of a document for pdfplumber, one at a time.

pdfplumber makes an object of every page before it gives the first, and pdfminer keeps what it ever read of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pdfminer.pdfpage import PDFPage
from pdfminer.pdftypes import dict_value
from pdfplumber.page import Page
from pdfplumber.pdf import PDF

from ingest_worker.stages import drawing


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
            page._objects = drawing.objects(page)  # noqa: SLF001 - where it looks first, and what its `close` forgets
            yield page
        finally:
            page.close()  # it refers to itself, so nothing else would let go of it soon
            self._forget()

    def _forget(self) -> None:
        self._pdf.doc._cached_objs.clear()  # noqa: SLF001 - it has no bound of its own
