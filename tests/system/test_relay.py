"""Streams on a real web node: sockets handed over to the hub, under gunicorn's gevent worker."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared import connections, keys
from shared.jobs import Status
from tests.awaiting import wait_until
from tests.records import finish, new_document
from tests.stack import Stack, WebNode


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """One web node, no worker: the tests write what a worker would; nobody is closed before megabytes are written."""
    with Stack(tmp_path_factory.mktemp("relay"), web=1, workers=0, settings={"INGEST_STALL_SECONDS": "5"}) as stack:
        yield stack


@pytest.fixture
def node(stack) -> WebNode:
    return stack.web[0]


class Wire:
    """A stream as bytes on a socket."""

    def __init__(
        self, node: WebNode, path: str, *headers: str, receive_buffer_bytes: int | None = None, more: str = ""
    ):
        host, port = node.address.split(":")
        self.socket = socket.socket()
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(10)
        self.socket.connect((host, int(port)))
        lines = [f"GET {path} HTTP/1.1", f"Host: {node.address}", *headers]
        self.socket.sendall(("\r\n".join([*lines, "", ""]) + more).encode())
        self.data = b""

    def until(self, mark: bytes) -> bytes:
        """Read until ``mark`` has come; gives everything so far."""
        while mark not in self.data:
            received = self.socket.recv(65536)
            assert received, f"the stream ended: {self.data!r}"
            self.data += received
        return self.data

    def to_the_end(self) -> bytes:
        while received := self.socket.recv(65536):
            self.data += received
        return self.data

    def event_ids(self) -> list[str]:
        return [line[4:] for line in self.data.decode().split("\n") if line.startswith("id: ")]

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def watch() -> Iterator[Callable[..., Wire]]:
    """Opens streams, and closes them in the end."""
    wires: list[Wire] = []

    def open_wire(*args, **options) -> Wire:
        wires.append(Wire(*args, **options))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.close()


def open_streams(node: WebNode) -> int:
    return httpx.get(f"{node.url}/readyz").json()["streams"]


def web_process(node: WebNode) -> int:
    return int(Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()[0])


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def test_the_whole_stream_has_these_bytes(watch, node, store, document):
    """Head, retry, state, event, end: what a proxy and a browser see."""
    wire = watch(node, f"/status/stream/{document}")
    wire.until(b"id: 1\n")
    finish(store, document)
    head, body = wire.to_the_end().split(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    assert set(head.split(b"\r\n")[1:]) == {
        b"Content-Type: text/event-stream; charset=utf-8",
        b"Cache-Control: no-store",
        b"X-Accel-Buffering: no",
        b"X-Content-Type-Options: nosniff",
        b"Connection: close",
    }
    frames = body.split(b"\n\n")
    assert frames[0] == b"retry: 2000"
    assert [frame.split(b"\n")[:2] for frame in frames[1:3]] == [
        [b"id: 1", b"event: progress"],
        [b"id: 2", b"event: progress"],
    ]
    assert frames[3] == b""
    assert json.loads(frames[2].split(b"\ndata: ")[1]) == httpx.get(f"{node.url}/status/{document}").json()


def test_the_end_was_seen_and_204_says_stop(node, store, document):
    """A reconnect whose Last-Event-ID is the final event is told to stop."""
    finish(store, document)
    answer = httpx.get(f"{node.url}/status/stream/{document}", headers={"Last-Event-ID": "2"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_head_request_opens_no_stream(node, document):
    """The headers, and nothing held open."""
    before = open_streams(node)
    assert httpx.head(f"{node.url}/status/stream/{document}").headers["Content-Type"].startswith("text/event-stream")
    assert open_streams(node) == before


def test_a_viewer_that_leaves_is_noticed_at_once(watch, node, document):
    """No event and no heartbeat is needed to see it go; its descriptor goes too."""
    pid = web_process(node)
    httpx.get(f"{node.url}/readyz")
    before = open_files(pid)
    wires = [watch(node, f"/status/stream/{document}") for _ in range(20)]
    for wire in wires:
        wire.until(b"id: 1\n")
    assert open_streams(node) == 20
    for wire in wires:
        wire.close()
    began = time.monotonic()
    wait_until(lambda: open_streams(node) == 0)
    assert time.monotonic() - began < 5  # a heartbeat comes every 15 s: it was not that
    wait_until(lambda: open_files(pid) <= before + connections.WEB_CONNECTIONS)  # and none of the 20


def test_a_process_has_one_pubsub_connection_whatever_is_watched(watch, node, stack, store):
    """However many documents and viewers, Redis sees one subscriber; nothing stays subscribed."""
    documents = [new_document(store) for _ in range(30)]
    wires = [watch(node, f"/status/stream/{document_id}") for document_id in documents for _ in range(2)]
    for wire in wires:
        wire.until(b"id: 1\n")
    client = stack.redis()
    assert len(client.client_list(_type="pubsub")) == 1
    assert set(client.pubsub_channels("ingest:*")) >= {keys.channel(name).encode() for name in documents}
    for wire in wires:
        wire.close()
    wait_until(lambda: not client.pubsub_channels("ingest:*"))
    client.close()


def test_a_request_behind_the_stream_is_nobodys(watch, node, store, document):
    """What a client sends after it asked for a stream is not served: the connection belongs to the stream alone."""
    wire = watch(
        node, f"/status/stream/{document}", "Connection: keep-alive", more="GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    wire.until(b"id: 1\n")
    wire.socket.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    assert httpx.get(f"{node.url}/livez").status_code == 200
    finish(store, document)
    assert wire.to_the_end().count(b"HTTP/1.1") == 1


def figures(node: WebNode) -> dict[str, float]:
    """The relay's metrics, labels in brackets."""
    families = text_string_to_metric_families(httpx.get(f"{node.url}/metrics").text)
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_metrics_are_those_of_all_processes_of_a_node(watch, tmp_path):
    """Whichever process answers the scrape, streams are summed up; a process that died holds none any more."""
    with Stack(tmp_path, web=1, workers=0, web_processes=2) as stack, closing(stack.open_store()) as store:
        node = stack.web[0]
        document = new_document(store)
        wires = [watch(node, f"/status/stream/{document}") for _ in range(30)]
        for wire in wires:
            wire.until(b"id: 1\n")
        wait_until(lambda: all(figures(node)["ingest_streams_open"] == 30 for _ in range(5)))
        finish(store, document)
        for wire in wires:
            wire.to_the_end()
        wait_until(lambda: figures(node).get("ingest_streams_closed_total[finished]") == 30)
        shown = figures(node)
        assert shown["ingest_deliveries_total"] == shown["ingest_delivery_lag_seconds_count"] == 30
        assert shown["ingest_joins_total[snapshot]"] == 30
        assert shown["ingest_streams_open"] == 0
        assert shown["ingest_redis_connections"] <= 2 * (1 + connections.WEB_CONNECTIONS)
        wires = [watch(node, f"/status/stream/{new_document(store)}") for _ in range(10)]
        wait_until(lambda: figures(node)["ingest_streams_open"] == 10)
        for child in psutil.Process(node.pid).children():
            child.kill()
        for wire in wires:
            wire.to_the_end()
        wait_until(lambda: node.ready() and figures(node)["ingest_streams_open"] == 0)


