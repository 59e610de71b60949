"""Webhook endpoints in the SQL database: who wants to hear of what, where, and signed with which secrets."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from ulid import ULID

from shared import signing
from shared.errors import TooManyEndpoints, UnknownEndpoint
from shared.signing import SealedSecret
from shared.webhook_tables import ATTEMPTS, DELIVERIES, ENDPOINTS, LANES, TOUCH_SECONDS, WebhookDatabase, insert_or_wait
from shared.webhooks import Kind

#: Standing endpoints of a tenant; each hears of every document.
MOST_STANDING = 50

#: Endpoints of a tenant that uploads have named; each is a row that stays until it is removed.
MOST_OF_UPLOADS = 1_000

#: Endpoints that are forgotten together.
FORGET_BATCH = 1000

#: Why an endpoint is sent nothing: its owner wants it so.
BY_OWNER = "by_owner"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a tenant wants to hear of something. Times are in seconds since 1970; ``events`` empty: of everything."""

    id: str
    tenant: str
    kind: Kind
    url: str
    events: tuple[str, ...]
    description: str
    secrets: tuple[SealedSecret, ...]
    is_enabled: bool
    disabled_reason: str | None
    failing_since: float | None
    resume_at: float | None
    created_at: float
    updated_at: float

    @property
    def is_as_named(self) -> bool:
        """Whether it is as an upload made it by naming its URL: nothing of it was its owner's choice."""
        is_chosen = self.events or self.description or self.disabled_reason == BY_OWNER
        is_rotated = self.secrets[0].told_to is None
        return self.id == upload_endpoint_id(self.tenant, self.url) and not (is_chosen or is_rotated)


