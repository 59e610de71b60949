"""A real HTTP server on a real socket that answers by script, also in the ways that no good server would."""

from __future__ import annotations

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from shared.jobs import Status
from shared.protocol import Failure, State, encode_state


@dataclass
class Exchange:
    """One request, and the connection to answer on. The connection is closed when the answer returns."""

    connection: socket.socket
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    closing: threading.Event = field(repr=False)

    def send(self, *pieces: bytes) -> None:
        self.connection.sendall(b"".join(pieces))

    def read_body(self) -> bytes:
        """The whole body, by its length or in chunks."""
        if "content-length" in self.headers:
            while len(self.body) < int(self.headers["content-length"]):
                self.body += received(self.connection)
        elif self.headers.get("transfer-encoding") == "chunked":
            while not self.body.endswith(b"0\r\n\r\n"):
                self.body += received(self.connection)
        return self.body

    def reset(self) -> None:
        """Close so that the other side gets a reset, as from a machine that fell over."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def stay_silent(self) -> None:
        """Send nothing more, and keep the connection until the server is closed."""
        self.closing.wait(30)


def received(connection: socket.socket) -> bytes:
    """What the client has sent next. Raises `ConnectionError` when it went away."""
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the client went away")
    return piece


Answer = Callable[[Exchange], None]


class ScriptedServer:
    """Answers each request of a route with the next answer of its script; the last one is repeated."""

    def __init__(self) -> None:
        self.requests: list[Exchange] = []
        self._scripts: dict[str, list[Answer]] = defaultdict(list)
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, route: str, *answers: Answer) -> None:
        """``route``: ``GET /path``, with the query if there is one."""
        self._scripts[route].extend(answers)

    def asked(self, route: str) -> list[Exchange]:
        """The requests of a route so far."""
        return [request for request in self.requests if f"{request.method} {request.target}" == route]

    def go_down(self) -> None:
        """Refuse connections from now on."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def come_up(self) -> None:
        """Listen again, at the same address."""
        self._listener = self._listen(self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        if self._listener.fileno() >= 0:
            self.go_down()
        for thread in self._threads:
            thread.join(timeout=5)
        assert not any(thread.is_alive() for thread in self._threads)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        self._start(self._accept, listener)
        return listener

    def _start(self, target: Callable[[socket.socket], None], connection: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(connection,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection:
            try:
                exchange = self._read_request(connection)
                self.requests.append(exchange)
                self._next_answer(f"{exchange.method} {exchange.target}")(exchange)
            except OSError:
                return

    def _next_answer(self, route: str) -> Answer:
        script = self._scripts.get(route) or [problem(404, "unknown_ingestion", "There is no such ingestion.")]
        return script.pop(0) if len(script) > 1 else script[0]

    def _read_request(self, connection: socket.socket) -> Exchange:
        came = b""
        while b"\r\n\r\n" not in came:
            came += received(connection)
        head, _, body = came.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.split(": ", 1) for line in lines)
        return Exchange(connection, method, target, {k.lower(): v for k, v in pairs}, body, self._closing)


def answer(status: str, content_type: str, body: bytes, *headers: str) -> Answer:
    """A complete answer, after the whole request has been read."""

    def run(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(head(status, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers), body)

    return run


def problem(status: int, code: str, detail: str) -> Answer:
    """An error as `ingest_web` words it."""
    body = f'{{"type":"about:blank","status":{status},"code":"{code}","detail":"{detail}"}}'
    return answer(f"{status} No", "application/problem+json", body.encode())


def stream(*pieces: bytes, then: Answer | None = None) -> Answer:
    """An event stream: these bytes, then whatever ``then`` does, then the end."""

    def run(exchange: Exchange) -> None:
        exchange.send(head("200 OK", "Content-Type: text/event-stream; charset=utf-8"), *pieces)
        if then:
            then(exchange)

    return run


def no_content(exchange: Exchange) -> None:
    """Nothing more to come."""
    exchange.send(head("204 No Content"))


def accepted(document_id: str) -> Answer:
    """The answer to an upload."""
    return answer("202 Accepted", "application/json", f'{{"id":"{document_id}","status":"PENDING"}}'.encode())


def head(status: str, *headers: str) -> bytes:
    """The head of an answer on a connection that ends with it."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode()


def event(state: State, event_id: str = "") -> bytes:
    """A state as the server sends it; ``event_id`` is its seq unless told otherwise."""
    return f"id: {event_id or state.seq}\nevent: progress\ndata: {encode_state(state)}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """How the server asks to wait before the next connection."""
    return f"retry: {milliseconds}\n\n".encode()


def a_state(
    document_id: str = "A", seq: int = 1, status: Status = Status.PARSING, progress: float = 10, **changes: object
) -> State:
    """A state of a document ``<id>.pdf`` at second ``seq`` of its life."""
    values: dict[str, object] = {
        "id": document_id,
        "filename": f"{document_id}.pdf",
        "status": status,
        "progress": progress,
        "message": f"Step {seq}",
        "stage": None,
        "eta_seconds": None,
        "queue_position": None,
        "attempt": 1,
        "seq": seq,
        "at": f"2026-11-23T20:00:{seq:02}.000Z",
        "created_at": "2026-11-23T20:00:00.000Z",
        "updated_at": f"2026-11-23T20:00:{seq:02}.000Z",
        "alive_at": None,
        "finished_at": None,
        "error": None,
        "warnings": (),
    }
    return State(**{**values, **changes})  # type: ignore[arg-type]


def completed(document_id: str = "A", seq: int = 9) -> State:
    """The final state of a document that went well."""
    return a_state(document_id, seq, Status.COMPLETED, 100, finished_at=f"2026-11-23T20:00:{seq:02}.000Z")


def failed(document_id: str = "A", seq: int = 9) -> State:
    """The final state of a document that needs a password."""
    error = Failure("encrypted", "A password is needed to open it.")
    return a_state(document_id, seq, Status.FAILED, 30, error=error, finished_at=f"2026-11-23T20:00:{seq:02}.000Z")