def test_redis_is_killed_and_every_viewer_learns_what_happened(watch, node, stack, store, document):
    """Streams stay open through an outage; what was written after it arrives in order, none twice."""
    wires = [watch(node, f"/status/stream/{document}") for _ in range(5)]
    for wire in wires:
        wire.until(b"id: 1\n")
    store.record(document, 1, Status.PARSING, "before", progress=1.0)
    for wire in wires:
        wire.until(b"id: 2\n")
    stack.redis().bgrewriteaof()
    wait_until(lambda: not stack.redis().info("persistence")["aof_rewrite_in_progress"])
    wait_until(lambda: not stack.redis().info("persistence")["aof_rewrite_scheduled"])

    stack.cut_redis()
    wait_until(lambda: httpx.get(f"{node.url}/readyz").status_code == 503)
    assert httpx.get(f"{node.url}/livez").status_code == 200
    stack.restore_redis()
    store.record(document, 1, Status.PARSING, "after", progress=50.0)
    finish(store, document)
    for wire in wires:
        wire.to_the_end()
        assert wire.event_ids() == ["1", "2", "3", "4"]


def test_a_stream_opened_without_redis_asks_to_come_back(node, stack, document):
    """200, a delay with jitter, the end: an EventSource would give up for good on anything else."""
    stack.cut_redis()
    try:
        answer = httpx.get(f"{node.url}/status/stream/{document}", timeout=20)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        reason, delay = answer.text.split("\n\n", 1)
        assert reason.startswith(": ")
        assert 2000 <= int(delay.removeprefix("retry: ")) <= 6000
    finally:
        stack.restore_redis()
    wait_until(node.ready)


