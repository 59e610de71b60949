"""The table of states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs import FINAL, STRETCH, TRANSITIONS, Status, overall_progress, sources_of

RUNNING = [status for status in STRETCH if status not in FINAL]


def test_every_state_has_its_transitions():
    """No state is forgotten in the table, and no transition leads out of it."""
    assert set(TRANSITIONS) == set(Status)
    assert all(targets <= set(Status) for targets in TRANSITIONS.values())


@pytest.mark.parametrize("status", sorted(FINAL))
def test_nothing_follows_a_final_state(status):
    """COMPLETED, FAILED and CANCELLED have no way out."""
    assert TRANSITIONS[status] == frozenset()


@pytest.mark.parametrize("status", [status for status in Status if status not in FINAL])
def test_a_running_document_can_fail_be_cancelled_and_report_again(status):
    """Whatever a document is doing, it may fail, be cancelled, or go on doing it."""
    assert {Status.FAILED, Status.CANCELLED, status} <= TRANSITIONS[status]


def test_sources_are_the_inverse_of_the_transitions():
    """What leads to a state is read from the same table."""
    pairs = {(source, target) for source, targets in TRANSITIONS.items() for target in targets}
    assert {(source, target) for target in Status for source in sources_of(target)} == pairs


@given(st.sampled_from(RUNNING), st.integers(0, 10_000), st.integers(0, 10_000))
def test_only_completed_is_a_hundred_percent(status, done, more):
    """However far a running stage is, the bar is not full."""
    assert 0 <= overall_progress(status, done, done + more) < 100
    assert overall_progress(Status.COMPLETED, done, done + more) == 100


@given(st.lists(st.tuples(st.sampled_from(RUNNING), st.integers(0, 50)), min_size=2))
def test_more_work_never_moves_the_bar_back(reports):
    """Reports in the order of the work make a bar that never falls."""
    order = {status: n for n, status in enumerate(Status)}
    reports.sort(key=lambda report: (order[report[0]], report[1]))
    bars = [overall_progress(status, done, 50) for status, done in reports]
    assert bars == sorted(bars)


@pytest.mark.parametrize(("done", "total"), [(-1, 5), (6, 5)])
def test_impossible_progress_is_refused(done, total):
    """More done than there is, or less than nothing, is an error of the caller."""
    with pytest.raises(ValueError, match="is not progress"):
        overall_progress(Status.PARSING, done, total)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_a_document_that_did_not_complete_keeps_its_bar(status):
    """FAILED and CANCELLED say nothing about how far the document came."""
    with pytest.raises(ValueError, match="says nothing"):
        overall_progress(status, 1, 2)
