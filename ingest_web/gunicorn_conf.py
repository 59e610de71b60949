"""How gunicorn runs a web node: ``gunicorn -c python:ingest_web.gunicorn_conf ingest_web.wsgi:app``.

Read in gunicorn's master, so it is an entry point too. Address and number of processes come from the command line.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http import message

from shared import binding, logs
from shared.config import Settings
from shared.errors import SettingsError

try:
    _settings = Settings.from_environment(os.environ)
except SettingsError as error:
    sys.exit(f"ingest-web: {error}")


class ServiceLogger(Logger):  # type: ignore[misc]
    """gunicorn's own lines, in the form of all others."""

    def setup(self, cfg: Any) -> None:
        """Once in the master; the workers inherit it."""
        super().setup(cfg)
        logs.configure(_settings)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


logger_class = ServiceLogger

worker_class = "ingest_web.worker.RelayWorker"
#: Requests in hand at once. Streams don't count: they leave the request behind.
worker_connections = 1000
keepalive = 5
#: Room for `ingest_web.ids.MOST_IDS` ids of 30 bytes. gunicorn cuts whatever is set here to a bound of its own, and
#: would else know no bound at all, so that one is raised with it.
limit_request_line = message.MAX_REQUEST_LINE = 16_384
#: A loop that has not turned for so long is dead.
timeout = 60
#: The drain window, and time for an upload in hand.
graceful_timeout = int(_settings.drain_seconds) + 10
control_socket_disable = True
#: gunicorn takes whoever connects from this machine for a proxy, and a proxy passes on what strangers write. So no
#: header says where the routes are, nor by which scheme a request came: nothing here asks for it.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
#: For those who want an access log (``--access-logfile``): without queries, which may hold the tokens of streams.
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(m)s %(U)s %(H)s" %(s)s %(b)s'

#: Where the processes of a node put their metrics together. prometheus_client looks for it when it is imported.
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


#: In the hooks below. The app may be loaded before they are called (``--preload``), and serves nobody until they were.
binding.promise_to_look()


def on_starting(server: Any) -> None:
    """In the master, before any process is there. Nobody listens yet, where the addresses are those of ``--bind``."""
    _refuse_if_open(server.cfg.address)


def when_ready(server: Any) -> None:
    """In the master, which listens now. systemd, or a gunicorn before this one, may have handed down other sockets."""
    _refuse_if_open([listener.getsockname() for listener in server.LISTENERS])
    os.environ[_METRICS_FOLDER] = tempfile.mkdtemp(prefix="ingest-web-")


def _refuse_if_open(addresses: Iterable[binding.Address]) -> None:
    try:
        binding.refuse_if_open(_settings, addresses)
    except SettingsError as error:
        sys.exit(f"ingest-web: {error}")


def child_exit(_server: object, worker: Any) -> None:
    """A process is gone: it holds no streams any more; what it has done stays counted."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(_server: object) -> None:
    """The last one is gone."""
    shutil.rmtree(os.environ[_METRICS_FOLDER], ignore_errors=True)
