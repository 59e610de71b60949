"""What must be true before anything is started. Each obstacle is one clear line."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from shared import connections
from shared.config import Settings
from shared.errors import StoreUnavailable
from shared.store import Store

LOCK = "ingest-up.lock"


class Obstacle(Exception):
    """Why nothing can be started; the message is for people."""


@contextlib.contextmanager
def claimed(var: Path) -> Iterator[int]:
    """Hold the folder for oneself. Gives the descriptor of the lock; whoever inherits it holds the folder too.

    Raises `Obstacle` when the folder can't be written to, or another ``ingest up`` holds it.
    """
    try:
        var.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=var).close()
        lock = os.open(var / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise Obstacle(f"can't write to the folder {var} (INGEST_VAR): {error.strerror}") from error
    try:
        _lock(lock, var)
        yield lock
    finally:
        os.close(lock)


def _lock(lock: int, var: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
        raise Obstacle(
            f"another `ingest up` (process {holder}) runs in {var}; set INGEST_VAR for a second one"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def check_address(host: str, port: int) -> None:
    """Raise `Obstacle` unless a server could listen there now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            # As gunicorn does: connections of a server that ended a moment ago are no obstacle.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
    except OSError as error:
        raise Obstacle(_why_not(host, port, error)) from error


def check_socket(path: Path) -> None:
    """Raise `Obstacle` when a server answers at this Unix socket already."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        raise Obstacle(f"something listens at {path} already; is a Valkey left over?")


def check_redis(settings: Settings) -> None:
    """Raise `Obstacle` unless the Redis of the settings answers. Told is its place only: a URL may hold a password."""
    url = urlsplit(settings.redis_url)
    try:
        with contextlib.closing(Store(connections.hasty_client(settings), settings)) as store:
            store.ping()
    except StoreUnavailable as error:
        place = f"{url.hostname}, port {url.port or 6379}" if url.hostname else url.path
        raise Obstacle(f"no Redis answers at {place} (INGEST_REDIS_URL)") from error


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} is reserved for the administrator; choose one above 1023 with --port"
    return f"can't listen on {host}, port {port}: {error.strerror or error}"
