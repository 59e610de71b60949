"""What every format gives: a document that is read page by page, and what was read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from shared.documents import Page

#: What UTF-8 can't carry (lone surrogates, from broken fonts) and what PostgreSQL doesn't store (NUL).
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


class Reader(StrEnum):
    """Who got the text of a page."""

    PDFPLUMBER = "pdfplumber"
    PDFIUM = "pdfium"
    #: The one reader that its format has.
    ONLY = "only"
    NOBODY = "nobody"


class Problem(StrEnum):
    """Why a page was left out, though a reader may well have made something of it."""

    TOO_LARGE = "too_large"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True, slots=True)
class Reading:
    """A page, and who read it. ``fell_back`` says that the engine's own reader of the page tried it and failed."""

    page: Page
    reader: Reader
    fell_back: bool = False
    problem: Problem | None = None

    @classmethod
    def left_out(cls, number: int, problem: Problem) -> Reading:
        """A page without its text, for this reason."""
        return cls(Page(number, ""), Reader.NOBODY, problem=problem)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a document is taken in: a file of a few bytes may hold a page of a gigabyte."""

    pages: int
    page_characters: int


class Document(Protocol):
    """An open document: so many pages, or what stands for them, each to be read at any time and in any order."""

    @property
    def unit(self) -> str:
        """What its parts are called, in the plural: ``pages`` or ``sections``."""

    @property
    def page_count(self) -> int:
        """How many there are."""

    @property
    def repaired(self) -> bool:
        """Whether the file was found to be damaged."""

    def reading(self, number: int) -> Reading:
        """The page ``number``, from 1. A page that nobody can read has an empty text.

        Raises `MemoryError`: what is left after one is for the caller to judge.
        """


def storable(text: str) -> str:
    """The text with line ends of one kind, and a replacement character for what can't be stored."""
    return _NOT_STORABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))
