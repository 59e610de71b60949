"""Faults between web nodes and Redis, while documents move and are watched. ``make faults`` runs them at random.

Two nodes reach Redis through a proxy each; writers reach it directly. Some viewers stay, some leave in the middle of
whatever comes; each time they come back they may be on the other node. They check themselves what they are sent
(`tests.audience`); here it is checked that they miss nothing: each ends with a final state, and in time.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from shared.errors import StaleAttempt
from shared.jobs import Status
from shared.protocol import Failure, State
from shared.store import Store
from tests.audience import Address, Audience, Viewer
from tests.awaiting import wait_until
from tests.fault_proxy import FaultProxy, Kind, Way
from tests.records import new_document
from tests.stack import Stack

#: Events of one document in a second.
EVENTS_PER_SECOND = 10
DOCUMENTS = 6
#: Of each kind, on each node.
VIEWERS = 4
#: Bytes after which a restless viewer leaves, at most.
PATIENCE_BYTES = 6000
READY_SECONDS = 20

SETTINGS = {
    "INGEST_RETRY_MS": "200",
    "INGEST_HISTORY_EVENTS": "512",
    "INGEST_STALL_SECONDS": "5",
    "INGEST_WATCHDOG_SECONDS": "1",
}


class Scene:
    """Two nodes, each behind a proxy, and the record that is written to past them."""

    def __init__(self, stack: Stack, proxies: Sequence[FaultProxy], store: Store) -> None:
        self.stack = stack
        self.proxies = list(proxies)
        self.store = store

    @property
    def addresses(self) -> list[Address]:
        return [("127.0.0.1", int(node.address.rpartition(":")[2])) for node in self.stack.web]

    def bitten(self, count: str) -> int:
        """How often the proxies did something, by its name in `Bitten`."""
        return sum(getattr(proxy.bitten, count) for proxy in self.proxies)

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.heal()

    def in_order(self) -> None:
        """Nothing is wrong with any node (any more)."""
        self.heal()
        for node in self.stack.web:
            wait_until(node.ready, within_seconds=READY_SECONDS, what=f"{node.name} ready")


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """A `Scene` in a folder."""
    with ExitStack() as context:
        proxies = [context.enter_context(FaultProxy(n)) for n in range(2)]
        own = [{"INGEST_REDIS_URL": proxy.url} for proxy in proxies]
        stack = Stack(folder, workers=0, settings=SETTINGS, settings_of_web=own)
        for proxy in proxies:
            proxy.upstream = stack.redis_socket
        context.enter_context(stack)
        yield Scene(stack, proxies, context.enter_context(closing(stack.open_store())))


@dataclass
class Recorded:
    """The events of a document, as its writer was told."""

    #: seq, whether it is final, and when the write had returned.
    events: list[tuple[int, bool, float]] = field(default_factory=list)

    def add(self, state: State) -> None:
        self.events.append((state.seq, state.is_final, time.monotonic()))


class Writer(threading.Thread):
    """Moves documents as workers do: one that fails may be tried again, and then somebody still writes for before."""

    def __init__(self, store: Store, document_ids: Sequence[str], chance: random.Random) -> None:
        super().__init__(name="writer", daemon=True)
        self.recorded = {document_id: Recorded() for document_id in document_ids}
        self.refused = 0
        self._store = store
        self._chance = chance
        self._plans = {document_id: self._attempts(document_id) for document_id in document_ids}
        self._winding_up = threading.Event()
        self._paused = threading.Event()
        self._failure: BaseException | None = None

    def wind_up(self) -> None:
        """Let every document come to its end soon, and wait for that."""
        self._winding_up.set()
        self.join()
        if self._failure:
            raise self._failure

    def run(self) -> None:
        try:
            while self._plans:
                document_id = self._chance.choice(list(self._plans))
                if next(self._plans[document_id], None) is None:
                    del self._plans[document_id]
                if not self._winding_up.is_set():
                    time.sleep(1 / EVENTS_PER_SECOND / max(1, len(self._plans)))
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits for the end
            self._failure = error

    def _attempts(self, document_id: str) -> Iterator[bool]:
        """The life of a document, a step at each `next`."""
        for attempt in range(1, self._chance.randint(1, 3) + 1):
            if attempt > 1:
                self.recorded[document_id].add(self._store.begin_attempt(document_id))
                yield True
                self._refuse(document_id, attempt - 1)
            for step in range(1, 1 + self._chance.randint(5, 50)):
                if self._winding_up.is_set():
                    break
                self._record(document_id, attempt, Status.PARSING, min(90.0, step / 2))
                yield True
            failure = Failure("unreadable", "No.")
            self._record(document_id, attempt, Status.FAILED, None, failure)
            yield True
        if self._chance.random() < 0.5:
            return
        self.recorded[document_id].add(self._store.begin_attempt(document_id))
        for status in (Status.PARSING, Status.CHUNKING, Status.LOADING):
            self._record(document_id, attempt + 1, status, None)
            yield True
        self._record(document_id, attempt + 1, Status.COMPLETED, 100.0)
        yield True

    def _record(
        self, document_id: str, attempt: int, status: Status, progress: float | None, error: Failure | None = None
    ) -> None:
        state = self._store.record(document_id, attempt, status, f"{status}", progress=progress, error=error)
        self.recorded[document_id].add(state)

    def _refuse(self, document_id: str, attempt: int) -> None:
        """Somebody who has not heard of the retry."""
        with pytest.raises(StaleAttempt):
            self._store.record(document_id, attempt, Status.PARSING, "stale", progress=99.0)
        self.refused += 1


@dataclass
class Outcome:
    """What came of a fault."""

    name: str
    viewers: int = 0
    events: int = 0
    openings: int = 0
    gaps: int = 0
    refused: int = 0
    #: From the end of the fault and of the last document, until the last viewer knew.
    truth_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """Something that befalls the connections, and how long after its end everyone knows the truth at the latest."""

    inflict: Callable[[Scene, random.Random], None]
    within_seconds: float
    #: Whether the documents always end while it lasts; else they do as chance has it.
    to_the_end: bool = False
    #: Whether all that is missed is still there to be read, and little enough to be sent one by one.
    gapless: bool = False
    #: Which counts of the proxies must have grown: a fault that did nothing proves nothing.
    bites: tuple[str, ...] = ()


def endure(scene: Scene, name: str, fault: Fault, seed: int = 1) -> Outcome:
    """Let documents move, be watched and suffer a fault; then see that everyone knows the truth in time."""
    chance = random.Random(seed)
    scene.in_order()
    bitten = {count: scene.bitten(count) for count in fault.bites}
    documents = [new_document(scene.store) for _ in range(DOCUMENTS)]
    outcome = Outcome(name)
    with Audience(seed) as audience:
        _seat(audience, scene, documents, chance)
        wait_until(lambda: all(set(v.ids) <= v.sights.keys() for v in audience.viewers), what="everyone sees")
        writer = Writer(scene.store, documents, chance)
        writer.start()
        try:
            fault.inflict(scene, chance)
            if not fault.to_the_end and chance.random() < 0.5:
                scene.heal()
        finally:
            writer.wind_up()
            scene.heal()
        over = time.monotonic()
        while audience.waiting and time.monotonic() < over + fault.within_seconds:
            time.sleep(0.02)
        outcome.truth_seconds = time.monotonic() - over
        outcome.wrong += [_unfinished(viewer, writer) for viewer in audience.waiting]
    outcome.wrong += audience.wrong
    outcome.wrong += [fault for viewer in audience.viewers for fault in _overlooked(viewer, writer)]
    outcome.viewers = len(audience.viewers)
    outcome.events = sum(viewer.events for viewer in audience.viewers)
    outcome.openings = sum(len(viewer.openings) for viewer in audience.viewers)
    outcome.gaps = sum(viewer.gaps for viewer in audience.viewers)
    outcome.refused = writer.refused
    outcome.wrong += [
        f"the fault did nothing: {name}" for name, before in bitten.items() if scene.bitten(name) == before
    ]
    # One of several documents is sent the latest state of each when it has missed many events of all together.
    gaps = sum(viewer.gaps for viewer in audience.viewers if len(viewer.ids) == 1)
    if fault.gapless and gaps:
        outcome.wrong.append(f"{gaps} times a state was left out, although the history held it")
    return outcome


def _seat(audience: Audience, scene: Scene, documents: Sequence[str], chance: random.Random) -> None:
    """Viewers of one document and of several, that stay or leave, on one node or on any."""
    for address in scene.addresses:
        for _ in range(VIEWERS):
            audience.add([chance.choice(documents)], [address])
            audience.add(chance.sample(documents, 3), [address])
    for _ in range(VIEWERS):
        audience.add([chance.choice(documents)], scene.addresses, patience_bytes=PATIENCE_BYTES)
        audience.add(chance.sample(documents, 3), scene.addresses, patience_bytes=PATIENCE_BYTES)


def _unfinished(viewer: Viewer, writer: Writer) -> str:
    newest = {document_id: writer.recorded[document_id].events[-1][0] for document_id in viewer.ids}
    seen = {document_id: viewer.sights[document_id].seq for document_id in viewer.ids if document_id in viewer.sights}
    return f"a viewer is left that has seen {seen} of {newest}; its last openings {viewer.openings[-3:]}"


def _overlooked(viewer: Viewer, writer: Writer) -> Iterator[str]:
    """Told to stop, although more had been recorded than it had seen when it asked."""
    if not viewer.stopped_at:
        return
    for document_id in viewer.ids:
        recorded = writer.recorded[document_id].events
        known = [seq for seq, _, at in recorded if at < viewer.asked_at]
        if known and viewer.sights[document_id].seq < known[-1]:
            yield f"{document_id}: 204 at seq {viewer.sights[document_id].seq}, although {known[-1]} was recorded"


# -- the faults --------------------------------------------------------------------------------------------------------


def lasts(seconds: float) -> None:
    """A fault takes its time, and nothing tells how it goes on."""
    time.sleep(seconds)


def cut(scene: Scene, chance: random.Random) -> None:
    """Connections are lost again and again, with RST or FIN."""
    for _ in range(6):
        chance.choice(scene.proxies).cut(reset=chance.random() < 0.5)
        lasts(chance.uniform(0.1, 0.4))


def refuse(scene: Scene, chance: random.Random) -> None:
    """Redis can't be reached for three seconds."""
    for proxy in scene.proxies:
        proxy.refuse()
        proxy.cut(reset=chance.random() < 0.5)
    lasts(3)


