"""The values that the stages hand on: a page's text, a chunk. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

#: Stands between two pages in the text of a document. A page's end is the one paragraph boundary that all have.
PAGE_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its number from 1 and its text, which may be empty."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the document's text.

    ``index`` counts from 0. ``start`` and ``end`` are offsets in characters into the stored text, end excluded;
    ``page_first`` and ``page_last`` count from 1. ``id`` is the same for the same bytes with the same options.
    """

    id: str
    index: int
    text: str
    page_first: int
    page_last: int
    start: int
    end: int


def to_json_lines(items: Iterable[Page] | Iterable[Chunk]) -> Iterator[bytes]:
    """Each item as one line of JSON in UTF-8, with its line end."""
    for item in items:
        yield json.dumps(asdict(item), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def pages_from(lines: Iterable[bytes]) -> Iterator[Page]:
    """The inverse of `to_json_lines` for pages."""
    for line in lines:
        yield Page(**json.loads(line))


def chunks_from(lines: Iterable[bytes]) -> Iterator[Chunk]:
    """The inverse of `to_json_lines` for chunks."""
    for line in lines:
        yield Chunk(**json.loads(line))
