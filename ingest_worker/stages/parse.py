"""Parse: the text of a PDF, page by page, whatever state the file is in.

pdfplumber reads the pages. PDFium counts them first, notices a password, mends a damaged file, and stands in where
pdfplumber fails. This module turns a file into values; it knows no task, no record and no storage.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import pdfplumber
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
import structlog
from pdfplumber.pdf import PDF

from shared.documents import Page
from shared.errors import Encrypted, Unreadable

log = structlog.get_logger(__name__)

#: What UTF-8 can't carry (lone surrogates, from broken fonts) and what PostgreSQL doesn't store (NUL).
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


class Reader(StrEnum):
    """Who got the text of a page."""

    PDFPLUMBER = "pdfplumber"
    PDFIUM = "pdfium"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Reading:
    """A page, and who read it. ``fell_back`` says that pdfplumber tried it and failed."""

    page: Page
    reader: Reader
    fell_back: bool


class Document:
    """An open PDF. ``page_count`` is PDFium's; ``repaired`` says that the file was damaged. Made by `opened`."""

    def __init__(self, fallback: pdfium.PdfDocument, plumber: PDF | None, *, repaired: bool) -> None:
        self.page_count = len(fallback)
        self.repaired = repaired
        self._fallback = fallback
        self._plumber = plumber

    def readings(self) -> Iterator[Reading]:
        """Every page in order, one in memory at a time. A page that nobody can read has an empty text."""
        for number in range(1, self.page_count + 1):
            yield self._reading(number)

    def _reading(self, number: int) -> Reading:
        if self._plumber is not None:
            try:
                return Reading(_page(number, _text_by_pdfplumber(self._plumber, number)), Reader.PDFPLUMBER, False)
            except Exception as error:  # noqa: BLE001 - pdfminer raises anything at all on strange bytes
                log.debug("page.pdfplumber_failed", page=number, error=repr(error))
        return self._second_reading(number, fell_back=self._plumber is not None)

    def _second_reading(self, number: int, *, fell_back: bool) -> Reading:
        try:
            return Reading(_page(number, _text_by_pdfium(self._fallback, number)), Reader.PDFIUM, fell_back)
        except pdfium.PdfiumError as error:
            log.debug("page.pdfium_failed", page=number, error=repr(error))
            return Reading(Page(number, ""), Reader.NOBODY, fell_back)


@contextmanager
def opened(path: Path) -> Iterator[Document]:
    """The PDF at ``path``, for the block.

    Raises `Encrypted` when it can't be opened without a password (one that only restricts its owner's readers is no
    hindrance), and `Unreadable` when not one page can be recovered.
    """
    with ExitStack() as resources:
        fallback = resources.enter_context(closing(_open_with_pdfium(path)))
        if len(fallback) == 0:
            raise Unreadable("The file holds no page that can be read.")
        plumber = _open_with_pdfplumber(resources.enter_context(path.open("rb")), len(fallback))
        if plumber is not None:
            yield Document(fallback, plumber, repaired=False)
            return
        copy = resources.enter_context(tempfile.TemporaryFile(prefix="ingest-"))
        yield Document(fallback, _open_repaired(fallback, copy), repaired=True)


def _open_with_pdfium(path: Path) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if error.err_code == pdfium_c.FPDF_ERR_PASSWORD:
            raise Encrypted("The file is encrypted: it opens only with a password.") from error
        if error.err_code == pdfium_c.FPDF_ERR_SECURITY:
            raise Encrypted("The file is encrypted in a way that is not supported.") from error
        raise Unreadable("The file is too damaged: not one page could be recovered.") from error


def _open_with_pdfplumber(stream: IO[bytes], page_count: int) -> PDF | None:
    """The document as pdfplumber sees it; None when it sees none, or another number of pages.

    The caller owns the stream and closes it, and nobody calls ``PDF.close``: that makes every page anew to close it.
    """
    try:
        pdf = pdfplumber.open(cast("BufferedReader", stream))
        found = len(pdf.pages)
    except Exception as error:  # noqa: BLE001 - pdfminer raises anything at all on strange bytes
        log.debug("document.pdfplumber_failed", error=repr(error))
        return None
    return pdf if found == page_count else None


def _open_repaired(fallback: pdfium.PdfDocument, copy: IO[bytes]) -> PDF | None:
    try:
        fallback.save(copy)
    except pdfium.PdfiumError as error:
        log.debug("document.repair_failed", error=repr(error))
        return None
    return _open_with_pdfplumber(copy, len(fallback))


def _text_by_pdfplumber(pdf: PDF, number: int) -> str:
    page: Any = pdf.pages[number - 1]
    try:
        return str(page.extract_text())
    finally:
        page.close()  # else every character of every page stays in memory


def _text_by_pdfium(pdf: pdfium.PdfDocument, number: int) -> str:
    with closing(pdf[number - 1]) as page, closing(page.get_textpage()) as text:
        return str(text.get_text_bounded())


def _page(number: int, text: str) -> Page:
    return Page(number, _NOT_STORABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n")))
