"""What `bench.relay_scale` found, as values, and how it is told: on the terminal, as Markdown, JSON and a plot.

Pure, but for `write`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from bench import plot
from bench.contenders import FLOOR_C, FLOOR_PYTHON, NCHAN, SERVICE
from bench.vanishing import Vanishing
from bench.window import Window

#: What the tables need.
WIDTH = 140

MOST_OF_FLOOR = 1.6
MOST_KIB = 7
LEAST_STREAMS_PER_SECOND = 3_000
MOST_REDIS_CONNECTIONS = 2
P99_VIEWERS = 2_000

_LEFT = "-"


@dataclass(frozen=True)
class Setup:
    """How many viewers watch how many documents, and at which rates they are delivered to, per second."""

    viewers: int
    documents: int
    rates: tuple[int, ...]

    @property
    def viewers_per_document(self) -> int:
        return self.viewers // self.documents

    @property
    def title(self) -> str:
        watched = "one document" if self.documents == 1 else "one document each"
        return f"{self.viewers:,} viewers, {watched}"


@dataclass(frozen=True)
class Opening:
    """What the streams of one target cost when they were opened, and while they are open."""

    target: str
    streams_per_second: int
    cpu_us: float
    memory_kib: float
    redis_connections: int


@dataclass(frozen=True)
class Point:
    """One target at one rate. ``cores`` is what it would need, by a first look; no windows: it can't."""

    rate: int
    target: str
    windows: Sequence[Window]
    cores: float

    def median(self, figure: str) -> float:
        """Over the rounds."""
        return float(statistics.median(getattr(window, figure) for window in self.windows))

    def total(self, figure: str) -> int:
        """Over the rounds."""
        return sum(getattr(window, figure) for window in self.windows)


@dataclass(frozen=True)
class Standing:
    """All targets in one setup. ``left_out`` says of some why they are not."""

    setup: Setup
    openings: Sequence[Opening]
    points: Sequence[Point]
    left_out: dict[str, str] = field(default_factory=dict)

    def opening(self, target: str) -> Opening | None:
        return next((opening for opening in self.openings if opening.target == target), None)

    def at(self, rate: int, target: str) -> Point | None:
        """None when the target was not measured there."""
        found = (point for point in self.points if (point.rate, point.target) == (rate, target) and point.windows)
        return next(found, None)

    @property
    def top(self) -> int:
        """The highest rate."""
        return max(self.setup.rates)


@dataclass(frozen=True)
class Goal:
    """A figure of ours beside what it shall be. ``met`` is None when there is nothing to compare with."""

    figure: str
    where: str
    ours: str
    goal: str
    met: bool | None


@dataclass(frozen=True)
class Report:
    """Everything that was measured in one run."""

    standings: Sequence[Standing]
    vanished: Vanishing | None = None

    @property
    def goals(self) -> list[Goal]:
        """One figure after the other, in the order of the setups."""
        makers = (_cpu_goals, _memory_goals, _p99_goals, _opening_goals, _connection_goals)
        goals = [goal for make in makers for standing in self.standings for goal in make(standing)]
        return goals + ([_vanishing_goal(self.vanished)] if self.vanished else [])


# -- goals -------------------------------------------------------------------------------------------------------------


def _cpu_goals(standing: Standing) -> Iterable[Goal]:
    ours = standing.at(standing.top, SERVICE)
    if ours is None:
        yield Goal("CPU us per delivery", _where(standing), "needs more than one core", "less", met=False)
        return
    cpu, where = ours.median("cpu_us"), _where(standing)
    nchan = standing.at(standing.top, NCHAN)
    floor = standing.at(standing.top, FLOOR_C) or standing.at(standing.top, FLOOR_PYTHON)
    yield _at_most("CPU us per delivery", where, cpu, nchan.median("cpu_us") if nchan else None, NCHAN)
    if floor:
        most = MOST_OF_FLOOR * floor.median("cpu_us")
        yield _at_most("CPU us per delivery", where, cpu, most, f"{MOST_OF_FLOOR} x {floor.target}")


