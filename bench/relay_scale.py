"""A relay at its limits, beside others and the floor: `make bench-relay`.

Each contender (`bench.contenders`) is one serving process with all viewers on it. They take turns, window by window, so
that a noisy machine is noisy to all; each figure is the median over the rounds. The serving process has a core on which
nothing else of ours runs, the other contenders being stopped; readers, writer and Valkey share the other. Run by root,
all of them go before whatever else the machine does.

- deliveries a second: what is asked for. With one document for all, a publication is as many deliveries as there are
  viewers; with one document each, a publication is one delivery. A contender that would need more than one core for a
  rate, as a first look tells, is not measured there.
- time: from just before PUBLISH is handed to the kernel to just after the read at a viewer's socket. Redis, the server,
  the kernel and the reader's own turn are in it. Publications that are due within a millisecond go out together.
- CPU: what the serving process used in the window, by its own clock, divided by deliveries. The kernel's work for a
  send on loopback is in it, receiving included; Valkey, the writer and the readers are not.
- memory: what the serving process has for itself (USS) with all viewers, less what it had when some had come and gone,
  divided by viewers. Socket buffers are the kernel's and not in it.
- streams opened per second: a client with 256 requests in hand, until each stream has had its first bytes.

What `bench.vanishing` measures comes last. Not measured: networks, TLS, proxies, slow viewers.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console

from bench import scale_report, vanishing
from bench.contenders import SERVICE, SPARE_FILES, Contender, Running, Site, contenders, running
from bench.reader import Readers
from bench.scale_report import Opening, Point, Report, Setup, Standing
from bench.targets import allow_files, files_allowed, pin, two_cores
from bench.vanishing import Vanishing
from bench.window import Window, await_rest, watch
from tests.awaiting import wait_until

ROUNDS, WINDOW_SECONDS = 3, 1.0
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.6

MOST_DELIVERIES = 30_000

SETUPS = (
    Setup(1_000, 1, (3_000, MOST_DELIVERIES)),
    Setup(1_000, 1_000, (100, 3_000, MOST_DELIVERIES)),
    Setup(2_000, 1, (MOST_DELIVERIES,)),
    Setup(2_000, 2_000, (MOST_DELIVERIES,)),
    Setup(10_000, 1, (MOST_DELIVERIES,)),
    Setup(10_000, 10_000, (3_000, MOST_DELIVERIES)),
)
QUICK_SETUPS = (Setup(2_000, 1, (MOST_DELIVERIES,)), Setup(2_000, 2_000, (MOST_DELIVERIES,)))

#: Streams that come and go before memory and openings are measured: what is made once is made.
WARM_UP_VIEWERS = 20

#: A first look at a rate is short, so that whoever can't keep up has soon made up for it.
LOOK_SECONDS = 0.2
MOST_CORES = 1.05

OPEN_SECONDS = 120

#: As `nice` counts; all of ours have the same.
PRIORITY = -10

#: The service's own setting, unless it is changed, and a time after which whoever is still there won't leave any more.
HEARTBEAT_SECONDS = 15
VANISHED_SECONDS = 75
VANISHING_CLIENTS = 10_000

#: What we ask for when the system sets no bound.
MOST_FILES = 100_000


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    setups: Sequence[Setup]
    rounds: int
    seconds: float
    #: The cores to pin to; empty: the scheduler decides.
    cores: tuple[int, ...]
    #: How many clients vanish; 0: that is left out.
    vanishing: int


@dataclass(frozen=True)
class _Entry:
    """A contender that runs, with viewers of its own."""

    running: Running
    readers: Readers

    @property
    def name(self) -> str:
        return self.running.contender.name


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the files that were asked for."""
    options = _parser().parse_args(arguments)
    plan = _plan_of(options)
    allow_files(min(files_allowed(), MOST_FILES))
    if plan.cores:
        _go_before_others()
    console = Console(width=max(Console().width, scale_report.WIDTH))
    standings = []
    for setup in plan.setups:
        standings.append(measure(plan, setup))
        console.print(scale_report.table(standings[-1]))
    vanished = _vanish(plan) if plan.vanishing else None
    report = Report(standings, vanished)
    console.print(scale_report.goals_table(report))
    if options.out:
        scale_report.write(report, options.out, _machine())


def measure(plan: Plan, setup: Setup) -> Standing:
    """All contenders with these viewers."""
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as started:
        entries: list[_Entry] = []
        for contender in contenders():
            left_out[contender.name] = contender.missing or _lack_of_files(contender, setup)
            if not left_out[contender.name]:
                site = Site(Path(folder) / str(len(entries)), setup.documents)
                entry = _Entry(started.enter_context(running(contender, site)), started.enter_context(Readers(1)))
                entries.append(entry)
        if plan.cores:
            pin({entry.running.target.pid for entry in entries}, plan.cores)
        openings = [_open_all(entry, setup.viewers) for entry in entries]
        points = list(_deliver(plan, setup, entries))
    return Standing(setup, openings, points, {name: why for name, why in left_out.items() if why})


