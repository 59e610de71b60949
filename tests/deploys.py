"""A rolling deploy under many viewers: each node in its turn is told to stop. ``make deploy-drain`` prints the report.

What counts is what comes to the other node: how many viewers return there in any tenth of the drain window. An
`EventSource` that has seen a final event asks once more and is answered 204; that is no deploy's doing, and it is not
counted.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from shared.jobs import Status
from shared.store import Store
from tests.audience import Address, Audience, End, Viewer
from tests.awaiting import wait_until
from tests.records import finish, new_document
from tests.stack import Stack, WebNode

#: The promise: the peak is at most so many times what an even spread would be.
PEAK_MOST = 1.5
#: Beyond the drain window: a signal has to reach the process, and the process has to end.
SLACK_SECONDS = 3.0
#: Of all viewers, come to a node that has just been told to stop.
LATE_SHARE = 0.05
EVENTS_PER_SECOND = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a deploy."""

    viewers: int = 3000
    documents: int = 100
    #: How many nodes are stopped, one after the other.
    stops: int = 2
    drain_seconds: float = 30
    #: The peak is the most that come back within any so long a time.
    slice_seconds: float = 3.0
    retry_ms: int = 2000
    balancer: bool = True


@dataclass
class Stopped:
    """What it was like when one node stopped."""

    name: str
    viewers: int = 0
    not_ready_seconds: float = 0.0
    last_closed_seconds: float = 0.0
    exit_seconds: float = 0.0
    peak_per_second: float = 0.0
    even_per_second: float = 0.0
    delays_ms: list[int] = field(default_factory=list)
    #: Streams that ended without a word.
    cut: int = 0

    @property
    def peak_share(self) -> float:
        """The peak as a multiple of an even spread."""
        return self.peak_per_second / self.even_per_second


@dataclass
class Report:
    """What happened, and what was wrong."""

    plan: Plan
    stopped: list[Stopped] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)
    missed: int = 0
    wrong: list[str] = field(default_factory=list)


