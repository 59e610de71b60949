"""How long the event loop of a web process is held by one thing: `make bench-loop`.

One serving process on a core of its own, with all viewers on one document; what else runs shares the other core. While
one thing after the other is asked of it

- the process itself tells each *hold* of its loop (`bench.peers.watched_app`): from when something gets the thread to
  when something else has it. Those longer than 10 ms are told with what they were at, and with the CPU that they used:
  where that is much less, the machine had taken the core away, or the disk was waited for;
- `GET /livez` is asked over and over on one connection, as by a balancer that is in a hurry. What it takes beyond what
  it takes while nothing goes on is what others wait for their turn. The poller shares its core with the readers.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Self

import httpx
from rich.console import Console
from rich.table import Table

from bench.contenders import Running, Site, running, service
from bench.reader import Readers
from bench.targets import allow_files, files_allowed, pin, two_cores
from bench.window import Window, await_rest, watch
from shared.database import ChunkTable
from shared.documents import Chunk
from shared.jobs import Status
from shared.store import Store

WATCHED = "bench.peers.watched_app:app"

MOST_HELD_MS = 10

#: On loopback the kernel's questions to 10,000 idle clients come in one burst, of which it loses some itself.
NEVER_CLOSED = {"INGEST_STALL_SECONDS": "3600"}

EVENTS_PER_SECOND = 2
MOST_FILES = 20_000

POLL_SECONDS = 0.002
#: As many documents as fit on one stream.
WIDE = 500
WIDE_STREAMS = 10
ASKED = 10

EDGE = "edge"
UPLOAD_HEAD = f'--{EDGE}\r\nContent-Disposition: form-data; name="file"; filename="big.pdf"\r\n\r\n%PDF-1.7\n'.encode()
UPLOAD_TAIL = f"\r\n--{EDGE}--\r\n".encode()
UPLOAD_PIECE = bytes(range(256)) * 4096

CHUNK_CHARACTERS = 1000

#: What a process does for the first time takes longer: modules are loaded then. So that is told by itself.
SMALL_BYTES = 1000

#: What is asked for, by name.
NOTHING, EVENTS, UPLOAD, UPLOAD_AND_EVENTS = "nothing", "events", "an upload", "events, and an upload"
WIDE_ONES, RESULT = f"{WIDE_STREAMS} streams of {WIDE} documents", "a result of many chunks"


@dataclass(frozen=True)
class Holds:
    """What the process told of its loop in one phase."""

    #: How many took up to so many milliseconds, and more than the bound before.
    counts: Mapping[str, int]
    longest_ms: float
    long: Sequence[dict[str, Any]]
    #: From one look at the sockets to the next, where that was too long.
    rounds_ms: Sequence[float]

    @property
    def worked_ms(self) -> float:
        """The longest by the CPU that it used."""
        return max((hold["cpu_ms"] for hold in self.long), default=min(self.longest_ms, MOST_HELD_MS))


@dataclass(frozen=True)
class Phase:
    """What went on, how the loop was held, and how long /livez took, in milliseconds and in order."""

    name: str
    holds: Holds
    livez_ms: Sequence[float]
    said: str = ""
    windows: Sequence[Window] = field(default_factory=tuple)

    def livez(self, share: float) -> float:
        """A percentile."""
        return self.livez_ms[min(len(self.livez_ms) - 1, int(len(self.livez_ms) * share))]

    @property
    def met(self) -> bool:
        """Nothing has held the loop for longer than it may, by the CPU that it used."""
        return self.holds.worked_ms <= MOST_HELD_MS


class Probe:
    """Asks /livez over and over. A context."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.taken_ms: list[float] = []
        self._address = address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.taken_ms.sort()

    def _run(self) -> None:
        with socket.create_connection(self._address) as connection:
            while not self._over.wait(POLL_SECONDS):
                began = time.perf_counter()
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: bench\r\n\r\n")
                answer = b""
                while b"alive" not in answer:
                    received = connection.recv(4096)
                    if not received:
                        raise ConnectionError("/livez was not answered")
                    answer += received
                self.taken_ms.append((time.perf_counter() - began) * 1e3)


