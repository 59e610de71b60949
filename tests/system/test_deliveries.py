"""The short form of ``make deliveries``."""

from __future__ import annotations

from tests import deliveries


def test_every_delivery_arrives_signed_and_in_order_whoever_is_killed(tmp_path):
    """To an endpoint that is well, to one that is slow, and to one that fails, which is sent all of it again later."""
    plan = deliveries.Plan(documents=15, kill_every_seconds=1.0, most_kills=3, limit_seconds=90)
    report = deliveries.run(plan, tmp_path)
    deliveries.show(report)
    assert report.wrong == []
    assert report.documents == {"COMPLETED": 15}
    assert report.couriers_killed + report.workers_killed == 3
    assert report.states["delivered"] == 2 * report.messages
    assert report.recovered == report.states["failed"] == report.messages