def half_open_pubsub(scene: Scene, chance: random.Random) -> None:
    """Nothing is heard any more, although the connection stands and commands are answered."""
    chance.choice(scene.proxies).silence(Kind.PUBSUB, chance.choice([Way.TO_NODE, Way.BOTH]))
    lasts(1.5)


def half_open_commands(scene: Scene, chance: random.Random) -> None:
    """Events are heard, and commands are not answered."""
    chance.choice(scene.proxies).silence(Kind.COMMANDS, chance.choice([*list(Way), Way.BOTH]))
    lasts(2)


def half_open_both(scene: Scene, _chance: random.Random) -> None:
    """Every connection of a node is dead and does not show it."""
    scene.proxies[0].silence()
    lasts(1.5)


def lose_some(scene: Scene, chance: random.Random) -> None:
    """A third of all messages vanishes."""
    for proxy in scene.proxies:
        proxy.lose(lambda _channel, _data: chance.random() < 0.33)
    lasts(2)


def lose_the_final(scene: Scene, _chance: random.Random) -> None:
    """Nobody is told that a document is final."""
    for proxy in scene.proxies:
        proxy.lose(lambda _channel, data: b'"finished_at":"' in data)
    lasts(2)


def delay(scene: Scene, _chance: random.Random) -> None:
    """Everything takes 300 ms, more or less."""
    for proxy in scene.proxies:
        proxy.delay(300, jitter_ms=200)
    lasts(2.5)


