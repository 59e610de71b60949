"""What parsing found out about a document that its owner should know, as warnings. Pure.

Every event carries the warnings, so they stay small however long the document is. The findings of several ranges of
pages, each from another process, merge to those of the whole document.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Self

from ingest_worker.stages.reading import Problem, Reader, Reading
from shared.protocol import Notice

#: A warning names at most so many pages; its message always says how many there are.
MAX_PAGES_NAMED = 100

WITHOUT_TEXT = "pages_without_text"
FALLBACK = "page_fallback"
UNREADABLE = "page_unreadable"

#: What is said when there is nothing but white space. Only what has pages can be a scan.
NO_TEXT = "No page holds any text; the document may be a scan"
NO_TEXT_WITHOUT_PAGES = "The file holds no text"

#: What is said of pages, by code, in the order in which it is said. A `Problem` is the code that it ends.
SENTENCES = {
    WITHOUT_TEXT: "{} without text, perhaps scanned",
    FALLBACK: "{} could be read only by the other reader",
    "page_too_large": "{} left out for too many characters",
    "page_timed_out": "{} left out for taking too long",
    "page_out_of_memory": "{} left out for taking too much memory",
    "page_crashed": "{} left out for crashing the reader",
    UNREADABLE: "{} could not be read",
}


@dataclass(slots=True)
class PageList:
    """Page numbers: all are counted, the first are kept."""

    count: int = 0
    named: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        """One page more, after those that are there."""
        self.count += 1
        if len(self.named) < MAX_PAGES_NAMED:
            self.named.append(number)

    def join(self, other: PageList) -> None:
        """Other pages, which may stand before or after."""
        self.count += other.count
        self.named = list(islice(heapq.merge(self.named, other.named), MAX_PAGES_NAMED))

    def notice(self, code: str, sentence: str, noun: str) -> Notice | None:
        """What there is to say, if anything. A page is called ``noun``."""
        if not self.count:
            return None
        more = f"; the first {MAX_PAGES_NAMED} are listed" if self.count > len(self.named) else ""
        return Notice(code, sentence.format(counted(self.count, noun)) + more, tuple(self.named))


@dataclass(slots=True)
class Findings:
    """Takes note of each reading, in the order of the pages; says at the end what was odd.

    ``repaired`` is the caller's to set: the file was damaged.
    """

    repaired: bool = False
    recovered: int = 0
    with_text: int = 0
    odd: dict[str, PageList] = field(default_factory=lambda: {code: PageList() for code in SENTENCES})

    def note(self, reading: Reading) -> None:
        """Take note of one page."""
        number = reading.page.number
        if reading.problem:
            self.odd[f"page_{reading.problem}"].add(number)
            return
        if reading.reader is Reader.NOBODY:
            self.odd[UNREADABLE].add(number)
            return
        self.recovered += 1
        if reading.fell_back:
            self.odd[FALLBACK].add(number)
        if reading.page.text.strip():
            self.with_text += 1
        else:
            self.odd[WITHOUT_TEXT].add(number)

    @property
    def left_out(self) -> int:
        """How many pages were left out: another time they may be read."""
        return sum(self.odd[f"page_{problem}"].count for problem in Problem)

    def warnings(self, unit: str = "pages") -> tuple[Notice, ...]:
        """All warnings, the one about the whole document first. ``unit``: what its pages are called, in the plural."""
        noun = unit.removesuffix("s")
        notices = [self._about_damage(noun) if self.repaired else None]
        for code, pages in self.odd.items():
            if code == WITHOUT_TEXT and pages.count and not self.with_text:
                notices.append(Notice("no_text", NO_TEXT if unit == "pages" else NO_TEXT_WITHOUT_PAGES))
            else:
                notices.append(pages.notice(code, SENTENCES[code], noun))
        return tuple(notice for notice in notices if notice)

    @classmethod
    def merge(cls, pieces: Iterable[Findings]) -> Self:
        """The findings about all pages from those about some each, in whatever order they come."""
        merged = cls()
        for piece in pieces:
            merged.repaired |= piece.repaired
            merged.recovered += piece.recovered
            merged.with_text += piece.with_text
            for code, pages in piece.odd.items():
                merged.odd[code].join(pages)
        return merged

    def to_json(self) -> str:
        """The same in one line, for `from_json` in another process."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """The inverse of `to_json`."""
        values = json.loads(line)
        values["odd"] = {code: PageList(**pages) for code, pages in values["odd"].items()}
        return cls(**values)

    def _about_damage(self, noun: str) -> Notice:
        were = "was" if self.recovered == 1 else "were"
        return Notice("repaired", f"The file was damaged; {counted(self.recovered, noun)} {were} recovered")


def counted(items: int | Sequence[object], noun: str) -> str:
    """``1 page``, ``352 pages``."""
    count = items if isinstance(items, int) else len(items)
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
