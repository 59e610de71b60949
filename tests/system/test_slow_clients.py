"""Requests that never end, over real sockets against a real gunicorn: each is let go of in bounded time, and meanwhile
everybody else is served.
"""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import httpx
import psutil
import pytest

from shared.config import Settings
from shared.database import ChunkTable
from shared.documents import Chunk
from tests.awaiting import wait_until
from tests.records import complete, new_document
from tests.stack import Stack, WebNode

#: How long a piece of a body may take, here; by default 20 s.
STALL_SECONDS = 1.0

#: What the head of a request may take, and how long a connection may be idle (`ingest_web.gunicorn_conf`).
HEAD_SECONDS = 5.0

#: For what takes time beside that, on a machine that has other things to do.
SLACK_SECONDS = 3.0

MEBIBYTE = 1024 * 1024

HEAD = (
    "POST /ingestions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n{}\r\n"
    '--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-1.7\n'
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    settings = {"INGEST_UPLOAD_STALL_SECONDS": str(STALL_SECONDS)}
    with Stack(tmp_path_factory.mktemp("slow"), web=1, workers=0, settings=settings) as stack:
        yield stack


@pytest.fixture
def node(stack) -> WebNode:
    return stack.web[0]


def opened(node: WebNode, sent: bytes = b"") -> socket.socket:
    host, port = node.address.split(":")
    client = socket.create_connection((host, int(port)), timeout=30)
    client.sendall(sent)
    return client


def answered(client: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    said = b""
    with suppress(ConnectionResetError):
        while received := client.recv(65536):
            said += received
    return said


def drip(client: socket.socket, piece: Callable[[int], bytes], every_seconds: float) -> tuple[bytes, float]:
    """Send a piece now and then until the other side has enough. What it said, and after how many seconds."""
    began = time.monotonic()
    client.settimeout(every_seconds)
    sent = 0
    while time.monotonic() - began < 30:
        try:
            client.sendall(piece(sent))
            sent += 1
            said = client.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            said = b""
        return said, time.monotonic() - began
    raise AssertionError("still open after 30 s")


def test_whoever_drips_is_let_go_of(node):
    """Slow heads and idle connections after `keepalive` seconds, slow and stopped bodies after the time of a piece."""
    chunked = HEAD.format("Transfer-Encoding: chunked\r\n").split("\r\n\r\n", 1)[0].encode() + b"\r\n\r\n"
    length = HEAD.format("Content-Length: 100000\r\n").encode()
    tries = {
        "a slow head": (b"GET /livez HTTP/1.1\r\nHost: x\r\n", lambda n: b"X", HEAD_SECONDS, b""),
        "a head that never begins": (b"", lambda n: b"", HEAD_SECONDS, b""),
        "a byte now and then": (length, lambda n: b"x", STALL_SECONDS, b" 408 "),
        "a body that stops": (length, lambda n: b"", STALL_SECONDS, b" 408 "),
        "a chunk now and then": (chunked, lambda n: b"1\r\nx\r\n", STALL_SECONDS, b" 408 "),
        "a slow form": (
            b"POST /ingestions/%b/retry HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 50000\r\n\r\n" % (b"0" * 26),
            lambda n: b"a",
            STALL_SECONDS,
            b" 408 ",
        ),
    }
    ends: dict[str, tuple[bytes, float]] = {}

    def attempt(name: str) -> None:
        sent, piece, _, _ = tries[name]
        with closing(opened(node, sent)) as client:
            ends[name] = drip(client, piece, every_seconds=0.1)

    threads = [threading.Thread(target=attempt, args=(name,)) for name in tries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (_, _, seconds, said) in tries.items():
        assert said in ends[name][0], name
        assert bool(said) == bool(ends[name][0]), name
        assert ends[name][1] < seconds + SLACK_SECONDS, name


def test_a_head_without_an_end_is_refused(node):
    """As many headers, or as long ones, as anybody likes to send: they are not kept."""
    for header in (b"X-Long: " + b"x" * MEBIBYTE, b"X: y\r\n" * 100_000):
        with closing(opened(node)) as client:
            with suppress(ConnectionError):  # it is closed while this is being sent
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
            said = answered(client)
        assert said == b"" or b" 431 " in said or b" 400 " in said


@pytest.mark.parametrize(
    "sent",
    [b"GET /livez HTTP/1.1\r\nX", HEAD.format("Content-Length: 100000\r\n").encode()],
    ids=["heads", "bodies"],
)
def test_a_thousand_that_stop_in_the_middle_hold_nobody_up_for_longer_than_one_does(node, sent):
    """They fill every place that the process has for requests, and lose it again with their time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with ExitStack() as attackers:
        for _ in range(1000):
            attackers.enter_context(opened(node, sent))
        began = time.monotonic()
        assert httpx.get(f"{node.url}/livez", timeout=30).status_code == 200
        assert time.monotonic() - began < HEAD_SECONDS + SLACK_SECONDS


def test_a_body_that_goes_on_after_its_answer_holds_nobody_up(node):
    """It was refused; what still comes is thrown away for a while, in turns with everybody else."""
    waits: list[float] = []
    stop = threading.Event()

    def look() -> None:
        with httpx.Client(base_url=node.url, timeout=30) as http:
            while not stop.is_set():
                began = time.monotonic()
                http.get("/livez")
                waits.append(time.monotonic() - began)

    watcher = threading.Thread(target=look)
    with closing(opened(node, HEAD.format("Content-Length: 9000000000\r\n").encode())) as client:
        watcher.start()
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < 30:
                client.sendall(b"x" * MEBIBYTE)
        took = time.monotonic() - began
    stop.set()
    watcher.join()
    assert took < HEAD_SECONDS + SLACK_SECONDS
    assert max(waits) < HEAD_SECONDS / 2


def test_an_answer_that_nobody_takes_is_given_up(node, stack, store):
    """A client asks for a long result and does not read: its connection is closed, and the process holds nothing."""
    document = new_document(store)
    complete(store, document)
    settings = Settings.from_environment(stack.environment_of_ours)
    with closing(ChunkTable.from_settings(settings)) as table:
        text = "x" * MEBIBYTE
        table.replace(document, [Chunk(f"{n:032x}", n, text, 1, 1, n, n + 1) for n in range(32)])
    [process] = psutil.Process(node.pid).children()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(node.address.split(":")[1])))
        ours = client.getsockname()[1]
        client.sendall(b"GET /ingestions/%b/chunks HTTP/1.1\r\nHost: x\r\n\r\n" % document.encode())
        wait_until(lambda: ours in _peers(process), what="the request is in hand")
        wait_until(lambda: ours not in _peers(process), within_seconds=STALL_SECONDS + SLACK_SECONDS)
    assert "Traceback" not in node.output()


def _peers(process: psutil.Process) -> set[int]:
    """The ports of those that a process has connections with."""
    return {connection.raddr.port for connection in process.net_connections("tcp") if connection.raddr}
