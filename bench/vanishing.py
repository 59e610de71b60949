"""Clients that vanish without a word, and what the web process has left of them, second by second.

The clients live in a network namespace of their own, behind a virtual cable. Then the address that they came from is
taken away, and they are killed: no FIN and no RST reaches the server, and what it sends to them comes to nothing, as
with a laptop that leaves the Wi-Fi. That takes root and Linux. Where it can't be had they are only killed, after which
the kernel ends each connection in order: the lesser case, and named as such.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench.contenders import Contender, Running, Site, running
from bench.reader import Readers
from tests.awaiting import wait_until

CABLE_CUT = "their cable was cut"
KILLED = "they were only killed (without root and network namespaces that is all that can be done)"

#: From the range that is kept for benchmarks of networks (RFC 2544); the server's side, and the clients'.
SERVER_ADDRESS, CLIENT_ADDRESS, PREFIX_BITS = "198.18.77.1", "198.18.77.2", 30

POLL_SECONDS = 0.25

#: Descriptors that come and go by themselves: of a log, of a connection that is made anew.
FEW_FILES = 3


@dataclass(frozen=True)
class Left:
    """What a serving process has, or has beyond what it had before."""

    streams: int
    files: int
    subscriptions: int
    memory_mib: float

    def beyond(self, before: Left) -> Left:
        """What is here and was not there."""
        return Left(
            self.streams - before.streams,
            self.files - before.files,
            self.subscriptions - before.subscriptions,
            round(self.memory_mib - before.memory_mib, 2),
        )

    @property
    def nothing(self) -> bool:
        """But memory, of which an allocator keeps what it will need again."""
        return self.streams == 0 and self.subscriptions == 0 and self.files <= FEW_FILES


@dataclass(frozen=True)
class Vanishing:
    """``after_seconds`` is when nothing was left but memory; None if that never came."""

    viewers: int
    how: str
    heartbeat_seconds: float
    after_seconds: float | None
    first: Left
    last: Left


class Cable:
    """A network namespace and the virtual cable to it. A context: nothing of it is left at the end."""

    def __init__(self) -> None:
        self.namespace = f"bench-{os.getpid()}"
        self._near, self._far = f"bn{os.getpid()}", f"bf{os.getpid()}"
        #: Runs a program at the far end.
        self.at_far_end = ("ip", "netns", "exec", self.namespace)

    def __enter__(self) -> Cable:
        self._ip("netns", "add", self.namespace)
        self._ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.namespace)
        self._ip("address", "add", f"{SERVER_ADDRESS}/{PREFIX_BITS}", "dev", self._near)
        self._ip("link", "set", self._near, "up")
        self._ip("-n", self.namespace, "address", "add", f"{CLIENT_ADDRESS}/{PREFIX_BITS}", "dev", self._far)
        self._ip("-n", self.namespace, "link", "set", self._far, "up")
        return self

    def cut(self) -> None:
        """From now on nothing comes back. The near end goes on sending, as to a router that is still there."""
        link = self._ip("-n", self.namespace, "-o", "link", "show", "dev", self._far).split()
        mac = link[link.index("link/ether") + 1]
        self._ip("neighbour", "replace", CLIENT_ADDRESS, "lladdr", mac, "dev", self._near, "nud", "permanent")
        self._ip("-n", self.namespace, "address", "flush", "dev", self._far)

    def __exit__(self, *_: object) -> None:
        for command in (("link", "delete", self._near), ("netns", "delete", self.namespace)):
            subprocess.run(["ip", *command], check=False, capture_output=True)

    def _ip(self, *arguments: str) -> str:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def can_cut() -> bool:
    """Whether network namespaces can be made here."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    try:
        with Cable():
            return True
    except subprocess.CalledProcessError:
        return False


def measure(
    contender: Contender, folder: Path, viewers: int, heartbeat_seconds: float, most_seconds: float
) -> Vanishing:
    """Each viewer has a document of its own. All come and leave in order before: what is made once is made then."""
    cut = can_cut()
    site = Site(folder, viewers, host=SERVER_ADDRESS if cut else "127.0.0.1", heartbeat_seconds=heartbeat_seconds)
    with _clients(cut) as (cable, readers), running(contender, site) as server:
        readers.open("in order", server.target.address, server.target.paths)
        readers.close("in order")
        wait_until(lambda: _has(server).streams == 0 and not server.subscriptions(), what="all to have left in order")
        before = _has(server)
        readers.open("vanishing", server.target.address, server.target.paths)
        if cable:
            cable.cut()
        readers.kill()
        began = time.monotonic()
        first = last = _has(server).beyond(before)
        while not last.nothing and time.monotonic() - began < most_seconds:
            time.sleep(POLL_SECONDS)
            last = _has(server).beyond(before)
        after_seconds = round(time.monotonic() - began, 1) if last.nothing else None
        return Vanishing(viewers, CABLE_CUT if cut else KILLED, heartbeat_seconds, after_seconds, first, last)


def _has(server: Running) -> Left:
    process = psutil.Process(server.target.pid)
    return Left(
        streams=httpx.get("http://{}:{}/readyz".format(*server.target.address), timeout=10).json()["streams"],
        files=process.num_fds(),
        subscriptions=server.subscriptions(),
        memory_mib=round(server.target.memory_bytes() / 2**20, 2),
    )


@contextmanager
def _clients(cut: bool) -> Iterator[tuple[Cable | None, Readers]]:
    if not cut:
        with Readers(1) as readers:
            yield None, readers
        return
    with Cable() as cable, Readers(1, cable.at_far_end) as readers:
        yield cable, readers
