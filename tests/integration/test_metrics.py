"""What operators scale by."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from shared.jobs import Status
from shared.parts import pages
from shared.worklist import Plan, Worklist
from tests.records import new_document


def gauges(http) -> dict[str, float]:
    answer = http.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_the_queue_is_counted_from_the_record(http, store, client, settings):
    """Documents that wait, that are worked on, the oldest of each; the same for people and for Prometheus."""
    assert http.get("/queues").json == {
        "queued": 0, "running": 0, "oldest_queued_seconds": 0.0, "oldest_seconds": 0.0, "parts_claimable": 0,
    }  # fmt: skip
    first = new_document(store)
    worklist = Worklist(client, settings)
    worklist.settle(worklist.claim(), rest=[pages(1, 1), pages(2, 2)], plan=Plan(2, 0, "pages"))
    new_document(store)
    found = http.get("/queues").json
    assert (found["queued"], found["running"], found["parts_claimable"]) == (1, 1, 3)
    assert found["oldest_seconds"] >= found["oldest_queued_seconds"] >= 0
    metrics = gauges(http)
    assert (metrics["ingest_documents_queued"], metrics["ingest_documents_running"]) == (1, 1)
    assert metrics["ingest_parts_claimable"] == 3
    assert (metrics["ingest_redis_up"], metrics["ingest_streams_open"]) == (1, 0)
    assert metrics["process_resident_memory_bytes"] > 0
    store.record(first, 1, Status.CANCELLED, "Cancelled")
    assert http.get("/queues").json["running"] == 0


def test_without_redis_the_metrics_say_so(make_app, tmp_path):
    """A scrape must not fail just when it is needed; the queues are not known then."""
    http = make_app(redis_url=f"unix://{tmp_path}/gone.sock").test_client()
    metrics = gauges(http)
    assert metrics["ingest_redis_up"] == 0
    assert "ingest_documents_queued" not in metrics
    assert http.get("/queues").json["code"] == "unavailable"