def _p99_goals(standing: Standing) -> Iterable[Goal]:
    ours, nchan = standing.at(standing.top, SERVICE), standing.at(standing.top, NCHAN)
    if ours is not None and standing.setup.viewers == P99_VIEWERS:
        yield _at_most(
            "p99 ms", _where(standing), ours.median("p99_ms"), nchan.median("p99_ms") if nchan else None, NCHAN
        )


def _memory_goals(standing: Standing) -> Iterable[Goal]:
    ours = standing.opening(SERVICE)
    if ours is not None:
        yield _at_most("KiB per open stream", standing.setup.title, ours.memory_kib, MOST_KIB)


def _opening_goals(standing: Standing) -> Iterable[Goal]:
    ours = standing.opening(SERVICE)
    if ours is not None:
        met = ours.streams_per_second >= LEAST_STREAMS_PER_SECOND
        goal = f"at least {LEAST_STREAMS_PER_SECOND:,}"
        yield Goal("streams opened per second", standing.setup.title, f"{ours.streams_per_second:,}", goal, met)


def _connection_goals(standing: Standing) -> Iterable[Goal]:
    ours = standing.opening(SERVICE)
    if ours is not None:
        yield _at_most("Redis connections", standing.setup.title, ours.redis_connections, MOST_REDIS_CONNECTIONS)


def _vanishing_goal(vanished: Vanishing) -> Goal:
    after, last = vanished.after_seconds, vanished.last
    ours = (
        f"{last.streams} streams, {last.files} files, {last.subscriptions} subscriptions, {last.memory_mib:+.1f} MiB "
        f"{f'after {after:.1f} s' if after is not None else 'in the end'}"
    )
    goal = f"nothing, within a heartbeat of {vanished.heartbeat_seconds:g} s"
    met = after is not None and after <= vanished.heartbeat_seconds
    return Goal("left over", f"{vanished.viewers:,} clients vanish; {vanished.how}", ours, goal, met)


def _where(standing: Standing) -> str:
    return f"{standing.setup.title}, {standing.top:,}/s"


def _at_most(figure: str, where: str, ours: float, most: float | None, of: str = "") -> Goal:
    if most is None:
        return Goal(figure, where, f"{ours:.3g}", f"at most {of}, which was not measured", None)
    return Goal(figure, where, f"{ours:.3g}", f"at most {most:.4g}{f' ({of})' if of else ''}", ours <= most)


# -- the terminal ------------------------------------------------------------------------------------------------------


def _share(point: Point) -> str:
    delivered, expected = point.total("delivered"), point.total("expected")
    return f"{delivered:,}" if delivered == expected else f"{delivered:,} of {expected:,}"


_OPENING_COLUMNS: dict[str, Callable[[Opening], str]] = {
    "opened/s": lambda opening: f"{opening.streams_per_second:,}",
    "us each": lambda opening: f"{opening.cpu_us:.0f}",
    "KiB": lambda opening: f"{opening.memory_kib:.1f}",
    "Redis": lambda opening: f"{opening.redis_connections:,}",
}
_POINT_COLUMNS: dict[str, Callable[[Point], str]] = {
    "delivered": _share,
    "p50 ms": lambda point: f"{point.median('p50_ms'):.2f}",
    "p99 ms": lambda point: f"{point.median('p99_ms'):.2f}",
    "CPU us": lambda point: f"{point.median('cpu_us'):.1f}",
    "reader": lambda point: f"{point.median('reader_share'):.0%}",
    "late ms": lambda point: f"{point.median('late_ms'):.1f}",
}


def rows(standing: Standing) -> list[list[str]]:
    """A heading, a line for each target at each rate, and a line for each target that is left out."""
    lines = [["", *_OPENING_COLUMNS, "per s", *_POINT_COLUMNS]]
    for opening in standing.openings:
        cells = [opening.target, *(tell(opening) for tell in _OPENING_COLUMNS.values())]
        for point in standing.points:
            if point.target == opening.target:
                lines.append([*cells, f"{point.rate:,}", *_point_cells(point)])
                cells = [""] * len(cells)
    return lines


