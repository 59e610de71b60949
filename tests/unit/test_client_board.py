"""The live bars, drawn on a terminal in memory."""

from __future__ import annotations

import io

from rich.console import Console

from ingest_client.board import Bars
from tests.scripted_server import a_state, completed


def bars_of(height: int) -> tuple[Bars, io.StringIO]:
    """Bars on a terminal of so many lines, and what it shows."""
    screen = io.StringIO()
    return Bars(Console(file=screen, force_terminal=True, width=100, height=height)), screen


def shown(bars: Bars) -> list[str]:
    return [task.fields["name"] for task in bars._progress.tasks if task.visible]


def test_finished_documents_make_room_for_those_that_move() -> None:
    """On a terminal with too few lines, what is over steps back; at the end everything is there."""
    bars, _ = bars_of(height=4)
    with bars:
        rows = [bars.begin(f"{name}.pdf") for name in "ABC"]
        bars.show(rows[0], completed("A"))
        assert shown(bars) == ["B.pdf", "C.pdf"]
    assert shown(bars) == ["A.pdf", "B.pdf", "C.pdf"]


def test_finished_documents_stay_where_there_is_room() -> None:
    """Bars don't jump without need."""
    bars, _ = bars_of(height=20)
    with bars:
        row = bars.begin("A.pdf")
        bars.show(row, completed("A"))
        assert shown(bars) == ["A.pdf"]


def test_a_name_is_neither_markup_nor_a_command_to_the_terminal() -> None:
    """It is shown as it is, but for what a terminal would obey."""
    bars, screen = bars_of(height=20)
    with bars:
        bars.show(bars.begin("x"), a_state(filename="[bold]\x1b[2J.pdf"))
    assert "[bold] [2J.pdf" in screen.getvalue()
