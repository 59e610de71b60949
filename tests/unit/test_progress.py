"""Reports are few, in time, and the last one always comes."""

from __future__ import annotations

import pytest

from ingest_worker.progress import Pace, Progress, Throttle
from shared.jobs import Status
from shared.protocol import Notice, Stage


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Recorder:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.reports: list[dict[str, object]] = []

    def __call__(self, status, message, **rest) -> None:
        self.reports.append({"status": status, "message": message, **rest})

    def messages(self) -> list[object]:
        return [report["message"] for report in self.reports]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def progress(recorder, clock) -> Progress:
    return Progress(recorder, 0.1, clock)


def test_a_report_says_where_the_stage_stands(progress, recorder, clock):
    """In words, on the bar, in units of the stage, and in seconds that are left."""
    track = progress.track(Status.PARSING, "Parsed", "pages", 500)
    clock.seconds += 15
    track.reach(150)
    assert recorder.reports[-1] == {
        "status": Status.PARSING,
        "message": "Parsed 150 of 500 pages",
        "progress": 27.0,
        "stage": Stage(150, 500, "pages"),
        "eta_seconds": 35.0,
    }


def test_a_change_of_stage_is_reported_at_once(progress, recorder):
    """However short the time since the last report."""
    progress.begin(Status.CHUNKING, "Splitting")
    progress.track(Status.CHUNKING, "Wrote", "chunks", 7)
    progress.begin(Status.LOADING, "Loading")
    assert recorder.messages() == ["Splitting", "Wrote 0 of 7 chunks", "Loading"]
    assert [report["progress"] for report in recorder.reports] == [90.0, 90.0, 94.0]


def test_within_a_stage_reports_keep_their_distance_and_the_last_always_comes(progress, recorder, clock):
    """A thousand pages in a second are some ten reports, the last of them of all pages."""
    track = progress.track(Status.PARSING, "Parsed", "pages", 1000)
    for done in range(1, 1001):
        clock.seconds += 0.001
        track.reach(done)
    assert 10 <= len(recorder.reports) <= 12
    assert recorder.messages()[-1] == "Parsed 1000 of 1000 pages"


def test_warnings_travel_with_the_report(progress, recorder):
    """The one that ends the stage brings them."""
    warnings = (Notice("no_text", "A scan."),)
    progress.begin(Status.CHUNKING, "Splitting", warnings)
    assert recorder.reports[-1]["warnings"] == warnings


def test_what_the_record_raises_ends_the_stage(clock):
    """A document that was cancelled stops its own work at the next report."""

    def refuse(*_: object, **__: object) -> None:
        raise KeyError("cancelled")

    with pytest.raises(KeyError, match="cancelled"):
        Progress(refuse, 0.1, clock).begin(Status.PARSING, "Opening")


def test_the_throttle_counts_from_what_it_let_through(clock):
    """Something urgent goes through too, and puts the next one off."""
    throttle = Throttle(1.0, clock)
    assert throttle.admits(urgent=False)
    clock.seconds += 0.9
    assert not throttle.admits(urgent=False)
    assert throttle.admits(urgent=True)
    clock.seconds += 0.9
    assert not throttle.admits(urgent=False)
    clock.seconds += 0.1
    assert throttle.admits(urgent=False)


def test_an_interval_of_zero_lets_everything_through(clock):
    """For whoever wants each page."""
    throttle = Throttle(0, clock)
    assert throttle.admits(urgent=False)
    assert throttle.admits(urgent=False)


def test_there_is_no_estimate_before_there_is_something_to_measure(clock):
    """Neither before the first page nor before any time has passed."""
    pace = Pace(clock)
    assert pace.seconds_left(1, 10) is None
    clock.seconds += 2
    assert pace.seconds_left(0, 10) is None
    assert pace.seconds_left(4, 10) == 3.0
    assert pace.seconds_left(10, 10) == 0.0
