"""What a document that waits is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.forecast import Prospect, Rate, prospects, worth_telling

SIZES = st.lists(st.integers(1, 10**9), max_size=20)


def test_the_rate_is_that_of_the_last_minute():
    """What was fast an hour ago says nothing."""
    rate = Rate()
    for second in range(200):
        rate.see(second, second * 1000 if second < 100 else 100_000 + (second - 100) * 10)
    assert rate.bytes_per_second == pytest.approx(10)


@pytest.mark.parametrize(
    "seen",
    [[], [(0.0, 5)], [(0.0, 5), (1.0, 500)], [(0.0, 5), (30.0, 5)], [(0.0, 500), (30.0, 5)]],
    ids=["nothing", "one look", "too short", "nothing served", "a counter that began anew"],
)
def test_there_is_no_rate_before_there_is_one(seen):
    """Nobody is told a time that is not measured."""
    rate = Rate()
    for now, served in seen:
        rate.see(now, served)
    assert rate.bytes_per_second is None


@given(SIZES, st.integers(0, 10**9), st.floats(1, 10**6))
def test_who_comes_later_is_done_later(sizes, ahead, rate):
    """Places count from 1; everybody waits for those before and for themselves."""
    told = list(prospects(sizes, ahead, rate))
    assert [prospect.position for prospect in told] == list(range(1, len(sizes) + 1))
    times = [prospect.eta_seconds for prospect in told]
    assert times == sorted(times)
    if told:
        assert times[-1] == pytest.approx((ahead + sum(sizes)) / rate, abs=0.06)


@pytest.mark.parametrize(
    ("told", "now", "news"),
    [
        (Prospect(2, 10.0), Prospect(1, 10.0), True),
        (Prospect(1, None), Prospect(1, 10.0), True),
        (Prospect(1, 10.0), Prospect(1, 11.0), False),
        (Prospect(1, 10.0), Prospect(1, 13.0), True),
        (Prospect(1, 0.5), Prospect(1, 1.2), False),
        (Prospect(1, None), Prospect(1, None), False),
    ],
)
def test_only_news_is_told(told, now, news):
    """An event goes to everyone who watches: not for a second more or less."""
    assert worth_telling(told, now) is news
