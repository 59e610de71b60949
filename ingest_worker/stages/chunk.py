"""Chunk: the text of a document cut at natural boundaries, each piece with its exact place. Pure.

A document of any length passes through a window: pages are taken until it is full, what is in it is cut, and all pieces
but the last few are given away. With the first of those kept back the next window begins. So memory is bounded by the
window, not by the document, and a cut near the window's end is made again when more of the text is known.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from ingest_worker.stages import tables
from shared.documents import PAGE_SEPARATOR, Chunk, Page, Rows, Table
from shared.options import Options

#: How much of the text is cut at once, about. A window is never smaller than so many chunks.
WINDOW_CHARACTERS = 200_000
WINDOW_CHUNKS = 8

#: So many of a window's last pieces are cut again with the next.
KEPT_BACK = 2

#: Text without white space is cut by force after so many chunks: what cuts it at better places takes a time that grows
#: with the square of its length.
UNBROKEN_CHUNKS = 100

_UNBROKEN = re.compile(r"\S+")

#: Enough of a SHA-256 that no two chunks ever meet: 128 bits.
ID_HEX_DIGITS = 32


def chunks(
    pages: Iterable[Page],
    sha256: str,
    options: Options,
    *,
    markup: bool = False,
    wrote: Callable[[str], object] = lambda _text: None,
    window: int = WINDOW_CHARACTERS,
) -> Iterator[Chunk]:
    """The chunks of a document, in order, each as soon as it is certain. None for a text of white space.

    The pages come in order, from page 1, none missing. What ``wrote`` hears is, joined, the text of the document: that
    of all pages, `PAGE_SEPARATOR` between two. It hears of a page before any chunk with a character of it is given.

    - ``text[chunk.start:chunk.end] == chunk.text``, and whatever is in no chunk is white space.
    - Each is at most ``options.chunk_size`` characters and repeats up to ``options.chunk_overlap`` of the one before.
    - A table that fits in a chunk is never cut; a larger one is cut between its rows, and each of its chunks knows the
      header. Only a row that is larger than a chunk is cut itself.
    - With ``markup`` the text is Markdown, and is cut between its elements.

    All of it is a function of the pages and the arguments, and of nothing else; the ids are the same for the same
    ``sha256`` (of the uploaded file) and options.
    """
    cutter = (MarkdownSplitter if markup else TextSplitter)(options.chunk_size, overlap=options.chunk_overlap)
    identify = _Identities(sha256, options)
    full = max(window, WINDOW_CHUNKS * options.chunk_size)
    for index, (start, text, taken) in enumerate(_pieces(pages, cutter, options.chunk_size, wrote, full)):
        end = start + len(text)
        yield Chunk(
            id=identify.of(start, end),
            index=index,
            text=text,
            page_first=taken.page_at(start),
            page_last=taken.page_at(end - 1),
            start=start,
            end=end,
            tables=taken.tables_between(start, end),
        )


def _pieces(
    pages: Iterable[Page],
    cutter: MarkdownSplitter | TextSplitter,
    chunk_size: int,
    wrote: Callable[[str], object],
    full: int,
) -> Iterator[tuple[int, str, _Window]]:
    """Each piece with its place, and with the window that knows its pages."""
    taken = _Window(chunk_size)
    for page in pages:
        wrote(taken.add(page))
        if taken.size >= full:
            yield from _cut(taken, cutter, KEPT_BACK)
    yield from _cut(taken, cutter, 0)


def _cut(taken: _Window, cutter: MarkdownSplitter | TextSplitter, kept_back: int) -> Iterator[tuple[int, str, _Window]]:
    text, first = taken.text(), taken.start
    covered = taken.covered(text)
    pieces = [
        (begin + start, begin + start + len(piece))
        for begin, end in stretches(covered, UNBROKEN_CHUNKS * taken.chunk_size)
        for start, piece in cutter.chunk_indices(covered[begin:end])
    ]
    certain = max(1, len(pieces) - kept_back)  # at least one, so that a window can't grow without end
    for start, end in pieces[:certain]:
        # What a window begins with is cut anew, and may end within what was given away already.
        if taken.is_news(first + end):
            yield first + start, text[start:end], taken
    taken.drop(first + (pieces[certain][0] if certain < len(pieces) else len(text)))


def stretches(text: str, most: int) -> Iterator[tuple[int, int]]:
    """The text as stretches, of which none has more than ``most`` characters in a row without white space."""
    begin = 0
    for run in _UNBROKEN.finditer(text):
        for end in range(run.start() + most, run.end(), most):
            yield begin, end
            begin = end
    yield begin, len(text)


class _Window:
    """The part of the text that is being looked at, its pages and its tables. All offsets count from page 1."""

    def __init__(self, chunk_size: int) -> None:
        self.start = 0
        self.size = 0
        self._given_away = 0
        self.chunk_size = chunk_size
        self._texts: list[str] = []
        self._page_starts: list[int] = []
        self._pages_before = 0
        self._tables: list[_Placed] = []

    def add(self, page: Page) -> str:
        """Take the next page; gives what it adds to the text."""
        more = PAGE_SEPARATOR + page.text if self._page_starts else page.text
        self.size += len(more)
        self._texts.append(more)
        start = self.start + self.size - len(page.text)
        self._page_starts.append(start)
        self._tables.extend(_Placed.on_page(table, page.text, start) for table in page.tables)
        return more

    def drop(self, start: int) -> None:
        """Forget all before ``start``."""
        rest = self.text()[start - self.start :]
        self.start, self.size, self._texts = start, len(rest), [rest]
        gone = max(0, self._page_of(start) - 1)
        self._pages_before += gone
        del self._page_starts[:gone]
        self._tables = [table for table in self._tables if table.end > start]

    def is_news(self, end: int) -> bool:
        """Whether a piece that ends there says more than those that were given away; if so, it is now."""
        is_news = end > self._given_away
        self._given_away = max(end, self._given_away)
        return is_news

    def text(self) -> str:
        """The window's text."""
        return "".join(self._texts)

    def covered(self, text: str) -> str:
        """The window's text with a word in the place of each table, or of each row of one too large, as long as it."""
        parts: list[str] = []
        at = 0
        for table in self._tables:
            start = max(0, table.start - self.start)
            cover = table.cover(self.chunk_size)[max(0, self.start - table.start) :]
            parts += [text[at:start], cover]
            at = start + len(cover)
        return "".join([*parts, text[at:]])

    def page_at(self, offset: int) -> int:
        """The page, from 1, that holds the character at ``offset``. A separator belongs to the page before it."""
        return self._pages_before + self._page_of(offset)

    def tables_between(self, start: int, end: int) -> tuple[Rows, ...]:
        """The tables with a character there, each with its header and the rows there."""
        return tuple(
            table.rows_between(start, end) for table in self._tables if table.start < end and start < table.end
        )

    def _page_of(self, offset: int) -> int:
        return bisect_right(self._page_starts, offset)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A table in the text of the document, and where each of its lines starts."""

    rows: Rows
    lines: tuple[str, ...]
    starts: tuple[int, ...]
    end: int

    @classmethod
    def on_page(cls, table: Table, text: str, page_start: int) -> _Placed:
        lines = tuple(text[table.start : table.end].split("\n"))
        starts = accumulate((len(line) + 1 for line in lines[:-1]), initial=page_start + table.start)
        return cls(table.rows, lines, tuple(starts), page_start + table.end)

    @property
    def start(self) -> int:
        return self.starts[0]

    def cover(self, chunk_size: int) -> str:
        """A word as long as the table, when that is no longer than a chunk; else one for the head and for each row."""
        if self.end - self.start <= chunk_size:
            return tables.cover(["\n".join(self.lines)], chunk_size)
        head = "\n".join(self.lines[:2])
        return tables.cover((head, *self.lines[2:]) if len(head) <= chunk_size else self.lines, chunk_size)

    def rows_between(self, start: int, end: int) -> Rows:
        """The header and the rows with a character there."""
        first = max(2, bisect_right(self.starts, start) - 1)
        return (self.rows[0], *self.rows[first - 1 : max(first, bisect_left(self.starts, end)) - 1])


class _Identities:
    def __init__(self, sha256: str, options: Options) -> None:
        self._document = hashlib.sha256(f"{sha256}\n{options.model_dump_json()}".encode())

    def of(self, start: int, end: int) -> str:
        digest = self._document.copy()
        digest.update(f"\n{start}\n{end}".encode())
        return digest.hexdigest()[:ID_HEX_DIGITS]