def _point_cells(point: Point) -> list[str]:
    if point.windows:
        return [tell(point) for tell in _POINT_COLUMNS.values()]
    return [f"needs {point.cores:.1f} cores", *([_LEFT] * (len(_POINT_COLUMNS) - 1))]


def table(standing: Standing) -> Table:
    """One setup, for the terminal."""
    heading, *lines = rows(standing)
    told = Table(title=standing.setup.title, title_justify="left", caption=_left_out(standing), caption_justify="left")
    for name in heading:
        told.add_column(name, justify="right" if name else "left", no_wrap=True)
    for line in lines:
        told.add_row(*line)
    return told


def goals_table(report: Report) -> Table:
    """Each goal, and whether it is met."""
    told = Table(title="Goals", title_justify="left")
    for heading in ("", "where", "ours", "goal", ""):
        told.add_column(heading)
    for goal in report.goals:
        told.add_row(goal.figure, goal.where, goal.ours, goal.goal, _verdict(goal))
    return told


def _left_out(standing: Standing) -> str | None:
    return "\n".join(f"{name}: {why}" for name, why in standing.left_out.items()) or None


def _verdict(goal: Goal) -> str:
    return {True: "met", False: "NOT met", None: ""}[goal.met]


# -- files -------------------------------------------------------------------------------------------------------------


def write(report: Report, folder: Path, machine: str = "") -> None:
    """`relay.md`, `relay.json` and `relay.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "relay.md").write_text(markdown(report, machine), encoding="utf-8")
    (folder / "relay.json").write_text(
        json.dumps({**asdict(report), "goals": list(map(asdict, report.goals))}, indent=1) + "\n", encoding="utf-8"
    )
    (folder / "relay.svg").write_text(picture(report), encoding="utf-8")


def markdown(report: Report, machine: str) -> str:
    """All tables."""
    goals = [["", "where", "ours", "goal", ""]]
    goals += [[goal.figure, goal.where, goal.ours, goal.goal, _verdict(goal)] for goal in report.goals]
    parts = [f"# The relay, measured by `make bench-relay`\n\n{machine}\n", _markdown_table(goals)]
    for standing in report.standings:
        parts.append(f"## {standing.setup.title}\n\n{_markdown_table(rows(standing))}")
        if standing.left_out:
            parts.append("".join(f"- {name}: {why}\n" for name, why in standing.left_out.items()))
    return "\n".join(parts)


def _markdown_table(lines: Sequence[Sequence[str]]) -> str:
    heading, *rest = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([heading, "|" + " --- |" * len(lines[0]), *rest, ""])


def picture(report: Report) -> str:
    """What deliveries cost and take at the highest rate of each setup, and what open streams do."""
    panels = {heading: _delivery_bars(report, figure) for heading, figure in _DELIVERY_PANELS.items()}
    return plot.bars(
        {**panels, **{heading: _opening_bars(report, figure) for heading, figure in _OPENING_PANELS.items()}}
    )


_DELIVERY_PANELS = {"CPU us per delivery": "cpu_us", "p99 ms": "p99_ms"}
_OPENING_PANELS = {"KiB per open stream": "memory_kib", "streams opened per second": "streams_per_second"}


def _delivery_bars(report: Report, figure: str) -> list[plot.Group]:
    groups = []
    for standing in report.standings:
        at_top = [point for point in standing.points if point.rate == standing.top and point.windows]
        groups.append((_where(standing), [(point.target, point.median(figure)) for point in at_top]))
    return groups


def _opening_bars(report: Report, figure: str) -> list[plot.Group]:
    return [
        (standing.setup.title, [(opening.target, float(getattr(opening, figure))) for opening in standing.openings])
        for standing in report.standings
    ]
