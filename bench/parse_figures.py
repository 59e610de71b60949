"""What was measured of one file, what it is held to, and whether that was met. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from bench.parse_quality import Quality
from shared.config import Engine

ENGINE_ON_TWO_TIMES = 1.8
PROSE_TIMES = 25.0
TABLES_TIMES = 1.0
MOST_BEYOND_READING = 0.05
LEAST_ALIKE = 0.98


@dataclass(frozen=True, slots=True)
class Ingested:
    """How long a document took, from the record that is made to the state COMPLETED, by the record.

    And how much CPU time its readers had meanwhile, and all other processes of the worker together.
    """

    seconds: float
    reading_cpu_seconds: float
    other_cpu_seconds: float


@dataclass
class Figures:
    """What was measured of one file. Times in seconds, of each round; those of the service by engine and processes."""

    name: str
    quality: Quality
    loop_seconds: list[float] = field(default_factory=list)
    #: With the pdfplumber engine on one process.
    on_one: list[Ingested] = field(default_factory=list)
    service_seconds: dict[tuple[Engine, int], list[float]] = field(default_factory=dict)

    @property
    def beyond_reading(self) -> list[float]:
        """How much longer it took than the reader was at work, as a share of that, of each round."""
        return [one.seconds / one.reading_cpu_seconds - 1 for one in self.on_one]

    @property
    def beside_reading(self) -> list[float]:
        """The CPU time of the worker's other processes, as a share of the reader's, of each round."""
        return [one.other_cpu_seconds / one.reading_cpu_seconds for one in self.on_one]

    def times_the_loop(self, engine: Engine, processes: int) -> float:
        """How many times as fast as the plain loop, by the medians."""
        return median(self.loop_seconds) / median(self.service_seconds[engine, processes])


class Verdict(NamedTuple):
    """Whether one goal was met on one file."""

    goal: str
    measured: str
    met: bool


def verdicts(figures: Figures) -> Iterator[Verdict]:
    """Of all goals that the file is one for: those for prose, or those for tables."""
    quality = figures.quality
    yield _times(figures, Engine.PDFPLUMBER, 2, ENGINE_ON_TWO_TIMES)
    if quality.is_prose:
        yield _times(figures, Engine.AUTO, 2, PROSE_TIMES)
    else:
        yield _times(figures, Engine.AUTO, 1, TABLES_TIMES)
    beyond = median(figures.beyond_reading)
    goal = f"cost beyond reading under {MOST_BEYOND_READING:.0%}"
    spread = f"{min(figures.beyond_reading):+.1%} to {max(figures.beyond_reading):+.1%}"
    yield Verdict(goal, f"{beyond:+.1%} ({spread})", beyond < MOST_BEYOND_READING)
    if quality.is_prose:
        yield from _words("the loop's as it comes", quality.alike)
        yield from _words("the loop's with x_tolerance=1.5", quality.alike_with_narrow_spaces)
    if quality.tables:
        equal = f"{quality.tables_equal} of {quality.tables}"
        yield Verdict("all tables equal", equal, quality.tables_equal == quality.tables)


def _times(figures: Figures, engine: Engine, processes: int, goal: float) -> Verdict:
    times = figures.times_the_loop(engine, processes)
    on = f"{processes} process{'es' if processes > 1 else ''}"
    return Verdict(f"{engine} on {on} at least {goal:g} x the loop", f"{times:.2f} x", times >= goal)


def _words(whose: str, alike: float | None) -> Iterator[Verdict]:
    if alike is not None:
        yield Verdict(f"words at least {LEAST_ALIKE} like {whose}", f"{alike:.3f}", alike >= LEAST_ALIKE)