def test_a_viewer_that_does_not_read_is_closed_and_the_others_notice_nothing(watch, node, store, document):
    """A full socket keeps the latest state only; after a bounded stall it is closed; a reader beside it misses
    nothing."""
    reader = watch(node, f"/status/stream/{document}")
    watch(node, f"/status/stream/{document}", receive_buffer_bytes=2048)
    reader.until(b"id: 1\n")
    wait_until(lambda: open_streams(node) >= 2)
    filler = "x" * 60_000
    seq = 1
    deadline = time.monotonic() + 40
    while open_streams(node) >= 2:
        assert time.monotonic() < deadline, "the sleeper was never closed"
        seq += 1
        store.record(document, 1, Status.PARSING, f"{seq} {filler}", progress=0.0)
        reader.until(b"id: %d\n" % seq)
    assert reader.event_ids() == [str(n) for n in range(1, seq + 1)]


def test_a_viewer_that_reads_late_gets_the_latest_and_the_final_state(watch, node, store, document):
    """Congestion drops what is stale, never what is final; numbers only grow."""
    wire = watch(node, f"/status/stream/{document}", receive_buffer_bytes=2048)
    wait_until(lambda: open_streams(node) >= 1)
    filler = "x" * 60_000
    for n in range(150):
        store.record(document, 1, Status.PARSING, f"{n} {filler}", progress=0.0)
    finish(store, document)
    wire.to_the_end()
    numbers = [int(event_id) for event_id in wire.event_ids()]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 152
    assert len(numbers) < 152
    assert wire.data.endswith(b"\n\n")


def test_sigterm_sends_every_viewer_away_with_a_delay_of_its_own(watch, tmp_path):
    """Draining: each viewer is asked to come back after a random time; the process ends; nothing is cut in
    mid-frame."""
    with Stack(tmp_path, web=1, workers=0, settings={"INGEST_DRAIN_SECONDS": "1"}) as stack:
        node = stack.web[0]
        store = stack.open_store()
        document_id = new_document(store)
        wires = [watch(node, f"/status/stream/{document_id}") for _ in range(10)]
        for wire in wires:
            wire.until(b"id: 1\n")
        node.signal(signal.SIGTERM)
        delays = set()
        for wire in wires:
            last = wire.to_the_end().rstrip(b"\n").split(b"\n\n")[-1]
            delays.add(int(last.removeprefix(b"retry: ")))
        assert all(1000 <= delay <= 3000 for delay in delays)
        assert len(delays) > 1
        wait_until(lambda: not node.alive)
        store.close()


def test_five_hundred_documents_fit_on_one_stream(node, store):
    """All of them arrive over one connection, and its last event id ends all of them with one 204."""
    documents = [new_document(store) for _ in range(500)]
    for document in documents:
        finish(store, document)
    url = f"{node.url}/status/stream?" + "&".join(f"id={document}" for document in documents)
    answer = httpx.get(url, timeout=30)
    assert answer.status_code == 200
    states = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [state["id"] for state in states] == documents
    event_ids = [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")]
    assert httpx.get(url, headers={"Last-Event-ID": event_ids[-1]}, timeout=30).status_code == 204
    half_way = httpx.get(url, headers={"Last-Event-ID": event_ids[249]}, timeout=30)
    assert half_way.text.count("data: ") == 250
    assert httpx.get(f"{url}&id={new_document(store)}", timeout=30).status_code == 422
