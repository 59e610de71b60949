"""The chunks in the SQL database: a document's rows are replaced in one transaction and read as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    insert,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateIndex, CreateTable

from shared.config import Settings
from shared.documents import Chunk

ROWS_PER_INSERT = 500
ROWS_PER_FETCH = 500
BUSY_TIMEOUT_MS = 30_000

METADATA = MetaData()

CHUNKS = Table(
    "chunks",
    METADATA,
    Column("document_id", String(32), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("page_first", Integer, nullable=False),
    Column("page_last", Integer, nullable=False),
    Column("start", Integer, nullable=False),
    Column("end", Integer, nullable=False),
)


class ChunkTable:
    """The rows of all documents. Construction creates the table where it is missing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        _create_where_missing(engine)

    @classmethod
    def from_settings(cls, settings: Settings) -> ChunkTable:
        """The table in the database that ``INGEST_DATABASE_URL`` names."""
        return cls(make_engine(settings.database_url))

    def replace(
        self, document_id: str, chunks: Sequence[Chunk], loaded: Callable[[int], None] = lambda _count: None
    ) -> None:
        """Put ``chunks`` in the place of what the document had, all or nothing; ``loaded`` hears the count so far."""
        with self._engine.begin() as transaction:
            transaction.execute(delete(CHUNKS).where(CHUNKS.c.document_id == document_id))
            for first in range(0, len(chunks), ROWS_PER_INSERT):
                batch = chunks[first : first + ROWS_PER_INSERT]
                transaction.execute(insert(CHUNKS), [{"document_id": document_id, **asdict(chunk)} for chunk in batch])
                loaded(first + len(batch))

    def of(self, document_id: str) -> Iterator[Chunk]:
        """The chunks of a document in order, a few hundred in memory at a time."""
        columns = [column for column in CHUNKS.c if column.name != "document_id"]
        query = select(*columns).where(CHUNKS.c.document_id == document_id).order_by(CHUNKS.c.index)
        with self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=ROWS_PER_FETCH).execute(query):
                yield Chunk(**row._asdict())

    def remove(self, document_id: str) -> None:
        """Remove the rows of a document."""
        with self._engine.begin() as transaction:
            transaction.execute(delete(CHUNKS).where(CHUNKS.c.document_id == document_id))

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


def make_engine(url: str) -> Engine:
    """An engine for the URL. SQLite gets a write-ahead log: readers and the one writer don't wait for each other."""
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        path = make_url(url).database
        if path and path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _create_where_missing(engine: Engine) -> None:
    # Not METADATA.create_all: it looks first and creates then, and processes that start together all look first.
    with engine.begin() as transaction:
        transaction.execute(CreateTable(CHUNKS, if_not_exists=True))
        for index in CHUNKS.indexes:
            transaction.execute(CreateIndex(index, if_not_exists=True))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()
