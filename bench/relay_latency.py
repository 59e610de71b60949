"""How long an event takes from the worker's write to a viewer: `make bench-latency`.

A writer makes real writes through `shared.store.Store.record` to a real Valkey; one web process under gunicorn serves
all viewers; a reader process holds their sockets. Measured for some numbers of documents, the viewers spread evenly:

- time: from just before `Store.record` is called to just after the read at a viewer's socket, both on CLOCK_MONOTONIC.
  Percentiles are over all deliveries of a window; "first" and "last" are the medians over the events of the first and
  the last viewer that had it. The script in Redis, the hub, the kernel and the reader's own turn are all in it;
- CPU: what the web process used, for all it did in the window, divided by deliveries. The kernel's work for a send on
  loopback is in it, receiving included; Valkey, the writer and the reader are not;
- memory: what the web process has for itself (USS) with all viewers, less what it had after a tenth of them had come
  and gone, divided by viewers. Socket buffers are the kernel's and not in it;
- connections to Redis, as Redis counts them, with all viewers there.

Beside the service, with viewers, documents and writes of their own, run a peer (`bench.peers.own_connection`) and a
floor (`bench.peers.bare_loop`). The three take turns, window by window, so that a noisy machine is noisy to all; each
figure is the median over the rounds. Writes come at a fixed pace, whatever became of those before; the clock starts
when a write is made, so a delayed writer is seen in "late", not in the times.

With ``--pin`` the serving processes have a core on which nothing else of ours runs. Without it the scheduler often puts
the reader on the core of the server that just woke it, and takes from the server what viewers elsewhere never would.

Not measured: networks, TLS, proxies, viewers that come and go, or are slow. All processes share one machine: on two
cores the reader, Valkey and the writer take turns on the one that the web process leaves them, and whatever else runs
there is in the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.reader import Readers
from bench.targets import FLOOR, PEER, SERVICE, Lab, Target, allow_files, pin, two_cores
from bench.window import Window, watch

GOAL_P50_MS = 5.0
GOAL_VIEWERS = 1000

#: Nobody is measured in this time: caches, branch predictors and the listening socket's queue come to rest.
WARM_UP_SECONDS = 0.3

#: What the table needs; a file or a pipe has no width of its own.
TABLE_WIDTH = 110

#: Descriptors of a process beside those of its viewers.
SPARE_FILES = 200


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    viewers: int
    documents: tuple[int, ...]
    seconds: float
    rounds: int
    writes_per_document: float
    most_writes: float
    readers: int
    #: The cores to pin to; empty: the scheduler decides.
    cores: tuple[int, ...]

    def writes(self, paths: Sequence[str], seconds: float) -> list[str]:
        """The paths to write to in a window, at an even pace."""
        rate = min(self.writes_per_document * len(paths), self.most_writes)
        return list(islice(cycle(paths), max(1, round(rate * seconds))))


@dataclass(frozen=True)
class Result:
    """One target in one setup."""

    target: str
    memory_kib: float
    redis_connections: int
    windows: list[Window]

    def median(self, figure: str) -> float:
        """Over the rounds."""
        return statistics.median(getattr(window, figure) for window in self.windows)

    def total(self, figure: str) -> int:
        """Over the rounds."""
        return sum(getattr(window, figure) for window in self.windows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the file that was asked for."""
    options = _parser().parse_args(arguments)
    plan = _plan_of(options)
    allow_files(3 * plan.viewers + SPARE_FILES)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    results = {}
    for documents in plan.documents:
        results[documents] = measure(plan, documents)
        console.print(_table(plan, documents, results[documents]))
        console.print(*_verdict(plan, results[documents]), sep="\n", end="\n\n")
    if options.json:
        options.json.write_text(json.dumps(_report(plan, results), indent=2) + "\n", encoding="utf-8")


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(plan: Plan, documents: int) -> list[Result]:
    """All targets with the viewers spread over so many documents."""
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder), documents) as lab, Readers(plan.readers) as readers:
        memory = {target.name: _open_all(readers, target, plan.viewers) for target in lab.targets}
        if plan.cores:
            pin({target.pid for target in lab.targets}, plan.cores)
        redis_connections = lab.redis_connections()
        windows: defaultdict[str, list[Window]] = defaultdict(list)
        for target in lab.targets:
            watch(readers, target, plan.writes(target.paths, WARM_UP_SECONDS), WARM_UP_SECONDS)
        for _ in range(plan.rounds):
            for target in lab.targets:
                writes = plan.writes(target.paths, plan.seconds)
                windows[target.name].append(watch(readers, target, writes, plan.seconds))
        return [Result(name, memory[name], redis_connections[name], windows[name]) for name in memory]


