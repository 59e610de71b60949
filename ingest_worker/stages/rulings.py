"""Does a page hold a ruled table? Told from PDFium's drawing objects in about a millisecond, without reading any text.

A grid is lines that cross. Frames and underlines hardly do, so crossings are counted first: two rows of which one has
two cells make eight. Where there are enough, pdfplumber's own search for cells says whether they make a table of two
rows and two columns. Printers' marks lie outside the crop box, where no reader sees them. Curves and oblique lines
count for nothing, as in pdfplumber's "lines" strategy. A page taken for ruled that is not costs time; one that is
missed costs a table, so the doubtful ones count as ruled.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from pdfplumber.table import cells_to_tables, edges_to_intersections, merge_edges

from ingest_worker.stages.cells import cells

#: Lines that end so near to each other still meet, and a rectangle so thin is a line. In points; as in pdfplumber.
SNAP_POINTS = 3.0

CROSSINGS_OF_A_TABLE = 8

#: A page with more lines than this is called ruled at once: to look closer would take longer than it is worth.
MANY_LINES = 2000

#: A table is mostly told by its topmost lines. More of them cut its cells smaller, and take none away.
FEW_LINES = 16

#: Four sides, the start, and a way back to it. A path of more segments may be a whole grid.
SEGMENTS_OF_A_FRAME = 6

#: Forms may hold forms.
MOST_DEPTH = 5


class Box(NamedTuple):
    """A rectangle in points, y upwards."""

    left: float
    bottom: float
    right: float
    top: float


def is_ruled(page: pdfium.PdfPage) -> bool:
    """Whether the page's visible lines make a table of at least two rows and two columns."""
    horizontal: list[Box] = []
    vertical: list[Box] = []
    visible = Box(*page.get_cropbox())
    for box in _paths(page):
        for edge in filter(partial(_meet, visible), _edges(box)):
            wide = edge.right - edge.left > edge.top - edge.bottom
            (horizontal if wide else vertical).append(edge)
        if len(horizontal) + len(vertical) > MANY_LINES:
            return True
    for lines in (horizontal, vertical):
        lines.sort(key=lambda line: -line.top)
    return has_grid(horizontal, vertical) and any(
        has_cells(horizontal[:many], vertical[:many]) for many in (FEW_LINES, MANY_LINES)
    )


def has_cells(horizontal: list[Box], vertical: list[Box]) -> bool:
    """Whether pdfplumber would find a table of two rows and two columns in these lines."""
    edges = merge_edges(
        [_as_edge(line, "h") for line in horizontal] + [_as_edge(line, "v") for line in vertical],
        *[SNAP_POINTS] * 4,
    )
    crossings = edges_to_intersections([edge for edge in edges if _length(edge) >= SNAP_POINTS], *[SNAP_POINTS] * 2)
    return any(
        len({cell[0] for cell in table}) > 1 and len({cell[1] for cell in table}) > 1
        for table in cells_to_tables(cells(crossings))
    )


def _as_edge(line: Box, orientation: str) -> dict[str, object]:
    """A line in pdfplumber's words, whose y go downwards."""
    if orientation == "h":
        middle = -(line.top + line.bottom) / 2
        x0, x1, top, bottom = line.left, line.right, middle, middle
    else:
        x0 = x1 = (line.left + line.right) / 2
        top, bottom = -line.top, -line.bottom
    size = {"width": x1 - x0, "height": bottom - top}
    return {"x0": x0, "x1": x1, "top": top, "bottom": bottom, "orientation": orientation, **size}


def _length(edge: dict[str, float]) -> float:
    return max(edge["width"], edge["height"])


def has_grid(horizontal: list[Box], vertical: list[Box]) -> bool:
    """Whether enough of the horizontal lines meet enough of the vertical ones. Doubled lines count once."""
    crossings: set[tuple[int, int]] = set()
    for row in horizontal:
        for column in vertical:
            if _meet(row, column):
                crossings.add((round(column.left / SNAP_POINTS), round(row.bottom / SNAP_POINTS)))
        if len(crossings) >= CROSSINGS_OF_A_TABLE:
            return True
    return False


def _meet(one: Box, other: Box) -> bool:
    return (
        one.left - SNAP_POINTS <= other.right
        and other.left <= one.right + SNAP_POINTS
        and one.bottom - SNAP_POINTS <= other.top
        and other.bottom <= one.top + SNAP_POINTS
    )


def _edges(box: Box) -> Iterator[Box]:
    """A thin box is a line; another is a frame of four."""
    left, bottom, right, top = box
    if right - left < SNAP_POINTS or top - bottom < SNAP_POINTS:
        if max(right - left, top - bottom) >= SNAP_POINTS:
            yield box
        return
    yield Box(left, bottom, right, bottom)
    yield Box(left, top, right, top)
    yield Box(left, bottom, left, top)
    yield Box(right, bottom, right, top)


def _paths(page: pdfium.PdfPage) -> Iterator[Box]:
    """The extent of every path, and of every straight segment of those that have many."""
    for index in range(pdfium_c.FPDFPage_CountObjects(page)):
        yield from _paths_of(pdfium_c.FPDFPage_GetObject(page, index), MOST_DEPTH)


def _paths_of(drawn: object, depth: int) -> Iterator[Box]:
    kind = pdfium_c.FPDFPageObj_GetType(drawn)
    if kind == pdfium_c.FPDF_PAGEOBJ_FORM and depth:
        for index in range(pdfium_c.FPDFFormObj_CountObjects(drawn)):
            yield from _paths_of(pdfium_c.FPDFFormObj_GetObject(drawn, index), depth - 1)
    elif kind == pdfium_c.FPDF_PAGEOBJ_PATH:
        left, bottom, right, top = (ctypes.c_float() for _ in range(4))
        if not pdfium_c.FPDFPageObj_GetBounds(drawn, left, bottom, right, top):
            return
        if pdfium_c.FPDFPath_CountSegments(drawn) > SEGMENTS_OF_A_FRAME:
            yield from _segments(drawn)
        else:
            yield Box(left.value, bottom.value, right.value, top.value)


def _segments(path: object) -> Iterator[Box]:
    x, y, matrix = ctypes.c_float(), ctypes.c_float(), pdfium_c.FS_MATRIX()
    pdfium_c.FPDFPageObj_GetMatrix(path, matrix)
    start: tuple[float, float] | None = None
    for index in range(pdfium_c.FPDFPath_CountSegments(path)):
        segment = pdfium_c.FPDFPath_GetPathSegment(path, index)
        pdfium_c.FPDFPathSegment_GetPoint(segment, x, y)
        end = (
            matrix.a * x.value + matrix.c * y.value + matrix.e,
            matrix.b * x.value + matrix.d * y.value + matrix.f,
        )
        kind = pdfium_c.FPDFPathSegment_GetType(segment)
        if kind == pdfium_c.FPDF_SEGMENT_LINETO and start is not None:
            box = Box(min(start[0], end[0]), min(start[1], end[1]), max(start[0], end[0]), max(start[1], end[1]))
            if box.right - box.left < SNAP_POINTS or box.top - box.bottom < SNAP_POINTS:
                yield box
        start = end
