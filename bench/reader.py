"""The viewers of a benchmark: processes that hold many streams and say when each event was read.

A reader must not be what is measured. It takes the time right after each read and does nothing else as long as any
socket has something; what it read is looked through when nothing is left to read. Only events that a `Stamp` marks are
counted, so states that were there before don't matter.
"""

from __future__ import annotations

import gc
import os
import re
import selectors
import socket
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

ROOT = Path(__file__).parent.parent

CONNECT_SECONDS = 30
READ_BYTES = 4096
#: Streams that are being opened at once.
OPENING = 256
#: After the last write, what has not come in by now is lost.
GRACE_SECONDS = 3.0

#: So long after a read, look again rather than sleep. Viewers of a real service sleep on machines of their own; if a
#: reader here slept between two deliveries, the server would pay for waking it, on a virtual machine as much as for the
#: delivery.
AWAKE_SECONDS = 0.0005

#: A reader. Not run as ``-m``: what it sends must be of this module, not of ``__main__``.
_PROGRAM = "import sys; from bench import reader; reader.serve(reader.Connection(int(sys.argv[1])))"

#: In the message of an event: when it was written, on the clock that all processes of a machine share.
_STAMP = re.compile(rb"written at (\d+) ns")


def stamp() -> str:
    """The message of an event that is written now."""
    return f"Page 57, written at {time.monotonic_ns()} ns"


@dataclass
class Reading:
    """The deliveries of one window: when each was written and how long it took, and what reading them cost."""

    written_ns: array[int] = field(default_factory=lambda: array("q"))
    taken_ns: array[int] = field(default_factory=lambda: array("q"))
    cpu_seconds: float = 0.0

    def add(self, other: Reading) -> None:
        """Put the reading of another reader to this one."""
        self.written_ns += other.written_ns
        self.taken_ns += other.taken_ns
        self.cpu_seconds += other.cpu_seconds


