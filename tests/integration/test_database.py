"""The tables, new or of an earlier version, on SQLite and on PostgreSQL."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from shared.access import Scope
from shared.database import ROWS_PER_INSERT, ChunkTable, make_engine
from shared.documents import Chunk
from shared.errors import DatabaseUnavailable
from shared.keyring import KeyRing

ROWS = (("item", "count"), ("a|b", None), ("", "字"))


def chunk(index: int, **values) -> Chunk:
    return Chunk(f"{index:032x}", index, "text", 1, 1, index, index + 4, **values)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path) -> str:
    """A database of one's own, without any table."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres").fresh_url()
    return f"sqlite:///{tmp_path / 'chunks.sqlite3'}"


@pytest.fixture
def table(url) -> Iterator[ChunkTable]:
    with closing(ChunkTable(make_engine(url))) as table:
        yield table


def _make_old(url: str) -> None:
    """The table as it was before chunks had tables, with one row."""
    engine = make_engine(url)
    columns = 'id VARCHAR(32), text TEXT, page_first INTEGER, page_last INTEGER, start INTEGER, "end" INTEGER'
    with engine.begin() as transaction:
        transaction.execute(text(f'CREATE TABLE chunks (document_id VARCHAR(32), "index" INTEGER, {columns})'))
        transaction.execute(text(f"INSERT INTO chunks VALUES ('d', 0, '{0:032x}', 'text', 1, 1, 0, 4)"))
    engine.dispose()


def test_tables_come_back_as_they_went_in(table):
    """Several, or none; a merged cell is not an empty one."""
    chunks = [chunk(0, tables=(ROWS, ROWS[:2])), chunk(1)]
    table.replace("d", chunks)
    assert list(table.of("d")) == chunks


def test_a_table_of_an_earlier_version_gets_what_it_lacks(url):
    """Its rows stay, and have no tables; new ones may."""
    _make_old(url)
    with closing(ChunkTable(make_engine(url))) as table:
        table.replace("e", [chunk(0, tables=(ROWS,))])
        assert list(table.of("d")) == [chunk(0)]
        assert list(table.of("e")) == [chunk(0, tables=(ROWS,))]


def test_many_may_start_at_once_on_an_old_table(url):
    """Each finds that the column is missing, one adds it, and nobody fails."""
    _make_old(url)

    def start(_number: int) -> list[Chunk]:
        with closing(ChunkTable(make_engine(url))) as table:
            return list(table.of("d"))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(start, range(16))) == [[chunk(0)]] * 16


def test_rows_are_read_as_they_are_written(table):
    """A batch at a time, so that a document of any length has room; the count is told after each."""
    told: list[int] = []
    count = 20 * ROWS_PER_INSERT + 1
    tracemalloc.start()
    table.replace("d", (chunk(index) for index in range(count)), told.append)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told == [*range(ROWS_PER_INSERT, count, ROWS_PER_INSERT), count]
    assert most_bytes < 5_000_000
    assert sum(1 for _ in table.of("d")) == count


def test_no_chunks_are_told_of_too(table):
    """Whoever counts hears of none, and what the document had is gone."""
    told: list[int] = []
    table.replace("d", [chunk(0)])
    table.replace("d", iter(()), told.append)
    assert (told, list(table.of("d"))) == ([0], [])


def test_who_counts_may_stop_it_all(table):
    """An error in the middle leaves what was there."""

    def stop(_count: int) -> None:
        raise KeyError

    table.replace("d", [chunk(0)])
    with pytest.raises(KeyError):
        table.replace("d", [chunk(1)], stop)
    assert list(table.of("d")) == [chunk(0)]


def test_a_database_that_is_away_is_told_as_such(url):
    """By one error, whatever is asked of it: it may pass."""
    engine = make_engine(url)
    with closing(ChunkTable(engine)) as table:

        def away(*_: object) -> None:
            raise OperationalError("", {}, Exception("the server closed the connection"))

        event.listen(engine, "before_cursor_execute", away)
        for ask in (lambda: table.replace("d", []), lambda: list(table.of("d")), lambda: table.remove("d")):
            with pytest.raises(DatabaseUnavailable):
                ask()
        with pytest.raises(DatabaseUnavailable):
            ChunkTable(engine)


def test_a_key_comes_back_as_it_went_in(url):
    """Also when it is revoked."""
    with closing(KeyRing(make_engine(url))) as ring:
        key, _ = ring.create("acme", {Scope.READ, Scope.ADMIN}, "for the dashboard")
        assert ring.find(key.id) == key
        revoked = ring.revoke(key.id)
        assert ring.all() == [revoked]
