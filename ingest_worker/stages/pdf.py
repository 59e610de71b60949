"""The text of a PDF, page by page, whatever state the file is in.

PDFium counts the pages first, notices a password, and mends a damaged file. Then the engine decides who reads a page:
PDFium is some thirty times as fast, pdfplumber tells what is a table. Where one fails the other stands in.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

import pdfplumber
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
import structlog

from ingest_worker.stages import plumbing, ruled, rulings
from ingest_worker.stages.reading import Limits, Problem, Reader, Reading, storable
from shared.config import Engine
from shared.documents import Page, Table
from shared.errors import Encrypted, TooManyPages, Unreadable

log = structlog.get_logger(__name__)

#: PDFium puts one of these in the place of a hyphen at the end of a line together with the line's end.
_HYPHEN_AT_LINE_END = re.compile("[\x02\ufffe]")


class Pdf:
    """An open PDF. ``page_count`` is PDFium's. Made by `opened`."""

    unit = "pages"

    def __init__(self, fast: pdfium.PdfDocument, plumber: _Plumber, engine: Engine, page_characters: int) -> None:
        self.page_count = len(fast)
        self._page_characters = page_characters
        self._fast = fast
        self._plumber = plumber
        self._engine = engine
        self._at_hand: tuple[int, pdfium.PdfPage] | None = None

    def close(self) -> None:
        """Close the page that was read last."""
        if self._at_hand:
            self._at_hand[1].close()
            self._at_hand = None

    @property
    def repaired(self) -> bool:
        """Whether pdfplumber was asked for a page and could not make sense of the file as it is."""
        return self._plumber.repaired

    def reading(self, number: int) -> Reading:
        """The page ``number``, from 1. A page that nobody can read has an empty text.

        Raises `MemoryError`: what is left after one is for the caller to judge, not for the other reader to find out.
        """
        failed = False
        is_ruled = self._engine is not Engine.PDFIUM and self._is_ruled(number)
        for reader in self._readers(number, is_ruled=is_ruled):
            try:
                page = self._page(number, reader, is_ruled=is_ruled)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - pdfminer raises anything at all on strange bytes
                log.debug("page.reader_failed", page=number, reader=reader, error=repr(error))
                failed = True
                continue
            if page is None:
                continue
            if len(page.text) > self._page_characters:
                return Reading.left_out(number, Problem.TOO_LARGE)
            return Reading(page, reader, failed)
        return Reading(Page(number, ""), Reader.NOBODY, failed)

    def _page(self, number: int, reader: Reader, *, is_ruled: bool) -> Page | None:
        """The page; None when the file as a whole is not for this reader."""
        if reader is Reader.PDFIUM:
            return Page(number, storable(_text_by_pdfium(self._fast_page(number))))
        pages = self._plumber.pages_with(number)
        return Page(number, *_text_by_pdfplumber(pages, number, is_ruled=is_ruled)) if pages else None

    def _readers(self, number: int, *, is_ruled: bool) -> tuple[Reader, ...]:
        """Who is asked for the page, in this order: the engine's choice, and then whoever may yet manage."""
        match self._engine:
            case Engine.PDFIUM:
                return (Reader.PDFIUM,)
            case Engine.AUTO if not is_ruled:
                return (Reader.PDFIUM, Reader.PDFPLUMBER)
            case _ if self._is_crowded(number):
                return (Reader.PDFIUM,)  # pdfplumber would make an object of each character first
            case _:
                return (Reader.PDFPLUMBER, Reader.PDFIUM)

    def _fast_page(self, number: int) -> pdfium.PdfPage:
        """PDFium's page, opened once for all who look at it. Raises `pdfium.PdfiumError`."""
        if self._at_hand is None or self._at_hand[0] != number:
            self.close()
            self._at_hand = (number, self._fast[number - 1])
        return self._at_hand[1]

    def _is_crowded(self, number: int) -> bool:
        try:
            with closing(self._fast_page(number).get_textpage()) as text:
                return int(text.count_chars()) > self._page_characters
        except pdfium.PdfiumError:
            return False  # a page that can't be opened is for the readers to judge

    def _is_ruled(self, number: int) -> bool:
        try:
            return rulings.is_ruled(self._fast_page(number))
        except pdfium.PdfiumError:
            return True  # nobody knows: let pdfplumber try first


