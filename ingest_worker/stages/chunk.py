"""Chunk: the text of a document cut at natural boundaries, each piece with its exact place. Pure."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from semantic_text_splitter import TextSplitter

from shared.documents import PAGE_SEPARATOR, Chunk, Page
from shared.options import Options

#: Enough of a SHA-256 that no two chunks ever meet: 128 bits.
ID_HEX_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Text:
    """The text of all pages, joined by `PAGE_SEPARATOR`. ``page_starts`` are offsets in characters, page 1 first."""

    text: str
    page_starts: Sequence[int]

    def page_at(self, offset: int) -> int:
        """The page, from 1, that holds the character at ``offset``. A separator belongs to the page before it."""
        return bisect_right(self.page_starts, offset)


def join(pages: Iterable[Page]) -> Text:
    """The pages as one text. They come in order, from page 1, none missing."""
    texts: list[str] = []
    starts: list[int] = []
    offset = 0
    for page in pages:
        texts.append(page.text)
        starts.append(offset)
        offset += len(page.text) + len(PAGE_SEPARATOR)
    return Text(PAGE_SEPARATOR.join(texts), starts)


def split(text: Text, sha256: str, options: Options) -> list[Chunk]:
    """The chunks of a text, none for a text of white space.

    Each is at most ``options.chunk_size`` characters and repeats up to ``options.chunk_overlap`` of the one before;
    ``text.text[chunk.start:chunk.end] == chunk.text``. The ids are the same for the same ``sha256`` (of the uploaded
    file) and options.
    """
    splitter = TextSplitter(options.chunk_size, overlap=options.chunk_overlap)
    identify = _Identities(sha256, options)
    return [
        _chunk(text, index, start, piece, identify)
        for index, (start, piece) in enumerate(splitter.chunk_indices(text.text))
    ]


class _Identities:
    def __init__(self, sha256: str, options: Options) -> None:
        self._document = hashlib.sha256(f"{sha256}\n{options.model_dump_json()}".encode())

    def of(self, start: int, end: int) -> str:
        digest = self._document.copy()
        digest.update(f"\n{start}\n{end}".encode())
        return digest.hexdigest()[:ID_HEX_DIGITS]


def _chunk(text: Text, index: int, start: int, piece: str, identify: _Identities) -> Chunk:
    end = start + len(piece)
    return Chunk(
        id=identify.of(start, end),
        index=index,
        text=piece,
        page_first=text.page_at(start),
        page_last=text.page_at(end - 1),
        start=start,
        end=end,
    )
