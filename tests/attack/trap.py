"""Listeners at addresses of this machine: whoever is called where he may not be called notes it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

#: Where webhooks may go, as the operator has said; and neighbours of it, where they may not.
OPEN_HOST = "127.0.0.2"
CLOSED_HOSTS = ("127.0.0.1", "127.0.0.3")


class Trap:
    """An HTTP server that notes the path of every request. ``/redirect/307/<url>`` leads on to a URL."""

    def __init__(self, host: str) -> None:
        self.called: list[str] = []
        self.host = host
        handler: Any = type("Handler", (_Handler,), {"called": self.called})
        self._server = ThreadingHTTPServer((host, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}/{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    called: list[str]

    def do_POST(self) -> None:
        self._note()

    def do_GET(self) -> None:
        self._note()

    def do_HEAD(self) -> None:
        self._note()

    def _note(self) -> None:
        self.called.append(self.path)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        _, way, *rest = self.path.split("/", 3)
        self.send_response(int(rest[0]) if way == "redirect" else 200)
        if way == "redirect":
            self.send_header("location", rest[1])
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
