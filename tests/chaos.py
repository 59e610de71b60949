"""Chaos: documents are ingested while workers and Redis are killed under them. ``make chaos`` prints the report.

Every document is compared with an undisturbed run of the same file. The run ends by itself: when all documents are
final, or at a time limit, which then is a failure.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import redis
from rich.console import Console
from rich.table import Table

from shared import keys
from shared.config import Settings
from shared.database import ChunkTable
from shared.documents import Chunk
from shared.jobs import Status
from shared.parts import part_of
from shared.protocol import State
from shared.store import Store
from tests import pdfs
from tests.awaiting import wait_until
from tests.stack import Process, Stack

#: Pages of the documents; each size is one file. Most are small, as in life.
SIZES = (1, 1, 1, 2, 2, 3, 3, 5, 8, 13, 21, 34, 55, 90, 140)

WORKERS = 2
CONCURRENCY = 2

WATCH_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is to be endured, and what is promised of a loss: when viewers are told, and when the work goes on."""

    documents: int = 200
    kill_every_seconds: float = 2.0
    redis_restarts: int = 2
    flushes: int = 1
    #: Whether a loss must have been timed: so few documents as in a short run may all be lost between two looks.
    times_a_loss: bool = True
    told_within_seconds: float = 10
    resumed_within_seconds: float = 30
    limit_seconds: float = 1200
    seed: int = 1


@dataclass
class Report:
    """What happened, and what was wrong."""

    plan: Plan
    seconds: float = 0.0
    children_killed: int = 0
    trees_killed: int = 0
    workers_ended: int = 0
    redis_restarts: int = 0
    flushes: int = 0
    attempts: Counter[Status] = field(default_factory=Counter)
    losses_in_events: int = 0
    told_seconds: list[float] = field(default_factory=list)
    resumed_seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Watch(threading.Thread):
    """Looks at what is in hand, to see how long a part stays with a worker that is gone."""

    def __init__(self, client: redis.Redis, report: Report) -> None:
        super().__init__(daemon=True)
        self._redis = client
        self._report = report
        self._end = threading.Event()
        self._alive: dict[str, dict[str, tuple[float, float]]] = {}  # document, part: end of its lease, seen first when
        self._losses: dict[str, dict[str, int]] = {}  # document, part: how many workers were lost with it
        self._lost: dict[tuple[str, str], float] = {}  # part: the last sign of life of who had it
        self.blind_until = 0.0

    def stop(self) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        while not self._end.wait(WATCH_SECONDS):
            try:
                leased = {name.decode() for name in self._redis.zrange(keys.LEASED, 0, -1)}
                for document_id in leased | self._alive.keys():
                    self._look(document_id, time.monotonic())
            except redis.RedisError:
                self._alive.clear()
                self._lost.clear()

    def _look(self, document_id: str, now: float) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrange(keys.running(document_id), 0, -1, withscores=True)
            pipe.hgetall(keys.work(document_id))
            running, work = pipe.execute()
        if not work:  # it is final
            self._alive.pop(document_id, None)
            return
        alive, losses = self._alive.get(document_id, {}), self._losses.get(document_id, {})
        after = {name[5:].decode(): int(count) for name, count in work.items() if name.startswith(b"lost:")}
        for part, count in after.items():
            if count > losses.get(part, 0) and part in alive and now >= self.blind_until:
                self._report.told_seconds.append(now - alive[part][1])
                self._lost[document_id, part] = alive[part][1]
        for name, ends in running:
            part = name.decode()
            self._resumed(document_id, part, now)
            if part not in alive or alive[part][0] != ends:
                alive[part] = (ends, now)
        self._alive[document_id], self._losses[document_id] = alive, after

    def _resumed(self, document_id: str, part: str, now: float) -> None:
        for lost, since in list(self._lost.items()):
            if lost[0] == document_id and _overlap(lost[1], part):
                if now >= self.blind_until:
                    self._report.resumed_seconds.append(now - since)
                del self._lost[lost]


def _overlap(one: str, other: str) -> bool:
    a, b = part_of(one), part_of(other)
    return a.step is b.step and a.first <= max(b.last, b.first) and b.first <= max(a.last, a.first)


