"""What `auto` makes of a document, beside pdfplumber by itself: the words of its pages, and the cells of its tables.

python -m bench.parse_quality FILE ...      without the speed, which `bench.parse_speed` measures as well
"""

from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pdfplumber
from rich.console import Console
from rich.table import Table

from ingest_worker.stages import pdf
from ingest_worker.stages.reading import Limits
from shared.config import Engine
from shared.documents import Page
from shared.errors import DocumentError

LIMITS = Limits(pages=100_000, page_characters=1_000_000)

#: The words are compared on so many pages, spread over the document.
COMPARED_PAGES = 40

#: Tables are looked for on all pages of a document up to this one.
LAST_PAGE = 500

#: A document with tables on a larger share of its pages is not called prose.
MOST_TABLES_IN_PROSE = 0.05

#: Points. A space that is narrower than its ``x_tolerance`` is none to pdfplumber: as it comes, and half of that.
AS_IT_COMES, NARROW = 3.0, 1.5

HEADINGS = ("words alike", "but for spaces", "x_tolerance 1.5", "tables equal", "pages with tables")

#: Printed below the figures.
NOTES = f"""\
words: of auto, beside those of pdfplumber's extract_text, as the share that is alike (difflib), on up to
{COMPARED_PAGES} pages without tables, spread over the document. pdfplumber's page is cropped to its crop box, as a
reader sees it: printer's marks beyond are no text of the document. As it comes, pdfplumber takes a space of less than
3 points for none, and makes one word of two in narrow type ("them,but"). So one figure leaves spaces out of account,
and one is of x_tolerance=1.5. Where a page has several columns pdfplumber reads across them: other order, same words.
tables: those of two rows and columns that pdfplumber finds on the pages up to number {LAST_PAGE}, and of how many
auto has just these cells, in the same rows."""


@dataclass
class Quality:
    """What was compared. The shares are of words, None where there were none to compare."""

    pages: int
    alike: float | None = None
    alike_but_for_spaces: float | None = None
    alike_with_narrow_spaces: float | None = None
    pages_with_tables: int = 0
    tables: int = 0
    tables_equal: int = 0
    pages_unequal: list[int] = field(default_factory=list)

    @property
    def pages_looked_at(self) -> int:
        """For tables."""
        return min(self.pages, LAST_PAGE)

    @property
    def is_prose(self) -> bool:
        """Whether hardly any page has a table."""
        return self.pages_with_tables <= MOST_TABLES_IN_PROSE * self.pages_looked_at


def measure(path: Path) -> Quality:
    """Compare. Raises `DocumentError` when the file can't be opened."""
    with pdf.opened(path, Engine.AUTO, LIMITS) as document, path.open("rb") as file:
        pages = pdfplumber.open(file).pages
        quality = Quality(document.page_count)
        _compare_words(document, pages, quality)
        for number in range(1, quality.pages_looked_at + 1):
            _compare_tables(document.reading(number).page, pages[number - 1], quality)
            pages[number - 1].close()
    return quality


def _compare_words(document: pdf.Pdf, pages: list[Any], quality: Quality) -> None:
    shares: list[tuple[float, float, float]] = []
    for number in range(1, quality.pages + 1, max(1, quality.pages // COMPARED_PAGES)):
        ours = document.reading(number).page
        page = pages[number - 1]
        visible = page.crop(page.cropbox, strict=False)
        words, narrow = (visible.extract_text(x_tolerance=points).split() for points in (AS_IT_COMES, NARROW))
        page.close()
        if words and not ours.tables:
            shares += [(*alike(words, ours.text.split()), alike(narrow, ours.text.split())[0])] * len(words)
    if shares:
        means = [sum(ratios) / len(shares) for ratios in zip(*shares, strict=True)]
        quality.alike, quality.alike_but_for_spaces, quality.alike_with_narrow_spaces = means


def alike(one: list[str], other: list[str]) -> tuple[float, float]:
    """The share of words that two texts have in the same order; and that share when spaces are left out of account."""
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    same = but_for_spaces = 0
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            same += b - a + d - c
        elif "".join(one[a:b]) == "".join(other[c:d]):
            but_for_spaces += b - a + d - c
    total = len(one) + len(other)
    return same / total, (same + but_for_spaces) / total


def _compare_tables(ours: Page, page: Any, quality: Quality) -> None:
    theirs = [table for table in page.extract_tables() if _is_table(table)]
    if not theirs:
        return
    found = [[list(row) for row in table.rows] for table in ours.tables]
    equal = sum(table in found for table in theirs)
    quality.pages_with_tables += 1
    quality.tables += len(theirs)
    quality.tables_equal += equal
    if equal < len(theirs):
        quality.pages_unequal.append(ours.number)


def _is_table(rows: list[list[str | None]]) -> bool:
    return len(rows) > 1 and len(rows[0]) > 1 and any(cell and cell.strip() for row in rows for cell in row)


def cells_of(quality: Quality) -> list[str]:
    """The figures, for a table that has the columns `HEADINGS`."""
    words = (quality.alike, quality.alike_but_for_spaces, quality.alike_with_narrow_spaces)
    tables = f"{quality.tables_equal} of {quality.tables}"
    if quality.pages_unequal:
        tables += f", not on pages {quality.pages_unequal}"
    return [
        *("-" if share is None else f"{share:.3f}" for share in words),
        tables,
        f"{quality.pages_with_tables} of {quality.pages_looked_at}",
    ]


def main() -> None:
    """The comparison of each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    table = Table("file", "pages", *HEADINGS)
    for path in parser.parse_args().files:
        try:
            quality = measure(path)
        except DocumentError as error:
            table.add_row(path.name, error.code)
        else:
            table.add_row(path.name, str(quality.pages), *cells_of(quality))
    Console(width=200).print(table, NOTES, highlight=False)


if __name__ == "__main__":
    main()