class Bench:
    """One web process with its viewers, of which one thing after the other is asked."""

    def __init__(self, site: Site, server: Running, readers: Readers, client: httpx.Client) -> None:
        self._site = site
        self._server = server
        self._readers = readers
        self._http = client

    def open(self, viewers: int) -> None:
        """All on the first document."""
        target = self._server.target
        self._readers.open(target.name, target.address, list(repeat(target.paths[0], viewers)))
        await_rest(target)

    def phases(self, seconds: float, upload_bytes: int, chunks: int) -> Iterator[Phase]:
        """One after the other."""
        self._holds()
        yield self._phase(NOTHING, lambda: self._wait(min(seconds, 3.0)))
        yield self._phase(EVENTS, lambda: self._deliver(seconds))
        yield self._phase("the first upload", lambda: self._upload(SMALL_BYTES, deliver=False))
        yield self._phase(UPLOAD_AND_EVENTS, lambda: self._upload(upload_bytes, deliver=True))
        yield self._phase(UPLOAD, lambda: self._upload(upload_bytes, deliver=False))
        yield self._phase(WIDE_ONES, self._open_wide)
        small, large = self._site.names[-2:]
        self._store_chunks({small: 1, large: chunks})
        yield self._phase("the first result", lambda: self._download(small))
        yield self._phase(RESULT, lambda: self._download(large))
        for path in ("/metrics", f"/ingestions?limit={WIDE}", "/"):
            yield self._phase(f"GET {path}", lambda path=path: self._ask(path))

    def _phase(self, name: str, do: Callable[[], str]) -> Phase:
        await_rest(self._server.target)
        self._holds()
        self._windows: list[Window] = []
        with Probe(self._server.target.address) as probe:
            said = do()
        return Phase(name, self._holds(), probe.taken_ms, said, self._windows)

    def _wait(self, seconds: float) -> str:
        time.sleep(seconds)
        return ""

    def _holds(self) -> Holds:
        return Holds(**self._http.get("/bench/holds").json())

    def _deliver(self, seconds: float) -> str:
        target = self._server.target
        window = watch(self._readers, target, [target.paths[0]] * round(EVENTS_PER_SECOND * seconds), seconds)
        self._windows.append(window)
        return f"{window.delivered:,} of {window.expected:,} delivered, p99 {window.p99_ms:.0f} ms"

    def _upload(self, upload_bytes: int, *, deliver: bool) -> str:
        seconds: list[float] = []
        thread = threading.Thread(target=lambda: seconds.append(upload(self._server.target.address, upload_bytes)))
        thread.start()
        said = ""
        while deliver and thread.is_alive():
            said = self._deliver(1.0)
        thread.join()
        if not seconds:
            sys.exit("the upload was refused")
        return f"{upload_bytes / 1e6:,.0f} MB, {upload_bytes / 1e6 / seconds[0]:,.0f} MB/s. {said}"

    def _open_wide(self) -> str:
        path = "/status/stream?" + "&".join(f"id={name}" for name in self._site.names)
        began = time.perf_counter()
        self._readers.open("wide", self._server.target.address, [path] * WIDE_STREAMS)
        elapsed = time.perf_counter() - began
        self._readers.close("wide")
        return f"{elapsed / WIDE_STREAMS * 1e3:.0f} ms each"

    def _store_chunks(self, counts: Mapping[str, int]) -> None:
        text = "x" * CHUNK_CHARACTERS
        with (
            closing(ChunkTable.from_settings(self._site.settings)) as table,
            closing(self._site.open_store()) as store,
        ):
            for name, count in counts.items():
                table.replace(name, (Chunk(f"{n:032x}", n, text, 1, 1, n, n + 1) for n in range(count)))
                complete(store, name)

    def _download(self, name: str) -> str:
        began, size = time.perf_counter(), 0
        with self._http.stream("GET", f"/ingestions/{name}/chunks") as answer:
            for piece in answer.iter_raw():
                size += len(piece)
        return f"{size / 1e6:,.0f} MB, {size / 1e6 / (time.perf_counter() - began):,.0f} MB/s"

    def _ask(self, path: str) -> str:
        size = 0
        for _ in range(ASKED):
            size = len(self._http.get(path).raise_for_status().content)
        return f"{ASKED} times, {size / 1e3:,.0f} KB"


