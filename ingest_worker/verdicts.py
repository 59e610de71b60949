"""What follows from an attempt at a delivery: whether it is over, when to try again, what that says of the endpoint.

Pure. After Standard Webhooks 1.0: only 2xx is success; a redirect is not followed; 410 means that the endpoint is gone;
429, 502, 503 and 504 may say with Retry-After when to come again; retries go on for days, with jitter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from ingest_worker.lanes import Claim, Verdict
from shared.deliveries import Attempt, DeliveryState
from shared.webhooks import EventType

#: A delivery is tried again up to so much later than planned, lest all of an endpoint's come at once.
JITTER = 0.1

#: An endpoint is left alone no longer than this, whatever it asks for.
MOST_RETRY_AFTER_SECONDS = 24 * 3600.0

THROTTLING = frozenset({429, 502, 503, 504})

#: Reasons to disable an endpoint.
GONE = "gone"
FAILING = "failing"

#: Gives a number from 0 to 1.
Chance = Callable[[], float]


def schedule(text: str) -> tuple[float, ...]:
    """The delays of ``INGEST_WEBHOOK_RETRY_SECONDS``."""
    return tuple(float(part) for part in text.split(","))


def judge(
    claim: Claim,
    attempt: Attempt,
    retry_after: str | None,
    *,
    delays: Sequence[float],
    disable_seconds: float,
    chance: Chance,
) -> Verdict:
    """What follows. ``retry_after`` is that header of the answer; times are in seconds since 1970."""
    is_test = claim.type is EventType.ENDPOINT_TEST
    if attempt.error is None:
        return Verdict(DeliveryState.DELIVERED)
    if attempt.status == HTTPStatus.GONE:
        return Verdict(DeliveryState.FAILED, disabled_because=GONE)
    if is_test:
        return Verdict(DeliveryState.FAILED, is_telling=False)
    ended_at = attempt.at + attempt.duration_ms / 1000
    wait = _wait_seconds(retry_after, ended_at) if attempt.status in THROTTLING else None
    resume_at = None if wait is None else ended_at + wait
    if claim.tries < len(delays):
        due_at = ended_at + delays[claim.tries] * (1 + JITTER * chance())
        verdict = Verdict(DeliveryState.PENDING, due_at=max(due_at, resume_at or due_at), resume_at=resume_at)
    else:
        verdict = Verdict(DeliveryState.FAILED, resume_at=resume_at)
    since = claim.endpoint.failing_since
    if since is None or ended_at - since < disable_seconds:
        return verdict
    return replace(verdict, disabled_because=FAILING, failing_since=since)


def _wait_seconds(retry_after: str | None, now: float) -> float | None:
    """How long an answer asks to wait: seconds, or a date (RFC 9110, 10.2.3); None when it says neither."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), MOST_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter for a year that no number of C holds
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(aware.timestamp() - now, 0.0), MOST_RETRY_AFTER_SECONDS)
