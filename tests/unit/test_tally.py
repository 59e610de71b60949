"""What the relay has done, as numbers, and as Prometheus shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingest_web.events import Event
from ingest_web.instruments import Instruments, Standing
from ingest_web.tally import LAG_SECONDS, Joining, Tally
from ingest_web.viewer import Ending


def event(seq: int = 1, seconds_ago: float = 0.0) -> Event:
    at = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    return Event("a", seq, is_final=False, data=f'{{"id":"a","seq":{seq},"at":"{at}"}}'.encode())


def shown(instruments: Instruments) -> dict[str, float]:
    families = text_string_to_metric_families(generate_latest(instruments.registry).decode())
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_delivery_is_counted_with_its_lag():
    """As often as it had viewers, in the bucket of the time since it was written."""
    tally = Tally()
    tally.delivered(event(seconds_ago=0.3), deliveries=7)
    counts = tally.taken()
    assert counts.deliveries == 7
    assert counts.lags[LAG_SECONDS.index(0.5)] == 7
    assert sum(counts.lags) == 7
    assert 7 * 0.3 <= counts.lag_seconds < 7 * 0.5


def test_clocks_that_disagree_make_no_negative_lag():
    """A worker whose clock is ahead is not faster than light."""
    tally = Tally()
    tally.delivered(event(seconds_ago=-5), deliveries=1)
    assert tally.taken().lag_seconds == 0


def test_an_event_that_does_not_say_when_it_was_written_has_no_lag():
    """It is delivered all the same."""
    tally = Tally()
    tally.delivered(Event("a", 1, is_final=False, data=b"{}"), deliveries=1)
    counts = tally.taken()
    assert (counts.deliveries, sum(counts.lags)) == (1, 0)


def test_what_is_taken_is_taken_once():
    """Nothing is shown twice."""
    tally = Tally()
    tally.closed(Ending.LEFT, conflated=3)
    assert tally.taken().endings == {Ending.LEFT: 1}
    assert not tally.taken().endings


@pytest.mark.parametrize(
    ("seen", "seqs", "how"),
    [(0, [9], Joining.SNAPSHOT), (9, [], Joining.CURRENT), (7, [8, 9], Joining.REPLAYED), (2, [9], Joining.RESET)],
)
def test_how_a_viewer_was_brought_up_to_date_has_a_name(seen, seqs, how):
    """What a resume came to is seen from what was sent."""
    assert Joining.of(seen, [event(seq) for seq in seqs]) is how


def test_prometheus_is_shown_all_of_it():
    """Each number has a name and stays when others are added."""
    instruments, tally = Instruments(), Tally()
    for _ in range(2):
        tally.delivered(event(seconds_ago=0.3), deliveries=7)
        tally.conflated(2)
        tally.healed(1)
        tally.joined(Joining.RESET)
        tally.closed(Ending.STALLED, conflated=1)
        tally.put_off("unavailable")
        tally.connection_lost()
        instruments.add(tally.taken(), Standing(streams=3, documents=2, subscribed=True, redis_connections=2))
    figures = shown(instruments)
    assert figures["ingest_deliveries_total"] == 14
    assert figures["ingest_delivery_lag_seconds_bucket[0.25]"] == 0
    assert figures["ingest_delivery_lag_seconds_bucket[0.5]"] == 14
    assert figures["ingest_delivery_lag_seconds_count"] == 14
    assert figures["ingest_delivery_lag_seconds_sum"] == pytest.approx(14 * 0.3, rel=0.2)
    assert figures["ingest_deliveries_conflated_total"] == 6
    assert figures["ingest_events_healed_total"] == 2
    assert figures["ingest_joins_total[reset]"] == 2
    assert figures["ingest_streams_closed_total[stalled]"] == 2
    assert figures["ingest_streams_put_off_total[unavailable]"] == 2
    assert figures["ingest_pubsub_connections_lost_total"] == 2
    assert (figures["ingest_streams_open"], figures["ingest_documents_watched"]) == (3, 2)
    assert (figures["ingest_pubsub_up"], figures["ingest_redis_connections"]) == (1, 2)