def _open_all(readers: Readers, target: Target, viewers: int) -> float:
    """Open all streams; give the KiB that each takes."""
    paths = list(islice(cycle(target.paths), viewers))
    readers.open("warm-up", target.address, paths[: max(1, viewers // 10)])
    readers.close("warm-up")
    idle = target.memory_bytes()
    readers.open(target.name, target.address, paths)
    return (target.memory_bytes() - idle) / viewers / 1024


# -- telling -----------------------------------------------------------------------------------------------------------


def _table(plan: Plan, documents: int, results: Iterable[Result]) -> Table:
    watched = "one document" if documents == 1 else f"{documents} documents, {plan.viewers / documents:g} viewers each"
    table = Table(title=f"{plan.viewers} viewers, {watched}", title_justify="left")
    for heading in ("", "delivered", "p50 ms", "p90", "p99", "max", "first", "last", "CPU us", "KiB", "Redis"):
        table.add_column(heading, justify="right" if heading else "left")
    for result in results:
        times = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "first_ms", "last_ms")
        table.add_row(
            result.target,
            _share(result),
            *(f"{result.median(figure):.2f}" for figure in times),
            f"{result.median('cpu_us'):.1f}",
            f"{result.memory_kib:.1f}",
            str(result.redis_connections),
        )
    return table


def _share(result: Result) -> str:
    delivered, expected = result.total("delivered"), result.total("expected")
    return f"{delivered}" if delivered == expected else f"{delivered} of {expected}"


def _verdict(plan: Plan, results: Sequence[Result]) -> list[str]:
    by_name = {result.target: result for result in results}
    ours, peer, floor = by_name[SERVICE], by_name[PEER], by_name[FLOOR]
    times = (
        f"p50 {_ratio(peer, ours, 'p50_ms')}, p99 {_ratio(peer, ours, 'p99_ms')}, CPU {_ratio(peer, ours, 'cpu_us')}"
    )
    memory = peer.memory_kib / max(ours.memory_kib, 0.1)
    connections = peer.redis_connections / ours.redis_connections
    lines = [
        f"{PEER} / {SERVICE}: {times}, memory {memory:.1f}x, connections {connections:.0f}x",
        f"{SERVICE} / {FLOOR}: p50 {_ratio(ours, floor, 'p50_ms')}, CPU {_ratio(ours, floor, 'cpu_us')}",
        f"busiest reader {max(_all(results, 'reader_share')):.0%}, latest write {max(_all(results, 'late_ms')):.1f} ms",
    ]
    if plan.viewers == GOAL_VIEWERS:
        met = "met" if ours.median("p50_ms") <= GOAL_P50_MS else "NOT met"
        lines.append(f"p50 at most {GOAL_P50_MS:g} ms: {met}")
    return lines


def _ratio(one: Result, other: Result, figure: str) -> str:
    return f"{one.median(figure) / other.median(figure):.1f}x"


def _all(results: Iterable[Result], figure: str) -> list[float]:
    return [getattr(window, figure) for result in results for window in result.windows]


def _report(plan: Plan, results: dict[int, list[Result]]) -> dict[str, object]:
    setups = [
        {"documents": documents, "targets": [asdict(result) for result in measured]}
        for documents, measured in results.items()
    ]
    return {"plan": asdict(plan), "setups": setups}


# -- what was asked for ------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relay_latency", description="From a worker's write to the viewers.")
    parser.add_argument("--viewers", type=int, default=GOAL_VIEWERS, help="open streams on the one web process")
    parser.add_argument(
        "--documents", type=int, nargs="+", help="setups: over how many documents the viewers are spread"
    )
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a window")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each target in each setup")
    parser.add_argument("--rate", type=float, default=10, help="writes a second to a document, at most")
    parser.add_argument("--most", type=float, default=200, help="writes a second to all documents, at most")
    parser.add_argument("--readers", type=int, default=1, help="processes that read")
    parser.add_argument("--pin", action="store_true", help="one core for the serving process alone (Linux)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures of all windows")
    return parser


def _plan_of(options: argparse.Namespace) -> Plan:
    setups = options.documents or [1, max(1, options.viewers // 10), options.viewers]
    for documents in setups:
        if not 1 <= documents <= options.viewers:
            sys.exit(f"--documents: from 1 to the number of viewers, not {documents}")
    return Plan(
        viewers=options.viewers,
        documents=tuple(dict.fromkeys(setups)),
        seconds=options.seconds,
        rounds=options.rounds,
        writes_per_document=options.rate,
        most_writes=options.most,
        readers=options.readers,
        cores=two_cores() if options.pin else (),
    )


if __name__ == "__main__":
    main()
