"""Links on real web nodes: a token opens its stream on each, and each ends the stream when it is no good any more."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from ingest_web.tokens import Token, Tokens
from shared.access import ALL_SCOPES
from shared.config import Settings
from shared.sealing import secret_of
from tests import records
from tests.awaiting import wait_until
from tests.callers import bearing
from tests.stack import Stack

#: Within this time a key that was revoked opens nothing anywhere: it is looked at every second.
REVOKED_SECONDS = 2.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two nodes that ask for keys; no worker."""
    settings = {"INGEST_AUTH": "keys", "INGEST_LOG_LEVEL": "debug"}
    with Stack(tmp_path_factory.mktemp("links"), web=2, workers=0, settings=settings) as stack:
        yield stack


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    return Settings.from_environment(stack.environment_of_ours)


class Stream:
    """An open stream, read to its end on request."""

    def __init__(self, stack: ExitStack, url: str, key: str = ""):
        http = stack.enter_context(httpx.Client(timeout=10, headers={"Authorization": f"Bearer {key}"} if key else {}))
        self._answer = stack.enter_context(http.stream("GET", url))
        assert self._answer.status_code == 200
        self._lines = self._answer.iter_lines()

    def first(self) -> str:
        """The data of the first event."""
        return next(line for line in self._lines if line.startswith("data: "))

    def rest(self) -> list[str]:
        """All data that still comes, to the end of the response."""
        return [line for line in self._lines if line.startswith("data: ")]


def addresses(stack: Stack, settings: Settings, document: str, key_id: str, seconds: float = 60) -> list[str]:
    """The stream of the document on each node, with a token."""
    token = Tokens(secret_of(settings)).write(Token(document, key_id, int(time.time() + seconds)))
    return [f"{url}/status/stream/{document}?token={token}" for url in stack.urls]


def test_a_token_opens_its_stream_on_every_node_and_a_revoked_key_ends_it_there(stack, settings, ring, key, store):
    """Streams by token and by key alike, of one document or several, within two seconds; others go on."""
    document, another = records.new_document(store), records.new_document(store)
    other, other_told = ring.create("default", ALL_SCOPES)
    paths = addresses(stack, settings, document, key[0])
    with ExitStack() as open_streams:
        streams = [Stream(open_streams, path) for path in paths]
        streams += [
            Stream(open_streams, f"{url}/status/stream?id={document}&id={another}", key[1]) for url in stack.urls
        ]
        stays = [Stream(open_streams, path) for path in addresses(stack, settings, document, other.id)]
        for stream in streams + stays:
            assert document in stream.first()
        ring.revoke(key[0])
        began = time.monotonic()
        for stream in streams[:2]:
            assert stream.rest() == []
        for stream in streams[2:]:
            assert all(another in line for line in stream.rest())
        assert time.monotonic() - began < REVOKED_SECONDS
        for path in paths:
            for seen in ("1", "9", ""):
                answer = httpx.get(path, headers={"Last-Event-ID": seen} if seen else {})
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        records.finish(store, document)
        for stream in stays:
            assert len(stream.rest()) == 1  # the final event
    assert httpx.get(f"{stack.urls[0]}/status/{document}", headers=bearing(other_told)).status_code == 200


def test_a_token_that_expires_ends_its_stream(stack, settings, key, store):
    """About when it says; the next connection is refused on every node."""
    document = records.new_document(store)
    paths = addresses(stack, settings, document, key[0], seconds=2)
    with ExitStack() as open_streams:
        streams = [Stream(open_streams, path) for path in paths]
        assert all(document in stream.first() for stream in streams)
        began = time.monotonic()
        assert [stream.rest() for stream in streams] == [[], []]
        assert time.monotonic() - began < 2 + 1
    for path in paths:
        assert httpx.get(path).json()["detail"] == "The token has expired."


def test_a_document_that_is_deleted_ends_its_streams(stack, settings, key, store):
    """First it is cancelled, which is its last event; then it is removed, and no token finds it."""
    document = records.new_document(store)
    paths = addresses(stack, settings, document, key[0])
    with ExitStack() as open_streams:
        streams = [Stream(open_streams, path) for path in paths]
        assert all(document in stream.first() for stream in streams)
        for _ in ("cancelled", "removed"):
            httpx.delete(f"{stack.urls[0]}/ingestions/{document}", headers=bearing(key[1])).raise_for_status()
        for stream in streams:
            (last,) = stream.rest()
            assert '"status":"CANCELLED"' in last
    for path in paths:
        wait_until(lambda path=path: httpx.get(path).status_code == 404, what="the node has noticed")
        assert httpx.get(path, headers={"Last-Event-ID": "2"}).json()["code"] == "unknown_ingestion"


def test_no_log_holds_a_key_or_a_token(stack, settings, key, store):
    """Not even at the level of debugging, or of a request that gunicorn can't read."""
    document = records.new_document(store)
    (path, _) = addresses(stack, settings, document, key[0])
    token = path.partition("token=")[2]
    for headers in (bearing(key[1]), bearing(f"{key[1]}x"), {"Last-Event-ID": "1"}):
        httpx.head(path, headers=headers)
        httpx.head(path[:-1], headers=headers)
    for request in (f"GET {path} HTTP/9.9\r\n\r\n", f"GET {path} HTTP/1.1\r\nAuthorization {key[1]}\r\n\r\n"):
        host, port = stack.web[0].address.split(":")
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(request.encode())
            assert raw.recv(4096).startswith(b"HTTP/1.1 4")
    for node in stack.web:
        assert key[1].split("_", 2)[2] not in node.output()
        assert token[-40:] not in node.output()
    assert f"ingest_{key[0]}_[redacted]" in stack.web[0].output()
