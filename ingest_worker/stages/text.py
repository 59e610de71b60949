"""Plain text and Markdown: decoded whatever their encoding, and otherwise left as they are."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from charset_normalizer import from_bytes

from ingest_worker.stages import sections
from ingest_worker.stages.reading import Limits, storable
from ingest_worker.stages.sections import Sections

#: How much is decoded at once.
BLOCK_BYTES = 1024 * 1024

#: How much of a text must be seen to guess its encoding.
GUESS_BYTES = 64 * 1024

#: What nearly every text is that is in none of the encodings that can be told.
LAST_RESORT = "cp1252"


def opened(path: Path, limits: Limits, *, markup: bool) -> AbstractContextManager[Sections]:
    """The text at ``path`` in sections; with ``markup`` it is Markdown. Raises `TooManyPages`."""
    return sections.opened(_pieces(path, encoding_of(path)), limits, markup=markup)


def encoding_of(path: Path) -> str:
    """UTF-8 when all of it is, the one that a byte order mark names, else the most likely one."""
    with path.open("rb") as file:
        head = file.read(GUESS_BYTES)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        block = head
        try:
            while block:
                decoder.decode(block)
                block = file.read(BLOCK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            best = from_bytes(head).best()
            return best.encoding if best else LAST_RESORT
    return "utf-8-sig"


def _pieces(path: Path, encoding: str) -> Iterator[str]:
    with path.open(encoding=encoding, errors="replace", newline=None) as file:
        while piece := file.read(BLOCK_BYTES):
            yield storable(piece)
