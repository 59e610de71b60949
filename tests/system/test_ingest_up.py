"""``ingest up``: its checks before it starts anything, and its embedded Valkey."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from reportlab.pdfgen import canvas

from ingest_client import Client, Status, preflight
from ingest_client.output import Output
from ingest_client.up import address, answers_ping, valkey_process, web_process
from shared import connections
from shared.config import Settings, valkey_socket
from tests.awaiting import wait_until

COMMAND = (sys.executable, "-c", "from ingest_client.main import main; main()", "up")


def up(var: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        env={**clean, "INGEST_VAR": str(var), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def assert_refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    """Exit status 1, one clear line, nothing started."""
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    """The line says how to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(up(tmp_path, "--port", str(port)), f"port {port} on 127.0.0.1 is in use; choose another with")


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_told(tmp_path: Path, host: str) -> None:
    """An address of another machine, a name that nobody knows."""
    assert_refused(up(tmp_path, "--host", host, INGEST_AUTH="off"), f"can't listen on {host}, port 8000")


def test_without_a_decision_about_keys_nothing_starts_where_others_reach_it(tmp_path: Path) -> None:
    """The line is the one that a web node would say, and nothing has been started by then."""
    assert_refused(up(tmp_path / "var", "--host", "0.0.0.0"), "0.0.0.0 can be reached from other machines")
    assert not (tmp_path / "var").exists()


def test_a_folder_that_can_not_be_written_to_is_told(tmp_path: Path) -> None:
    """Here there is a file in its place."""
    (tmp_path / "var").write_text("a file")
    assert_refused(up(tmp_path / "var"), f"can't write to the folder {tmp_path}/var (INGEST_VAR)")


def test_a_wrong_setting_is_told(tmp_path: Path) -> None:
    """The line names the variable; a variable of the command's own is none of the service's."""
    assert_refused(up(tmp_path, INGEST_CHUNK_SIZ="1", INGEST_SERVER="http://x"), "INGEST_CHUNK_SIZ is not a setting")


def test_a_redis_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """The line says where it was looked for, and keeps the password to itself."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = up(tmp_path, "--port", str(port), INGEST_REDIS_URL=f"redis://:s3cret@127.0.0.1:{port}/0")
    assert_refused(done, f"no Redis answers at 127.0.0.1, port {port} (INGEST_REDIS_URL)")
    assert "s3cret" not in done.stderr


def test_a_second_one_in_the_same_folder_is_told(tmp_path: Path) -> None:
    """One owner for one folder; the line names the process that has it."""
    with preflight.claimed(tmp_path):
        assert_refused(up(tmp_path), f"another `ingest up` (process {os.getpid()}) runs in {tmp_path}")


def test_a_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    """The lock is the system's: it goes with its holder, and a stale file is no lock."""
    for _ in range(2):
        with preflight.claimed(tmp_path) as lock:
            assert os.pread(lock, 20, 0) == f"{os.getpid()}\n".encode()
    with (tmp_path / preflight.LOCK).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_valkey_left_over_is_told(tmp_path: Path) -> None:
    """Two on one append-only file would ruin it."""
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "v.sock"))
        left_over.listen()
        with pytest.raises(preflight.Obstacle, match="left over"):
            preflight.check_socket(tmp_path / "v.sock")


@pytest.mark.parametrize("depth", [1, 12], ids=["short path", "path too long for a socket"])
def test_the_embedded_valkey_is_where_everyone_looks_and_keeps_its_data(tmp_path: Path, depth: int) -> None:
    """The settings of web and workers lead to it, and what was written is there after it was stopped and started."""
    var = tmp_path.joinpath(*["a folder"] * depth)
    settings = Settings.from_environment({"INGEST_VAR": str(var)})
    process = valkey_process(valkey_socket(var), var / "valkey")
    for _ in range(2):
        with subprocess.Popen(process.command, stdout=subprocess.DEVNULL) as valkey:
            try:
                wait_until(process.is_ready)
                client = connections.hasty_client(settings)
                seen = client.incr("visits")
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                client.close()
            finally:
                valkey.terminate()
    assert seen == 2
    assert not answers_ping(valkey_socket(var))


def test_the_web_process_drains_quickly_unless_told_otherwise() -> None:
    """A second by default; what the operator sets is kept, and the wait before SIGKILL grows with it."""
    assert web_process("::1", 80, 2, {}).environment == {"INGEST_DRAIN_SECONDS": "1"}
    patient = web_process("::1", 80, 2, {"INGEST_DRAIN_SECONDS": "30"})
    assert patient.environment == {"INGEST_DRAIN_SECONDS": "30"}
    assert patient.stop_seconds > 30
    assert "[::1]:80" in patient.command


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000")],
)
def test_the_banner_names_an_address_that_a_browser_can_open(host: str, url: str) -> None:
    """Listening everywhere is no address."""
    assert address(host, 8000) == url


def test_output_survives_a_reader_that_left(tmp_path: Path) -> None:
    """``ingest up | head`` must still stop its processes in order, so a broken pipe is not its end."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        Output(stream, ["web"]).write("hello", "web")
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # what is still buffered has somewhere to go


def test_everything_starts_works_and_stops(tmp_path: Path) -> None:
    """The banner comes when it is ready; a document completes; one Ctrl-C, and no process is left."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "--port", str(port), "--workers", "1"],
            env={**clean, "INGEST_VAR": str(tmp_path / "var")},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: f"ready: open {url}" in log.read_text(), within_seconds=40, what=str(log))
        with Client(url) as client:
            *_, final = client.watch(client.submit(a_pdf(tmp_path / "a.pdf")))
            assert final.status is Status.COMPLETED
            assert [chunk.page_first for chunk in client.chunks(final.id)] == [1]
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=40) == 0
    finally:
        process.kill()
        process.wait()
    assert not [one for one in family if one.is_running()]
    assert "Traceback" not in log.read_text()


def a_pdf(path: Path) -> Path:
    """A page with a line of text."""
    page = canvas.Canvas(str(path))
    page.drawString(72, 700, "The quick brown fox.")
    page.save()
    return path
