"""Viewers that do not read, and what they cost others: `make bench-congestion`.

One serving process on a core of its own. Sleepers open their streams, never read, and are full before anything is
measured; they are not closed meanwhile (`INGEST_STALL_SECONDS` is an hour).

- *Others notice nothing*: the p99 of those who read, in windows with and without sleepers by turns, so that a noisy
  machine is noisy to both; of each the median over the rounds, and their ratio. At the same rate for each document.
- *Memory of a sleeper*: what the process has for itself (USS) with viewers that sleep, less what it has with as many
  that read, which were sent the same; and what the kernel holds for each connection on the server's side (``ss -m``).
  Each has documents of its own, so nothing is shared. Events of the usual size, large ones, and streams of 500.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.contenders import Running, Site, running, service
from bench.reader import Readers
from bench.sleepers import Sleepers, can_look
from bench.targets import allow_files, files_allowed, pin, two_cores
from bench.window import await_rest, watch

MOST_RATIO = 1.5
MOST_KIB = 64

VIEWERS, SLEEPING = 2_000, 200
DELIVERIES_PER_SECOND = 10_000
ROUNDS, WINDOW_SECONDS = 5, 1.0

#: Events of one document until every sleeper's socket is full, a few at a time, and at most.
FILL_EVENTS, FILL_MOST = 20, 600

#: Readers of what is written beside the measuring wait no longer than this.
READ_SECONDS = 4.0

#: A usual state, and what is sent to a viewer before it is given the time to read.
STATE_BYTES, EASILY_READ_BYTES = 430, 30_000

#: So much larger is a state with five long lists of pages in its warnings.
LARGE_BYTES = 8_000

NEVER_CLOSED = {"INGEST_STALL_SECONDS": "3600"}
MOST_FILES = 20_000


@dataclass(frozen=True)
class Latency:
    """The p99 of those who read, window by window, in milliseconds."""

    title: str
    alone_ms: Sequence[float]
    beside_ms: Sequence[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.beside_ms) / statistics.median(self.alone_ms)

    @property
    def met(self) -> bool:
        return self.ratio <= MOST_RATIO


@dataclass(frozen=True)
class Memory:
    """What a sleeper takes beyond a viewer that reads, in KiB: in the process, and in the kernel."""

    title: str
    sleepers: int
    congested: int
    process_kib: float
    kernel_kib: float

    @property
    def met(self) -> bool:
        return self.congested == self.sleepers and self.process_kib + self.kernel_kib <= MOST_KIB


# -- others ------------------------------------------------------------------------------------------------------------


def others(documents: int, viewers: int, sleeping: int, rounds: int, cores: Sequence[int]) -> Latency:
    """All on one document, or each on one of its own."""
    title = f"{viewers:,} viewers, {'one document' if documents == 1 else 'one document each'}, {sleeping} asleep"
    with _served(documents, cores) as (_site, server, readers):
        target = server.target
        paths = list(islice(cycle(target.paths), viewers))
        reading, asleep = paths[sleeping:], paths[:sleeping]
        readers.open(target.name, target.address, reading)
        alone, beside = [], []
        for _ in range(rounds):
            alone.append(_p99_ms(readers, server, reading, viewers))
            with Sleepers(target.address, asleep) as sleepers:
                _fill(server, sleepers, asleep, readers)
                beside.append(_p99_ms(readers, server, paths, viewers))
        return Latency(title, alone, beside)


def _p99_ms(readers: Readers, server: Running, watched: Sequence[str], viewers: int) -> float:
    documents = list(dict.fromkeys(watched))
    count = round(DELIVERIES_PER_SECOND * WINDOW_SECONDS / viewers) * len(documents)
    await_rest(server.target)
    window = watch(readers, server.target, list(islice(cycle(documents), count)), WINDOW_SECONDS)
    if window.delivered < window.expected:
        sys.exit(f"{window.expected - window.delivered} of {window.expected} deliveries are missing")
    return window.p99_ms


def _fill(server: Running, sleepers: Sleepers, paths: Sequence[str], readers: Readers | None = None) -> None:
    """Write until no sleeper's socket takes any more; others who watch the same documents read it."""
    documents = list(dict.fromkeys(paths))
    for _ in range(FILL_MOST // FILL_EVENTS):
        kernel = sleepers.kernel()
        if kernel.connections and kernel.congested == kernel.connections:
            return
        if readers:
            readers.begin(server.target.name, READ_SECONDS, dict.fromkeys(documents, FILL_EVENTS))
        for _ in range(FILL_EVENTS):
            server.target.write(documents)
        if readers:
            readers.end()
        await_rest(server.target)
    sys.exit(f"only {kernel.congested} of {kernel.connections} sleepers are full")


# -- memory ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """``viewers`` that have ``documents`` each; of each document ``events`` more when all sockets are full."""

    title: str
    viewers: int
    documents: int = 1
    events: int = 60
    padding_bytes: int = 0

    @property
    def events_in_one_go(self) -> int:
        """So few that a viewer who reads is never taken for one who doesn't: else some are left out, and waited for."""
        return max(1, EASILY_READ_BYTES // (self.documents * (STATE_BYTES + self.padding_bytes)))


LOADS = (
    Load("events of 430 bytes", SLEEPING),
    Load("events of 8 KB", SLEEPING, padding_bytes=LARGE_BYTES),
    Load("500 documents on a stream", 4, documents=500, events=4),
)


def memory(load: Load, cores: Sequence[int]) -> Memory:
    """As many viewers that read, then as many that don't."""
    with _served(load.viewers * load.documents, cores, load.padding_bytes) as (site, server, readers):
        paths = [_path(site.names[n :: load.viewers]) for n in range(load.viewers)]
        _read(load, readers, server, paths)  # what is made once is made now
        reading = _read(load, readers, server, paths)
        with Sleepers(server.target.address, paths) as sleepers:
            _fill(server, sleepers, server.target.paths)
            _write(load, server)
            kernel, asleep = sleepers.kernel(), server.target.memory_bytes()
        each_kib = (asleep - reading) / load.viewers / 1024
        return Memory(
            load.title, load.viewers, kernel.congested, round(each_kib, 1), round(kernel.bytes_each / 1024, 1)
        )


def _path(names: Sequence[str]) -> str:
    return "/status/stream?" + "&".join(f"id={name}" for name in names)


def _read(load: Load, readers: Readers, server: Running, paths: Sequence[str]) -> int:
    """The process's memory when these viewers have read what was written."""
    target = server.target
    readers.open(target.name, target.address, paths)
    readers.begin(target.name, READ_SECONDS, dict.fromkeys(paths, load.documents * load.events))
    _write(load, server)
    readers.end()
    await_rest(target)
    used = target.memory_bytes()
    readers.close(target.name)
    await_rest(target)
    return used


def _write(load: Load, server: Running) -> None:
    for n in range(load.events):
        if n % load.events_in_one_go == 0:
            await_rest(server.target)
        server.target.write(server.target.paths)
    await_rest(server.target)


# -- both --------------------------------------------------------------------------------------------------------------


@contextmanager
def _served(documents: int, cores: Sequence[int], padding_bytes: int = 0) -> Iterator[tuple[Site, Running, Readers]]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as started:
        site = Site(Path(folder) / "site", documents, own_settings=NEVER_CLOSED, padding_bytes=padding_bytes)
        server = started.enter_context(running(service(), site))
        readers = started.enter_context(Readers(1))
        if cores:
            pin({server.target.pid}, cores)
        yield site, server, readers


def table(latencies: Sequence[Latency], memories: Sequence[Memory]) -> Table:
    """All figures beside what they shall be."""
    shown = Table("figure", "where", "without", "with sleepers", "goal", "met")
    for one in latencies:
        alone, beside = statistics.median(one.alone_ms), statistics.median(one.beside_ms)
        goal = f"{one.ratio:.2f} of {MOST_RATIO} times"
        shown.add_row("p99 of the others, ms", one.title, f"{alone:.1f}", f"{beside:.1f}", goal, _yes(one.met))
    for each in memories:
        beyond = f"{each.process_kib:.1f} + {each.kernel_kib:.1f} in the kernel"
        where = f"{each.title}; {each.congested} of {each.sleepers} are full"
        shown.add_row("KiB of a sleeper", where, "", beyond, f"{MOST_KIB} KiB", _yes(each.met))
    return shown


def _yes(met: bool) -> str:
    return "yes" if met else "NO"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    if not can_look():
        sys.exit("`ss` is needed (iproute2), on Linux")
    allow_files(min(files_allowed(), MOST_FILES))
    cores = () if options.unpinned else two_cores()
    console = Console(width=max(Console().width, 140))
    latencies, memories = [], []
    for documents in (1, options.viewers):
        latencies.append(others(documents, options.viewers, options.sleeping, options.rounds, cores))
        console.print(latencies[-1])
    for load in LOADS:
        memories.append(memory(replace(load, viewers=min(load.viewers, options.sleeping)), cores))
        console.print(memories[-1])
    console.print(table(latencies, memories))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="congestion", description="Viewers that do not read, and what they cost.")
    parser.add_argument("--viewers", type=int, default=VIEWERS)
    parser.add_argument("--sleeping", type=int, default=SLEEPING, help="of them")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="windows of each kind")
    parser.add_argument("--unpinned", action="store_true", help="let the scheduler place the processes")
    return parser


if __name__ == "__main__":
    main()
