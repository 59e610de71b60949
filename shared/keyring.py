"""API keys in the SQL database: made, found, revoked. Of a key only its digest is kept.

A key is ``ingest_<id>_<secret>``. The secret is 32 random bytes, so a plain SHA-256 of it can't be turned back, and no
slow hash is needed for what nobody could guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import Column, DateTime, Engine, MetaData, Row, String, Table, insert, select, update

from shared.access import Caller, Scope
from shared.config import Settings
from shared.database import create_where_missing, make_engine, reachable

PREFIX = "ingest"
ID_BYTES = 8
SECRET_BYTES = 32
NAME_CHARACTERS = 200

#: Databases have a bound for the values of one query.
IDS_PER_QUERY = 1000

#: What a tenant may be called: it is part of names in Redis.
TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

API_KEYS = Table(
    "api_keys",
    MetaData(),
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False, index=True),
    Column("name", String(NAME_CHARACTERS), nullable=False),
    Column("scopes", String(100), nullable=False),  # separated by spaces
    Column("digest", String(64), nullable=False),  # SHA-256 of the secret, in hex
    Column("created_at", DateTime, nullable=False),  # UTC
    Column("revoked_at", DateTime),
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; ``digest`` is the SHA-256 of its secret, in hex. Times are in UTC."""

    id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    digest: str
    created_at: datetime
    revoked_at: datetime | None = None

    @property
    def caller(self) -> Caller:
        """Whoever shows this key."""
        return Caller(self.tenant, self.scopes, self.id)

    def opens_for(self, secret: str) -> bool:
        """Whether this is the key's secret, and it is still good for something. It takes the same time either way."""
        return hmac.compare_digest(self.digest, digest_of(secret)) and self.revoked_at is None


class KeyRing:
    """The keys of all tenants. Every method raises `StoreUnavailable` when the database can't be reached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with reachable():
            create_where_missing(engine, API_KEYS)

    @classmethod
    def from_settings(cls, settings: Settings) -> KeyRing:
        """The keys in the database that ``INGEST_DATABASE_URL`` names."""
        return cls(make_engine(settings.database_url))

    @property
    def place(self) -> str:
        """Where they are, without a password."""
        return self._engine.url.render_as_string(hide_password=True)

    def create(self, tenant: str, scopes: Collection[Scope], name: str = "") -> tuple[ApiKey, str]:
        """A new key and its text, which is told this once and can't be found out later.

        Raises `ValueError` for a tenant that can't be called so, and for a ``name`` that is too long.
        """
        if len(name) > NAME_CHARACTERS:
            raise ValueError(f"the name of a key has at most {NAME_CHARACTERS} characters")
        if TENANT.fullmatch(tenant) is None:
            raise ValueError(f"{tenant!r}: a tenant's name is lower-case letters, digits and hyphens, at most 63")
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key = ApiKey(secrets.token_hex(ID_BYTES), tenant, name, frozenset(scopes), digest_of(secret), _now())
        with reachable(), self._engine.begin() as transaction:
            transaction.execute(insert(API_KEYS), _row(key))
        return key, f"{PREFIX}_{key.id}_{secret}"

    def find(self, key_id: str) -> ApiKey | None:
        """The key, also one that is revoked; None when there is none."""
        with reachable(), self._engine.connect() as connection:
            row = connection.execute(select(API_KEYS).where(API_KEYS.c.id == key_id)).first()
        return None if row is None else _key(row)

    def all(self, tenant: str | None = None) -> list[ApiKey]:
        """Every key, or every key of a tenant, the oldest first."""
        query = select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id)
        with reachable(), self._engine.connect() as connection:
            rows = connection.execute(query if tenant is None else query.where(API_KEYS.c.tenant == tenant)).all()
        return [_key(row) for row in rows]

    def ids(self) -> frozenset[str]:
        """The ids of all keys, also of those that are revoked."""
        with reachable(), self._engine.connect() as connection:
            return frozenset(connection.execute(select(API_KEYS.c.id)).scalars())

    def live(self, key_ids: Collection[str]) -> frozenset[str]:
        """Those of these keys that are not revoked."""
        found: set[str] = set()
        wanted = iter(key_ids)
        with reachable(), self._engine.connect() as connection:
            while some := list(islice(wanted, IDS_PER_QUERY)):
                query = select(API_KEYS.c.id).where(API_KEYS.c.id.in_(some), API_KEYS.c.revoked_at.is_(None))
                found.update(connection.execute(query).scalars())
        return frozenset(found)

    def revoke(self, key_id: str) -> ApiKey | None:
        """Let a key open nothing from now on. Gives it; None when there is none."""
        with reachable(), self._engine.begin() as transaction:
            is_live = (API_KEYS.c.id == key_id) & API_KEYS.c.revoked_at.is_(None)
            transaction.execute(update(API_KEYS).where(is_live).values(revoked_at=_now()))
        return self.find(key_id)

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


def parts_of(text: str) -> tuple[str, str] | None:
    """The id and the secret in the text of a key; None when it is not the text of one."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and key_id and secret else None


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _row(key: ApiKey) -> dict[str, Any]:
    values = {name: getattr(key, name) for name in key.__slots__}
    return {**values, "scopes": " ".join(sorted(key.scopes))}


def _key(row: Row[Any]) -> ApiKey:
    values = row._asdict()
    return ApiKey(**{**values, "scopes": frozenset(map(Scope, values["scopes"].split()))})
