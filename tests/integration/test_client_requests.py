"""The client's uploads and single requests, against a server that refuses, breaks off, or answers early."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest_client import Chunk, Client, RequestRefused, ServerUnreachable, UnexpectedAnswer
from shared.protocol import encode_state
from tests.scripted_server import (
    Exchange,
    ScriptedServer,
    a_state,
    accepted,
    answer,
    head,
    problem,
)

UPLOAD = "POST /ingestions"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    with Client(server.url, timeout_seconds=5) as client:
        yield client


class Endless(io.RawIOBase):
    """A file far too large to send within a test, with a count of what was read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.read_bytes = 0
        self.at = 0

    def read(self, size: int = -1) -> bytes:
        self.read_bytes += size
        return b"x" * size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = 10**12 if whence == os.SEEK_END else offset
        return self.at

    def tell(self) -> int:
        return self.at


def test_a_file_is_sent_with_its_name_and_options(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    """The body is multipart: the options as fields, then the file; the answer is the id."""
    server.on(UPLOAD, accepted("A"))
    path = tmp_path / "r\u00e9sum\u00e9.pdf"
    path.write_bytes(b"%PDF-1.7 bytes")
    assert client.submit(path, chunk_size=500) == "A"
    [request] = server.requests
    boundary = request.headers["content-type"].removeprefix("multipart/form-data; boundary=")
    assert request.body.decode() == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="chunk_size"\r\n\r\n500\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="r\u00e9sum\u00e9.pdf"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n%PDF-1.7 bytes\r\n--{boundary}--\r\n"
    )
    assert request.headers["content-length"] == str(len(request.body))


def test_progress_of_the_upload_is_told(server: ScriptedServer, client: Client) -> None:
    """The caller hears how much has been sent, up to the last byte."""
    server.on(UPLOAD, accepted("A"))
    heard: list[int] = []
    client.submit(io.BytesIO(b"x" * 200_000), sent=heard.append)
    assert heard == sorted(heard)
    assert heard[0] < heard[-1] == 200_000


def test_a_pipe_is_sent_without_knowing_its_length(server: ScriptedServer, client: Client) -> None:
    """A file that can't say how long it is goes out in chunks."""
    server.on(UPLOAD, accepted("A"))
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as feed, os.fdopen(reading, "rb") as pipe:
        feed.write(b"from a pipe")
        feed.close()
        assert client.submit(pipe, filename="pipe.pdf") == "A"
    [request] = server.requests
    assert request.headers["transfer-encoding"] == "chunked"
    assert b"from a pipe" in request.body


@pytest.mark.parametrize(("status", "code"), [(413, "too_large"), (415, "unsupported_media_type")])
@pytest.mark.parametrize("lingers", [False, True], ids=["closes at once", "keeps reading"])
def test_an_early_refusal_ends_the_upload(
    server: ScriptedServer, client: Client, status: int, code: str, lingers: bool
) -> None:
    """A server that has heard enough is heard itself: no broken pipe, and no sending of the rest."""

    def refuse(exchange: Exchange) -> None:
        body = f'{{"code":"{code}","detail":"No."}}'.encode()
        exchange.send(head(f"{status} No", "Content-Type: application/problem+json", f"Content-Length: {len(body)}"))
        exchange.send(body)
        while lingers and exchange.connection.recv(65536):
            pass

    server.on(UPLOAD, refuse)
    file = Endless()
    with pytest.raises(RequestRefused) as caught:
        client.submit(file, filename="endless.pdf")  # type: ignore[arg-type]
    assert (caught.value.status, caught.value.code, caught.value.detail) == (status, code, "No.")
    assert file.read_bytes < 100_000_000


def test_a_connection_that_breaks_in_mid_upload_is_one_clear_error(server: ScriptedServer, client: Client) -> None:
    """Without an answer, it is the server that can't be reached."""
    server.on(UPLOAD, Exchange.reset)
    with pytest.raises(ServerUnreachable, match="can't be reached"):
        client.submit(Endless(), filename="endless.pdf")  # type: ignore[arg-type]


