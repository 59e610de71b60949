"""Runs some processes together: started tier by tier, stopped in the reverse order, none left behind.

A process runs in a session of its own, so that a Ctrl-C reaches the supervisor alone, which then decides the order.
It knows nothing of what the processes are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType

from ingest_client.output import Output
from ingest_client.process import Process

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_SECONDS = 0.1

#: After so long, say what is being waited for.
SLOW_SECONDS = 15.0

Tiers = Sequence[Sequence[Process]]


class _Asked(Exception):
    """A signal asks us to stop."""


class _Ended(Exception):
    """A process ended by itself; the message says which and how."""


@dataclass(frozen=True, slots=True)
class _Running:
    process: Process
    popen: subprocess.Popen[bytes]
    threads: tuple[Thread, ...]


class Supervisor:
    """Processes under one roof. `run` may be called once, in the main thread."""

    def __init__(self, tiers: Tiers, output: Output, *, lock: int | None = None) -> None:
        """``tiers``: each is started when the one before is ready. ``lock``: a descriptor to hold until all is over."""
        self._tiers = tiers
        self._output = output
        self._lock = lock
        self._running: list[list[_Running]] = []
        self._events: SimpleQueue[Exception] = SimpleQueue()
        self._stopping = False

    def run(self, announce: Callable[[], None]) -> int:
        """Start all, ``announce`` that they are ready, wait; stop all. 0 when asked to stop, 1 when one ended early."""
        with self._signals(), self._guard() as self._guard_pipe:
            try:
                self._start_all()
                announce()
                while True:
                    self._listen(None)
            except _Asked:
                self._output.write("Stopping. Ctrl-C again to hurry.")
                return 0
            except _Ended as ended:
                self._output.write(f"{ended}; stopping the others.")
                return 1
            finally:
                self._stop_all()

    def _start_all(self) -> None:
        for tier in self._tiers:
            self._running.append([])
            for process in tier:
                self._running[-1].append(self._start(process))
            self._await(tier)

    def _start(self, process: Process) -> _Running:
        try:
            popen = subprocess.Popen(  # noqa: S603 - the commands are our own
                process.command,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **process.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise _Ended(f"{process.name} can't be started: {error}") from error
        self._tell_guard(f"+{popen.pid} {len(self._running)}")
        assert popen.stdout is not None  # noqa: S101 - for the type checker
        threads = (
            Thread(target=self._output.copy, args=(popen.stdout, process.name), daemon=True),
            Thread(target=self._report_end, args=(process, popen), daemon=True),
        )
        for thread in threads:
            thread.start()
        return _Running(process, popen, threads)

    def _report_end(self, process: Process, popen: subprocess.Popen[bytes]) -> None:
        self._events.put(_Ended(f"{process.name} ended by itself ({_how(popen.wait())})"))

    def _await(self, tier: Sequence[Process]) -> None:
        slow_at = time.monotonic() + SLOW_SECONDS
        while waiting := [process.name for process in tier if not process.is_ready()]:
            self._listen(POLL_SECONDS)
            if time.monotonic() > slow_at:
                slow_at = float("inf")
                self._output.write(f"Not ready after {SLOW_SECONDS:.0f} s: {', '.join(waiting)}. Still waiting.")

    def _listen(self, timeout_seconds: float | None) -> None:
        """Raise what happens next, if anything does in time."""
        with contextlib.suppress(Empty):
            raise self._events.get(timeout=timeout_seconds)

    def _stop_all(self) -> None:
        for tier in reversed(self._running):
            self._stop(tier)

    def _stop(self, tier: list[_Running]) -> None:
        for running in tier:
            # Only the leader: it knows best in which order its own children end.
            running.popen.terminate()
        started_at = time.monotonic()
        while waiting := [running for running in tier if running.popen.poll() is None]:
            elapsed = time.monotonic() - started_at
            if self._hurried() or all(elapsed > running.process.stop_seconds for running in waiting):
                break
            time.sleep(POLL_SECONDS / 4)
        for running in tier:
            self._bury(running)

    def _hurried(self) -> bool:
        """Whether another signal has come since."""
        try:
            while not isinstance(self._events.get_nowait(), _Asked):
                pass
        except Empty:
            return False
        return True

    def _bury(self, running: _Running) -> None:
        """Kill what is left of the group, children that outlived their leader too."""
        group = running.popen.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        running.popen.wait()
        for thread in running.threads:
            thread.join(timeout=1)
        self._tell_guard(f"-{group}")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def ask(_number: int, _frame: FrameType | None) -> None:
            self._events.put(_Asked())

        before = {number: signal.signal(number, ask) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[int]:
        """The pipe to a `guard` process, which outlives us if we are killed."""
        reading, writing = os.pipe()
        guard = subprocess.Popen(  # noqa: S603 - our own file
            (sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))),
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=() if self._lock is None else (self._lock,),
            start_new_session=True,
        )
        os.close(reading)
        try:
            yield writing
        finally:
            os.close(writing)
            guard.wait()

    def _tell_guard(self, line: str) -> None:
        # Without the guard all is well but for a SIGKILL of ours, so its loss is no reason to stop.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._guard_pipe, f"{line}\n".encode())


def _how(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
