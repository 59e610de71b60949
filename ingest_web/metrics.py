"""What operators scale by: how much waits, how much is worked on and how old the oldest is, from our own record; and
what the relay does, from `ingest_web.instruments`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import structlog
from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest_web import services, turns
from ingest_web.services import Services
from shared.deliveries import Deliveries
from shared.errors import StoreUnavailable
from shared.outbox import OUTCOMES

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("metrics", __name__)

#: Parts are counted so far and no further: nobody starts more workers than this at once.
MOST_PARTS = 1000


#: What the figures of `GET /queues` are called for Prometheus.
MEANINGS = {
    "queued": ("ingest_documents_queued", "Documents that wait for a worker"),
    "running": ("ingest_documents_running", "Documents that are worked on"),
    "oldest_queued_seconds": ("ingest_oldest_queued_seconds", "How long the oldest of those that wait has waited"),
    "oldest_seconds": ("ingest_oldest_document_seconds", "The age of the oldest document that is not finished"),
    "parts_claimable": ("ingest_parts_claimable", "Parts of documents that more workers could take on at once"),
}


@blueprint.get("/queues")
def queues() -> Response:
    """The documents that wait for a worker and those that are worked on, and the age of the oldest in seconds."""
    return jsonify(_queues(services.current()))


@blueprint.get("/metrics")
def metrics() -> Response:
    """The same for Prometheus, with what the relay does, and with this process's resources.

    200 also without Redis: it says so.
    """
    current = services.current()
    work = CollectorRegistry()
    work.register(_Work(current))
    work.register(_Webhooks(current))
    shown = turns.aside(_of_process) + generate_latest(work) + generate_latest(current.instruments.registry)
    return Response(shown, content_type=CONTENT_TYPE_LATEST)


def _of_process() -> bytes:
    # It counts open files one by one: with 10,000 streams that takes 10 ms.
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _queues(current: Services) -> dict[str, float]:
    worklist = current.worklist
    return {**asdict(worklist.overview()), "parts_claimable": worklist.claimable(MOST_PARTS)}


class _Work(Collector):
    """Read when it is asked for. What concerns documents is the same whichever process answers."""

    def __init__(self, current: Services) -> None:
        self._current = current

    def collect(self) -> Iterable[Metric]:
        """The gauges, those of the record only while there is one to read."""
        try:
            values = _queues(self._current)
        except StoreUnavailable as error:
            log.warning("metrics.without_redis", reason=error.detail)
            values = {}
        yield GaugeMetricFamily("ingest_redis_up", "Whether Redis answers", float(bool(values)))
        for name, value in values.items():
            yield GaugeMetricFamily(*MEANINGS[name], value)


class _Webhooks(Collector):
    """What is to be told, from the record and from the database, those of which that answer."""

    def __init__(self, current: Services) -> None:
        self._current = current

    def collect(self) -> Iterable[Metric]:
        """The gauges, and the attempts so far."""
        try:
            figures = self._current.outbox.figures()
            yield GaugeMetricFamily("ingest_outboxes", "Documents of which webhooks have still to hear", figures.filled)
            yield GaugeMetricFamily(
                "ingest_oldest_outbox_seconds", "How long the first has waited", figures.oldest_seconds
            )
            attempts = CounterMetricFamily("ingest_webhook_attempts", "Attempts at deliveries", labels=["outcome"])
            for outcome in sorted({*OUTCOMES, *figures.attempts}):
                attempts.add_metric([outcome], figures.attempts.get(outcome, 0))
            yield attempts
            due, oldest_seconds = Deliveries(self._current.webhooks).due()
            yield GaugeMetricFamily("ingest_webhooks_due", "Documents and endpoints with a delivery that is due", due)
            yield GaugeMetricFamily("ingest_oldest_due_seconds", "How long the first has been due", oldest_seconds)
        except StoreUnavailable as error:
            log.warning("metrics.without_webhooks", reason=error.detail)
