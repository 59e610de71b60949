"""Nothing holds the event loop of a web process for long. `make bench-loop` says how long; here it is a matter of
whether others are served meanwhile."""

from __future__ import annotations

import pytest

from bench import loop_hold

pytestmark = pytest.mark.alone

#: Work in one go, by the CPU that it took, of which no load of the machine is a part. Far more than is meant, since a
#: cold cache or a first import counts, too, and far less than what an upload or a result of this size takes as a whole.
MOST_MS = 120


@pytest.fixture(scope="module")
def phases() -> dict[str, loop_hold.Phase]:
    """A node with 500 viewers, of which one thing after the other was asked."""
    measured = loop_hold.measure(viewers=500, seconds=1.0, upload_bytes=50_000_000, chunks=25_000)
    return {phase.name: phase for phase in measured}


@pytest.mark.parametrize("name", [loop_hold.UPLOAD, loop_hold.UPLOAD_AND_EVENTS, loop_hold.RESULT, loop_hold.WIDE_ONES])
def test_whatever_is_large_takes_turns_with_others(phases, name):
    """A fast upload, a long result and streams of 500 documents leave room for whoever asks something small."""
    phase = phases[name]
    assert phase.holds.worked_ms < MOST_MS, phase.holds.long
    assert len(phase.livez_ms) >= 5


def test_every_viewer_gets_every_event_meanwhile(phases):
    """An upload takes nothing from those who watch."""
    for name in (loop_hold.EVENTS, loop_hold.UPLOAD_AND_EVENTS):
        assert phases[name].windows
        for window in phases[name].windows:
            assert window.delivered == window.expected
