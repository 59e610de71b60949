"""Bounds on streams and the metrics of a node whose processes come and go, on real processes."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack, closing

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.awaiting import wait_until
from tests.records import finish, new_document
from tests.stack import Server, Stack, WebNode

PER_ADDRESS = {"INGEST_MAX_STREAMS_PER_ADDRESS": "1", "INGEST_TRUSTED_PROXIES": "1"}


def stream(server: Server, document_id: str, client_address: str, *headers: str) -> socket.socket:
    """A stream that is asked for from an address of this machine."""
    host, port = server.address.split(":")
    client = socket.create_connection((host, int(port)), timeout=10, source_address=(client_address, 0))
    lines = [f"GET /status/stream/{document_id} HTTP/1.0", f"Host: {server.address}", *headers, "", ""]
    client.sendall("\r\n".join(lines).encode())
    return client


def first_words(client: socket.socket) -> bytes:
    """What is said up to the first event, or up to the end."""
    data = b""
    while b"\nid: " not in data and (received := client.recv(65536)):
        data += received
    return data


def test_behind_the_balancer_each_client_has_seats_of_its_own(tmp_path):
    """The address is the client's, not the balancer's, and can't be invented: one too many is asked to come back."""
    with Stack(tmp_path, web=1, workers=0, balancer=True, settings=PER_ADDRESS) as stack, ExitStack() as opened:
        store = opened.enter_context(closing(stack.open_store()))
        document = new_document(store)
        assert stack.balancer
        for address in ("127.0.0.2", "127.0.0.3"):
            client = opened.enter_context(stream(stack.balancer, document, address))
            assert b"id: 1\n" in first_words(client)
        for headers in ((), ("X-Forwarded-For: 10.1.2.3",)):
            client = opened.enter_context(stream(stack.balancer, document, "127.0.0.2", *headers))
            said = first_words(client)
            assert b" 200 " in said.split(b"\r\n")[0]
            assert b"Your address has 1 streams here" in said
            assert b"retry: " in said


def counted(node: WebNode) -> dict[str, float]:
    text = httpx.get(f"{node.url}/metrics").text
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }


def pids(node: WebNode) -> set[int]:
    return {child.pid for child in psutil.Process(node.pid).children()}


def test_a_reload_takes_nothing_from_what_was_counted(tmp_path):
    """After SIGHUP other processes serve; what the earlier ones did is still in the sums, and they hold nothing."""
    with Stack(tmp_path, web=1, workers=0, web_processes=2) as stack, ExitStack() as opened:
        store = opened.enter_context(closing(stack.open_store()))
        node, document = stack.web[0], new_document(store)
        wait_until(lambda: len(pids(node)) == 2)
        before = pids(node)
        clients = [opened.enter_context(stream(node, document, "127.0.0.1")) for _ in range(12)]
        for client in clients:
            first_words(client)
        wait_until(lambda: counted(node)["ingest_streams_open"] == 12)
        finish(store, document)
        wait_until(lambda: counted(node)["ingest_deliveries_total"] == 12)

        node.signal(signal.SIGHUP)

        wait_until(lambda: len(pids(node)) == 2 and not pids(node) & before)
        wait_until(lambda: node.ready() and counted(node)["ingest_redis_connections"] == 0)
        shown = counted(node)
        assert shown["ingest_deliveries_total"] == shown["ingest_delivery_lag_seconds_count"] == 12
        assert (shown["ingest_streams_open"], shown["ingest_pubsub_up"]) == (0, 0)
        other = new_document(store)
        client = opened.enter_context(stream(node, other, "127.0.0.1"))
        assert b"id: 1\n" in first_words(client)
        wait_until(lambda: counted(node)["ingest_streams_open"] == 1)
