"""However a web node is started, it is open without keys to its own machine alone, or does not start and says why."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import pytest

from tests.awaiting import wait_until
from tests.stack import ROOT, Process

GUNICORN = [sys.executable, "-m", "gunicorn"]
APP = "ingest_web.wsgi:app"
NODE = [*GUNICORN, "-c", "python:ingest_web.gunicorn_conf"]

#: Become a command that finds a listening descriptor as systemd hands it down: number 3, for this very process.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""

#: The same as a gunicorn hands it down that is replaced (SIGUSR2).
AS_GUNICORN = """
import os, sys
os.set_inheritable(int(sys.argv[1]), True)
os.environ.update(GUNICORN_PID=str(os.getppid()), GUNICORN_FD=sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""

Start = Callable[..., Process]


@pytest.fixture
def settings_of_node(tmp_path) -> dict[str, str]:
    """Those of a node for which nobody has decided about keys. It can start without Redis."""
    return {"INGEST_VAR": str(tmp_path / "var"), "INGEST_REDIS_URL": "redis://127.0.0.1:1/0", "INGEST_AUTH": ""}


@pytest.fixture
def start(tmp_path, settings_of_node) -> Iterator[Start]:
    """Starts commands, which are gone in the end."""
    started: list[Process] = []

    def start(command: list[str], more: Mapping[str, str] | None = None, fds: tuple[int, ...] = ()) -> Process:
        log = tmp_path / f"{len(started)}.log"
        started.append(Process("node", command, {**settings_of_node, **(more or {})}, log, fds))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()


def is_alive(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as line:
        line.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return line.recv(15) == b"HTTP/1.1 200 OK"
    return False


@pytest.mark.parametrize("how", [AS_SYSTEMD, AS_GUNICORN], ids=["systemd", "an earlier gunicorn"])
def test_a_socket_that_is_handed_down_is_looked_at(start, how):
    """Whatever `--bind` says, for it counts no more then."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        command = [sys.executable, "-c", how, str(listener.fileno()), *NODE, "--bind", "127.0.0.1:0", APP]
        node = start(command, fds=(listener.fileno(),))
        wait_until(lambda: not node.alive, what="the end of the node")
        assert "ingest-web: 0.0.0.0 can be reached from other machines, and INGEST_AUTH is not set" in node.output()
        assert "Booting worker" not in node.output()


@pytest.mark.parametrize("how", [AS_SYSTEMD, AS_GUNICORN], ids=["systemd", "an earlier gunicorn"])
@pytest.mark.parametrize(("host", "auth"), [("127.0.0.1", ""), ("0.0.0.0", "off")])
def test_a_socket_that_is_handed_down_may_be_listened_on(start, how, host, auth):
    """This machine's alone; or by decision."""
    with socket.create_server((host, 0)) as listener:
        command = [sys.executable, "-c", how, str(listener.fileno()), *NODE, APP]
        start(command, {"INGEST_AUTH": auth}, (listener.fileno(),))
        wait_until(lambda: is_alive(listener.getsockname()[1]), what="an answer")


def test_a_node_that_is_refused_leaves_nothing_in_the_temporary_folder(start, tmp_path):
    """It has made its folder for metrics only when it may start."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    with socket.create_server(("0.0.0.0", 0)) as listener:
        command = [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno()), *NODE, APP]
        node = start(command, {"TMPDIR": str(folder)}, (listener.fileno(),))
        wait_until(lambda: not node.alive, what="the end of the node")
    assert list(folder.glob("ingest-web-*")) == []


@pytest.mark.parametrize(
    "server",
    [
        [*GUNICORN, "--bind", "0.0.0.0:0", APP],
        [*GUNICORN, "--preload", "--bind", "0.0.0.0:0", APP],
        [sys.executable, "-m", "flask", "--app", "ingest_web.wsgi", "run", "--host", "0.0.0.0", "--port", "0"],
    ],
    ids=["gunicorn", "gunicorn, preloading", "flask"],
)
def test_a_server_that_nobody_has_looked_at_is_refused(start, server):
    """Without our configuration: an app can't know where its server listens."""
    node = start(server)
    wait_until(lambda: not node.alive, what="the end of the node")
    assert "INGEST_AUTH is not set" in node.output()
    assert "gunicorn -c python:ingest_web.gunicorn_conf" in node.output()


@pytest.mark.parametrize("auth", ["keys", "off"])
def test_whoever_has_decided_may_use_any_server(settings_of_node, auth):
    """The app is loaded as it would be to serve."""
    check(settings_of_node | {"INGEST_AUTH": auth}, *GUNICORN, "--check-config", APP)


@pytest.mark.parametrize("configuration", ["python:ingest_web.gunicorn_conf", "ingest_web/gunicorn_conf.py"])
@pytest.mark.parametrize("more", [[], ["--preload"]], ids=["", "preloading"])
def test_with_our_configuration_an_open_app_is_loaded(start, configuration, more):
    """By its name or its path, in the master or in a worker: on this machine alone nobody needs keys."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        start([*GUNICORN, "-c", configuration, "--bind", f"fd://{fd}", *more, APP], fds=(fd,))
        wait_until(lambda: is_alive(listener.getsockname()[1]), what="an answer")


def check(settings: Mapping[str, str], *command: str) -> None:
    subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, check=True, timeout=60, capture_output=True)