def upload(address: tuple[str, int], size_bytes: int) -> float:
    """Send a file of so many bytes, made as it goes. Gives the seconds to the answer. Raises when it is refused."""
    began = time.perf_counter()
    with socket.create_connection(address) as connection:
        length = len(UPLOAD_HEAD) + size_bytes + len(UPLOAD_TAIL)
        lines = ["POST /ingestions HTTP/1.1", "Host: bench", f"Content-Length: {length}", "Connection: close"]
        lines += [f"Content-Type: multipart/form-data; boundary={EDGE}", "", ""]
        connection.sendall("\r\n".join(lines).encode() + UPLOAD_HEAD)
        whole, rest = divmod(size_bytes, len(UPLOAD_PIECE))
        for piece in (*repeat(UPLOAD_PIECE, whole), UPLOAD_PIECE[:rest], UPLOAD_TAIL):
            connection.sendall(piece)
        answer = connection.recv(4096)
    if not answer.startswith(b"HTTP/1.1 202 "):
        raise ConnectionError(f"the upload was refused: {answer!r:.300}")
    return time.perf_counter() - began


def complete(store: Store, name: str) -> None:
    """Write what a worker would, without the work."""
    for status in (Status.PARSING, Status.CHUNKING, Status.LOADING, Status.COMPLETED):
        store.record(name, 1, status, "")


def measure(viewers: int, seconds: float, upload_bytes: int, chunks: int, cores: Sequence[int] = ()) -> list[Phase]:
    """One web process, from its start to its end. Pinned to the first of the cores, when there are any."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as started:
        site = Site(Path(folder) / "site", WIDE, own_settings=NEVER_CLOSED)
        server = started.enter_context(running(service(WATCHED), site))
        readers = started.enter_context(Readers(1))
        if cores:
            pin({server.target.pid}, cores)
        url = "http://{}:{}".format(*server.target.address)
        bench = Bench(site, server, readers, started.enter_context(httpx.Client(base_url=url, timeout=60)))
        bench.open(viewers)
        return list(bench.phases(seconds, upload_bytes, chunks))


def table(phases: Sequence[Phase], viewers: int) -> Table:
    """Holds and latencies, phase by phase."""
    shown = Table(
        "while", "/livez p50 ms", "p99", "max", "longest hold ms", "holds > 10 ms", "rounds > 10 ms", "what was done"
    )
    shown.title = f"One web process, {viewers:,} viewers of one document"
    for phase in phases:
        figures = (f"{phase.livez(0.5):.2f}", f"{phase.livez(0.99):.1f}", f"{phase.livez_ms[-1]:.1f}")
        long = f"{len(phase.holds.long)} of {sum(phase.holds.counts.values()):,}"
        rounds = f"{len(phase.holds.rounds_ms)}, to {max(phase.holds.rounds_ms, default=0):.0f} ms"
        shown.add_row(phase.name, *figures, f"{phase.holds.longest_ms:.1f}", long, rounds, phase.said)
    return shown


def long_holds(phases: Sequence[Phase]) -> Iterator[str]:
    """What held the loop for too long, the longest of each phase first."""
    for phase in phases:
        worst = sorted(phase.holds.long, key=lambda hold: -hold["held_ms"])
        for hold in islice(worst, 3):
            at = " < ".join(hold["at"]) or "nothing of Python"
            yield f"{phase.name}: {hold['held_ms']} ms, {hold['cpu_ms']} ms of CPU, at {at}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    allow_files(min(files_allowed(), MOST_FILES))
    cores = () if options.unpinned else two_cores()
    phases = measure(options.viewers, options.seconds, options.upload_mb * 10**6, options.chunks, cores)
    console = Console(width=max(Console().width, 150))
    console.print(table(phases, options.viewers))
    for line in long_holds(phases):
        console.print(line, highlight=False)
    met = all(phase.met for phase in phases)
    console.print(
        f"The loop was {'never' if met else 'NOT always less than'} held longer than {MOST_HELD_MS} ms of work."
    )
    if options.json:
        with suppress(OSError):
            options.json.write_text(json.dumps([_as_json(phase) for phase in phases], indent=1))


def _as_json(phase: Phase) -> dict[str, object]:
    livez = {f"p{round(share * 100)}": round(phase.livez(share), 3) for share in (0.5, 0.99, 1)}
    return {"phase": phase.name, "livez_ms": livez, "longest_ms": phase.holds.longest_ms, "holds": phase.holds.counts}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loop_hold", description="How long a web process's event loop is held.")
    parser.add_argument("--viewers", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of events alone")
    parser.add_argument("--upload-mb", type=int, default=1000)
    parser.add_argument("--chunks", type=int, default=100_000, help="of the result that is fetched")
    parser.add_argument("--unpinned", action="store_true", help="let the scheduler place the processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


if __name__ == "__main__":
    main()
