"""A receiver of webhooks as a process of its own: verifies with the public library, notes what came, and misbehaves.

How it answers is told by the first part of the path: ``/ok``, ``/slow``, ``/fail``, ``/stall``, ``/drip``, ``/flood``,
``/trickle``, ``/redirect``, ``/gone``, ``/busy`` (Retry-After), ``/garbage``, or ``/told``, which answers with the
status that was told last. Whatever comes is a line of JSON in its log.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

from tests.awaiting import wait_until

SLOW_SECONDS = 0.2
STALL_SECONDS = 60
FLOOD_BYTES = 64 * 1024**2


class Receiver:
    """The process, and what it has noted."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "received.jsonl"
        self._secrets = folder / "secrets.json"
        self._status = folder / "status"
        self._read: list[dict[str, Any]] = []
        self._offset = 0
        self._port = port

    def __enter__(self) -> Self:
        self._log.touch()
        self.tell_secrets({})
        self.answer_told(200)
        with socket.create_server(("127.0.0.1", self._port), backlog=512) as listener:
            self._port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.receiver", str(listener.fileno()), str(self._folder)],
                pass_fds=(listener.fileno(),),
                cwd=Path(__file__).parent.parent,
            )
        self.base = f"http://127.0.0.1:{self._port}"
        wait_until(self._is_up, what="the receiver")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _is_up(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.base}/", timeout=2).status_code == 200
        return False

    def url(self, way: str, name: str = "") -> str:
        """Where to call for this way of answering; ``name`` tells callers apart."""
        return f"{self.base}/{way}/{name}" if name else f"{self.base}/{way}"

    def tell_secrets(self, secrets: dict[str, str]) -> None:
        """The secret of each path; others are not verified."""
        made = self._secrets.with_suffix(".new")
        made.write_text(json.dumps(secrets))
        made.replace(self._secrets)

    def answer_told(self, status: int) -> None:
        """What ``/told`` answers from now on."""
        made = self._status.with_suffix(".new")
        made.write_text(str(status))
        made.replace(self._status)

    @property
    def flooded_bytes(self) -> int:
        """How much the last flood has got rid of."""
        return int((self._folder / "flooded").read_text())

    @property
    def received(self) -> list[dict[str, Any]]:
        """Everything so far, in the order in which it was answered."""
        with self._log.open("rb") as log:
            log.seek(self._offset)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._read += map(json.loads, whole.splitlines())
        return self._read

    def at(self, path: str) -> list[dict[str, Any]]:
        """What came to a path."""
        return [one for one in self.received if one["path"] == path]


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, b"up")

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # whoever called was killed in the middle of it
            self.close_connection = True
            return
        with suppress(OSError):  # whoever called has had enough
            self._behave(self.path.split("/")[1], body)

    def _behave(self, way: str, body: bytes) -> None:
        self._note(body)
        getattr(self, f"_{way}", self._ok)()

    def _ok(self) -> None:
        self._answer(200, b"thanks")

    def _slow(self) -> None:
        time.sleep(SLOW_SECONDS)
        self._answer(200, b"at last")

    def _fail(self) -> None:
        self._answer(500, b"no")

    def _told(self) -> None:
        self._answer(int((self.folder / "status").read_text()), b"as told")

    def _stall(self) -> None:
        time.sleep(STALL_SECONDS)

    def _redirect(self) -> None:
        self._answer(307, b"", location="/ok/redirected")

    def _gone(self) -> None:
        self._answer(410, b"gone")

    def _busy(self) -> None:
        self._answer(503, b"later", **{"retry-after": "2"})

    def _garbage(self) -> None:
        self.wfile.write(b"\0\1\2 no HTTP\r\n\r\n")
        self.close_connection = True

    def _note(self, body: bytes) -> None:
        secret = json.loads((self.folder / "secrets.json").read_text()).get(self.path)
        note = {"path": self.path, "at": time.time(), "headers": {k.lower(): v for k, v in self.headers.items()}}
        note |= {"body": body.decode(), "verified": _verified(secret, body, dict(self.headers.items()))}
        line = json.dumps(note) + "\n"
        with (self.folder / "received.jsonl").open("ab", buffering=0) as log:
            log.write(line.encode())  # one write: lines of several threads don't mix

    def _drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for n in range(STALL_SECONDS * 10):
            self.wfile.write(b"x-%d: 1\r\n" % n)
            time.sleep(0.1)

    def _trickle(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        for _ in range(STALL_SECONDS * 10):
            self.wfile.write(b".")
            time.sleep(0.1)

    def _flood(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % FLOOD_BYTES)
        sent = 0
        while sent < FLOOD_BYTES:
            sent += self.wfile.write(b"flood " * 10_000)
            (self.folder / "flooded.new").write_text(str(sent))
            (self.folder / "flooded.new").replace(self.folder / "flooded")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _verified(secret: str | None, body: bytes, headers: dict[str, str]) -> bool | None:
    if secret is None:
        return None
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def _serve(descriptor: int, folder: Path) -> None:
    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def server_bind(self) -> None:
            self.socket = socket.socket(fileno=descriptor)
            self.server_address = self.socket.getsockname()

        def server_activate(self) -> None:
            """It listens already."""

        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever called has gone."""

    handler = type("Handler", (_Handler,), {"folder": folder})
    Server(("127.0.0.1", 0), handler).serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