def trim(scene: Scene, chance: random.Random) -> None:
    """What was missed is not kept: connections are lost, and the histories with them."""
    with closing(scene.stack.redis()) as redis:
        for _ in range(5):
            chance.choice(scene.proxies).cut()
            lasts(0.2)
            for key in redis.scan_iter("ingest:{*}:events"):
                redis.xtrim(key, maxlen=1, approximate=False)


def kill_by_redis(scene: Scene, chance: random.Random) -> None:
    """Redis itself ends the connections that listen, as it does with one that is too slow."""
    with closing(scene.stack.redis()) as redis:
        for _ in range(4):
            redis.client_kill_filter(_type="pubsub")
            lasts(chance.uniform(0.1, 0.5))


def hang(scene: Scene, _chance: random.Random) -> None:
    """Redis takes everything and answers nothing for two seconds."""
    with closing(scene.stack.redis()) as redis:
        redis.client_pause(2000, all=True)
    lasts(2)


def lose_a_node(scene: Scene, chance: random.Random) -> None:
    """A node is killed, and is there again a moment later."""
    node = chance.choice(scene.stack.web)
    lasts(0.5)
    node.kill()
    lasts(0.5)
    node.start()
    wait_until(node.ready, within_seconds=READY_SECONDS, what=f"{node.name} ready")