class Readers:
    """Processes that share the streams of one server among them. A context: no process is left at the end."""

    def __init__(self, count: int, command: Sequence[str] = ()) -> None:
        """``command`` runs what it is given, elsewhere."""
        self._count = count
        self._command = [*command, sys.executable, "-c", _PROGRAM]
        self._pipes: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._paths: dict[str, list[Sequence[str]]] = {}

    def __enter__(self) -> Readers:
        for _ in range(self._count):
            ours, theirs = Pipe()
            with theirs:
                command = [*self._command, str(theirs.fileno())]
                self._processes.append(subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()]))
            self._pipes.append(ours)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all of them, whatever they hold open."""
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            pipe.close()
            process.kill()
            process.wait()

    def open(self, name: str, address: tuple[str, int], paths: Sequence[str], *, greeted: bool = True) -> None:
        """Open a stream for each path, remembered as a group by ``name``. Returns when each has sent something; or,
        of a server that has nothing to say before the first event (not ``greeted``), when each is asked for."""
        self._paths[name] = [paths[n :: len(self._pipes)] for n in range(len(self._pipes))]
        for pipe, share in zip(self._pipes, self._paths[name], strict=True):
            pipe.send(("open", name, address, share, greeted))
        self._answers()

    def close(self, name: str) -> None:
        """Leave the streams of a group."""
        for pipe in self._pipes:
            pipe.send(("close", name))
        self._answers()

    def begin(self, name: str, seconds: float, writes: Mapping[str, int]) -> int:
        """Start to read a group until each stream has had as many events as there are ``writes`` to its path, or until
        the time and a grace are over. Gives the number of deliveries to come."""
        expected = [sum(writes.get(path, 0) for path in share) for share in self._paths[name]]
        for pipe, deliveries in zip(self._pipes, expected, strict=True):
            pipe.send(("read", name, seconds, deliveries))
        self._answers()
        return sum(expected)

    def end(self) -> Reading:
        """What was read since `begin`."""
        total = Reading()
        for answer in self._answers():
            total.add(answer)
        return total

    def _answers(self) -> list[Reading]:
        return [_answer(pipe) for pipe in self._pipes]


def _answer(pipe: Connection) -> Reading:
    try:
        answer = pipe.recv()
    except EOFError as error:
        raise RuntimeError("a reader died") from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def serve(pipe: Connection) -> None:
    """Do what the other end asks for, until it is closed."""
    gc.disable()  # nothing here is in a cycle, and to look for one among all that was read takes milliseconds
    groups: dict[str, _Group] = {}
    while True:
        try:
            command, name, *args = pipe.recv()
        except EOFError:
            return
        try:
            match command:
                case "open":
                    groups[name] = _Group(_opened(*args))
                    pipe.send(Reading())
                case "close":
                    groups.pop(name).close()
                    pipe.send(Reading())
                case "read":
                    window = _Window(groups[name])
                    pipe.send(Reading())
                    pipe.send(window.read(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to the process that asked
            pipe.send(error)


def _opened(address: tuple[str, int], paths: Sequence[str], greeted: bool) -> list[socket.socket]:
    streams: list[socket.socket] = []
    awaited: deque[socket.socket] = deque()
    for path in paths:
        streams.append(_asked(address, path))
        awaited.append(streams[-1])
        if greeted and len(awaited) == OPENING:
            _await_first(awaited.popleft())
    if greeted:
        for stream in awaited:
            _await_first(stream)
    return streams


def _asked(address: tuple[str, int], path: str) -> socket.socket:
    stream = socket.socket()
    stream.settimeout(CONNECT_SECONDS)
    stream.connect(address)
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode())
    return stream


def _await_first(stream: socket.socket) -> None:
    # The head of an answer ends with CR LF CR LF; only what follows it holds two line feeds in a row.
    data = b""
    while b"\n\n" not in data:
        received = stream.recv(READ_BYTES)
        data += received
        if not received or not data.startswith(b"HTTP/1.1 200 "[: len(data)]):
            raise ConnectionError(f"no stream: {data!r:.200}")


class _Group:
    """The streams of one server, and what tells which of them have something."""

    def __init__(self, streams: Sequence[socket.socket]) -> None:
        self._streams = streams
        self.selector = selectors.DefaultSelector()
        for stream in streams:
            stream.setblocking(False)
            self.selector.register(stream.fileno(), selectors.EVENT_READ)

    def close(self) -> None:
        """Leave."""
        self.selector.close()
        for stream in self._streams:
            stream.close()


class _Window:
    """Reads a group of streams once."""

    def __init__(self, group: _Group) -> None:
        self._reading = Reading()
        self._unread: list[tuple[int, int, bytes]] = []
        self._cut: dict[int, bytes] = {}
        self._selector = group.selector
        self._began_ns = time.monotonic_ns()

    def read(self, seconds: float, deliveries: int) -> Reading:
        """Read until there are so many deliveries, or the time and a grace are over."""
        began, cpu, quiet_from = time.monotonic(), time.process_time(), 0.0
        while len(self._reading.taken_ns) < deliveries and time.monotonic() - began < seconds + GRACE_SECONDS:
            ready = self._selector.select(0 if self._unread else 0.05)
            if ready:
                self._take(ready)
                quiet_from = time.monotonic() + AWAKE_SECONDS
            elif time.monotonic() > quiet_from:
                self._look_through()
            else:
                os.sched_yield()  # the writer and Redis may be waiting for this core
        self._look_through()
        self._reading.cpu_seconds = time.process_time() - cpu
        return self._reading

    def _take(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        read, clock, keep = os.read, time.monotonic_ns, self._unread.append
        for key, _ in ready:
            data = read(key.fd, READ_BYTES)
            keep((clock(), key.fd, data))
            if not data:
                self._selector.unregister(key.fd)  # the server closed it; its deliveries will be missing

    def _look_through(self) -> None:
        for read_ns, fd, data in self._unread:
            whole, _, cut = (self._cut.pop(fd, b"") + data).rpartition(b"\n\n")
            if cut:
                self._cut[fd] = cut
            for digits in _STAMP.findall(whole):
                written_ns = int(digits)
                if written_ns >= self._began_ns:
                    self._reading.written_ns.append(written_ns)
                    self._reading.taken_ns.append(read_ns - written_ns)
        self._unread.clear()
