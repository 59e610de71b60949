"""A forked process that works for this one behind walls, and that can be killed at any moment without harm.

The fork may happen while other threads run. So the child takes nothing along: of what it inherits it closes every
descriptor, hears none of the signal handlers, writes to the log through a stream of its own (another thread may have
held the lock of the old one), never returns to the code that forked, and ends without any cleaning up. Nothing of the
parent's is finalised in it either: a socket collected there would close a descriptor that is somebody else's by now.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

import structlog

log = structlog.get_logger(__name__)

#: What a child does with its end of the line.
Work = Callable[[socket.socket], None]

_RECEIVE_BYTES = 1 << 20

_PR_SET_PDEATHSIG = 1

_STDERR = 2

#: Cycles are looked for after so many objects more. A page makes tens of thousands, hardly any of them in a cycle: to
#: look after 700, as is the default, takes some 3 % of the time.
OBJECTS_BETWEEN_COLLECTIONS = 20_000

#: Looked up here, before any fork.
_libc = ctypes.CDLL(None, use_errno=True)


class Died(Exception):
    """The child ended before it had answered."""


class Ended(NamedTuple):
    """How a child ended (0, an exit status, or the negative number of a signal) and the most memory it held."""

    code: int
    peak_bytes: int


class Child:
    """The process, and the line to it: one line of text each way in turn. `end` must be called.

    On Linux it dies with the thread that made it, however that ends. Elsewhere it ends when it next uses the line.
    """

    def __init__(self, work: Work, address_space_bytes: int) -> None:
        self._line, theirs = socket.socketpair()
        try:
            self.pid = _fork(work, theirs, address_space_bytes)
        except BaseException:
            self._line.close()
            raise
        finally:
            theirs.close()
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(self._line, select.POLLIN)

    def send(self, request: bytes) -> None:
        """Ask something. Raises `Died`."""
        try:
            self._line.sendall(request + b"\n")
        except OSError as error:
            raise Died from error

    def receive(self, within_seconds: float) -> bytes | None:
        """The answer, or None when there is no whole one yet. Raises `Died`."""
        if not self._poll.poll(within_seconds * 1000):
            return None
        try:
            data = self._line.recv(_RECEIVE_BYTES)
        except OSError as error:
            raise Died from error
        if not data:
            raise Died
        self._received += data
        if not data.endswith(b"\n"):
            return None
        answer = bytes(self._received)
        self._received.clear()
        return answer

    def end(self) -> Ended:
        """Kill it, unless it has ended by itself, and reap it. To be called once."""
        self._line.close()
        os.kill(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        in_bytes = 1 if sys.platform == "darwin" else 1024
        return Ended(os.waitstatus_to_exitcode(status), usage.ru_maxrss * in_bytes)


def _fork(work: Work, line: socket.socket, address_space_bytes: int) -> int:
    parent = os.getpid()
    # A handler of the parent's that ran in the child could raise its way out of here, back into the parent's code.
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _live(work, line, address_space_bytes, parent)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _live(work: Work, line: socket.socket, address_space_bytes: int, parent: int) -> NoReturn:
    status = 1
    try:
        _die_with(parent)
        _forget(line)
        _wall_in(address_space_bytes)
        work(line)
        status = 0
    except BaseException:
        log.exception("child.failed")
    finally:
        os._exit(status)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def _forget(line: socket.socket) -> None:
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _close_all_but(line.fileno())
    sys.stdout = sys.stderr = os.fdopen(_STDERR, "w", buffering=1, errors="backslashreplace", closefd=False)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.stream = sys.stderr  # not setStream, which flushes the old one


def _close_all_but(kept: int) -> None:
    highest = max(int(entry.name) for entry in Path("/dev/fd").iterdir())
    os.closerange(_STDERR + 1, kept)
    os.closerange(kept + 1, highest + 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _wall_in(address_space_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wall = address_space_bytes if most == resource.RLIM_INFINITY else min(address_space_bytes, most)
    if sys.platform == "linux":  # macOS knows the limit by name only, and may refuse to set it
        resource.setrlimit(resource.RLIMIT_AS, (wall, wall))
