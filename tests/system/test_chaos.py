"""The short form of ``make chaos``."""

from __future__ import annotations

import dataclasses

import pytest

from tests import chaos


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_workers_and_redis_that_die_cost_no_document(tmp_path):
    """All complete, as if nothing had happened; whoever watches is told in time, and nothing of the work is left."""
    plan = chaos.Plan(
        documents=24,
        kill_every_seconds=1.0,
        redis_restarts=1,
        flushes=1,
        limit_seconds=240,
        times_a_loss=False,
        told_within_seconds=20,  # twice what `make chaos` is to show: other tests share the machine
        resumed_within_seconds=60,
    )
    report = chaos.run(plan, tmp_path)
    chaos.show(report)
    assert report.wrong == []


@pytest.mark.parametrize(
    "changed",
    [
        {"redis_restarts": 1},
        {"flushes": 0},
        {"children_killed": 0},
        {"trees_killed": 0},
        {"losses_in_events": 0},
        {"told_seconds": []},
        {"resumed_seconds": []},
        {"told_seconds": [1.0, 10.1]},
        {"resumed_seconds": [30.1, 1.0]},
    ],
    ids=str,
)
def test_a_run_in_which_too_little_happened_or_came_too_late_is_wrong(changed):
    """However well its documents ended."""
    whole = chaos.Report(
        chaos.Plan(),
        redis_restarts=2,
        flushes=1,
        children_killed=1,
        trees_killed=1,
        losses_in_events=1,
        told_seconds=[9.9],
        resumed_seconds=[29.9],
    )
    assert [*chaos.missing(whole), *chaos.late(whole)] == []
    report = dataclasses.replace(whole, **changed)
    assert len([*chaos.missing(report), *chaos.late(report)]) == 1
