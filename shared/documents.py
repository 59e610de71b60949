"""The values that the stages hand on: a page's text, a chunk. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

#: Stands between two pages in the text of a document. A page's end is the one paragraph boundary that all have.
PAGE_SEPARATOR = "\n\n"


#: The cells of a table, row by row, the header first. None where a cell is merged into a neighbour.
Rows = tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as structure, and where it stands in the text of its page as Markdown.

    ``start`` and ``end`` are offsets in characters, end excluded. Between them the first line is the header, the second
    the delimiter row, and each line after it is the next of ``rows``.
    """

    rows: Rows
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its number from 1, its text, which may be empty, and the tables in it, in their order."""

    number: int
    text: str
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the document's text.

    ``index`` counts from 0. ``start`` and ``end`` are offsets in characters into the stored text, end excluded;
    ``page_first`` and ``page_last`` count from 1. ``id`` is the same for the same bytes with the same options.
    ``tables`` are those in it, as structure. Of a table larger than a chunk they hold the header and the rows here.
    """

    id: str
    index: int
    text: str
    page_first: int
    page_last: int
    start: int
    end: int
    tables: tuple[Rows, ...] = ()


def rows_from(values: Iterable[Iterable[str | None]]) -> Rows:
    """The rows of a table that was read from JSON, whose arrays are lists."""
    return tuple(tuple(row) for row in values)


def fields(item: Any) -> dict[str, Any]:
    """Those of a page, a table or a chunk, as they are. `dataclasses.asdict` would copy every cell of every table."""
    return {name: getattr(item, name) for name in item.__slots__}


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=fields)


def to_json(value: object) -> bytes:
    """Any value of JSON in one line of UTF-8, without a line end. Pages, tables, chunks are objects of their fields."""
    return _JSON.encode(value).encode()


def to_json_lines(items: Iterable[Page] | Iterable[Chunk]) -> Iterator[bytes]:
    """Each item as one line of JSON in UTF-8, with its line end."""
    for item in items:
        yield to_json(item) + b"\n"


def pages_from(lines: Iterable[bytes]) -> Iterator[Page]:
    """The inverse of `to_json_lines` for pages."""
    for line in lines:
        yield page_from(json.loads(line))


def page_from(values: dict[str, Any]) -> Page:
    """A page from its decoded fields."""
    tables = tuple(Table(rows_from(table.pop("rows")), **table) for table in values.pop("tables", ()))
    return Page(**values, tables=tables)


def chunks_from(lines: Iterable[bytes]) -> Iterator[Chunk]:
    """The inverse of `to_json_lines` for chunks."""
    for line in lines:
        values = json.loads(line)
        tables = tuple(rows_from(rows) for rows in values.pop("tables", ()))
        yield Chunk(**values, tables=tables)
