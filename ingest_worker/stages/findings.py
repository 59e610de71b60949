"""What parsing found out about a document that its owner should know, as warnings. Pure.

Every event carries the warnings, so they stay small however long the document is.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingest_worker.stages.reading import Reader, Reading
from shared.protocol import Notice

#: A warning names at most so many pages; its message always says how many there are.
MAX_PAGES_NAMED = 100


class Findings:
    """Takes note of each reading; says at the end what was odd."""

    def __init__(self) -> None:
        self._recovered = 0
        self._with_text = 0
        self._fallback = _Pages()
        self._unreadable = _Pages()
        self._too_large = _Pages()
        self._without_text = _Pages()

    def note(self, reading: Reading) -> None:
        """Take note of one page."""
        number = reading.page.number
        if reading.too_large:
            self._too_large.add(number)
            return
        if reading.reader is Reader.NOBODY:
            self._unreadable.add(number)
            return
        self._recovered += 1
        if reading.fell_back:
            self._fallback.add(number)
        if reading.page.text.strip():
            self._with_text += 1
        else:
            self._without_text.add(number)

    def warnings(self, *, repaired: bool) -> tuple[Notice, ...]:
        """All warnings, the one about the whole document first. ``repaired`` says that the file was damaged."""
        notices = [
            self._about_damage() if repaired else None,
            self._about_missing_text(),
            self._fallback.notice("page_fallback", "{} could be read only by the other reader"),
            self._too_large.notice("page_too_large", "{} left out for too many characters"),
            self._unreadable.notice("page_unreadable", "{} could not be read"),
        ]
        return tuple(notice for notice in notices if notice)

    def _about_damage(self) -> Notice:
        were = "was" if self._recovered == 1 else "were"
        return Notice("repaired", f"The file was damaged; {counted(self._recovered, 'page')} {were} recovered")

    def _about_missing_text(self) -> Notice | None:
        if self._without_text.count and not self._with_text:
            return Notice("no_text", "No page holds any text; the document may be a scan")
        return self._without_text.notice("pages_without_text", "{} without text, perhaps scanned")


class _Pages:
    """Page numbers: all are counted, the first are kept."""

    def __init__(self) -> None:
        self.count = 0
        self._named: list[int] = []

    def add(self, number: int) -> None:
        self.count += 1
        if len(self._named) < MAX_PAGES_NAMED:
            self._named.append(number)

    def notice(self, code: str, sentence: str) -> Notice | None:
        if not self.count:
            return None
        more = f"; the first {MAX_PAGES_NAMED} are listed" if self.count > len(self._named) else ""
        return Notice(code, sentence.format(counted(self.count, "page")) + more, tuple(self._named))


def counted(items: int | Sequence[object], noun: str) -> str:
    """``1 page``, ``352 pages``."""
    count = items if isinstance(items, int) else len(items)
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
