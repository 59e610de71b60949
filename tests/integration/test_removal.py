"""Documents that are deleted, or whose retention is over: gone at once and whole, and then what is stored of them."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.engine import make_url
from werkzeug.test import TestResponse

from ingest_web import services
from ingest_worker.tasks import expire_documents
from ingest_worker.workbench import Workbench
from shared import keys
from shared.documents import Chunk
from shared.errors import AlreadyFinished, StoreUnavailable
from shared.jobs import Status
from shared.retention import WITHDRAWN_MS, Retention
from shared.store import Store, utc_now
from tests.records import complete

CHUNK = Chunk("c", 0, "text", 1, 1, 0, 4)


def send(http: FlaskClient) -> TestResponse:
    return http.post("/ingestions", data={"file": (io.BytesIO(b"%PDF-1.7 the same"), "a.pdf")})


def result_of(http: FlaskClient, document_id: str) -> bytes:
    answer = http.get(f"/ingestions/{document_id}/chunks")
    assert answer.status_code == 200
    return answer.data


@pytest.fixture
def bench(settings, client) -> Iterator[Workbench]:
    """What a worker removes documents with, somewhat later."""
    bench = Workbench(settings)
    bench.store = Store(client, settings)
    bench.retention = later(client, settings, timedelta(milliseconds=WITHDRAWN_MS))
    yield bench
    bench.table.close()


def later(client, settings, after: timedelta) -> Retention:
    return Retention(client, settings, lambda: utc_now() + after)


@pytest.fixture
def document(http, store, bench) -> str:
    """One that is COMPLETED, with a row."""
    document_id = send(http).json["id"]
    complete(store, document_id)
    bench.table.replace(document_id, [CHUNK])
    return document_id


def assert_gone(http: FlaskClient, document_id: str) -> None:
    """Nobody finds it, whatever is still stored of it, and the same bytes are a new document."""
    for path in (f"/status/{document_id}", f"/ingestions/{document_id}/chunks", f"/status/stream/{document_id}"):
        assert http.get(path).status_code == 404
    assert http.post(f"/ingestions/{document_id}/retry").status_code == 404
    assert http.delete(f"/ingestions/{document_id}").status_code == 404
    assert document_id not in [item["id"] for item in http.get("/ingestions").json["ingestions"]]
    again = send(http)
    assert (again.status_code, again.json["reused"]) == (202, False)


def during_removal(bench: Workbench, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Something happens when half of what is stored is removed."""
    remove = bench.table.remove

    def remove_and_more(document_id: str) -> None:
        remove(document_id)
        happens()

    monkeypatch.setattr(bench.table, "remove", remove_and_more)


def test_what_is_deleted_is_gone_before_any_worker_comes(http, document, bench, client):
    """And what is stored of it goes with the first that does; only webhooks are still to hear of it."""
    assert http.delete(f"/ingestions/{document}").status_code == 204
    assert_gone(http, document)
    assert bench.storage.names(document) == {"source"}
    expire_documents(bench)
    assert bench.storage.names(document) == set()
    assert list(bench.table.of(document)) == []
    assert client.keys(f"{keys.state(document)}*") == [keys.outbox(document).encode()]
    assert client.zrange(keys.FINISHED, 0, -1) == []


def test_what_is_stored_is_left_alone_for_a_while(http, document, bench, client, settings):
    """A worker that has not noticed yet adds nothing to it, and a Redis without its last second has it back whole."""
    http.delete(f"/ingestions/{document}")
    bench.retention = later(client, settings, timedelta(milliseconds=WITHDRAWN_MS / 2))
    expire_documents(bench)
    assert bench.storage.names(document) == {"source"}


def test_a_delete_that_breaks_off_has_taken_nothing(http, app, document, bench, monkeypatch):
    """The result is there whole, for the next upload of the same bytes as well, until the delete comes again."""

    def away(**_: Any) -> None:
        raise StoreUnavailable("Redis can't be reached.")

    with monkeypatch.context() as patch:
        patch.setattr(services.of(app).retention, "_withdraw", away)
        assert http.delete(f"/ingestions/{document}").status_code == 503
    expire_documents(bench)
    again = send(http)
    assert (again.status_code, again.json["id"]) == (200, document)
    assert b'"text"' in result_of(http, document)
    assert http.delete(f"/ingestions/{document}").status_code == 204


@pytest.mark.parametrize("how", ["deleted", "over"])
def test_what_is_being_removed_is_gone(http, document, bench, client, settings, monkeypatch, how):
    """Half of it is removed already: no upload of the same bytes, no retry and no reader gets what is left."""
    if how == "deleted":
        http.delete(f"/ingestions/{document}")
    else:
        bench.retention = later(client, settings, timedelta(seconds=settings.retention_seconds + 1))
    seen = []
    during_removal(bench, monkeypatch, lambda: seen.append(assert_gone(http, document)))
    expire_documents(bench)
    assert seen == [None]
    assert bench.storage.names(document) == set()


def test_a_retry_that_was_accepted_is_not_deleted(http, app, store, bench, monkeypatch):
    """The delete comes a moment too late: it finds the next attempt, and cancels that."""
    document_id = send(http).json["id"]
    http.delete(f"/ingestions/{document_id}")
    retention = services.of(app).retention
    withdraw = retention._withdraw

    def withdraw_late(**call: Any) -> bytes:
        if store.state(document_id).attempt == 1:
            assert http.post(f"/ingestions/{document_id}/retry").status_code == 202
        return withdraw(**call)

    monkeypatch.setattr(retention, "_withdraw", withdraw_late)
    answer = http.delete(f"/ingestions/{document_id}")
    assert (answer.status_code, answer.json["status"], answer.json["attempt"]) == (200, "CANCELLED", 2)
    expire_documents(bench)
    assert bench.storage.names(document_id) == {"source"}


