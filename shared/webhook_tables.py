"""The tables of webhooks in the SQL database, and transactions over them. What they mean: `endpoints`, `deliveries`.

Times are seconds since 1970. Each write is one short transaction: in SQLite it takes the lock when it begins, so that
none is refused half-way; in PostgreSQL rows are locked as they are read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from shared.config import Settings
from shared.database import BUSY_TIMEOUT_MS, create_where_missing, make_engine, reachable

#: So often who waits for SQLite's lock looks whether it is free.
LOOK_AGAIN_SECONDS = 0.01

#: That an upload has named an endpoint again is noted at most so often, in ``updated_at``.
TOUCH_SECONDS = 24 * 3600.0

METADATA = MetaData()

ENDPOINTS = Table(
    "webhook_endpoints",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False),  # JSON: a list of types; empty for all
    Column("description", Text, nullable=False),
    Column("secrets", Text, nullable=False),  # JSON: see shared/signing.py; sealed
    Column("is_enabled", Boolean, nullable=False),
    Column("disabled_reason", String(32)),
    Column("failing_since", Double),  # the first failure after the last success
    Column("resume_at", Double),  # it has asked to be left alone until then
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("webhook_endpoints_of_tenant", "tenant", "kind", "id"),
)

MESSAGES = Table(
    "webhook_messages",
    METADATA,
    Column("id", String(80), primary_key=True),
    Column("type", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
)

DELIVERIES = Table(
    "webhook_deliveries",
    METADATA,
    Column("id", String(32), primary_key=True),  # sorts by time of creation
    Column("endpoint_id", String(32), nullable=False),
    Column("message_id", String(80), nullable=False),
    Column("lane", String(80), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),  # since it was last begun with
    Column("attempts", Integer, nullable=False),  # ever
    Column("error", String(64)),  # of the last attempt
    Column("created_at", Double, nullable=False, index=True),
    Column("finished_at", Double),
    UniqueConstraint("endpoint_id", "message_id"),
    Index("webhook_deliveries_of_endpoint", "endpoint_id", "id"),
    Index("webhook_deliveries_of_lane", "endpoint_id", "lane", "state", "seq"),
)

#: One row for each endpoint and lane with something to deliver: when to look at it next. A courier that has claimed it
#: puts the end of its lease there, so what it does not finish is due again by itself.
LANES = Table(
    "webhook_lanes",
    METADATA,
    Column("endpoint_id", String(32), primary_key=True),
    Column("lane", String(80), primary_key=True),
    Column("due_at", Double, nullable=False, index=True),
    Column("token", String(32)),
    Index("webhook_lanes_due", "endpoint_id", "due_at"),
)

ATTEMPTS = Table(
    "webhook_attempts",
    METADATA,
    Column("delivery_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("duration_ms", Integer, nullable=False),
    Column("headers", Text, nullable=False),  # JSON: those of the request, without the signature
    Column("status", Integer),
    Column("answer", Text),  # its first bytes
    Column("error", String(64)),
)

TABLES = (ENDPOINTS, MESSAGES, DELIVERIES, LANES, ATTEMPTS)


class WebhookDatabase:
    """Transactions over the tables, which are created where they are missing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing = engine.execution_options(is_writing=True)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _leave_transactions_to_us)
            event.listen(engine, "begin", _begin)
        with reachable():
            for table in TABLES:
                create_where_missing(engine, table)

    @classmethod
    def from_settings(cls, settings: Settings) -> WebhookDatabase:
        """The tables in the database that ``INGEST_DATABASE_URL`` names."""
        return cls(make_engine(settings.database_url))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read by. Raises `StoreUnavailable`."""
        with reachable(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed when the block ends well. Raises `StoreUnavailable`."""
        with reachable(), self._writing.begin() as transaction:
            yield transaction

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


def insert_new(transaction: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those rows that are not there yet."""
    if rows:
        transaction.execute(_insert(transaction, table).on_conflict_do_nothing(), list(rows))


def insert_or_wait(
    transaction: Connection, table: Table, rows: Sequence[Mapping[str, Any]], renewed: str | None = None
) -> None:
    """The same, and in PostgreSQL wait for whoever holds or removes one that is there: afterwards it is there.

    Of one that is there the column ``renewed`` gets the new value. Give rows in order, lest two wait for each other.
    """
    if rows:
        key = [column.name for column in table.primary_key.columns]
        statement = _insert(transaction, table)
        changed = renewed or key[0]  # by itself the key remains what it is
        set_ = {changed: statement.excluded[changed]}
        transaction.execute(statement.on_conflict_do_update(index_elements=key, set_=set_), list(rows))


def _insert(transaction: Connection, table: Table) -> Any:
    return (postgresql if transaction.dialect.name == "postgresql" else sqlite).insert(table)


def _leave_transactions_to_us(connection: Any, _record: object) -> None:
    # Python's sqlite3 begins a transaction when the first row is written: too late for one that has read before.
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    if not connection.get_execution_options().get("is_writing"):
        connection.exec_driver_sql("BEGIN")
        return
    # SQLite would wait for the lock in its own way, and a web process's event loop with it.
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while not _has_begun(connection, time.monotonic() > deadline):
        time.sleep(LOOK_AGAIN_SECONDS)
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _has_begun(connection: Connection, is_late: bool) -> bool:
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError:
        if is_late:
            raise
        return False
    return True