class Endpoints:
    """The endpoints of all tenants. Every method raises `StoreUnavailable` when the database can't be reached.

    To a tenant another's endpoint is as if there were none: `UnknownEndpoint`.
    """

    def __init__(self, database: WebhookDatabase, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self, tenant: str, url: str, events: Sequence[str], description: str, sealed: str) -> Endpoint:
        """A new standing endpoint. Raises `TooManyEndpoints`."""
        row = self._row(f"ep_{str(ULID()).lower()}", tenant, Kind.STANDING, url, SealedSecret(sealed))
        row |= {"events": json.dumps(list(events)), "description": description}
        with self._database.writing() as transaction:
            if _count(transaction, tenant, Kind.STANDING) >= MOST_STANDING:
                raise TooManyEndpoints(f"A tenant has at most {MOST_STANDING} endpoints.")
            transaction.execute(insert(ENDPOINTS), [row])
            return _made(transaction, row["id"])

    def of_upload(self, tenant: str, url: str, seal: Callable[[], str]) -> Endpoint:
        """The endpoint that uploads of a tenant mean by this URL; made, with ``seal``, where there is none.

        Raises `TooManyEndpoints`.
        """
        endpoint_id = upload_endpoint_id(tenant, url)
        found = self._find(tenant, endpoint_id)
        if found is not None and self._touch(found):
            return found
        secret = SealedSecret(seal(), told_to="")
        with self._database.writing() as transaction:
            if _count(transaction, tenant, Kind.UPLOAD) >= MOST_OF_UPLOADS:
                raise TooManyEndpoints(
                    f"Uploads of a tenant name at most {MOST_OF_UPLOADS} URLs: remove some endpoints."
                )
            insert_or_wait(transaction, ENDPOINTS, [self._row(endpoint_id, tenant, Kind.UPLOAD, url, secret)])
            return _made(transaction, endpoint_id)

    def keep(self, tenant: str, endpoint_id: str) -> None:
        """Note that an endpoint is in use, if there is one, so that it is not forgotten."""
        found = self._find(tenant, endpoint_id)
        if found is not None:
            self._touch(found)

    def _touch(self, endpoint: Endpoint) -> bool:
        """Note that it is in use, so that it is not forgotten. Gives whether it is still there."""
        now = self._clock()
        if endpoint.updated_at > now - TOUCH_SECONDS:
            return True
        with self._database.writing() as transaction:
            touched = update(ENDPOINTS).where(ENDPOINTS.c.id == endpoint.id).values(updated_at=now)
            return transaction.execute(touched).rowcount > 0

    def tell_secret(self, endpoint: Endpoint, upload: str) -> str | None:
        """The present secret, sealed, when no other upload was told it before; from now on it is this one's alone."""
        if not endpoint.secrets[0].is_for(upload):
            return None
        ours = ENDPOINTS.c.id == endpoint.id
        with self._database.writing() as transaction:
            row = transaction.execute(select(ENDPOINTS).where(ours).with_for_update()).first()
            if row is None:  # it was removed
                return None
            present, *old = endpoint_of(row).secrets
            if not present.is_for(upload):
                return None
            kept = signing.to_json([replace(present, told_to=upload), *old])
            transaction.execute(update(ENDPOINTS).where(ours).values(secrets=kept))
        return present.sealed

    def get(self, tenant: str, endpoint_id: str) -> Endpoint:
        """One endpoint. Raises `UnknownEndpoint`."""
        found = self._find(tenant, endpoint_id)
        if found is None:
            raise UnknownEndpoint("There is no webhook endpoint with this id.")
        return found

    def of_tenant(self, tenant: str, limit: int, before: str | None = None) -> list[Endpoint]:
        """At most ``limit`` endpoints, the greatest ids first, below ``before``."""
        query = select(ENDPOINTS).where(ENDPOINTS.c.tenant == tenant).order_by(ENDPOINTS.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(ENDPOINTS.c.id < before) if before else query).all()
        return [endpoint_of(row) for row in rows]

    def change(self, tenant: str, endpoint_id: str, **values: Any) -> Endpoint:
        """Set some of url, events, description. Raises `UnknownEndpoint`.

        What is known of how the endpoint is was learned at the old URL, and ends with it.
        """
        if "url" in values:
            values |= {"failing_since": None, "resume_at": None}
        if "events" in values:
            values["events"] = json.dumps(list(values["events"]))
        ours = (ENDPOINTS.c.tenant == tenant) & (ENDPOINTS.c.id == endpoint_id)
        with self._database.writing() as transaction:
            transaction.execute(update(ENDPOINTS).where(ours).values(**values, updated_at=self._clock()))
        return self.get(tenant, endpoint_id)

    def rotate(self, tenant: str, endpoint_id: str, sealed: str, overlap_seconds: float) -> Endpoint:
        """Give an endpoint a new secret beside those before, which sign so long yet. Raises `UnknownEndpoint`.

        Two that do so at the same time come one after the other: the secret of neither is lost.
        """
        ours = (ENDPOINTS.c.tenant == tenant) & (ENDPOINTS.c.id == endpoint_id)
        with self._database.writing() as transaction:
            row = transaction.execute(select(ENDPOINTS).where(ours).with_for_update()).first()
            before = endpoint_of(row).secrets if row else ()
            now = self._clock()
            kept = signing.to_json(signing.rotated(before, sealed, now, overlap_seconds))
            transaction.execute(update(ENDPOINTS).where(ours).values(secrets=kept, updated_at=now))
        return self.get(tenant, endpoint_id)

    def remove(self, tenant: str, endpoint_id: str) -> None:
        """Remove an endpoint and all that was to be delivered to it. Raises `UnknownEndpoint`."""
        self.get(tenant, endpoint_id)
        deliveries = select(DELIVERIES.c.id).where(DELIVERIES.c.endpoint_id == endpoint_id)
        with self._database.writing() as transaction:
            transaction.execute(delete(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id))
            transaction.execute(delete(LANES).where(LANES.c.endpoint_id == endpoint_id))
            transaction.execute(delete(ATTEMPTS).where(ATTEMPTS.c.delivery_id.in_(deliveries)))
            transaction.execute(delete(DELIVERIES).where(DELIVERIES.c.endpoint_id == endpoint_id))

    def forget(self, before: float) -> int:
        """Remove some endpoints that were in use last before then, and for which nothing is kept. Gives how many.

        Those that uploads named, and that are as they were named. ``before`` is in seconds since 1970.
        """
        idle = (ENDPOINTS.c.kind == Kind.UPLOAD) & (ENDPOINTS.c.updated_at < before - TOUCH_SECONDS)
        used = select(DELIVERIES.c.id).where(DELIVERIES.c.endpoint_id == ENDPOINTS.c.id).exists()
        with self._database.reading() as connection:
            rows = connection.execution_options(yield_per=FORGET_BATCH).execute(select(ENDPOINTS).where(idle, ~used))
            as_named = (one.id for one in map(endpoint_of, rows) if one.is_as_named)
            ids = list(islice(as_named, FORGET_BATCH))
        chosen = ENDPOINTS.c.id.in_(ids) & idle  # which one is not that was changed meanwhile
        with self._database.writing() as transaction:
            transaction.execute(select(ENDPOINTS.c.id).where(chosen).order_by(ENDPOINTS.c.id).with_for_update())
            # Looked at again now that nobody else has them: something may have been entered meanwhile.
            return transaction.execute(delete(ENDPOINTS).where(chosen, ~used)).rowcount

    def _find(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        ours = (ENDPOINTS.c.tenant == tenant) & (ENDPOINTS.c.id == endpoint_id)
        with self._database.reading() as connection:
            row = connection.execute(select(ENDPOINTS).where(ours)).first()
        return None if row is None else endpoint_of(row)

    def _row(self, endpoint_id: str, tenant: str, kind: Kind, url: str, secret: SealedSecret) -> dict[str, Any]:
        now = self._clock()
        return {
            "id": endpoint_id,
            "tenant": tenant,
            "kind": kind,
            "url": url,
            "events": "[]",
            "description": "",
            "secrets": signing.to_json([secret]),
            "is_enabled": True,
            "created_at": now,
            "updated_at": now,
        }


def _made(transaction: Connection, endpoint_id: str) -> Endpoint:
    """One that this transaction has made, or found and holds: afterwards somebody may have removed it."""
    return endpoint_of(transaction.execute(select(ENDPOINTS).where(ENDPOINTS.c.id == endpoint_id)).one())


def _count(transaction: Connection, tenant: str, kind: Kind) -> int:
    ours = (ENDPOINTS.c.tenant == tenant) & (ENDPOINTS.c.kind == kind)
    return transaction.execute(select(func.count()).select_from(ENDPOINTS).where(ours)).scalar_one()


def upload_endpoint_id(tenant: str, url: str) -> str:
    """The id of the endpoint that uploads of a tenant mean by a URL."""
    whole = f"{tenant}\n{url}"
    return f"ep_{hashlib.sha256(whole.encode()).hexdigest()[:26]}"


def endpoint_of(row: Row[Any]) -> Endpoint:
    """An endpoint from a row that holds its columns, perhaps among others."""
    values = {column.name: getattr(row, column.name) for column in ENDPOINTS.columns}
    values["kind"] = Kind(values["kind"])
    values["events"] = tuple(json.loads(values["events"]))
    values["secrets"] = signing.from_json(values["secrets"])
    return Endpoint(**values)
