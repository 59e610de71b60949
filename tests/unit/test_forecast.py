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
        rate.see(second, second * 1000 if second < 100 else 100_000 + (second - 100) * 10, is_at_work=True)
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
        rate.see(now, served, is_at_work=True)
    assert rate.bytes_per_second is None


@pytest.mark.parametrize("idle", [range(300), range(304, 330)], ids=["before", "in between"])
def test_the_time_in_which_nothing_was_in_hand_is_not_counted(idle):
    """A megabyte a second, whenever somebody was at work, is that and not a twelfth of it."""
    rate, served = Rate(), 0
    for second in range(335):
        is_at_work = second >= 300 and second not in idle
        served += 1_000_000 * is_at_work
        rate.see(second, served, is_at_work=is_at_work)
    assert rate.bytes_per_second == pytest.approx(1_000_000, rel=0.1)


def test_what_was_begun_and_done_between_two_looks_is_counted():
    """With all the time between them: nobody knows how much of it was worked."""
    rate = Rate()
    for second in range(0, 20, 2):
        rate.see(second, 100 * second, is_at_work=False)
    assert rate.bytes_per_second == pytest.approx(100)


@given(SIZES, SIZES, st.floats(1, 10**6))
def test_who_is_larger_is_done_later(sizes, left, rate):
    """Places count from 1 in the order of the queue; the largest waits for all the others, and nobody for more."""
    told = list(prospects(sizes, left, rate))
    assert [prospect.position for prospect in told] == list(range(1, len(sizes) + 1))
    times = [time for _, time in sorted(zip(sizes, (prospect.eta_seconds for prospect in told), strict=True))]
    assert times == sorted(times)
    if sizes and max(sizes) >= max(left, default=0):
        assert times[-1] == pytest.approx((sum(left) + sum(sizes)) / rate, abs=0.06)


@given(SIZES, SIZES)
def test_nobody_waits_for_more_of_another_than_fair_sharing_gives_it(sizes, left):
    """As much as the document itself has, or all that the other has."""
    told = [prospect.eta_seconds for prospect in prospects(sizes, left, 1.0)]
    assert told == [sum(min(size, other) for other in [*sizes, *left]) for size in sizes]


def test_a_small_document_is_not_told_the_time_of_a_large_one_before_it():
    """10 kB behind 10 MB at 80 kB a second: a moment, not two minutes."""
    assert list(prospects([10_000], [10_000_000], 80_000)) == [Prospect(1, 0.2)]


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
