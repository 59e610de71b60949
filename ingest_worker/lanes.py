"""The lanes of deliveries as couriers see them: claimed by a lease, settled by what came of it.

Deliveries to an endpoint that belong to one document form a lane, and only the first that is pending is ever sent: that
is the order. To claim a lane is to put the end of a lease where the time stands at which to look at it next, with a
token that fences what its holder reports. So nothing has to be taken back: whatever nobody settles is due again by
itself.

A claim looks for endpoints first and for their lanes then, and takes a few of each. However long the queue of a slow
endpoint is, the others are found as fast as without it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, case, delete, func, insert, or_, select, update

from ingest_worker.shares import Shares
from shared import deliveries
from shared.deliveries import Attempt, DeliveryState
from shared.endpoints import Endpoint, endpoint_of
from shared.protocol import timestamp
from shared.webhook_tables import ATTEMPTS, DELIVERIES, ENDPOINTS, LANES, MESSAGES, WebhookDatabase
from shared.webhooks import EventType, Kind, of_disabling


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery in hand. ``tries`` and ``attempts`` are those before this one.

    ``until`` is when the lease ends, in seconds since 1970: from then on somebody else may send it, and what follows.
    """

    endpoint: Endpoint
    delivery_id: str
    lane: str
    token: str
    message_id: str
    type: EventType
    body: str
    tries: int
    attempts: int
    until: float


@dataclass(frozen=True, slots=True)
class Claims:
    """What may be sent now, and when something else will be due, in seconds since 1970."""

    claims: tuple[Claim, ...]
    next_at: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an attempt: the delivery's state, and when to try again while it is pending.

    ``is_telling``: whether it says something about how the endpoint is. ``resume_at``: it is left alone until then.
    ``disabled_because``: nothing more is sent to it. ``failing_since``: that holds if it has only failed since
    then; if it has been well meanwhile, the rest does.
    """

    state: DeliveryState
    due_at: float | None = None
    is_telling: bool = True
    resume_at: float | None = None
    disabled_because: str | None = None
    failing_since: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A claim, what was done about it, and what follows."""

    claim: Claim
    attempt: Attempt
    verdict: Verdict


