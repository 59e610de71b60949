"""The short form of ``make chaos``."""

from __future__ import annotations

import pytest

from tests import chaos


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_workers_and_redis_that_die_cost_no_document(tmp_path):
    """All complete, as if nothing had happened; whoever watches is told in time, and nothing of the work is left."""
    plan = chaos.Plan(documents=24, kill_every_seconds=1.0, redis_restarts=1, flushes=1, limit_seconds=240)
    report = chaos.run(plan, tmp_path)
    chaos.show(report)
    assert report.wrong == []
    assert (report.redis_restarts, report.flushes) == (1, 1)
    assert report.children_killed + report.trees_killed >= 5
    # Twice what `make chaos` is to show: other tests share the machine.
    assert max(report.told_seconds, default=0) < 20
    assert max(report.resumed_seconds, default=0) < 60
