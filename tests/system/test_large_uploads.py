"""Uploads over real sockets: large, cut off, refused in the middle."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.awaiting import wait_until
from tests.stack import Stack, WebNode

MEBIBYTE = 1024 * 1024
LIMIT_BYTES = 256 * MEBIBYTE
EDGE = "edge"
HEAD = f'--{EDGE}\r\nContent-Disposition: form-data; name="file"; filename="big.pdf"\r\n\r\n'.encode()
TAIL = f"\r\n--{EDGE}--\r\n".encode()
PIECE = b"%PDF-1.7\n" + bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """One web node; nobody works, so that nothing moves but uploads."""
    settings = {"INGEST_MAX_UPLOAD_BYTES": str(LIMIT_BYTES)}
    with Stack(tmp_path_factory.mktemp("uploads"), web=1, workers=0, settings=settings) as stack:
        yield stack


@pytest.fixture
def node(stack) -> WebNode:
    return stack.web[0]


def body(pieces: int) -> Iterator[bytes]:
    yield HEAD
    for _ in range(pieces):
        yield PIECE
    yield TAIL


def post(node: WebNode, content: object, **headers: str) -> httpx.Response:
    kind = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}
    return httpx.post(f"{node.url}/ingestions", content=content, headers={**kind, **headers}, timeout=60)


def address_of(node: WebNode) -> tuple[str, int]:
    host, port = node.address.split(":")
    return host, int(port)


def head_of_upload(node: WebNode, *headers: str) -> bytes:
    kind = f"Content-Type: multipart/form-data; boundary={EDGE}"
    return "\r\n".join(["POST /ingestions HTTP/1.1", f"Host: {node.address}", kind, *headers, "", ""]).encode()


def stored(stack: Stack) -> list[Path]:
    return [path for path in (stack.folder / "var" / "storage").rglob("*") if path.is_file()]


def keys_of_documents(stack: Stack) -> list[bytes]:
    with stack.redis() as client:
        return client.keys("ingest:{*")


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(stack, node) -> Iterator[None]:
    """After each test, what it uploaded is taken away; what it did not upload must not be there."""
    yield
    store = stack.open_store()
    for path in stored(stack):
        store.state(path.parent.name)  # raises for a file that no document owns
        store.delete(path.parent.name)
        path.unlink()
        path.parent.rmdir()
    store.close()
    assert keys_of_documents(stack) == []


def memory_bytes(pid: int, kind: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    raise AssertionError(kind)


def test_two_hundred_megabytes_pass_through_without_being_held(stack, node):
    """The peak memory of the web process grows by less than 32 MB; storage has every byte; the hash is right."""
    [pid] = map(int, Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split())
    assert post(node, body(1)).status_code == 202
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is counted from here
    before = memory_bytes(pid, "VmRSS")
    pieces = 200 * MEBIBYTE // len(PIECE)
    answer = post(node, body(pieces))
    assert answer.status_code == 202
    assert memory_bytes(pid, "VmHWM") - before < 32 * MEBIBYTE
    digest = hashlib.sha256()
    with (stack.folder / "var" / "storage" / answer.json()["id"] / "source").open("rb") as file:
        while data := file.read(MEBIBYTE):
            digest.update(data)
    assert digest.hexdigest() == hashlib.sha256(PIECE * pieces).hexdigest()
    with stack.redis() as client:
        source = client.hgetall(f"ingest:{{{answer.json()['id']}}}:source")
    assert source[b"sha256"].decode() == digest.hexdigest()


def test_other_requests_are_answered_while_a_large_upload_comes_in(node):
    """The loop turns: a probe is answered many times in the middle of an upload."""
    answered = []

    def slow_body() -> Iterator[bytes]:
        yield HEAD
        for _ in range(40):
            yield PIECE
            answered.append(httpx.get(f"{node.url}/livez").status_code)
        yield TAIL

    assert post(node, slow_body()).status_code == 202
    assert answered == [200] * 40


def test_too_large_is_said_while_it_is_still_coming(stack, node):
    """Nobody announces a length; the count decides, and the sender gets to read why."""
    answer = post(node, body(LIMIT_BYTES // len(PIECE) + 2))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.json()["max_bytes"] == LIMIT_BYTES
    assert stored(stack) == []


def test_too_large_is_said_before_a_byte_is_sent(node):
    """An announced length is judged at once: a client that waits for 100 Continue sends nothing in vain."""
    with socket.create_connection(address_of(node), timeout=10) as client:
        client.sendall(head_of_upload(node, f"Content-Length: {10**12}", "Expect: 100-continue"))
        client.shutdown(socket.SHUT_WR)
        head, _, content = read_all(client).rpartition(b"\r\n\r\n")
    assert b"HTTP/1.1 413" in head
    assert json.loads(content)["code"] == "too_large"


def test_the_wrong_type_is_said_in_the_middle(stack, node):
    """A large file that is no PDF is refused on its first kilobyte, readably."""

    def zeros() -> Iterator[bytes]:
        yield HEAD
        for _ in range(40):
            yield bytes(MEBIBYTE)
        yield TAIL

    answer = post(node, zeros())
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert stored(stack) == []


def test_a_sender_that_does_not_listen_meanwhile_gets_the_answer_too(stack, node):
    """The connection is kept after a refusal, so what is still being sent breaks no pipe, and the reason is read."""
    with socket.create_connection(address_of(node), timeout=10) as client:
        data = HEAD + bytes(40 * MEBIBYTE) + TAIL
        client.sendall(head_of_upload(node, f"Content-Length: {len(data)}") + data)
        assert b"HTTP/1.1 415" in client.recv(65536)
    assert stored(stack) == []


def test_without_redis_an_upload_is_refused_before_a_byte_is_sent(stack, node):
    """Nobody sends a gigabyte in vain."""
    stack.cut_redis()
    try:
        with socket.create_connection(address_of(node), timeout=10) as client:
            client.sendall(head_of_upload(node, "Content-Length: 50000000", "Expect: 100-continue"))
            client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
    finally:
        stack.restore_redis()
    assert b"HTTP/1.1 503" in answer
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["code"] == "unavailable"
    wait_until(node.ready)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_hangs_up_leaves_nothing(stack, node, framing):
    """In mid-upload the connection goes: no file, no key."""
    length = {"length": "Content-Length: 50000000", "chunked": "Transfer-Encoding: chunked"}[framing]
    with socket.create_connection(address_of(node), timeout=10) as client:
        client.sendall(head_of_upload(node, length))
        data = HEAD + PIECE * 3
        client.sendall(data if framing == "length" else b"%x\r\n%b\r\n" % (len(data), data))
        wait_until(lambda: stored(stack))
    wait_until(lambda: not stored(stack))
    wait_until(lambda: not list((stack.folder / "var" / "storage").iterdir()))


def test_redis_goes_away_during_an_upload(stack, node):
    """503 with Retry-After, and nothing half-created, although all the bytes had come."""

    def body_with_an_accident() -> Iterator[bytes]:
        yield HEAD + PIECE
        wait_until(lambda: stored(stack))
        stack.cut_redis()
        yield PIECE + TAIL

    try:
        answer = post(node, body_with_an_accident())
    finally:
        stack.restore_redis()
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert stored(stack) == []
    wait_until(node.ready)


def test_a_chunked_upload_is_as_good_as_one_with_a_length(node):
    """Both framings of HTTP/1.1 are read to the end and no further: the connection serves another request."""
    content = HEAD + PIECE + TAIL
    with httpx.Client() as client:
        for data in (content, iter([content[:100], content[100:]])):
            answer = client.post(
                f"{node.url}/ingestions",
                content=data,
                headers={"Content-Type": f"multipart/form-data; boundary={EDGE}"},
            )
            assert answer.status_code == 202
        assert client.get(f"{node.url}/livez").status_code == 200


def read_all(client: socket.socket) -> bytes:
    data = b""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (received := client.recv(65536)):
        data += received
    return data