class Lanes:
    """The lanes of all endpoints. Every method raises `StoreUnavailable` when the database can't be reached."""

    def __init__(self, database: WebhookDatabase, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def claim(self, shares: Shares, lease_seconds: float) -> Claims:
        """Take deliveries that are due, as many as there is room for, of each tenant's endpoints in turn.

        ``shares`` knows what the caller holds already; what is taken is added to it.
        """
        now = self._clock()
        with self._database.reading() as connection:
            rows = connection.execute(_endpoints_in_turn(shares, now)).all()
        due = [endpoint_of(row) for row in rows if row.look_at <= now]
        later = [row.look_at for row in rows if row.look_at > now]
        found: list[Claim] = []
        if due and shares.room:
            with self._database.writing() as transaction:
                until = self._clock() + lease_seconds  # from when there is a turn to write, which may be long in coming
                for endpoint in due:
                    if free := shares.free(endpoint):
                        taken = _claim(transaction, endpoint, free, now, until)
                        shares.take(endpoint, len(taken))
                        found += taken
        return Claims(tuple(found), min(later, default=None))

    def settle(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Note what came of claims. Gives those that counted, and as what.

        A claim whose lease had ended may be another's by now, and an endpoint that was failing may be well, or
        elsewhere.
        """
        now = self._clock()
        counted: list[Outcome] = []
        in_order = sorted(outcomes, key=lambda outcome: (outcome.claim.endpoint.id, outcome.claim.lane))
        with self._database.writing() as transaction:
            deliveries.lock(transaction, _endpoints_of(in_order))
            for outcome in in_order:
                standing = _as_it_stands(transaction, outcome, now)
                if _settle(transaction, standing, now):
                    counted.append(standing)
        return counted

    def release(self, claims: Iterable[Claim]) -> None:
        """Hand claims back: they are due at once, for anyone."""
        now = self._clock()
        with self._database.writing() as transaction:
            for claim in claims:
                held = _lane(claim.endpoint.id, claim.lane) & (LANES.c.token == claim.token)
                transaction.execute(update(LANES).where(held).values(due_at=now, token=None))


def _endpoints_in_turn(shares: Shares, now: float) -> Select[Any]:
    """Enabled endpoints with something pending, and when to look at them: each tenant's first, then each one's second.

    Those that are due come before those that are not. Whoever has a full share is left out: its queue hides nobody.
    """
    # A skip scan over the index: a step for each endpoint, however many lanes it has.
    found = select(func.min(LANES.c.endpoint_id).label("id")).cte("found", recursive=True)
    following = select(func.min(LANES.c.endpoint_id)).where(LANES.c.endpoint_id > found.c.id).scalar_subquery()
    found = found.union_all(select(following).where(found.c.id.is_not(None)))
    oldest = select(func.min(LANES.c.due_at)).where(LANES.c.endpoint_id == ENDPOINTS.c.id).scalar_subquery()
    look_at = case((ENDPOINTS.c.resume_at > oldest, ENDPOINTS.c.resume_at), else_=oldest).label("look_at")
    turn = func.row_number().over(partition_by=ENDPOINTS.c.tenant, order_by=look_at).label("turn")
    joined = select(ENDPOINTS, look_at, turn).join(found, found.c.id == ENDPOINTS.c.id)
    is_idle = (ENDPOINTS.c.kind == Kind.STANDING) & ENDPOINTS.c.id.not_in(shares.busy())
    wanted = joined.where(ENDPOINTS.c.is_enabled, is_idle | ENDPOINTS.c.tenant.not_in(shares.full_tenants()))
    for tenant, origin in shares.full_hosts():
        of_host = or_(ENDPOINTS.c.url == origin, *(_begins(origin + end) for end in ("/", "?")))
        wanted = wanted.where(~((ENDPOINTS.c.tenant == tenant) & (ENDPOINTS.c.kind == Kind.UPLOAD) & of_host))
    ranked = wanted.subquery()
    in_turn = (case((ranked.c.look_at > now, 1), else_=0), ranked.c.turn, ranked.c.look_at)
    return select(ranked).order_by(*in_turn).limit(shares.room + shares.endpoints)


def _begins(url: str) -> Any:
    return ENDPOINTS.c.url.startswith(url, autoescape=True)


def _claim(transaction: Connection, endpoint: Endpoint, most: int, now: float, until: float) -> list[Claim]:
    due = (LANES.c.endpoint_id == endpoint.id) & (LANES.c.due_at <= now)
    first = select(LANES.c.lane).where(due).order_by(LANES.c.due_at).limit(most).with_for_update(skip_locked=True)
    lanes = transaction.execute(first).scalars().all()
    token = secrets.token_hex(8)
    taken = (LANES.c.endpoint_id == endpoint.id) & LANES.c.lane.in_(lanes)
    transaction.execute(update(LANES).where(taken).values(due_at=until, token=token))
    heads = {row.lane: row for row in transaction.execute(_pending(endpoint.id, lanes)).all()}
    empty = [lane for lane in lanes if lane not in heads]
    if empty:
        transaction.execute(delete(LANES).where(LANES.c.endpoint_id == endpoint.id, LANES.c.lane.in_(empty)))
    return [_claim_of(endpoint, heads[lane], token, until) for lane in lanes if lane in heads]


def _pending(endpoint_id: str, lanes: Sequence[str]) -> Select[Any]:
    """What is pending in these lanes, the first of each lane last."""
    columns = (DELIVERIES, MESSAGES.c.type, MESSAGES.c.body)
    joined = select(*columns).join(MESSAGES, MESSAGES.c.id == DELIVERIES.c.message_id)
    in_lanes = (DELIVERIES.c.endpoint_id == endpoint_id) & DELIVERIES.c.lane.in_(lanes)
    pending = joined.where(in_lanes, DELIVERIES.c.state == DeliveryState.PENDING)
    return pending.order_by(DELIVERIES.c.seq.desc(), DELIVERIES.c.id.desc())


def _claim_of(endpoint: Endpoint, row: Row[Any], token: str, until: float) -> Claim:
    kind = EventType(row.type)
    return Claim(endpoint, row.id, row.lane, token, row.message_id, kind, row.body, row.tries, row.attempts, until)


def _endpoints_of(outcomes: Sequence[Outcome]) -> Any:
    """Those that it is about, and all others of a tenant that are told when one is disabled."""
    ids = {outcome.claim.endpoint.id for outcome in outcomes}
    told = {outcome.claim.endpoint.tenant for outcome in outcomes if outcome.verdict.disabled_because}
    return ENDPOINTS.c.id.in_(ids) | (ENDPOINTS.c.tenant.in_(told) & (ENDPOINTS.c.kind == Kind.STANDING))


def _settle(transaction: Connection, outcome: Outcome, now: float) -> bool:
    claim, verdict = outcome.claim, outcome.verdict
    lane = _lane(claim.endpoint.id, claim.lane)
    token = transaction.execute(select(LANES.c.token).where(lane).with_for_update()).scalar()
    if token != claim.token:
        return False
    transaction.execute(insert(ATTEMPTS), [_attempt_row(claim, outcome.attempt)])
    is_over = verdict.state is not DeliveryState.PENDING
    changed = {
        "state": verdict.state,
        "tries": DELIVERIES.c.tries + 1,  # by now it may be to be sent again, with all its tries before it
        "attempts": claim.attempts + 1,
        "error": outcome.attempt.error,
        "finished_at": now if is_over else None,
    }
    transaction.execute(update(DELIVERIES).where(DELIVERIES.c.id == claim.delivery_id).values(changed))
    pending = DELIVERIES.c.state == DeliveryState.PENDING
    of_lane = (DELIVERIES.c.endpoint_id == claim.endpoint.id) & (DELIVERIES.c.lane == claim.lane) & pending
    if is_over and transaction.execute(select(DELIVERIES.c.id).where(of_lane).limit(1)).first() is None:
        transaction.execute(delete(LANES).where(lane))
    else:
        due_at = now if is_over else verdict.due_at
        transaction.execute(update(LANES).where(lane).values(due_at=due_at, token=None))
    _note_health(transaction, outcome, now)
    return True


def _as_it_stands(transaction: Connection, outcome: Outcome, now: float) -> Outcome:
    """What an outcome means for its endpoint and delivery as they are now: they may have changed since it was claimed.

    What failed at a URL that the endpoint no longer has is sent to the new one. Where another courier has seen it well
    meanwhile, this is a failure like any other. And what was to be sent again is, though this was its last try.
    """
    claim, verdict = outcome.claim, outcome.verdict
    columns = select(ENDPOINTS.c.url, ENDPOINTS.c.failing_since, DELIVERIES.c.tries)
    joined = columns.join(DELIVERIES, DELIVERIES.c.endpoint_id == ENDPOINTS.c.id)
    known = joined.where(DELIVERIES.c.id == claim.delivery_id)
    standing = None if verdict.state is DeliveryState.DELIVERED else transaction.execute(known).first()
    if standing is None:
        return outcome
    if standing.url != claim.endpoint.url:
        verdict = Verdict(DeliveryState.PENDING, due_at=now, is_telling=False)
    elif verdict.failing_since is not None and standing.failing_since == verdict.failing_since:
        verdict = replace(verdict, state=DeliveryState.FAILED)
    elif verdict.failing_since is not None:
        verdict = replace(verdict, disabled_because=None)
    was_begun_again = standing.tries < claim.tries
    if was_begun_again and verdict.state is DeliveryState.FAILED and not verdict.disabled_because:
        verdict = replace(verdict, state=DeliveryState.PENDING, due_at=now)
    return replace(outcome, verdict=verdict)


def _attempt_row(claim: Claim, attempt: Attempt) -> dict[str, Any]:
    return {
        "delivery_id": claim.delivery_id,
        "number": claim.attempts + 1,
        "at": attempt.at,
        "duration_ms": attempt.duration_ms,
        "headers": json.dumps(dict(attempt.headers)),
        "status": attempt.status,
        "answer": attempt.answer,
        "error": attempt.error,
    }


def _note_health(transaction: Connection, outcome: Outcome, now: float) -> None:
    endpoint, verdict = outcome.claim.endpoint, outcome.verdict
    of_endpoint = ENDPOINTS.c.id == endpoint.id
    if verdict.disabled_because:
        deliveries.disable(transaction, endpoint.id, verdict.disabled_because, now)
        at = timestamp(datetime.fromtimestamp(now, UTC))
        told = of_disabling(endpoint.id, endpoint.tenant, endpoint.url, verdict.disabled_because, at)
        deliveries.enter(transaction, [told], now)
    elif verdict.state is DeliveryState.DELIVERED:
        failing = of_endpoint & ENDPOINTS.c.failing_since.is_not(None)
        transaction.execute(update(ENDPOINTS).where(failing).values(failing_since=None, resume_at=None))
    elif verdict.is_telling:
        well = of_endpoint & ENDPOINTS.c.failing_since.is_(None)
        transaction.execute(update(ENDPOINTS).where(well).values(failing_since=outcome.attempt.at))
        if verdict.resume_at:
            transaction.execute(update(ENDPOINTS).where(of_endpoint).values(resume_at=verdict.resume_at))


def _lane(endpoint_id: str, lane: str) -> Any:
    return (LANES.c.endpoint_id == endpoint_id) & (LANES.c.lane == lane)
