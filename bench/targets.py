"""What the relay benchmark measures: the service, its peer and the floor, as processes that run side by side."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import httpx
import psutil
import redis
from ulid import ULID

from bench.reader import stamp
from shared import connections
from shared.config import Settings
from shared.jobs import Status
from shared.options import Options
from shared.protocol import Stage, State, encode_state
from shared.source import Source
from shared.store import Store
from tests.awaiting import wait_until
from tests.stack import ROOT, Stack

SERVICE, PEER, FLOOR = "ingest-live", "own connection", "bare loop"

#: How the writer's connection is called in Redis.
WRITER = "bench"

_STATUS = "/status/stream/"


class Write(Protocol):
    """Report progress of documents, to those who watch their paths."""

    def __call__(self, paths: Sequence[str]) -> None:
        """One write for each path, with a `stamp`."""


@dataclass(frozen=True)
class Target:
    """A server under measurement: its serving process, and how an event gets to it."""

    name: str
    address: tuple[str, int]
    pid: int
    paths: Sequence[str]
    write: Write

    def cpu_seconds(self) -> float:
        """What the serving process has used so far, to the nanosecond where the kernel tells."""
        if sys.platform == "linux":
            # The clock that clock_getcpuclockid(3) names; /proc counts in steps of 10 ms.
            return time.clock_gettime((~self.pid << 3) | 2)
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def memory_bytes(self) -> int:
        """What the serving process has for itself alone."""
        return psutil.Process(self.pid).memory_full_info().uss


class Server:
    """A process with a listening socket of its own."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *fds: int,
        host: str = "127.0.0.1",
    ) -> None:
        """``{fd}`` in the command stands for the number of the socket."""
        self._listener = socket.create_server((host, 0), backlog=4096)
        self.address: tuple[str, int] = self._listener.getsockname()
        fd = self._listener.fileno()
        self._command = [part.format(fd=fd) for part in command]
        self._environment = {**os.environ, **environment}
        self._log = log
        self._fds = (fd, *fds)

    @contextmanager
    def running(self) -> Iterator[int]:
        """Started; gives its pid. Killed in the end: the peer would wait for viewers, not knowing that they left."""
        with self._log.open("ab") as log, self._listener:
            process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=self._fds,
            )
        try:
            yield process.pid
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Lab:
    """All targets, each with as many documents of its own. A context: no process is left at the end."""

    def __init__(self, folder: Path, documents: int) -> None:
        self._folder = folder
        self._documents = documents
        self._exit = ExitStack()
        self._stack = Stack(folder, web=1, workers=0)

    def __enter__(self) -> Lab:
        with ExitStack() as started:
            started.enter_context(self._stack)
            self._redis = redis.Redis.from_url(self._stack.redis_url, client_name=WRITER)
            self._store = self._make_store()
            self.targets = [self._service(), self._peer(started), self._floor(started)]
            self._exit = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def redis_connections(self) -> dict[str, int]:
        """How many connections the service and the peer have to Redis now."""
        names = [client["name"] for client in self._redis.client_list()]
        return {SERVICE: names.count(""), PEER: names.count("peer"), FLOOR: 0}

    def _make_store(self) -> Store:
        settings = Settings.from_environment(self._stack.environment)
        named = settings.model_copy(update={"redis_url": f"{settings.redis_url}&client_name={WRITER}"})
        return Store(connections.patient_client(named), named)

    def _service(self) -> Target:
        node = self._stack.web[0]
        host, port = node.address.split(":")
        return Target(SERVICE, (host, int(port)), child_of(node.pid), self._make_documents(), self._record)

    def _peer(self, started: ExitStack) -> Target:
        command = [sys.executable, "-m", "gunicorn", "bench.peers.own_connection:app", "--worker-class", "gevent"]
        command += ["--worker-connections", "100000", "--no-control-socket", "--bind", "fd://{fd}"]
        server = Server(command, self._stack.environment, self._folder / "peer.log")
        pid = started.enter_context(server.running())
        url = "http://{}:{}/readyz".format(*server.address)
        wait_until(lambda: answers(url), what="the peer")
        return Target(PEER, server.address, child_of(pid), self._make_documents(), self._record)

    def _floor(self, started: ExitStack) -> Target:
        events, writing = os.pipe()
        command = [sys.executable, "-m", "bench.peers.bare_loop", "{fd}", str(events)]
        server = Server(command, {}, self._folder / "floor.log", events)
        started.callback(os.close, writing)
        pid = started.enter_context(server.running())
        os.close(events)
        paths = self._make_documents()
        template = self._progress(paths[0])

        def write(paths: Sequence[str]) -> None:
            for path in paths:
                data = encode_state(replace(template, message=stamp()))
                os.write(writing, f"{path} {data}\n".encode())

        return Target(FLOOR, server.address, pid, paths, write)

    def _make_documents(self) -> list[str]:
        names = [str(ULID()).lower() for _ in range(self._documents)]
        source = Source("a.pdf", "application/pdf", 1, "", "", Options(chunk_size=1000, chunk_overlap=100))
        for name in names:
            self._store.create(name, source)
        return [f"{_STATUS}{name}" for name in names]

    def _record(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._progress(path)

    def _progress(self, path: str) -> State:
        document_id, stage = path.removeprefix(_STATUS), Stage(57, 500, "pages")
        # The stamp is the last thing before the write.
        return self._store.record(
            document_id, 1, Status.PARSING, stage=stage, progress=10.3, eta_seconds=21.5, message=stamp()
        )


def pin(serving: Collection[int], cores: Sequence[int]) -> None:
    """Give the serving processes the first core, in turn for themselves, and the rest to all others that we started."""
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        process.cpu_affinity([cores[0]] if process.pid in serving else list(cores[1:]))


def two_cores() -> tuple[int, ...]:
    """The cores to `pin` to. Ends the run when there are none."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        sys.exit("pinning needs Linux, and two cores at least")
    return tuple(sorted(os.sched_getaffinity(0)))


def allow_files(needed: int) -> None:
    """Let this process and its children have as many files open. Ends the run when the system doesn't allow that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        sys.exit(f"{needed} open files are needed, {hard} are allowed (ulimit -Hn); take fewer viewers")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def files_allowed() -> int:
    """How many files a process may have open, at most."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def child_of(pid: int) -> int:
    """The one process that a master, of gunicorn or nginx, has serve."""
    return wait_until(lambda: psutil.Process(pid).children(), what="a worker of gunicorn")[0].pid


def answers(url: str) -> bool:
    """With 200."""
    with suppress(httpx.TransportError):
        return httpx.get(url, timeout=2).status_code == 200
    return False
