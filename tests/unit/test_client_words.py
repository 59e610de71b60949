"""A state in words."""

from __future__ import annotations

import dataclasses

import pytest

from ingest_client import words
from shared.jobs import Status
from shared.protocol import Notice, Stage
from tests.scripted_server import a_state, completed, failed


def test_a_line_stands_for_itself() -> None:
    """Name, stage, percent, message and time left, in this order."""
    state = a_state("report", 3, progress=30.9, message="Parsed 150 of 500 pages", eta_seconds=20.2)
    assert words.line(state) == "report.pdf  PARSING 30%  Parsed 150 of 500 pages  (0:21 left)"


def test_a_failure_says_why() -> None:
    """The reason takes the place of the message."""
    assert words.line(failed()) == "A.pdf  FAILED 30%  encrypted: A password is needed to open it."


def test_warnings_are_told_at_the_end() -> None:
    """Not while it runs: they come with every event."""
    warnings = (Notice("no_text", "There is no text"),)
    assert words.outcome(a_state(message="Parsed", warnings=warnings)) == "Parsed"
    assert words.outcome(dataclasses.replace(completed(), warnings=warnings)).endswith("; There is no text")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (0.2, "0:01"), (59.5, "1:00"), (61, "1:01"), (3723, "1:02:03")]
)
def test_durations(seconds: float, text: str) -> None:
    """Rounded up, so that nothing ends sooner than announced."""
    assert words.duration(seconds) == text


def test_100_percent_is_only_said_at_the_end() -> None:
    """99.9 is 99%."""
    assert words.percent(a_state(progress=99.9)) == "99%"
    assert words.percent(completed()) == "100%"


def test_what_a_terminal_would_obey_is_taken_out() -> None:
    """Names and messages are strangers' text: no escape sequences, no second line."""
    assert words.plain("a\x1b[31m\nb\x07\u202e.pdf") == "a [31m b  .pdf"


def test_the_time_taken_is_told_at_the_end() -> None:
    """From the upload to the final state."""
    assert words.time_taken(completed(seq=42)) == "in 0:42"
    assert words.time_taken(a_state()) == ""


def test_the_report_holds_everything() -> None:
    """A line for each thing that there is, none for what there is not."""
    state = a_state(
        "A", 5, Status.PARSING, 30,
        stage=Stage(150, 500, "pages"), eta_seconds=21.5, attempt=2, warnings=(Notice("page_lost", "Gone.", (3, 7)),),
    )  # fmt: skip
    assert list(words.report(state)) == [
        "A.pdf",
        "  id        A",
        "  status    PARSING 30%",
        "  message   Step 5",
        "  stage     150 of 500 pages",
        "  left      0:22",
        "  attempt   2",
        "  created   2026-11-23T20:00:00.000Z",
        "  updated   2026-11-23T20:00:05.000Z",
        "  warning   page_lost: Gone. (pages 3, 7)",
    ]
