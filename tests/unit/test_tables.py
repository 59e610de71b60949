"""A table as Markdown, and back from where it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ingest_worker.stages.tables import is_table, laid_out, markdown
from shared.documents import Page, Table, pages_from, to_json_lines

CELLS = st.none() | st.text(alphabet="ab|\n -<*\\字", max_size=8)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=4).map(tuple), min_size=2, max_size=5).map(tuple)


@given(ROWS)
def test_every_row_is_one_line_and_every_cell_one_cell(rows):
    """Whatever stands in it: pipes are escaped, line ends are not kept, short rows are filled up."""
    lines = markdown(rows).split("\n")
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse("\n".join(lines))
    width = max(map(len, rows))
    assert len(lines) == len(rows) + 1
    assert sum(token.type in {"th_open", "td_open"} for token in tokens) == width * len(rows)


@given(st.lists(st.text(max_size=20) | ROWS, max_size=6))
def test_a_table_is_where_it_says_it_is(blocks):
    """Between other tables and text; none is lost."""
    text, tables = laid_out(blocks)
    assert [table.rows for table in tables] == [block for block in blocks if not isinstance(block, str)]
    assert [text[table.start : table.end] for table in tables] == [markdown(table.rows) for table in tables]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((("a", "b"), ("c", "d")), True),
        ((("a", None), (None, None)), True),
        ((("a", "b"),), False),
        ((("a",), ("b",)), False),
        (((" ", None), ("", "\n")), False),
    ],
)
def test_frames_and_rules_are_no_tables(rows, expected):
    """It takes two rows, two columns and a word."""
    assert is_table(rows) is expected


def test_tables_survive_the_way_to_the_next_stage():
    """Pages are handed on as JSON; those of an earlier version had no tables."""
    page = Page(3, "| a | b |", (Table((("a", None), ("c", "d")), 0, 9),))
    assert list(pages_from(to_json_lines([page]))) == [page]
    assert list(pages_from([b'{"number":1,"text":"x"}'])) == [Page(1, "x")]
