"""Our search for cells finds those of pdfplumber's, whatever the lines."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from pdfplumber.table import edges_to_intersections, intersections_to_cells

from ingest_worker.stages.cells import cells

AT = st.integers(0, 5).map(lambda step: step * 10.0)
LINES = st.lists(st.tuples(st.sampled_from("vh"), AT, AT, AT), max_size=24)
GRID = [(way, at, 0.0, 30.0) for way in "vh" for at in (0.0, 10.0, 20.0, 30.0)]


def edge(way: str, at: float, one: float, other: float) -> dict[str, object]:
    """A line at a place, from there to there."""
    begin, end = sorted((one, other))
    if way == "h":
        return {"orientation": way, "x0": begin, "x1": end, "top": at, "bottom": at}
    return {"orientation": way, "x0": at, "x1": at, "top": begin, "bottom": end}


@given(LINES)
@example(GRID)
@example([line for line in GRID if line != ("v", 10.0, 0.0, 30.0)] + [("v", 10.0, 0.0, 10.0), ("v", 10.0, 10.0, 30.0)])
def test_the_cells_are_pdfplumbers(lines):
    """The same, in the same order: of whole grids, of grids with holes, and of lines that hardly meet."""
    crossings = edges_to_intersections([edge(*line) for line in lines], 3, 3)
    assert cells(crossings) == intersections_to_cells(crossings)


def test_a_grid_has_a_cell_in_every_field():
    """Three by three, from left to right and from the top down."""
    found = cells(edges_to_intersections([edge(*line) for line in GRID], 3, 3))
    assert found == [(x, y, x + 10, y + 10) for x in (0.0, 10.0, 20.0) for y in (0.0, 10.0, 20.0)]
