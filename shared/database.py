"""The chunks in the SQL database: a document's rows are replaced in one transaction and read as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.schema import CreateIndex, CreateTable

from shared.config import Settings
from shared.documents import Chunk, fields, rows_from
from shared.errors import DatabaseUnavailable

ROWS_PER_INSERT = 500
ROWS_PER_FETCH = 500
BUSY_TIMEOUT_MS = 30_000

#: The advisory lock of PostgreSQL that whoever creates a table holds: any number that nobody else uses.
_CREATING = 0x1A6E57

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
    Column("tables", Text),  # JSON: a list of tables, each a list of rows; NULL where there is none
)


class ChunkTable:
    """The rows of all documents. Construction creates the table where it is missing, and adds what an old one lacks.

    That and every method raises `DatabaseUnavailable` when the database can't be reached, or is locked for too long.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with reachable():
            create_where_missing(engine, CHUNKS)
            _add_missing_columns(engine)

    @classmethod
    def from_settings(cls, settings: Settings) -> ChunkTable:
        """The table in the database that ``INGEST_DATABASE_URL`` names."""
        return cls(make_engine(settings.database_url))

    def replace(
        self, document_id: str, chunks: Iterable[Chunk], loaded: Callable[[int], None] = lambda _count: None
    ) -> None:
        """Put ``chunks`` in the place of what the document had, all or nothing, a few hundred in memory at a time.

        ``loaded`` hears the count so far, the last time before anything is changed for others.
        """
        count = 0
        rows = (_row(document_id, chunk) for chunk in chunks)
        with reachable(), self._engine.begin() as transaction:
            transaction.execute(delete(CHUNKS).where(CHUNKS.c.document_id == document_id))
            while batch := list(islice(rows, ROWS_PER_INSERT)):
                transaction.execute(insert(CHUNKS), batch)
                count += len(batch)
                loaded(count)
            if not count:
                loaded(0)

    def of(self, document_id: str) -> Iterator[Chunk]:
        """The chunks of a document in order, a few hundred in memory at a time."""
        columns = [column for column in CHUNKS.c if column.name != "document_id"]
        query = select(*columns).where(CHUNKS.c.document_id == document_id).order_by(CHUNKS.c.index)
        with reachable(), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=ROWS_PER_FETCH).execute(query):
                yield _chunk(row)

    def remove(self, document_id: str) -> None:
        """Remove the rows of a document."""
        with reachable(), self._engine.begin() as transaction:
            transaction.execute(delete(CHUNKS).where(CHUNKS.c.document_id == document_id))

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()


def make_engine(url: str) -> Engine:
    """An engine for the URL. SQLite gets a write-ahead log: readers and the one writer don't wait for each other."""
    # What is stored does not become part of an error's text.
    engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        path = make_url(url).database
        if path and path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _row(document_id: str, chunk: Chunk) -> dict[str, Any]:
    tables = json.dumps(chunk.tables, ensure_ascii=False, separators=(",", ":")) if chunk.tables else None
    return {"document_id": document_id, **fields(chunk), "tables": tables}


def _chunk(row: Row[Any]) -> Chunk:
    values = row._asdict()
    tables = json.loads(values.pop("tables") or "[]")
    return Chunk(**values, tables=tuple(map(rows_from, tables)))


def create_where_missing(engine: Engine, table: Table) -> None:
    """Bring a table and its indexes into being."""
    # Not MetaData.create_all: it looks first and creates then, and processes that start together all look first.
    with engine.begin() as transaction:
        if engine.dialect.name == "postgresql":  # there IF NOT EXISTS fails for whoever looks while another creates
            transaction.execute(select(func.pg_advisory_xact_lock(_CREATING)))
        transaction.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            transaction.execute(CreateIndex(index, if_not_exists=True))


@contextmanager
def reachable() -> Iterator[None]:
    """What SQLAlchemy raises in the block when the database can't be reached becomes `DatabaseUnavailable`."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseUnavailable("The database can't be reached.") from error


def _add_missing_columns(engine: Engine) -> None:
    """Columns that came later may be NULL, so that processes of an earlier version go on with the same table."""
    for column in _missing_columns(engine):
        statement = f"ALTER TABLE {CHUNKS.name} ADD COLUMN {column.name} {column.type.compile(engine.dialect)}"
        try:
            with engine.begin() as transaction:
                transaction.execute(text(statement))
        except DBAPIError:
            if column in _missing_columns(engine):
                raise
            # another process that started at the same time was faster


def _missing_columns(engine: Engine) -> list[Column[Any]]:
    present = {column["name"] for column in inspect(engine).get_columns(CHUNKS.name)}
    return [column for column in CHUNKS.columns if column.name not in present]


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()
