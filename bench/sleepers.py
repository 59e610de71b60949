"""Viewers that do not read at all, and what the kernel holds for them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

#: Where they come from, so that the kernel can tell them from the others.
ADDRESS = "127.0.0.9"

#: What their own side takes for them is small, as on a device that has little, and soon full.
RECEIVE_BUFFER_BYTES = 4096

CONNECT_SECONDS = 30

_SEND_QUEUE = re.compile(rb"^\s*\d+\s+(\d+)\s", re.MULTILINE)
_MEMORY = re.compile(rb"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+)")


@dataclass(frozen=True)
class Kernel:
    """What it holds on the server's side of some connections: how many there are, how many are full, and how much."""

    connections: int
    congested: int
    bytes_each: float


class Sleepers:
    """Streams that are asked for and never read. A context: they leave at its end."""

    def __init__(self, address: tuple[str, int], paths: Sequence[str]) -> None:
        self._address = address
        self._paths = paths
        self._streams: list[socket.socket] = []

    def __enter__(self) -> Self:
        for path in self._paths:
            self._streams.append(self._asked(path))
        for stream in self._streams:
            stream.recv(1, socket.MSG_PEEK)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.close()

    def kernel(self) -> Kernel:
        """As ``ss`` tells."""
        host, port = self._address
        command = ["ss", "-tmnHO", "state", "established", "src", f"{host}:{port}", "dst", ADDRESS]
        told = subprocess.run(command, check=True, capture_output=True).stdout
        queues = [int(queue) for queue in _SEND_QUEUE.findall(told)]
        sizes = [sum(map(int, sizes)) for sizes in _MEMORY.findall(told)]
        return Kernel(len(queues), sum(queue > 0 for queue in queues), sum(sizes) / max(1, len(sizes)))

    def _asked(self, path: str) -> socket.socket:
        stream = socket.socket()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        stream.settimeout(CONNECT_SECONDS)
        stream.bind((ADDRESS, 0))
        stream.connect(self._address)
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())
        return stream


def can_look() -> bool:
    """Whether the kernel can be asked here."""
    return shutil.which("ss") is not None
