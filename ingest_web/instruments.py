"""What the relay has done, for Prometheus: the answers to "is the bar right?", over all processes of a node.

Owns the names and meanings. The numbers come from `ingest_web.tally`, now and then; `GET /metrics` shows them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from ingest_web.tally import LAG_SECONDS, Counts

#: Where the processes of a node put their numbers together; `gunicorn_conf` sets it before any of them starts.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True)
class Standing:
    """How things are in this process now."""

    streams: int
    documents: int
    subscribed: bool
    redis_connections: int


class Instruments:
    """The metrics of one process, summed up over all processes of the node when they are shown."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._streams = self._gauge("ingest_streams_open", "Viewers")
        self._documents = self._gauge("ingest_documents_watched", "Documents subscribed to")
        self._subscribed = self._gauge("ingest_pubsub_up", "Web processes whose pub/sub connection stands")
        self._connections = self._gauge("ingest_redis_connections", "Connections to Redis, pub/sub and commands")
        self._deliveries = self._counter("ingest_deliveries", "Events, times the viewers that each was for")
        self._lag = _WeightedHistogram(
            "ingest_delivery_lag_seconds",
            "From the worker's write to the last viewer's socket, at most; the clocks of both are in it",
            buckets=LAG_SECONDS,
            registry=self._registry,
        )
        self._conflated = self._counter("ingest_deliveries_conflated", "Deliveries replaced by a later event")
        self._healed = self._counter("ingest_events_healed", "Events that were read since they had not been heard")
        self._joins = self._counter("ingest_joins", "Documents that a viewer was brought up to date with", "how")
        self._closed = self._counter("ingest_streams_closed", "Streams that ended", "why")
        self._put_off = self._counter("ingest_streams_put_off", "Streams that were asked to come back at once", "code")
        self._lost = self._counter("ingest_pubsub_connections_lost", "Pub/sub connections that broke")

    def add(self, counts: Counts, standing: Standing) -> None:
        """Take over what was counted, and how things are now."""
        self._streams.set(standing.streams)
        self._documents.set(standing.documents)
        self._subscribed.set(standing.subscribed)
        self._connections.set(standing.redis_connections)
        self._deliveries.inc(counts.deliveries)
        self._lag.add(counts.lags, counts.lag_seconds)
        self._conflated.inc(counts.conflated)
        self._healed.inc(counts.healed)
        self._lost.inc(counts.connections_lost)
        for counter, numbers in (
            (self._joins, counts.joinings),
            (self._closed, counts.endings),
            (self._put_off, counts.put_off),
        ):
            for label, number in numbers.items():
                counter.labels(label).inc(number)

    @property
    def registry(self) -> CollectorRegistry:
        """What to show: this process's numbers, or those of all processes of the node."""
        if SHARED_FOLDER not in os.environ:
            return self._registry
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return shared

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry, multiprocess_mode="livesum")

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)


class _WeightedHistogram(Histogram):
    """A histogram that takes what was counted elsewhere, in buckets of the same bounds."""

    def add(self, counts: list[int], total: float) -> None:
        """So many observations for each bucket (not cumulative), and their sum."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