def run(plan: Plan, folder: Path) -> Report:
    """All of it, in a folder."""
    chance = random.Random(plan.seed)
    report = Report(plan)
    settings = {"INGEST_HISTORY_EVENTS": "100000"}
    expected = _undisturbed(folder / "quiet", settings)
    stack = Stack(folder / "chaos", web=1, workers=WORKERS, concurrency=CONCURRENCY, settings=settings)
    with stack, closing(stack.open_store()) as store, closing(stack.redis()) as client:
        began = time.monotonic()
        watch = Watch(client, report)
        watch.start()
        uploaded: dict[str, int] = {}
        sizes = [chance.choice(SIZES) for _ in range(plan.documents)]
        for size in sizes[: len(sizes) // 2]:
            uploaded[_upload(stack, size)] = size
        later = iter(sizes[len(sizes) // 2 :])
        events = _events(plan)
        next_kill = time.monotonic()
        while (left := _not_final(store, uploaded)) or len(uploaded) < plan.documents:
            if time.monotonic() - began > plan.limit_seconds:
                report.wrong.append(f"{len(left)} documents were not final in {plan.limit_seconds:.0f} s: {left[:5]}")
                break
            with suppress(StopIteration):
                for _ in range(max(1, plan.documents // 50)):
                    size = next(later)
                    uploaded[_upload(stack, size)] = size
            done = (len(uploaded) - len(left)) / plan.documents
            if events and done >= events[0][0]:
                events.pop(0)[1](stack, report, watch)
            _start_again(stack, report)
            _kill(stack, chance, report)
            next_kill += plan.kill_every_seconds
            time.sleep(max(0.0, next_kill - time.monotonic()))
        report.seconds = time.monotonic() - began
        watch.stop()
        _check(stack, store, client, uploaded, expected, report)
    _check_processes(stack, report)
    report.wrong += [*missing(report), *late(report)]
    return report


def missing(report: Report) -> Iterator[str]:
    """What should have happened and did not: without it a run shows nothing, however well it ends."""
    plan = report.plan
    if report.redis_restarts < plan.redis_restarts:
        yield f"Redis was killed {report.redis_restarts} times, not {plan.redis_restarts}"
    if report.flushes < plan.flushes:
        yield f"the queue was flushed {report.flushes} times, not {plan.flushes}"
    happened: dict[str, object] = {
        "a child of a worker was killed": report.children_killed,
        "a whole worker was killed": report.trees_killed,
        "an event told of a loss": report.losses_in_events,
    }
    if plan.times_a_loss:
        happened["the time was taken from a loss to its event"] = report.told_seconds
        happened["the time was taken from a loss to the work going on"] = report.resumed_seconds
    yield from (f"not once: {what}" for what, times in happened.items() if not times)


def late(report: Report) -> Iterator[str]:
    """Of what the plan promises."""
    plan = report.plan
    for seconds in report.told_seconds:
        if seconds > plan.told_within_seconds:
            yield f"a loss was told after {seconds:.1f} s, promised are {plan.told_within_seconds:.0f}"
    for seconds in report.resumed_seconds:
        if seconds > plan.resumed_within_seconds:
            yield f"the work went on after {seconds:.1f} s, promised are {plan.resumed_within_seconds:.0f}"


def _undisturbed(folder: Path, settings: dict[str, str]) -> dict[int, list[Chunk]]:
    with (
        Stack(folder, web=1, workers=1, concurrency=2, settings=settings) as stack,
        closing(stack.open_store()) as store,
    ):
        ids = {size: _upload(stack, size) for size in sorted(set(SIZES))}
        wait_until(lambda: not _not_final(store, ids.values()), within_seconds=120, what="the undisturbed run")
        with closing(ChunkTable.from_settings(Settings.from_environment(stack.environment_of_ours))) as table:
            return {size: list(table.of(document_id)) for size, document_id in ids.items()}


def _upload(stack: Stack, size: int) -> str:
    """The id of one document more. Waits for a service that is away."""
    deadline = time.monotonic() + 60
    while True:
        with suppress(httpx.TransportError):
            answer = httpx.post(
                f"{stack.urls[0]}/ingestions",
                files={"file": (f"{size}.pdf", pdfs.prose(size))},
                data={"chunk_size": "500"},
                timeout=30,
            )
            if answer.status_code == 202:
                return str(answer.json()["id"])
            assert answer.status_code == 503, answer.text
        assert time.monotonic() < deadline, "no upload was taken for a minute"
        time.sleep(0.2)


def _not_final(store: Store, ids: Iterable[str]) -> list[str]:
    return [document_id for document_id in ids if not store.state(document_id).is_final]


def _events(plan: Plan) -> list:
    """What happens once so much of the documents is done, in order."""
    moments = [(n / (plan.redis_restarts + 1), _restart_redis) for n in range(1, plan.redis_restarts + 1)]
    moments += [((n - 0.5) / max(1, plan.flushes), _flush) for n in range(1, plan.flushes + 1)]
    return sorted(moments, key=lambda moment: moment[0])


def _restart_redis(stack: Stack, report: Report, watch: Watch) -> None:
    stack.cut_redis()
    stack.restore_redis()
    # Nobody can renew a lease of a Redis that is away, and for a lease nobody is taken for lost.
    watch.blind_until = time.monotonic() + 10
    report.redis_restarts += 1


def _flush(stack: Stack, report: Report, _watch: Watch) -> None:
    with closing(stack.redis()) as client:
        for key in client.scan_iter(f"{keys.BROKER_PREFIX}*"):
            client.delete(key)
    report.flushes += 1


def _start_again(stack: Stack, report: Report) -> None:
    """As a supervisor does: Celery ends a worker that loses one of its processes before it is ready."""
    for worker in stack.workers:
        if not worker.alive:
            worker.start()
            report.workers_ended += 1


def _kill(stack: Stack, chance: random.Random, report: Report) -> None:
    """SIGKILL to some child of some worker, or to a whole worker, which is started again.

    One that is still starting is spared: nothing is in its hands, and a slow machine would never get on.
    """
    children = {worker: found for worker in stack.workers if (found := _descendants(worker))}
    if not children:
        return
    worker = chance.choice(list(children))
    if chance.random() < 0.7:
        with suppress(psutil.NoSuchProcess):
            chance.choice(children[worker]).kill()
        report.children_killed += 1
        return
    worker.kill()
    worker.start()
    report.trees_killed += 1


def _descendants(worker: Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(worker.pid).children(recursive=True)
    return []


def _check(
    stack: Stack,
    store: Store,
    client: redis.Redis,
    uploaded: dict[str, int],
    expected: dict[int, list[Chunk]],
    report: Report,
) -> None:
    settings = Settings.from_environment(stack.environment_of_ours)
    with closing(ChunkTable.from_settings(settings)) as table:
        for document_id, size in uploaded.items():
            report.attempts[store.state(document_id).status] += 1
            events = _events_of(store, document_id)
            report.losses_in_events += sum(event.message.startswith("Worker lost") for event in events)
            report.wrong += [f"{document_id} ({size} pages): {fault}" for fault in _faults(events)]
            if list(table.of(document_id)) != expected[size]:
                report.wrong.append(f"{document_id} ({size} pages): its chunks differ from those of an undisturbed run")
    # The sweeper may have struck the last lease off a moment later.
    with suppress(AssertionError):
        wait_until(lambda: not _left_over(client), what="an empty list of work")
    report.wrong += [f"left over: {key}" for key in _left_over(client)]


def _events_of(store: Store, document_id: str) -> list[State]:
    return [State.from_json(data) for _, data in store.histories([(document_id, 0)])[document_id, 0].events]


def _faults(events: list[State]) -> Iterator[str]:
    last = events[-1]
    if last.status is not Status.COMPLETED:
        yield f"{last.status}, {last.error}"
    if last.warnings:
        yield f"warnings {last.warnings}"
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield "its events have holes"
    if [event.is_final for event in events].count(True) != 1:
        yield "it has more than one final event"
    bars = [event.progress for event in events]
    if bars != sorted(bars):
        yield "its progress fell"


def _left_over(client: redis.Redis) -> list[str]:
    names = {key.decode() for key in client.scan_iter(f"{keys.PREFIX}*")}
    of_work = [name for name in names if name.endswith((":waiting", ":running", ":work", ":done"))]
    return of_work + [name for name in keys.LEADING if name in names]


def _check_processes(stack: Stack, report: Report) -> None:
    ours = [process.pid for process in psutil.process_iter() if _is_of(process, stack)]
    report.wrong += [f"process {pid} is left over" for pid in ours]


def _is_of(process: psutil.Process, stack: Stack) -> bool:
    with suppress(psutil.Error):
        return process.environ().get("INGEST_VAR") == stack.environment["INGEST_VAR"]
    return False


def show(report: Report) -> None:
    """The report, for people."""
    table = Table("what", "figure")
    table.add_row("documents", f"{report.plan.documents}: " + ", ".join(f"{n} {s}" for s, n in report.attempts.items()))
    table.add_row("seconds", f"{report.seconds:.0f}")
    table.add_row("killed with SIGKILL", f"{report.children_killed} children, {report.trees_killed} whole workers")
    table.add_row("workers that ended for it while they started", str(report.workers_ended))
    table.add_row("Redis killed and started again", str(report.redis_restarts))
    table.add_row("queue flushed", str(report.flushes))
    table.add_row("events that tell of a loss", str(report.losses_in_events))
    table.add_row("from the last sign of life to the event", _spread(report.told_seconds))
    table.add_row("from the last sign of life to the work going on", _spread(report.resumed_seconds))
    table.add_row("wrong", str(len(report.wrong)))
    console = Console(width=140)
    console.print(table)
    for fault in report.wrong:
        console.print(fault)


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "none seen"
    return f"median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s, of {len(seconds)}"


def main() -> int:
    """The run of ``make chaos``. The exit status says whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=Plan().documents)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-chaos-") as folder:
        report = run(Plan(documents=options.documents, seed=options.seed), Path(folder))
    show(report)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
