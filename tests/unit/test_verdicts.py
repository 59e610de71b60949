"""What follows from an attempt at a delivery."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_worker.lanes import Claim, Verdict
from ingest_worker.verdicts import FAILING, GONE, JITTER, MOST_RETRY_AFTER_SECONDS, judge, schedule
from shared.config import Settings
from shared.deliveries import Attempt, DeliveryState
from shared.endpoints import Endpoint
from shared.webhooks import EventType, Kind

DELAYS = schedule(Settings().webhook_retry_seconds)
DAYS = 24 * 3600.0
NOW = 1_800_000_000.0

ENDPOINT = Endpoint(
    id="ep_1",
    tenant="default",
    kind=Kind.STANDING,
    url="https://example.com/",
    events=(),
    description="",
    secrets=(),
    is_enabled=True,
    disabled_reason=None,
    failing_since=None,
    resume_at=None,
    created_at=0.0,
    updated_at=0.0,
)

CLAIM = Claim(
    ENDPOINT, "dl_1", "d", "token", "msg_d_1_completed", EventType.COMPLETED, "{}", tries=0, attempts=0, until=2e9
)


def attempt(status: int | None = None, error: str | None = None) -> Attempt:
    if status is not None and not 200 <= status < 300:
        error = error or "refused"
    return Attempt(NOW, 0, {}, status, "", error)


def after(made: Attempt, retry_after: str | None = None, claim: Claim = CLAIM, chance: float = 0.0) -> Verdict:
    return judge(claim, made, retry_after, delays=DELAYS, disable_seconds=5 * DAYS, chance=lambda: chance)


def test_the_schedule_is_that_of_the_specification():
    """Ten attempts: at once, and after 5 s, 5 min, 30 min, 2, 5, 10, 14, 20 and 24 h: 75 h 35 min in all."""
    hours = [seconds / 3600 for seconds in DELAYS[3:]]
    assert (DELAYS[:3], hours) == ((5, 300, 1800), [2, 5, 10, 14, 20, 24])
    assert sum(DELAYS) == 75 * 3600 + 35 * 60 + 5


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_is_success(status):
    """Whatever the answer says beside it."""
    assert after(attempt(status)) == Verdict(DeliveryState.DELIVERED)


@pytest.mark.parametrize("status", [100, 301, 302, 307, 308, 400, 401, 404, 409, 413, 429, 500, 502, 503, 504])
def test_all_else_is_tried_again(status):
    """A redirect too: it is not followed."""
    verdict = after(attempt(status))
    assert (verdict.state, verdict.due_at) == (DeliveryState.PENDING, NOW + 5)


def test_each_try_waits_for_longer_and_the_last_is_the_last():
    """After the tenth the delivery has failed; the endpoint has not."""
    for tries, delay in enumerate(DELAYS):
        verdict = after(attempt(error="timed_out"), claim=replace(CLAIM, tries=tries))
        assert verdict.due_at == NOW + delay
    verdict = after(attempt(500), claim=replace(CLAIM, tries=len(DELAYS)))
    assert verdict == Verdict(DeliveryState.FAILED)


@given(st.floats(0, 1), st.integers(0, len(DELAYS) - 1))
def test_a_try_is_never_early_and_at_most_a_tenth_late(chance, tries):
    """So the tries of many deliveries that failed together come apart."""
    verdict = after(attempt(500), claim=replace(CLAIM, tries=tries), chance=chance)
    assert NOW + DELAYS[tries] <= verdict.due_at <= NOW + DELAYS[tries] * (1 + JITTER)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(("said", "seconds"), [("120", 120.0), (" 7 ", 7.0), ("Fri, 15 Jan 2027 08:02:00 GMT", 120.0)])
def test_who_is_busy_may_say_when_to_come_again(status, said, seconds):
    """In seconds or as a date; the endpoint is left alone for so long, with all that is meant for it."""
    verdict = after(attempt(status), said)
    assert verdict.resume_at == NOW + seconds
    assert verdict.due_at == NOW + max(seconds, DELAYS[0])


@pytest.mark.parametrize(
    "said",
    [
        "-5",
        "soon",
        "",
        "1.5",
        "1e9",
        "Fri, 99 Jan 2027",
        "٣",
        "120, 60",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    ],
)
def test_what_is_no_time_is_no_matter(said):
    """The plan is kept."""
    verdict = after(attempt(503), said)
    assert (verdict.due_at, verdict.resume_at) == (NOW + 5, None)


@given(st.text(max_size=40) | st.integers(0, 10**30).map(str))
def test_nobody_is_left_alone_for_longer_than_a_day(said):
    """Whatever a header says, nothing breaks."""
    verdict = after(attempt(503), said)
    assert verdict.due_at <= NOW + MOST_RETRY_AFTER_SECONDS


@pytest.mark.parametrize("status", [400, 404, 500, 301])
def test_others_may_not(status):
    """Only those who say that they are busy."""
    assert after(attempt(status), "3600").resume_at is None


def test_who_is_gone_is_asked_nothing_more():
    """410, also to a test."""
    assert after(attempt(410)).disabled_because == GONE
    assert after(attempt(410), claim=replace(CLAIM, type=EventType.ENDPOINT_TEST)).disabled_because == GONE


def test_who_has_only_failed_for_days_is_disabled():
    """Not before, and not for a failure alone."""
    for days, reason in ((None, None), (4.9, None), (5.0, FAILING)):
        since = None if days is None else NOW - days * DAYS
        claim = replace(CLAIM, endpoint=replace(ENDPOINT, failing_since=since))
        assert after(attempt(500), claim=claim).disabled_because == reason
        assert after(attempt(200), claim=claim).disabled_because is None


def test_a_test_is_tried_once_and_says_nothing_of_the_endpoint():
    """Its owner sees what came of it."""
    verdict = after(attempt(500), claim=replace(CLAIM, type=EventType.ENDPOINT_TEST))
    assert verdict == Verdict(DeliveryState.FAILED, is_telling=False)
