"""What the work on a document is made of: planning it, its ranges of pages, chunking, loading. Pure.

A part is known by its name (``plan``, ``pages:33-64``, ``chunk``, ``load``), which is what stands in Redis.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_NAME = re.compile(r"(plan|chunk|load)|pages:([1-9]\d*)-([1-9]\d*)")


class Step(StrEnum):
    """What kind of work a part is. The steps of a document follow each other in this order."""

    PLAN = "plan"
    PAGES = "pages"
    CHUNK = "chunk"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Part:
    """A step, and for `Step.PAGES` the pages ``first`` to ``last``, both included, counted from 1."""

    step: Step
    first: int = 0
    last: int = 0

    @property
    def name(self) -> str:
        """What the part is called in Redis. The inverse of `part_of`."""
        return f"{self.step}:{self.first}-{self.last}" if self.step is Step.PAGES else str(self.step)

    @property
    def pages(self) -> int:
        """How many pages it covers, 0 for a step that covers none."""
        return self.last - self.first + 1 if self.step is Step.PAGES else 0


#: With so many parts hardly anyone is idle while the last one is worked on.
ENOUGH_PARTS = 16

#: To take a part and to settle it costs about as much as to read some pages.
LEAST_PAGES = 8

PLAN = Part(Step.PLAN)
CHUNK = Part(Step.CHUNK)
LOAD = Part(Step.LOAD)


def part_of(name: str) -> Part:
    """The part of that name. Raises `ValueError` when there is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"not a part: {name!r}")
    if match[1]:
        return Part(Step(match[1]))
    first, last = int(match[2]), int(match[3])
    if first > last:
        raise ValueError(f"not a part: {name!r}")
    return pages(first, last)


def pages(first: int, last: int) -> Part:
    """A range of pages, both included."""
    return Part(Step.PAGES, first, last)


def ranges(first: int, last: int, size: int) -> list[Part]:
    """The pages ``first`` to ``last`` in ranges of at most ``size``, as even as can be; none when ``first > last``."""
    count = max(0, last - first + 1)
    number = -(-count // size)
    bounds = [first + count * n // number for n in range(number + 1)] if number else []
    return [pages(start, end - 1) for start, end in itertools.pairwise(bounds)]


def size_of_parts(total: int, most: int) -> int:
    """Pages in a part of a document of ``total``: ``most``, and fewer where the last part would be long awaited."""
    return min(most, max(LEAST_PAGES, -(-total // ENOUGH_PARTS)))


def missing(total: int, done: Iterable[Part], size: int) -> list[Part]:
    """The ranges of at most ``size`` that, with those ``done``, make up the pages 1 to ``total``."""
    gaps: list[Part] = []
    expected = 1
    for part in sorted(done, key=lambda part: part.first):
        gaps += ranges(expected, part.first - 1, size)
        expected = max(expected, part.last + 1)
    return gaps + ranges(expected, total, size)


def halves(part: Part) -> list[Part]:
    """A range of more than one page in two, the first the larger by at most one page."""
    middle = (part.first + part.last) // 2
    return [pages(part.first, middle), pages(middle + 1, part.last)]
