"""Requests as bytes over a socket of one's own: what a well-behaved client would not send, and what comes back."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

Headers = Iterable[tuple[str, str]]

#: Who has not answered by then has not answered.
ANSWER_SECONDS = 10.0

#: An answer that is longer is not read to its end.
MOST_BYTES = 1_000_000

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes that came back for a request, until the connection ended or the answer was whole."""

    data: bytes

    @property
    def status(self) -> int:
        """0 when the connection was closed without an answer."""
        head = self.data[:12]
        return int(head[9:12]) if re.fullmatch(rb"HTTP/1\.[01] \d\d\d", head) else 0

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def statuses(self) -> list[int]:
        """Those of all answers that came on the connection."""
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d\d\d) ", self.data)]

    def header(self, name: str) -> str | None:
        """The value of a header, None when there is none."""
        found = re.search(rf"^{re.escape(name)}: *(.*)$", self.head, re.IGNORECASE | re.MULTILINE)
        return found[1].strip() if found else None


def request(method: str, target: str, headers: Headers = (), body: bytes = b"", host: str = "ingest.test") -> bytes:
    """A request that asks for the connection to be closed. Nothing in it is quoted or checked."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body or method in {"POST", "PUT", "PATCH"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


def connect(address: str, seconds: float = ANSWER_SECONDS) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=seconds)


def exchange(address: str, data: bytes, seconds: float = ANSWER_SECONDS, *, to_the_end: bool = False) -> Answer:
    """Send bytes, and read the answer; ``to_the_end`` of the connection, when there may be several."""
    with connect(address, seconds) as line:
        with suppress(BrokenPipeError, ConnectionResetError):  # it need not hear all of it to answer
            line.sendall(data)
        return receive(line, seconds, to_the_end=to_the_end)


def receive(
    line: socket.socket, seconds: float = ANSWER_SECONDS, *, to_the_end: bool = False, until: bytes = b""
) -> Answer:
    """What comes on a connection within so many seconds, or ``until`` this has come."""
    deadline = time.monotonic() + seconds
    data = b""
    with suppress(TimeoutError, ConnectionResetError):
        while len(data) < MOST_BYTES and (to_the_end or not _is_whole(data)):
            line.settimeout(max(0.001, deadline - time.monotonic()))
            piece = line.recv(65536)
            if not piece:
                break
            data += piece
            if until and until in data:
                break
    return Answer(data)


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end) and length is not None and len(body) >= int(length[1])