def _lack_of_files(contender: Contender, setup: Setup) -> str:
    needed, allowed = contender.files_per_viewer * setup.viewers + SPARE_FILES, files_allowed()
    return f"needs {needed} open files, {allowed} are allowed (ulimit -Hn)" if needed > allowed else ""


# -- opening -----------------------------------------------------------------------------------------------------------


def _open_all(entry: _Entry, viewers: int) -> Opening:
    target = entry.running.target
    paths = list(islice(cycle(target.paths), viewers))
    _open(entry, "warm-up", paths[:WARM_UP_VIEWERS])
    entry.readers.close("warm-up")
    await_rest(target)
    memory, cpu, began = target.memory_bytes(), target.cpu_seconds(), time.monotonic()
    _open(entry, target.name, paths)
    elapsed = time.monotonic() - began
    cpu, memory = target.cpu_seconds() - cpu, target.memory_bytes() - memory
    return Opening(
        target=entry.name,
        streams_per_second=round(viewers / elapsed),
        cpu_us=round(cpu / viewers * 1e6, 1),
        memory_kib=round(memory / viewers / 1024, 2),
        redis_connections=entry.running.redis_connections(),
    )


def _open(entry: _Entry, name: str, paths: Sequence[str]) -> None:
    greets = entry.running.contender.greets
    subscribed = 0 if greets else entry.running.subscribed_connections()
    entry.readers.open(name, entry.running.target.address, paths, greeted=greets)
    if not greets:
        wait_until(
            lambda: entry.running.subscribed_connections() >= subscribed + len(paths),
            within_seconds=OPEN_SECONDS,
            what=f"all streams of {entry.name}",
        )


# -- delivering --------------------------------------------------------------------------------------------------------


def _deliver(plan: Plan, setup: Setup, entries: Sequence[_Entry]) -> Iterator[Point]:
    for rate in setup.rates:
        cores = {
            entry.name: _window(setup, entry, entries, rate, LOOK_SECONDS).cpu_us * rate / 1e6 for entry in entries
        }
        windows: dict[str, list[Window]] = {entry.name: [] for entry in entries}
        for _ in range(plan.rounds):
            for entry in entries:
                if cores[entry.name] <= MOST_CORES:
                    windows[entry.name].append(_window(setup, entry, entries, rate, plan.seconds))
        yield from (Point(rate, name, measured, round(cores[name], 2)) for name, measured in windows.items())


def _window(setup: Setup, entry: _Entry, entries: Sequence[_Entry], rate: int, seconds: float) -> Window:
    target = entry.running.target
    count = max(1, round(rate * seconds / setup.viewers_per_document))
    order = random.sample(target.paths, len(target.paths))
    with _stopped(other.running.target.pid for other in entries if other is not entry):
        await_rest(target)
        window = watch(entry.readers, target, list(islice(cycle(order), count)), seconds)
        await_rest(target)
        return window


@contextmanager
def _stopped(serving: Iterable[int]) -> Iterator[None]:
    """Whoever is not measured stands still, and with it whatever it does now and then on the core that all share."""
    groups = [os.getpgid(pid) for pid in serving]
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        for group in groups:
            os.killpg(group, signal.SIGCONT)


def _go_before_others() -> None:
    """What else runs on this machine waits for us, where we may ask for that. Those that we start inherit it."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)


# -- vanishing ---------------------------------------------------------------------------------------------------------


def _vanish(plan: Plan) -> Vanishing:
    service = next(contender for contender in contenders() if contender.name == SERVICE)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return vanishing.measure(service, Path(folder) / "site", plan.vanishing, HEARTBEAT_SECONDS, VANISHED_SECONDS)


def _machine() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{now}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}."
    )


# -- what was asked for ------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relay_scale", description="A relay at its limits, beside others.")
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer setups and rounds")
    parser.add_argument("--viewers", type=int, help="one setup of so many instead, in both shapes")
    parser.add_argument("--rates", type=int, nargs="+", default=[MOST_DELIVERIES], help="of that, deliveries a second")
    parser.add_argument("--unpinned", action="store_true", help="let the scheduler place the processes")
    parser.add_argument("--rounds", type=int, help="windows of each contender at each rate")
    parser.add_argument("--seconds", type=float, help="length of a window")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the tables, all figures and the plot there")
    return parser


def _plan_of(options: argparse.Namespace) -> Plan:
    setups: Sequence[Setup] = QUICK_SETUPS if options.quick else SETUPS
    if options.viewers:
        setups = tuple(Setup(options.viewers, documents, tuple(options.rates)) for documents in (1, options.viewers))
    whole = not (options.quick or options.viewers)
    return Plan(
        setups,
        rounds=options.rounds or (ROUNDS if whole else QUICK_ROUNDS),
        seconds=options.seconds or (WINDOW_SECONDS if whole else QUICK_SECONDS),
        cores=() if options.unpinned else two_cores(),
        vanishing=VANISHING_CLIENTS if whole else 0,
    )


if __name__ == "__main__":
    main()