def test_a_retry_that_comes_too_late_keeps_nothing_stored(http, app, bench, monkeypatch):
    """It is answered 404, and what it was for is removed all the same."""
    document_id = send(http).json["id"]
    http.delete(f"/ingestions/{document_id}")
    retention, store = services.of(app).retention, services.of(app).store
    withdraw, begin = retention._withdraw, store._begin

    def withdraw_meanwhile(**deletion: Any) -> bytes:
        codes = []

        def begin_late(**call: Any) -> Any:
            codes.append(withdraw(**deletion))
            return begin(**call)

        monkeypatch.setattr(store, "_begin", begin_late)
        assert http.post(f"/ingestions/{document_id}/retry").status_code == 404
        return codes[0]

    monkeypatch.setattr(retention, "_withdraw", withdraw_meanwhile)
    assert http.delete(f"/ingestions/{document_id}").status_code == 204
    expire_documents(bench)
    assert bench.storage.names(document_id) == set()


def test_a_document_that_is_deleted_as_soon_as_it_ends_is_removed_soon(http, bench, store, client):
    """Whoever recorded the end says only then since when it is to be kept."""
    document_id = send(http).json["id"]
    ending = Store(client, bench.settings)

    def retire(name: str) -> None:
        assert http.delete(f"/ingestions/{name}").status_code == 204
        store.retire(name)

    ending.retire = retire
    ending.record(document_id, 1, Status.CANCELLED, "Cancelled")
    expire_documents(bench)
    assert bench.storage.names(document_id) == set()


def test_deleting_waits_for_no_worker_that_loads_or_writes(http, app, document, settings, monkeypatch):
    """A web process has others to serve: it touches neither the database, which one holds, nor the files."""

    def in_use(path: str) -> None:
        raise OSError(39, "Directory not empty", path)

    monkeypatch.setattr(services.of(app).storage, "remove", in_use)
    with closing(sqlite3.connect(make_url(settings.database_url).database, isolation_level=None)) as worker:
        worker.execute("BEGIN IMMEDIATE")
        assert http.delete(f"/ingestions/{document}").status_code == 204


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_rows_that_a_cancelled_document_got_late_go_with_it(request, make_app, settings, client, store, database):
    """Its worker was told that it is over, so nobody else looks for them."""
    url = settings.database_url if database == "sqlite" else request.getfixturevalue("postgres").fresh_url()
    settings = settings.model_copy(update={"database_url": url})
    http, bench = make_app(database_url=url).test_client(), Workbench(settings)
    bench.retention = later(client, settings, timedelta(milliseconds=WITHDRAWN_MS))
    document_id = send(http).json["id"]
    http.delete(f"/ingestions/{document_id}")
    retention = services.of(http.application).retention
    take_away = retention._take_away

    def commit_first(name: str) -> bytes:
        with closing(Workbench(settings).table) as of_worker:
            of_worker.replace(name, [CHUNK])
        with pytest.raises(AlreadyFinished):
            store.record(name, 1, Status.COMPLETED, "Completed")
        return take_away(name)

    retention._take_away = commit_first
    assert http.delete(f"/ingestions/{document_id}").status_code == 204
    with closing(bench.table):
        expire_documents(bench)
        assert list(bench.table.of(document_id)) == []


def test_a_result_that_is_removed_while_it_is_asked_for_is_not_an_empty_one(http, app, document, bench, monkeypatch):
    """404: that it was COMPLETED a moment ago does not make a result of what is gone."""
    chunks = services.of(app).chunks
    read = chunks.of

    def read_late(document_id: str) -> Iterator[Chunk]:
        http.delete(f"/ingestions/{document_id}")
        expire_documents(bench)
        return read(document_id)

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "of", read_late)
        assert http.get(f"/ingestions/{document}/chunks").status_code == 404


def test_a_result_without_any_chunk_is_an_empty_one(http, store):
    """A scan, say; that is no error."""
    document_id = send(http).json["id"]
    complete(store, document_id)
    assert result_of(http, document_id) == b""


def test_a_result_that_another_upload_gets_is_kept_from_then_on(http, store, bench, client, settings):
    """Whoever is given an earlier result has it as long as a new one, and so has the upload after that."""
    document_id = send(http).json["id"]
    early = Store(client, settings, lambda: utc_now() - timedelta(seconds=settings.retention_seconds - 1))
    complete(early, document_id)
    lasting = [keys.state(document_id), keys.events(document_id), keys.source(document_id)]
    lasting.append(keys.result(store.source(document_id).fingerprint))
    for key in lasting:
        client.pexpire(key, 60_000)
    assert send(http).json["id"] == document_id
    assert all(client.ttl(key) > settings.retention_seconds - 60 for key in lasting)
    bench.retention = later(client, settings, timedelta(seconds=2))
    expire_documents(bench)
    assert send(http).json["id"] == document_id

    client.zadd(keys.FINISHED, {document_id: 1})  # it comes up again
    bench.retention = later(client, settings, timedelta(seconds=settings.retention_seconds + 1))
    expire_documents(bench)
    assert_gone(http, document_id)


def test_a_result_that_is_being_removed_is_not_given(http, app, document, bench, monkeypatch):
    """An upload that comes too late to keep it is a new document."""
    store = services.of(app).store
    reuse = store._reuse

    def reuse_late(**call: Any) -> bytes:
        assert http.delete(f"/ingestions/{document}").status_code == 204
        return reuse(**call)

    monkeypatch.setattr(store, "_reuse", reuse_late)
    answer = send(http)
    assert (answer.status_code, answer.json["reused"]) == (202, False)
