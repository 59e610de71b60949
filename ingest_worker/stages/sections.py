"""Formats without pages: their text in sections, which then are what pages are to a PDF.

A section is some thousands of characters, cut where something ends: before a heading, between two blocks, at worst
between two words. All sections of a document are made when it is opened, so that their number is known, and wait in a
temporary file, so that a document of any length has room.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from ingest_worker.stages.reading import Limits, Problem, Reader, Reading
from ingest_worker.stages.tables import tables_in
from shared.documents import Page, pages_from, to_json_lines
from shared.errors import TooManyPages

#: A section has about so many characters, and at most so many.
ENOUGH_CHARACTERS = 8_000
MOST_CHARACTERS = 20_000

#: How much of a long text is cut at once.
WINDOW_CHARACTERS = 200_000


class Sections:
    """A document in sections. Made by `opened`."""

    unit = "sections"
    repaired = False

    def __init__(self, file: IO[bytes], pages: Iterable[Page], limits: Limits) -> None:
        self._file = file
        self._page_characters = limits.page_characters
        self._starts = array("Q")
        for line in to_json_lines(pages):
            if len(self._starts) == limits.pages:
                raise TooManyPages(f"The file has more than {limits.pages} sections; that is the most that is taken.")
            self._starts.append(file.tell())
            file.write(line)

    @property
    def page_count(self) -> int:
        """How many sections there are; one at least."""
        return len(self._starts)

    def reading(self, number: int) -> Reading:
        """The section ``number``, from 1."""
        self._file.seek(self._starts[number - 1])
        (page,) = pages_from([self._file.readline()])
        if len(page.text) > self._page_characters:
            return Reading.left_out(number, Problem.TOO_LARGE)
        return Reading(page, Reader.ONLY)


@contextmanager
def opened(texts: Iterable[str], limits: Limits, *, markup: bool) -> Iterator[Sections]:
    """The text that comes in pieces of any size, in sections; with ``markup`` it is Markdown. Raises `TooManyPages`."""
    with tempfile.TemporaryFile(prefix="ingest-") as file:
        yield Sections(file, _pages(texts, markup=markup), limits)


def of_text(texts: Iterable[str], *, markup: bool) -> Iterator[str]:
    """The sections of a text that comes in pieces of any size. Only line ends at their borders are lost."""
    cutter = _cutter(markup=markup)
    rest = ""
    for text in _windows(texts):
        *sections, rest = cutter.chunks(rest + text) or [""]
        yield from filter(None, map(_trimmed, sections))
    yield from filter(None, map(_trimmed, cutter.chunks(rest)))


def _pages(texts: Iterable[str], *, markup: bool) -> Iterator[Page]:
    number = 0
    for number, text in enumerate(of_text(texts, markup=markup), start=1):
        yield Page(number, text, tables_in(text) if markup else ())
    if not number:
        yield Page(1, "")  # as a PDF has a page even when nothing is on it


def _windows(texts: Iterable[str]) -> Iterator[str]:
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= WINDOW_CHARACTERS:
            yield "".join(waiting)
            waiting, size = [], 0
    yield "".join(waiting)


def _cutter(*, markup: bool) -> MarkdownSplitter | TextSplitter:
    capacity = (ENOUGH_CHARACTERS, MOST_CHARACTERS)
    return MarkdownSplitter(capacity, trim=False) if markup else TextSplitter(capacity, trim=False)


def _trimmed(text: str) -> str:
    return text.strip("\n") if text.strip() else ""