#: A dead connection is found within 10 s, by a PING that is not answered; what was not heard over one that works,
#: within the time of the watchdog.
FAULTS: dict[str, Fault] = {
    "cut": Fault(cut, 5, gapless=True, bites=("cut",)),
    "refuse": Fault(refuse, 6, bites=("cut",)),
    "half-open pub/sub": Fault(half_open_pubsub, 14, bites=("swallowed_bytes",)),
    "half-open commands": Fault(half_open_commands, 8, bites=("swallowed_bytes",)),
    "half-open, both": Fault(half_open_both, 14, bites=("swallowed_bytes",)),
    "some messages lost": Fault(lose_some, 5, to_the_end=True, bites=("lost_messages",)),
    "final messages lost": Fault(lose_the_final, 5, to_the_end=True, bites=("lost_messages",)),
    "delay": Fault(delay, 5, gapless=True, bites=("delayed",)),
    "history trimmed": Fault(trim, 5, bites=("cut",)),
    "killed by Redis": Fault(kill_by_redis, 5, gapless=True),
    "Redis hangs": Fault(hang, 8),
    "a node killed": Fault(lose_a_node, 5),
}


def in_sequence(*names: str) -> Fault:
    """Several, the next when the one before has healed, but not all that it left behind."""

    def each(scene: Scene, chance: random.Random) -> None:
        for name in names:
            scene.heal()
            FAULTS[name].inflict(scene, chance)

    each_of = [FAULTS[name] for name in names]
    return Fault(
        each,
        sum(fault.within_seconds for fault in each_of),
        to_the_end=each_of[-1].to_the_end,
        gapless=len(names) == 1 and each_of[0].gapless,
        bites=tuple(count for fault in each_of for count in fault.bites),
    )


def run(folder: Path, seed: int, seconds: float) -> list[Outcome]:
    """Faults at random, one or two at a time, until the time is over."""
    chance = random.Random(seed)
    outcomes = []
    with scene(folder) as stage:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            names = chance.sample(list(FAULTS), chance.randint(1, 2))
            outcomes.append(endure(stage, ", ".join(names), in_sequence(*names), chance.randrange(2**32)))
    return outcomes


def show(outcomes: Sequence[Outcome]) -> None:
    """The report, for people."""
    table = Table("fault", "viewers", "streams", "events", "states left out", "stale writes", "truth after, s", "wrong")
    for outcome in outcomes:
        figures = [outcome.viewers, outcome.openings, outcome.events, outcome.gaps, outcome.refused]
        table.add_row(outcome.name, *map(str, figures), f"{outcome.truth_seconds:.2f}", str(len(outcome.wrong)))
    console = Console(width=140)
    console.print(table)
    for outcome in outcomes:
        for fault in outcome.wrong:
            console.print(f"{outcome.name}: {fault}")


def main() -> int:
    """The run of ``make faults``. The exit status says whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    Console().print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="ingest-faults-") as folder:
        outcomes = run(Path(folder), options.seed, options.seconds)
    show(outcomes)
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
