"""Formats without pages: their text in sections, which then are what pages are to a PDF.

A section is some thousands of characters, cut where something ends: before a heading, between two blocks or two rows of
a table, at worst between two words. All sections of a document are made when it is opened, so that their number is
known, and wait in a temporary file, so that a document of any length has room.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, islice
from typing import IO

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from ingest_worker.stages.reading import Limits, Problem, Reader, Reading
from ingest_worker.stages.tables import cover, tables_in
from shared.documents import Page, pages_from, to_json_lines
from shared.errors import TooManyPages

#: A section has about so many characters, and at most so many, but for the header of a table that it goes on with.
ENOUGH_CHARACTERS = 8_000
MOST_CHARACTERS = 20_000
_CAPACITY = ENOUGH_CHARACTERS, MOST_CHARACTERS

#: How much of a long text is cut at once.
WINDOW_CHARACTERS = 200_000


class Sections:
    """A document in sections. Made by `opened`."""

    unit = "sections"

    def __init__(self, file: IO[bytes], pages: Iterable[Page], limits: Limits, *, repaired: bool) -> None:
        self.repaired = repaired
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
def opened(texts: Iterable[str], limits: Limits, *, markup: bool, repaired: bool = False) -> Iterator[Sections]:
    """The text that comes in pieces of any size, in sections; with ``markup`` it is Markdown. Raises `TooManyPages`.

    ``repaired`` says that the file was damaged.
    """
    with tempfile.TemporaryFile(prefix="ingest-") as file:
        yield Sections(file, _pages(texts, markup=markup), limits, repaired=repaired)


def of_text(texts: Iterable[str], *, markup: bool) -> Iterator[str]:
    """The sections of a text that comes in pieces of any size. Only line ends at their borders are lost.

    With ``markup`` a table that fits in a section is in one. A larger one is cut between its rows, and each section
    that begins with a row of it has the header before that; only a row that is larger than a section is cut itself.
    """
    cut = _markup_cut if markup else TextSplitter(_CAPACITY, trim=False).chunks
    rest = ""
    for text in _windows(texts):
        *sections, rest = cut(rest + text) or [""]
        yield from filter(None, map(_trimmed, sections))
    yield from filter(None, map(_trimmed, cut(rest)))


def _markup_cut(text: str) -> list[str]:
    covered, heads, at = [], {}, 0
    for table in tables_in(text):
        lines = text[table.start : table.end].split("\n")
        covered += [text[at : table.start], _cover(lines)]
        at = table.end
        head = "\n".join(lines[:2])
        if len(head) <= ENOUGH_CHARACTERS:  # else it is no header
            starts = accumulate((len(line) + 1 for line in lines[:-1]), initial=table.start)
            heads.update(dict.fromkeys(islice(starts, 2, None), head))
    sections = []
    for start, piece in MarkdownSplitter(_CAPACITY, trim=False).chunk_indices("".join([*covered, text[at:]])):
        section = text[start : start + len(piece)]
        rows = section.lstrip("\n")
        header = heads.get(start + len(section) - len(rows))
        sections.append(f"{header}\n{rows}" if header and rows else section)
    return sections


def _cover(lines: Sequence[str]) -> str:
    table = "\n".join(lines)
    with_first_row = "\n".join(lines[:3])  # nobody needs a header alone
    return cover([table] if len(table) <= MOST_CHARACTERS else [with_first_row, *lines[3:]], MOST_CHARACTERS)


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


def _trimmed(text: str) -> str:
    return text.strip("\n") if text.strip() else ""
