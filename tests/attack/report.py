"""What was tried, and what got through. Pure but for `show`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from tests.attack.stage import Stage

#: The first so many of those that got through are shown.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt: how it was made, and whether it was ``stopped``."""

    how: str
    stopped: bool


Attack = Callable[[Stage], Iterator[Try]]


@dataclass
class Outcome:
    """What became of one kind of attack."""

    what: str
    tries: int = 0
    seconds: float = 0.0
    through: list[str] = field(default_factory=list)


def carry_out(what: str, attack: Attack, stage: Stage) -> Outcome:
    """Make all attempts of an attack. One that breaks down got through: nobody knows what it did."""
    outcome = Outcome(what)
    began = time.monotonic()
    try:
        for attempt in attack(stage):
            outcome.tries += 1
            if not attempt.stopped:
                outcome.through.append(attempt.how)
    except Exception as error:  # noqa: BLE001 - the other attacks go on
        outcome.through.append(f"broke down: {error!r:.300}")
    outcome.seconds = time.monotonic() - began
    return outcome


def show(outcomes: Iterable[Outcome]) -> None:
    """The report, for people."""
    outcomes = list(outcomes)
    table = Table("tried", "tries", "seconds", "got through")
    for one in outcomes:
        table.add_row(one.what, str(one.tries), f"{one.seconds:.1f}", str(len(one.through)))
    tries, through = sum(one.tries for one in outcomes), sum(len(one.through) for one in outcomes)
    table.add_section()
    table.add_row("all", str(tries), f"{sum(one.seconds for one in outcomes):.1f}", str(through))
    console = Console(width=140)
    console.print(table)
    for one in outcomes:
        for how in one.through[:SHOWN]:
            console.print(f"got through: {one.what}: {how}", markup=False)