class _Plumber:
    """The file as pdfplumber sees it, opened when it is first needed: that takes longer than PDFium takes to read it.

    Where pdfminer does not come to a page that PDFium counts, a copy takes the place of the file, as PDFium repairs it.
    """

    def __init__(self, path: Path, password: str | None, fast: pdfium.PdfDocument, resources: ExitStack) -> None:
        self.repaired = False
        self._path = path
        self._password = password
        self._fast = fast
        self._resources = resources

    def pages_with(self, number: int) -> plumbing.Pages | None:
        """The pages, of which ``number`` is one; None when it is none even in the copy."""
        if not self.repaired:
            if _has(self._pages, number):
                return self._pages
            self.repaired = True
        return self._copied if _has(self._copied, number) else None

    @cached_property
    def _pages(self) -> plumbing.Pages | None:
        stream = self._resources.enter_context(self._path.open("rb"))
        return _open_with_pdfplumber(stream, self._password, len(self._fast))

    @cached_property
    def _copied(self) -> plumbing.Pages | None:
        copy = self._resources.enter_context(tempfile.TemporaryFile(prefix="ingest-"))  # noqa: SIM115 - the stack closes it
        return _open_repaired(self._fast, self._password, copy)


def _has(pages: plumbing.Pages | None, number: int) -> bool:
    try:
        return pages is not None and pages.has(number)
    except Exception as error:  # noqa: BLE001 - pdfminer raises anything at all on strange bytes
        log.debug("document.pdfplumber_failed", error=repr(error))
        return False


@contextmanager
def opened(path: Path, engine: Engine, limits: Limits, password: str | None = None) -> Iterator[Pdf]:
    """The PDF at ``path``, for the block, its pages read by ``engine``.

    Raises `Encrypted` when it can't be opened with this ``password``, or without one (one that only restricts its
    owner's readers is no hindrance), `Unreadable` when not one page can be recovered, and `TooManyPages`.
    """
    with ExitStack() as resources:
        fast = resources.enter_context(closing(_open_with_pdfium(path, password)))
        if len(fast) == 0:
            raise Unreadable("The file holds no page that can be read.")
        if len(fast) > limits.pages:
            raise TooManyPages(f"The file has {len(fast)} pages; {limits.pages} is the most that is taken.")
        pdf = Pdf(fast, _Plumber(path, password, fast, resources), engine, limits.page_characters)
        with closing(pdf):
            yield pdf


def _open_with_pdfium(path: Path, password: str | None) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(path, password=password)
    except pdfium.PdfiumError as error:
        if error.err_code == pdfium_c.FPDF_ERR_PASSWORD:
            needed = "it opens only with a password" if password is None else "this password does not open it"
            raise Encrypted(f"The file is encrypted: {needed}.") from error
        if error.err_code == pdfium_c.FPDF_ERR_SECURITY:
            raise Encrypted("The file is encrypted in a way that is not supported.") from error
        raise Unreadable("The file is too damaged: not one page could be recovered.") from error


def _open_with_pdfplumber(stream: IO[bytes], password: str | None, page_count: int) -> plumbing.Pages | None:
    """The pages as pdfplumber sees them; None when it makes nothing of the file.

    The caller owns the stream and closes it, and nobody calls ``PDF.close``: that makes every page to close it.
    """
    try:
        return plumbing.Pages(pdfplumber.open(cast("BufferedReader", stream), password=password), page_count)
    except Exception as error:  # noqa: BLE001 - pdfminer raises anything at all on strange bytes
        log.debug("document.pdfplumber_failed", error=repr(error))
        return None


def _open_repaired(fast: pdfium.PdfDocument, password: str | None, copy: IO[bytes]) -> plumbing.Pages | None:
    try:
        fast.save(copy)
    except pdfium.PdfiumError as error:
        log.debug("document.repair_failed", error=repr(error))
        return None
    return _open_with_pdfplumber(copy, password, len(fast))


def _text_by_pdfplumber(pages: plumbing.Pages, number: int, *, is_ruled: bool) -> tuple[str, tuple[Table, ...]]:
    with pages.page(number) as page:
        return ruled.text_and_tables(page) if is_ruled else (storable(str(page.extract_text())), ())


def _text_by_pdfium(page: pdfium.PdfPage) -> str:
    with closing(page.get_textpage()) as text:
        return _HYPHEN_AT_LINE_END.sub("-\n", str(text.get_text_bounded()))
