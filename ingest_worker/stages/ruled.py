"""A page with ruled tables as pdfplumber sees it: each table in the place where it stands among the lines of text.

The cells are those of pdfplumber's own ``extract_tables`` with its "lines" strategy. Their characters are taken out of
the text, so that no word comes twice. A table within a cell of another is that cell's text, and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ingest_worker.stages.reading import storable
from ingest_worker.stages.tables import is_table, laid_out
from shared.documents import Rows, Table

#: Left, top, right, bottom in points, y downwards.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Found:
    """A table, and the boxes of its rows with those of their cells. Between the cells of an odd one stands text."""

    box: Box
    rows: Rows
    cells: tuple[tuple[Box, tuple[Box, ...]], ...]

    def holds(self, thing: dict[str, Any]) -> bool:
        """Whether the middle of a character is in a cell: so pdfplumber decides whose it is."""
        x, y = (thing["x0"] + thing["x1"]) / 2, (thing["top"] + thing["bottom"]) / 2
        return _in(self.box, x, y) and any(
            _in(row, x, y) and any(_in(cell, x, y) for cell in cells) for row, cells in self.cells
        )

    def surrounds(self, other: _Found) -> bool:
        """Whether the other table lies in a cell of this one."""
        return self is not other and any(_within(other.box, cell) for _, cells in self.cells for cell in cells)


def text_and_tables(page: Any) -> tuple[str, tuple[Table, ...]]:
    """The text of the page with its tables as Markdown, and where they are. The page is pdfplumber's."""
    found = _outermost([table for table in map(_found, page.find_tables()) if is_table(table.rows)])
    if not found:
        return storable(str(page.extract_text())), ()
    others = page.filter(lambda thing: thing["object_type"] != "char" or not any(each.holds(thing) for each in found))
    return laid_out(_blocks(others.extract_text_lines(return_chars=False), found))


def _found(table: Any) -> _Found:
    rows = tuple(tuple(cell if cell is None else storable(cell) for cell in row) for row in table.extract())
    cells = tuple((row.bbox, tuple(cell for cell in row.cells if cell is not None)) for row in table.rows)
    return _Found(table.bbox, rows, cells)


def _outermost(found: list[_Found]) -> list[_Found]:
    """From the top down, without those that lie in a cell of another."""
    outer = [one for one in found if not any(other.surrounds(one) for other in found)]
    return sorted(outer, key=lambda table: (table.box[1], table.box[0]))


def _blocks(lines: list[dict[str, Any]], found: list[_Found]) -> Iterator[str | Rows]:
    """The lines above a table, the table, and so on. A line is above it when its middle is."""
    above: list[str] = []
    waiting = list(found)
    for line in lines:
        while waiting and waiting[0].box[1] <= (line["top"] + line["bottom"]) / 2:
            yield from _paragraph(above)
            above = []
            yield waiting.pop(0).rows
        above.append(line["text"])
    yield from _paragraph(above)
    for table in waiting:
        yield table.rows


def _paragraph(lines: list[str]) -> Iterator[str]:
    if lines:
        yield storable("\n".join(lines))


def _in(box: Box, x: float, y: float) -> bool:
    left, top, right, bottom = box
    return left <= x < right and top <= y < bottom


def _within(inner: Box, outer: Box) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]
