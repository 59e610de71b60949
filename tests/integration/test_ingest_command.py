"""The command ``ingest`` as a process: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.jobs import Status
from shared.protocol import State, encode_state
from tests.awaiting import wait_until
from tests.scripted_server import (
    Exchange,
    ScriptedServer,
    a_state,
    accepted,
    answer,
    completed,
    event,
    failed,
    problem,
    retry,
    stream,
)

COMMAND = (sys.executable, "-c", "from ingest_client.main import main; main()")
UPLOAD = "POST /ingestions"
QUICK = retry(10)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "A.pdf"
    path.write_bytes(b"%PDF")
    return str(path)


def ingest(server: ScriptedServer | str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    url = server if isinstance(server, str) else server.url
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        env={**os.environ, "INGEST_SERVER": url, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def status_of(server: ScriptedServer, state: State) -> None:
    server.on(f"GET /status/{state.id}", answer("200 OK", "application/json", encode_state(state).encode()))


def test_submit_prints_the_ids_alone(server: ScriptedServer, file: str) -> None:
    """``ingest watch $(ingest submit *.pdf)`` works."""
    server.on(UPLOAD, accepted("A"), accepted("B"))
    done = ingest(server, "submit", file, file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "A\nB\n", "")


def test_submit_hands_the_options_on(server: ScriptedServer, file: str) -> None:
    """Each option is a field of the form; what is not given is left to the server."""
    server.on(UPLOAD, accepted("A"))
    ingest(server, "submit", file, "--engine", "pdfplumber", "--chunk-size", "500")
    body = server.requests[0].body
    assert b'name="engine"\r\n\r\npdfplumber\r\n' in body
    assert b'name="chunk_size"\r\n\r\n500\r\n' in body
    assert b"chunk_overlap" not in body


def test_a_password_is_asked_for_and_not_shown(server: ScriptedServer, file: str) -> None:
    """It is never an argument, which every user of the machine could read."""
    server.on(UPLOAD, accepted("A"))
    done = subprocess.run(
        [*COMMAND, "submit", file, "--ask-password", "--again"],
        env={**os.environ, "INGEST_SERVER": server.url},
        input="correct horse\n",
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
        start_new_session=True,  # no terminal to ask
    )
    body = server.requests[0].body
    assert b'name="password"\r\n\r\ncorrect horse\r\n' in body
    assert b'name="reuse"\r\n\r\nFalse\r\n' in body
    assert done.stdout == "A\n"
    assert "correct" not in done.stderr


def test_the_key_is_taken_from_the_environment_and_not_shown(server: ScriptedServer) -> None:
    """An argument would be read by every user of the machine. Where it is refused, the line says where it is from."""
    server.on("GET /status/A", problem(401, "unauthorized", "The API key is not one, or is revoked."))
    for key, status in (("ingest_0123_secret", 1), ("ingest_é_secret", 64)):
        done = ingest(server, "status", "A", INGEST_API_KEY=key)
        assert done.returncode == status
        assert "INGEST_API_KEY" in done.stderr
        assert "secret" not in done.stderr + done.stdout
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer ingest_0123_secret"]


def test_following_prints_a_line_for_each_change(server: ScriptedServer, file: str) -> None:
    """Without a terminal: a line when the stage or the whole percent changes, and 0 at the end."""
    server.on(UPLOAD, accepted("A"))
    states = [a_state(seq=1, progress=10), a_state(seq=2, progress=10.4), a_state(seq=3, progress=50), completed()]
    server.on("GET /status/stream/A", stream(*map(event, states)))
    done = ingest(server, "submit", file, "--follow")
    assert done.stdout.splitlines() == [
        "A.pdf  sending 0.0 of 0.0 MB",
        "A.pdf  PARSING 10%  Step 1",
        "A.pdf  PARSING 50%  Step 3",
        "A.pdf  COMPLETED 100%  Step 9",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failed_document_ends_with_1_and_its_reason(server: ScriptedServer, file: str) -> None:
    """One line on standard error says which and why."""
    server.on(UPLOAD, accepted("A"))
    server.on("GET /status/stream/A", stream(event(failed())))
    done = ingest(server, "submit", file, "--follow")
    assert (done.returncode, done.stderr) == (1, "ingest: A.pdf: encrypted: A password is needed to open it.\n")


@pytest.mark.parametrize("follow", [(), ("--follow",)], ids=["plain", "follow"])
def test_a_refused_file_ends_with_1_but_stops_no_other(
    server: ScriptedServer, file: str, follow: tuple[str, ...]
) -> None:
    """The others are sent all the same."""
    server.on(UPLOAD, problem(415, "unsupported_media_type", "No PDF."), accepted("A"))
    server.on("GET /status/stream/A", stream(event(completed())))
    done = ingest(server, "submit", file, file, *follow)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "A.pdf: unsupported_media_type: No PDF." in done.stderr
    assert len(server.asked(UPLOAD)) == 2


def test_watch_shows_documents_that_are_there(server: ScriptedServer) -> None:
    """Those that run are followed on one stream; those that are over are shown as they ended."""
    for state in [a_state("A"), a_state("B"), completed("C")]:
        status_of(server, state)
    route = "GET /status/stream?id=A&id=B"
    server.on(route, stream(event(completed("A"), "9.0"), event(completed("B"), "9.9")))
    done = ingest(server, "watch", "A", "B", "C")
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if "COMPLETED" in line] != []
    assert {line.split()[0] for line in done.stdout.splitlines() if "COMPLETED" in line} == {"A.pdf", "B.pdf", "C.pdf"}


def test_watch_ends_with_1_for_a_cancelled_document(server: ScriptedServer) -> None:
    """Cancelled is not completed."""
    status_of(server, a_state("A", 5, Status.CANCELLED))
    done = ingest(server, "watch", "A")
    assert (done.returncode, done.stderr) == (1, "ingest: A.pdf: cancelled\n")


def test_watch_of_an_unknown_id_says_so(server: ScriptedServer) -> None:
    """The other ids are followed all the same."""
    status_of(server, completed("A"))
    done = ingest(server, "watch", "nope", "A")
    assert (done.returncode, done.stderr) == (1, "ingest: nope: unknown_ingestion: There is no such ingestion.\n")
    assert "A.pdf  COMPLETED" in done.stdout


def test_watch_survives_a_lost_connection(server: ScriptedServer) -> None:
    """The user does not notice."""
    status_of(server, a_state("A"))
    server.on(
        "GET /status/stream/A",
        stream(QUICK, event(a_state(seq=2, progress=20)), then=Exchange.reset),
        stream(event(completed())),
    )
    done = ingest(server, "watch", "A")
    assert (done.returncode, done.stderr) == (0, "")


def test_queues_are_for_people_and_for_programs(server: ScriptedServer) -> None:
    """Two lines with the oldest of each, or what the server says."""
    found = {"queued": 3, "running": 1, "oldest_queued_seconds": 12.5, "oldest_seconds": 75.0, "parts_claimable": 9}
    reply = answer("200 OK", "application/json", json.dumps(found).encode())
    server.on("GET /queues", reply, reply)
    assert ingest(server, "queues").stdout.splitlines() == [
        "queued   3, the oldest for 0:13",
        "running  1, the oldest for 1:15",
        "parts    9 that more workers could take on at once",
    ]
    assert json.loads(ingest(server, "queues", "--json").stdout) == found


def test_status_is_for_people(server: ScriptedServer) -> None:
    """Name first, then a line for each thing."""
    status_of(server, completed())
    done = ingest(server, "status", "A")
    assert done.stdout.splitlines()[:3] == ["A.pdf", "  id        A", "  status    COMPLETED 100%"]
    assert done.returncode == 0


def test_status_as_json_is_for_programs(server: ScriptedServer) -> None:
    """One line, the object that the server sent; 1 for a document that failed."""
    status_of(server, failed())
    done = ingest(server, "status", "A", "--json")
    assert json.loads(done.stdout) == json.loads(encode_state(failed()))
    assert done.returncode == 1


def test_chunks_are_json_lines_byte_for_byte(server: ScriptedServer) -> None:
    """What the server sends goes to standard output as it is."""
    lines = '{"id":"c0","text":"\u2028é"}\n{"id":"c1","text":""}\n'
    server.on("GET /ingestions/A/chunks", answer("200 OK", "application/x-ndjson", lines.encode()))
    done = ingest(server, "chunks", "A")
    assert (done.returncode, done.stdout, done.stderr) == (0, lines, "")


def test_a_broken_pipe_is_quiet(server: ScriptedServer) -> None:
    """``ingest chunks ID | head -1`` prints one line, and no complaint."""
    lines = b'{"id":"c0"}\n' * 200_000
    server.on("GET /ingestions/A/chunks", answer("200 OK", "application/x-ndjson", lines))
    process = subprocess.Popen(
        [*COMMAND, "chunks", "A", "--server", server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    "command", [("status", "A"), ("chunks", "A"), ("watch", "A"), ("submit", __file__), ("submit", "-f", __file__)]
)
def test_a_server_out_of_reach_ends_with_2(server: ScriptedServer, command: tuple[str, ...]) -> None:
    """At once, and in one line that names it."""
    server.go_down()
    done = ingest(server, *command)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{server.url} can't be reached" in done.stderr


def test_a_server_that_can_not_serve_ends_with_2(server: ScriptedServer) -> None:
    """503 means: not now."""
    server.on("GET /status/A", problem(503, "unavailable", "Redis can't be reached."))
    done = ingest(server, "status", "A")
    assert (done.returncode, done.stderr) == (2, "ingest: unavailable: Redis can't be reached.\n")


@pytest.mark.parametrize(
    "arguments",
    [(), ("nonsense",), ("submit",), ("submit", "/no/such/file"), ("status", "A", "--server", "nowhere"), ("up", "x")],
)
def test_wrong_usage_ends_with_64(arguments: tuple[str, ...]) -> None:
    """One line says what is wrong."""
    done = ingest("http://127.0.0.1:9", *arguments)
    assert done.returncode == 64
    assert done.stderr.startswith("ingest: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(server: ScriptedServer, file: str) -> None:
    """No traceback; the document goes on, and the line says how to see it."""
    server.on(UPLOAD, accepted("A"))
    server.on("GET /status/stream/A", stream(event(a_state()), then=Exchange.stay_silent))
    process = subprocess.Popen(
        [*COMMAND, "submit", file, "--follow", "--server", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any("PARSING" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "ingest: the server goes on; to see it: ingest watch A\n"
    assert process.returncode == 130


def test_bars_move_while_other_files_are_being_sent(server: ScriptedServer, tmp_path: Path) -> None:
    """The first document is shown at work while the second is still on its way."""

    def slow(exchange: Exchange) -> None:
        wait_until(lambda: server.asked("GET /status/stream/A"), what="the first document is watched")
        accepted("B")(exchange)

    server.on(UPLOAD, accepted("A"), slow)
    server.on("GET /status/stream/A", stream(event(completed("A"))))
    server.on("GET /status/stream/B", stream(event(completed("B"))))
    for name in "AB":
        (tmp_path / f"{name}.pdf").write_bytes(b"%PDF")
    done = ingest(server, "submit", "-f", str(tmp_path / "A.pdf"), str(tmp_path / "B.pdf"))
    assert done.returncode == 0


def test_a_terminal_gets_live_bars(server: ScriptedServer, file: str) -> None:
    """On a terminal the last picture holds name, stage, percent and message, and no name is taken for markup."""
    server.on(UPLOAD, accepted("A"))
    final = a_state("A", 9, Status.COMPLETED, 100, filename="[red]A.pdf", finished_at="2026-11-23T20:00:42.000Z")
    server.on("GET /status/stream/A", stream(event(a_state()), event(final)))
    shown, status = on_a_terminal("submit", file, "--follow", "--server", server.url)
    assert status == 0
    for part in ["[red]A.pdf", "COMPLETED", "100%", "Step 9", "in 0:42", "\u2501"]:
        assert part in shown


def on_a_terminal(*arguments: str) -> tuple[str, int]:
    """What the command writes to a terminal of 100 columns, and its exit status."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm-256color"},
    )
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while select.select([terminal], [], [], 20)[0]:
            try:
                shown += terminal.read(65536)
            except OSError:  # EIO: everyone has closed the other end
                break
    return shown.decode(), process.wait(timeout=10)
