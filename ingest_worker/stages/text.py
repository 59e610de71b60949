"""Plain text and Markdown: decoded whatever their encoding, and otherwise left as they are."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self

import webencodings
from bs4.dammit import EncodingDetector
from charset_normalizer import from_bytes

from ingest_worker.stages import sections
from ingest_worker.stages.reading import Limits, storable
from ingest_worker.stages.sections import Sections

#: How much is decoded at once.
BLOCK_BYTES = 1024 * 1024

#: How much of a text must be seen to guess its encoding, half of it from the first byte on that is not ASCII.
GUESS_BYTES = 64 * 1024

#: What nearly every text is that is in none of the encodings that can be told.
LAST_RESORT = "cp1252"

#: Which languages are written in `LAST_RESORT`. A guess that names one is of an encoding where it looks the same.
WESTERN = {
    *("Danish", "Dutch", "English", "Estonian", "Finnish", "French", "German", "Indonesian", "Italian", "Norwegian"),
    *("Portuguese", "Spanish", "Swedish"),
}

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_TOGETHER = re.compile(rb"[\x80-\xff]{2,}+")


def opened(path: Path, limits: Limits, *, markup: bool) -> AbstractContextManager[Sections]:
    """The text at ``path`` in sections; with ``markup`` it is Markdown. Raises `TooManyPages`."""
    encoding = encoding_of(path)
    return sections.opened(_pieces(path, encoding.name), limits, markup=markup, repaired=encoding.is_broken)


@dataclass(frozen=True, slots=True)
class Encoding:
    """Python's name of an encoding; ``is_broken``: some bytes of the text are none of it, and can't be read."""

    name: str
    is_broken: bool = False


def encoding_of(path: Path, *, html: bool = False) -> Encoding:
    """The encoding that a byte order mark names, UTF-8 when nearly all of it is, else the most likely one.

    A page (``html``) may say itself which it is. So few bytes as make no UTF-8 are broken ones: less than there are
    other characters beyond ASCII.
    """
    with path.open("rb") as file:
        head = file.read(GUESS_BYTES)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return Encoding("utf-16")
        file.seek(0)
        seen = _Seen.of(iter(partial(file.read, BLOCK_BYTES), b""))
        if head.startswith(codecs.BOM_UTF8) or seen.whole > seen.broken:
            return Encoding("utf-8-sig", is_broken=seen.broken > 0)
        declared = _declared(head) if html else None
        if declared or seen.first is None:
            return Encoding(declared or "utf-8-sig")
        file.seek(max(0, seen.first - GUESS_BYTES // 2))  # only ASCII before it, so no character is cut there
        sample = file.read(GUESS_BYTES)
        return Encoding(_guessed(sample if not file.read(1) else _up_to_a_space(sample)))


@dataclass(slots=True)
class _Seen:
    """A text read as UTF-8: how many characters beyond ASCII are whole, how many broken, and where the first stands."""

    whole: int = 0
    broken: int = 0
    first: int | None = None

    @classmethod
    def of(cls, blocks: Iterable[bytes]) -> Self:
        seen = cls()
        decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        offset, before = 0, b""
        for block in chain(blocks, [b""]):
            text = decoder.decode(block, final=not block)
            if not text.isascii():
                beyond = len(text) - len(text.encode("ascii", "ignore"))
                written = (before + block).count(_REPLACEMENT.encode())  # by whoever wrote the text
                broken = text.count(_REPLACEMENT) - written
                seen.broken += broken
                seen.whole += beyond - broken
            if seen.first is None and not block.isascii() and (found := _BEYOND_ASCII.search(block)):
                seen.first = offset + found.start()
            offset += len(block)
            before = block[-2:]
        return seen


def _declared(head: bytes) -> str | None:
    """What a page says that it is, if it may be believed: it is no UTF-8, and UTF-16 would have a mark."""
    label = EncodingDetector.find_declared_encoding(head, is_html=True)
    encoding = webencodings.lookup(label) if label else None
    if encoding is None or encoding.name.startswith("utf-") or encoding.name in {"replacement", "x-user-defined"}:
        return None
    return str(encoding.codec_info.name)


def _up_to_a_space(sample: bytes) -> bytes:
    """Without its last word, which may end within a character."""
    return sample[: max(map(sample.rfind, (b" ", b"\n", b"\r")))]


def _guessed(sample: bytes) -> str:
    best = from_bytes(sample).best()
    if best is None:
        return LAST_RESORT
    is_vague = not best.coherence or best.language in WESTERN
    return LAST_RESORT if is_vague and _may_be_western(sample) else best.encoding


def _may_be_western(sample: bytes) -> bool:
    """Whether it can be read so, and most of what is not ASCII stands alone, as letters with accents do."""
    together = sum(map(len, _TOGETHER.findall(sample)))
    stand_alone = len(_BEYOND_ASCII.findall(sample)) - together
    return stand_alone > together and _REPLACEMENT not in sample.decode(LAST_RESORT, "replace")


def _pieces(path: Path, encoding: str) -> Iterator[str]:
    with path.open(encoding=encoding, errors="replace", newline=None) as file:
        while piece := file.read(BLOCK_BYTES):
            yield storable(piece)
