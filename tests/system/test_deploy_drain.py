"""The short form of ``make deploy-drain``."""

from __future__ import annotations

import pytest

from tests import deploys


@pytest.mark.alone
@pytest.mark.parametrize("balancer", [False, True], ids=["direct", "balanced"])
def test_a_deploy_is_noticed_by_nobody(tmp_path, balancer):
    """Not ready at once; each viewer has a delay of its own and is sent away within the window; those that come back
    come evenly; no final state is missed, and no answer makes an `EventSource` give up."""
    plan = deploys.Plan(
        viewers=300, documents=20, stops=1, drain_seconds=3, slice_seconds=0.75, retry_ms=600, balancer=balancer
    )
    report = deploys.run(plan, tmp_path)
    deploys.show(report)
    assert report.wrong == []
    assert all(node.not_ready_seconds < 0.5 for node in report.stopped)
