"""A page with ruled tables as pdfplumber sees it: each table in the place where it stands among the lines of text.

The cells are those of pdfplumber's own ``extract_tables`` with its "lines" strategy. Their characters are taken out of
the text, so that no word comes twice. A table within a cell of another is that cell's text, and nothing more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from pdfplumber.table import Table as Grid
from pdfplumber.table import TableFinder, TableSettings, cells_to_tables, edges_to_intersections
from pdfplumber.utils.clustering import cluster_objects
from pdfplumber.utils.text import DEFAULT_Y_TOLERANCE, WordExtractor

from ingest_worker.stages.cells import Box, cells
from ingest_worker.stages.reading import storable
from ingest_worker.stages.tables import is_table, laid_out
from shared.documents import Rows, Table

#: As pdfplumber makes one for each text. It keeps nothing.
_WORDS = WordExtractor()


@dataclass(frozen=True, slots=True)
class _Found:
    """A table, the boxes of its cells, and which of the page's characters are in one of them, by identity.

    Between the cells of an odd table stands text that is not the table's.
    """

    box: Box
    rows: Rows
    cells: tuple[Box, ...]
    characters: frozenset[int]

    def surrounds(self, other: _Found) -> bool:
        """Whether the other table lies in a cell of this one."""
        return self is not other and any(_within(other.box, cell) for cell in self.cells)


def text_and_tables(page: Any) -> tuple[str, tuple[Table, ...]]:
    """The text of the page with its tables as Markdown, and where they are. The page is pdfplumber's."""
    characters = _Characters(page.chars)
    found = _outermost(
        [table for table in (_found(table, characters) for table in _Finder(page).tables) if is_table(table.rows)]
    )
    if not found:
        return storable(str(page.extract_text())), ()
    taken = frozenset[int]().union(*(table.characters for table in found))
    with closing(page.filter(lambda thing: id(thing) not in taken)) as others:
        return laid_out(_blocks(others.extract_text_lines(return_chars=False), found))


class _Finder(TableFinder):
    """What ``page.find_tables`` finds, by way of our `cells`."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.settings = TableSettings()
        tolerances = self.settings.intersection_x_tolerance, self.settings.intersection_y_tolerance
        crossings = edges_to_intersections(self.get_edges(), *tolerances)
        self.tables = [Grid(page, group) for group in cells_to_tables(cells(crossings))]


def _found(table: Grid, characters: _Characters) -> _Found:
    rows: list[tuple[str | None, ...]] = []
    boxes: list[Box] = []
    taken: set[int] = set()
    for row in table.rows:
        in_row = characters.within(row.bbox)
        texts: list[str | None] = []
        for box in row.cells:
            if box is None:
                texts.append(None)
                continue
            left, top, right, bottom = box
            inside = [char for x, y, char in in_row if left <= x < right and top <= y < bottom]
            texts.append(storable(_text(inside)))
            boxes.append(box)
            taken.update(map(id, inside))
        rows.append(tuple(texts))
    return _Found(table.bbox, tuple(rows), tuple(boxes), frozenset(taken))


def _text(characters: list[dict[str, Any]]) -> str:
    """What pdfplumber's ``extract_text`` makes of them, without its map from each letter to where it stands."""
    words = _WORDS.extract_words(characters)
    lines = cluster_objects(words, "top", DEFAULT_Y_TOLERANCE)
    return "\n".join(" ".join(word["text"] for word in line) for line in lines)


class _Characters:
    """The characters of a page, found by height: to look at all for each row of a large table takes longest of all."""

    def __init__(self, characters: list[dict[str, Any]]) -> None:
        self._placed = [
            ((char["x0"] + char["x1"]) / 2, (char["top"] + char["bottom"]) / 2, char) for char in characters
        ]
        by_height = sorted((y, number) for number, (_, y, _) in enumerate(self._placed))
        self._heights = [height for height, _ in by_height]
        self._numbers = [number for _, number in by_height]

    def within(self, box: Box) -> list[tuple[float, float, dict[str, Any]]]:
        """Those whose middle is there, in the order of the page, on which their text depends."""
        left, top, right, bottom = box
        first, last = bisect_left(self._heights, top), bisect_left(self._heights, bottom)
        placed = map(self._placed.__getitem__, sorted(self._numbers[first:last]))
        return [(x, y, char) for x, y, char in placed if left <= x < right]


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


def _within(inner: Box, outer: Box) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]