def test_an_upload_whose_connection_is_lost_is_sent_again_with_the_same_key(
    server: ScriptedServer, client: Client
) -> None:
    """From where the file stood, whole; the server knows by the key that it is the same upload."""

    def take_and_vanish(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.reset()

    server.on(UPLOAD, take_and_vanish, Exchange.reset, accepted("A"))
    file = io.BytesIO(b"before" + b"x" * 200_000)
    file.seek(len(b"before"))
    assert client.submit(file, filename="a.txt") == "A"
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert len(server.requests) == 3
    assert server.requests[2].body.count(b"x") >= 200_000
    assert b"before" not in server.requests[2].body


def test_each_upload_has_a_key_of_its_own(server: ScriptedServer, client: Client) -> None:
    """Who submits a file twice wants it twice."""
    server.on(UPLOAD, accepted("A"))
    for _ in range(2):
        client.submit(io.BytesIO(b"x"), filename="a.txt")
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 2


def test_a_file_that_shrinks_is_told(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    """The length was promised to the server; a shorter file is an error of the file."""
    path = tmp_path / "log.pdf"
    path.write_bytes(b"x" * 1_000_000)
    server.on(UPLOAD, accepted("A"))
    with pytest.raises(OSError, match="became shorter"):
        client.submit(path, sent=lambda _: os.truncate(path, 10))


def test_a_missing_file_is_an_os_error_before_any_request(server: ScriptedServer, client: Client) -> None:
    """Nothing is sent when there is nothing to send."""
    with pytest.raises(FileNotFoundError):
        client.submit("/nowhere.pdf")
    assert server.requests == []


def test_uploads_from_several_threads_do_not_mix(server: ScriptedServer, client: Client) -> None:
    """One client serves several threads."""
    server.on(UPLOAD, accepted("A"))
    contents = [bytes([65 + n]) * 300_000 for n in range(4)]
    threads = [threading.Thread(target=client.submit, args=(io.BytesIO(content),)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(sum(content in request.body for request in server.requests) == 1 for content in contents)


def test_the_status_is_a_state(server: ScriptedServer, client: Client) -> None:
    """The answer to one question is the same value that a stream yields."""
    server.on("GET /status/A", answer("200 OK", "application/json", encode_state(a_state()).encode()))
    assert client.status("A") == a_state()


def test_a_problem_becomes_a_typed_error(server: ScriptedServer, client: Client) -> None:
    """The members of a problem document are attributes of the error."""
    server.on("GET /status/A", problem(503, "unavailable", "Redis can't be reached."))
    with pytest.raises(RequestRefused) as caught:
        client.status("A")
    error = caught.value
    assert (error.status, error.code, error.detail) == (503, "unavailable", "Redis can't be reached.")
    assert error.is_temporary


def test_an_error_that_is_no_problem_document_has_a_code_too(server: ScriptedServer, client: Client) -> None:
    """A proxy's own page is an error like any other."""
    server.on("GET /status/A", answer("403 Forbidden", "text/html", b"<h1>403</h1>"))
    with pytest.raises(RequestRefused, match="the server answered 403 Forbidden") as caught:
        client.status("A")
    assert caught.value.code == "http_403"


def test_a_redirect_is_told_with_its_target(server: ScriptedServer, client: Client) -> None:
    """An upload can't follow a redirect, so none is followed; the error says where it points."""
    server.on("GET /status/A", answer("301 Moved", "text/html", b"", "Location: https://elsewhere/"))
    with pytest.raises(RequestRefused, match="points to https://elsewhere/"):
        client.status("A")


def test_an_answer_that_is_no_state_is_told(server: ScriptedServer, client: Client) -> None:
    """Somebody else's JSON is not taken for ours."""
    server.on("GET /status/A", answer("200 OK", "application/json", b'{"hello":"world"}'))
    with pytest.raises(UnexpectedAnswer, match="does not answer as ingest-live does"):
        client.status("A")


def test_an_id_cannot_name_another_route(server: ScriptedServer, client: Client) -> None:
    """An id is one segment of the path, whatever it holds."""
    with pytest.raises(RequestRefused):
        client.status("../admin?x")
    assert server.requests[0].target == "/status/..%2Fadmin%3Fx"


def test_chunks_come_one_by_one(server: ScriptedServer, client: Client) -> None:
    """Each line is a chunk; a text may hold any line separator of Unicode; unknown members are left alone.

    A server of an earlier version tells of no tables.
    """
    old = '{"id":"c0","index":0,"text":"a\u2028b","page_first":1,"page_last":2,"start":0,"end":3,"new":1}\n'
    new = old.replace('"new":1', '"tables":[[["a",null],["b","c"]]]')
    server.on("GET /ingestions/A/chunks", answer("200 OK", "application/x-ndjson", (old + new).encode()))
    expected = Chunk(id="c0", index=0, text="a\u2028b", page_first=1, page_last=2, start=0, end=3)
    rows = (("a", None), ("b", "c"))
    assert list(client.chunks("A")) == [expected, dataclasses.replace(expected, tables=(rows,))]


def test_chunks_that_break_off_are_an_error(server: ScriptedServer, client: Client) -> None:
    """Half a result is never taken for a whole one."""
    server.on("GET /ingestions/A/chunks", lambda exchange: exchange.send(head("200 OK"), b'{"id":"c0",'))
    with pytest.raises(ServerUnreachable, match="broke off"):
        list(client.chunks("A"))


def test_chunks_before_the_end_are_refused(server: ScriptedServer, client: Client) -> None:
    """The server's code tells that it is too early."""
    server.on("GET /ingestions/A/chunks", problem(409, "not_ready", "Still PARSING."))
    with pytest.raises(RequestRefused) as caught:
        next(client.chunks("A"))
    assert caught.value.code == "not_ready"


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x", "", "http://", "http://[::1"])
def test_an_address_must_be_one(address: str) -> None:
    """A wrong address is told at once, before any request."""
    with pytest.raises(ValueError, match="not an address"):
        Client(address)


def test_a_server_below_a_path_is_addressed_there(server: ScriptedServer) -> None:
    """A balancer may serve it at ``https://host/ingest/``."""
    server.on("GET /deep/status/A", answer("200 OK", "application/json", encode_state(a_state()).encode()))
    with Client(f"{server.url}/deep/") as client:
        assert client.status("A").id == "A"


def test_every_request_shows_the_key(server: ScriptedServer, tmp_path: Path) -> None:
    """Uploads, states, streams and results alike; no error of the client holds it."""
    key = "ingest_0123_secret"
    server.on("POST /ingestions", problem(401, "unauthorized", "Send an API key."))
    for route in ("GET /status/A", "GET /status/stream/A", "GET /ingestions/A/chunks", "POST /ingestions/A/links"):
        server.on(route, problem(401, "unauthorized", "Send an API key."))
    file = tmp_path / "a.pdf"
    file.write_bytes(b"%PDF")
    with Client(server.url, api_key=f"{key}\n") as client:
        for ask in (
            lambda: client.submit(file),
            lambda: client.status("A"),
            lambda: list(client.watch("A")),
            lambda: list(client.chunks("A")),
            lambda: client.link("A"),
        ):
            with pytest.raises(RequestRefused) as refused:
                ask()
            assert (refused.value.status, refused.value.code) == (401, "unauthorized")
            assert "secret" not in f"{refused.value!r}"
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {key}"}


@pytest.mark.parametrize("key", ["ingest_é", "a b", "a\r\nHost: b", "a\x00"])
def test_what_can_not_be_a_key_is_refused_without_being_shown(key: str) -> None:
    """A header can't hold it, and whoever reads the error need not know it."""
    with pytest.raises(ValueError, match="characters that no key has") as refused:
        Client("http://127.0.0.1:1", api_key=key)
    assert key not in str(refused.value)


def test_a_link_is_told_as_an_address(server: ScriptedServer) -> None:
    """Whole, as a page of another origin needs it, and until when it is good."""
    told = b'{"stream_url":"/status/stream/A?token=T","expires_at":"2026-11-25T02:00:00.000Z"}'
    server.on("POST /ingestions/A/links", answer("201 Created", "application/json", told))
    with Client(server.url) as client:
        link = client.link("A", expires_in_seconds=60)
    assert link.stream_url == f"{server.url}/status/stream/A?token=T"
    assert link.expires_at == datetime(2026, 11, 25, 2, tzinfo=UTC)
    assert server.requests[0].body == b"expires_in=60"