class Deploy:
    """Two nodes that are stopped one after the other, and everyone who watches."""

    def __init__(self, plan: Plan, stack: Stack, store: Store, audience: Audience) -> None:
        self._plan = plan
        self._stack = stack
        self._store = store
        self._audience = audience
        self._chance = random.Random(1)
        self._documents = [new_document(store) for _ in range(plan.documents)]
        self._running = list(self._documents)

    @property
    def addresses(self) -> list[Address]:
        """Where viewers ask: the balancer, or any node."""
        servers = [self._stack.balancer] if self._stack.balancer else self._stack.web
        return [_address(server.address) for server in servers]

    def seat(self) -> None:
        """All viewers on the first node: the other is not there yet."""
        first, second = self._stack.web
        second.stop()
        for n in range(self._plan.viewers):
            viewer = self._audience.add([self._documents[n % len(self._documents)]], self.addresses)
            if not self._stack.balancer:
                viewer.addresses = [_address(first.address)]
        wait_until(self._everyone_sees, within_seconds=60, what="every viewer's first state")
        for viewer in self._audience.viewers:
            viewer.addresses = self.addresses

    def start_all(self) -> None:
        """Whichever node is not there comes (back)."""
        for node in self._stack.web:
            if not node.alive:
                node.start()
                wait_until(node.ready, what=f"{node.name} ready")

    def stop(self, node: WebNode) -> Stopped:
        """SIGTERM, while documents move and end; returns when everyone is at the other node."""
        plan, stopped = self._plan, Stopped(node.name)
        stopped.viewers = httpx.get(f"{node.url}/readyz").json()["streams"]
        stopped.even_per_second = stopped.viewers / plan.drain_seconds
        share = len(self._running) // 4
        ending = self._running[:share]
        began = time.monotonic()
        node.signal(signal.SIGTERM)
        wait_until(lambda: not node.ready(), what="not ready")
        stopped.not_ready_seconds = time.monotonic() - began
        late = self._come_late(node)
        while node.alive and time.monotonic() < began + plan.drain_seconds + 15:
            self._move()
            if ending and time.monotonic() - began > plan.drain_seconds * (1 - len(ending) / share):
                self._end(ending.pop())
            time.sleep(1 / EVENTS_PER_SECOND)
        stopped.exit_seconds = time.monotonic() - began
        wait_until(self._everyone_streams, within_seconds=plan.retry_ms / 1000 * 2 + 10, what="everyone is back")
        self._look_back(stopped, began, late)
        return stopped

    def finish(self) -> None:
        """The rest of the documents end."""
        for document_id in list(self._running):
            self._end(document_id)

    def _come_late(self, node: WebNode) -> list[Viewer]:
        late = []
        for n in range(round(self._plan.viewers * LATE_SHARE)):
            addresses = self.addresses if self._stack.balancer else [_address(node.address)]
            late.append(self._audience.add([self._documents[-1 - n % (len(self._documents) // 2)]], addresses))
        wait_until(lambda: all(viewer.openings for viewer in late), what="the late ones are answered")
        for viewer in late:
            viewer.addresses = self.addresses
        return late

    def _move(self) -> None:
        document_id = self._chance.choice(self._running)
        self._store.record(document_id, 1, Status.PARSING, "Parsing")

    def _end(self, document_id: str) -> None:
        finish(self._store, document_id)
        self._running.remove(document_id)

    def _everyone_sees(self) -> bool:
        return all(viewer.sights for viewer in self._audience.viewers)

    def _everyone_streams(self) -> bool:
        return all(viewer.streaming for viewer in self._audience.waiting if self._watches(viewer))

    def _watches(self, viewer: Viewer) -> bool:
        return viewer.ids[0] in self._running

    def _look_back(self, stopped: Stopped, began: float, late: Sequence[Viewer]) -> None:
        viewers = self._audience.viewers
        returns = sorted(
            opening.at
            for viewer in viewers
            for opening in viewer.openings[1:]
            if opening.at > began and opening.status == 200
        )
        stopped.peak_per_second = most_within(returns, self._plan.slice_seconds) / self._plan.slice_seconds
        endings = [ending for viewer in viewers for ending in viewer.endings if ending.at > began]
        stopped.cut = sum(ending.how is End.CUT for ending in endings)
        stopped.last_closed_seconds = max(
            (ending.at - began for ending in endings if ending.how in (End.DISMISSED, End.CUT)), default=0.0
        )
        stopped.delays_ms = [delay for viewer in viewers for delay in viewer.delays_ms]
        for viewer in viewers:
            viewer.delays_ms.clear()


def most_within(times: Sequence[float], seconds: float) -> int:
    """The most of some moments, in order, that lie within any so long a time."""
    most = first = 0
    for last, moment in enumerate(times):
        while moment - times[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def run(plan: Plan, folder: Path) -> Report:
    """Both nodes stop, one after the other, as in a rolling deploy."""
    report = Report(plan)
    settings = {"INGEST_DRAIN_SECONDS": str(plan.drain_seconds), "INGEST_RETRY_MS": str(plan.retry_ms)}
    stack = Stack(folder, web=2, workers=0, balancer=plan.balancer, settings=settings)
    with stack, closing(stack.open_store()) as store, Audience() as audience:
        deploy = Deploy(plan, stack, store, audience)
        deploy.seat()
        for node in stack.web[: plan.stops]:
            deploy.start_all()
            report.stopped.append(deploy.stop(node))
        deploy.finish()
        wait_until(lambda: not audience.waiting, within_seconds=30, what="everyone told to stop")
        report.missed = sum(not viewer.sights[viewer.ids[0]].final for viewer in audience.viewers)
        for viewer in audience.viewers:
            for opening in viewer.openings:
                report.answers[opening.status] = report.answers.get(opening.status, 0) + 1
        report.wrong += audience.wrong
    report.wrong += _broken_promises(report)
    return report


def _broken_promises(report: Report) -> Iterator[str]:
    plan = report.plan
    for node in report.stopped:
        if node.peak_share > PEAK_MOST:
            yield f"{node.name}: {node.peak_per_second:.0f} a second come back at the peak, {node.peak_share:.2f} times"
        if node.last_closed_seconds > plan.drain_seconds + SLACK_SECONDS:
            yield f"{node.name}: a stream was closed only after {node.last_closed_seconds:.1f} s"
        if node.cut:
            yield f"{node.name}: {node.cut} streams ended without a word"
        if len(set(node.delays_ms)) < min(len(node.delays_ms), plan.retry_ms) / 3:
            yield f"{node.name}: only {len(set(node.delays_ms))} different delays for {len(node.delays_ms)} viewers"
    if report.missed:
        yield f"{report.missed} viewers missed a final state"
    if other := {status: count for status, count in report.answers.items() if status not in (0, 200, 204)}:
        yield f"answers that make an EventSource give up: {other}"


def show(report: Report) -> None:
    """The report, for people."""
    plan = report.plan
    table = Table("what", *(node.name for node in report.stopped))

    def row(what: str, *figures: str) -> None:
        table.add_row(what, *figures)

    row("viewers at SIGTERM", *(str(node.viewers) for node in report.stopped))
    row("not ready after, s", *(f"{node.not_ready_seconds:.2f}" for node in report.stopped))
    row(
        f"last stream closed after, s (window {plan.drain_seconds:g})",
        *(f"{n.last_closed_seconds:.1f}" for n in report.stopped),
    )
    row("process gone after, s", *(f"{node.exit_seconds:.1f}" for node in report.stopped))
    row("delays told, ms", *(_spread(node.delays_ms) for node in report.stopped))
    row("streams that ended without a word", *(str(node.cut) for node in report.stopped))
    row("viewers / window, a second", *(f"{node.even_per_second:.1f}" for node in report.stopped))
    row(
        f"most that come back elsewhere in any {plan.slice_seconds:g} s, a second",
        *(f"{node.peak_per_second:.1f} ({node.peak_share:.2f} times)" for node in report.stopped),
    )
    console = Console(width=140)
    console.print(table)
    refused, streams, stops = (report.answers.get(status, 0) for status in (0, 200, 204))
    others = sum(report.answers.values()) - refused - streams - stops
    console.print(f"answers: {streams} streams, {stops} times 204, {refused} connections refused, {others} others")
    console.print(f"final states missed: {report.missed}; wrong: {len(report.wrong)}")
    for fault in report.wrong[:20]:
        console.print(fault)


def _spread(delays_ms: Sequence[int]) -> str:
    if not delays_ms:
        return "none"
    different, all_told = len(set(delays_ms)), len(delays_ms)
    median = statistics.median(delays_ms)
    return f"{min(delays_ms)} to {max(delays_ms)}, median {median:.0f}, {different} different of {all_told}"


def main() -> int:
    """The run of ``make deploy-drain``. The exit status says whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=Plan().viewers)
    parser.add_argument("--direct", action="store_true", help="without the balancer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-deploy-") as folder:
        report = run(Plan(viewers=options.viewers, balancer=not options.direct), Path(folder))
    show(report)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
