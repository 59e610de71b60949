"""A table as Markdown, and where it stands in a text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate

from markdown_it import MarkdownIt

from shared.documents import Rows, Table

#: Between two blocks of a text, as Markdown has it.
BLOCK_SEPARATOR = "\n\n"

#: However many of it stand together, they are one word.
_UNCUT = "x"

#: Where the blocks are is enough: what stands in them is not looked at.
_MARKDOWN = MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])

_LINE_END = re.compile(r"\s*(?:\r\n|\r|\n)\s*")


def is_table(rows: Rows) -> bool:
    """Whether the cells are worth a table: two rows, two columns, and a word in one of them. Else it is a frame."""
    return len(rows) > 1 and max(map(len, rows)) > 1 and any(cell and cell.strip() for row in rows for cell in row)


def markdown(rows: Rows) -> str:
    """The table in GitHub's Markdown: a line for the header, one for the delimiter row, and one for each other row."""
    width = max(map(len, rows))
    header, *others = (_line(_escaped(cell or "") for cell in (*row, *[None] * (width - len(row)))) for row in rows)
    return "\n".join([header, _line(["---"] * width), *others])


def tables_in(text: str) -> tuple[Table, ...]:
    """The tables that stand in a Markdown text, where its author put them."""
    if "|" not in text:
        return ()
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    found: list[Table] = []
    rows: list[tuple[str | None, ...]] = []
    lines = (0, 0)
    for token in _MARKDOWN.parse(text):
        if token.type == "table_open" and token.level == 0 and token.map:
            rows, lines = [], (token.map[0], token.map[1])
        elif token.type == "tr_open":
            rows.append(())
        elif token.type == "inline" and rows:
            rows[-1] += (token.content,)
        elif token.type == "table_close" and token.level == 0:
            start = starts[lines[0]]
            end = start + len(text[start : starts[lines[1]]].rstrip("\n"))
            found.append(Table(tuple(rows), start, end))
            rows = []
    return tuple(found)


def cover(parts: Iterable[str], most: int) -> str:
    """Lines of a table as words for whoever cuts: he leaves each part whole that has at most ``most`` characters."""
    return "\n".join(_UNCUT * len(part) if len(part) <= most else part for part in parts)


def laid_out(blocks: Iterable[str | Rows]) -> tuple[str, tuple[Table, ...]]:
    """One text of blocks in their order, an empty line between two, the tables among them written as Markdown."""
    texts: list[str] = []
    tables: list[Table] = []
    offset = 0
    for block in blocks:
        text = block if isinstance(block, str) else markdown(block)
        if not isinstance(block, str):
            tables.append(Table(block, offset, offset + len(text)))
        texts.append(text)
        offset += len(text) + len(BLOCK_SEPARATOR)
    return BLOCK_SEPARATOR.join(texts), tuple(tables)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(cell: str) -> str:
    return _LINE_END.sub("<br>", cell.strip()).replace("|", "\\|")
