"""Lines that cross make a table; frames, underlines and doubled lines do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.stages.rulings import Box, has_cells, has_grid


def grid(columns: int, rows: int, left: float = 50, bottom: float = 50, *, step: float = 40):
    """The lines of a table, as horizontal and vertical ones."""
    right, top = left + columns * step, bottom + rows * step
    return (
        [Box(left, bottom + n * step, right, bottom + n * step) for n in range(rows + 1)],
        [Box(left + n * step, bottom, left + n * step, top) for n in range(columns + 1)],
    )


@given(st.integers(2, 30), st.integers(2, 30), st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_a_table_of_two_by_two_or_more_is_ruled(columns, rows, left, bottom):
    """Wherever it stands on the page."""
    assert has_grid(*grid(columns, rows, left, bottom))
    assert has_cells(*grid(columns, rows, left, bottom))


@pytest.mark.parametrize(("columns", "rows"), [(6, 1), (1, 6)])
def test_a_row_of_boxes_is_no_table(columns, rows):
    """A diagram, or a form, has crossings enough, but no two rows of two cells."""
    assert has_grid(*grid(columns, rows))
    assert not has_cells(*grid(columns, rows))


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (2, 1), (1, 2)])
def test_a_frame_or_two_is_no_table(columns, rows):
    """A box around a paragraph keeps the fast reader."""
    assert not has_grid(*grid(columns, rows))


def test_a_line_drawn_twice_counts_once():
    """As borders of neighbouring cells often are."""
    horizontal, vertical = grid(1, 1)
    assert not has_grid(horizontal * 5, vertical * 5)


def test_lines_that_do_not_meet_are_no_table():
    """Underlines here, a bar in the margin there."""
    horizontal, _ = grid(3, 10)
    _, vertical = grid(3, 10, left=400)
    assert not has_grid(horizontal, vertical)


def test_lines_that_nearly_meet_do():
    """Within the tolerance of the reader that will find the table."""
    horizontal, vertical = grid(2, 2)
    assert has_grid([Box(box.left + 2, box.bottom, box.right - 2, box.top) for box in horizontal], vertical)
