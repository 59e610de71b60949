"""Webhooks under fire: documents with three endpoints each, while workers and couriers are killed.

One endpoint is well, one is slow, one always fails. ``make deliveries`` prints the report. Every message has to arrive
at every endpoint at least once, signed, in order for each document; the one that fails is well in the end, and then
gets what it has missed on demand. The run ends by itself: when all is done, or at a time limit, which is a failure.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from shared import keys
from shared.config import Settings
from shared.deliveries import DeliveryState
from shared.protocol import State
from shared.store import Store
from shared.webhook_tables import ATTEMPTS, DELIVERIES, WebhookDatabase
from shared.webhooks import EventType, id_of
from tests.receiver import Receiver
from tests.stack import Process, Stack

#: How each endpoint answers.
WAYS = {"well": "ok", "slow": "slow", "failing": "told"}

SETTINGS = {
    "INGEST_HISTORY_EVENTS": "100000",
    "INGEST_ENGINE": "pdfium",
    "INGEST_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "INGEST_WEBHOOK_RETRY_SECONDS": "0.2,0.5",
    # So that what those who are killed had in hand comes back within seconds.
    "INGEST_WEBHOOK_SECONDS": "1",
    "INGEST_LEASE_SECONDS": "3",
}

LOOK_SECONDS = 0.25

#: What is promised of an endpoint that is well, when nothing is killed: it hears within this.
SOON_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is to be endured."""

    documents: int = 1000
    kill_every_seconds: float = 3.0
    most_kills: int = 1000
    limit_seconds: float = 500
    seed: int = 1


@dataclass
class Report:
    """What happened, and what was wrong."""

    plan: Plan
    seconds: float = 0.0
    recovery_seconds: float = 0.0
    couriers_killed: int = 0
    workers_killed: int = 0
    documents: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    recovered: int = 0
    delays: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)


def run(plan: Plan, folder: Path) -> Report:
    """All of it, in a folder."""
    chance, report = random.Random(plan.seed), Report(plan)
    with (
        Receiver(folder / "receiver") as receiver,
        Stack(folder / "stack", workers=2, concurrency=1, couriers=2, settings=SETTINGS) as stack,
        closing(stack.open_store()) as store,
        closing(WebhookDatabase.from_settings(Settings.from_environment(stack.environment_of_ours))) as database,
        httpx.Client(base_url=stack.urls[0], timeout=30) as http,
    ):
        receiver.answer_told(500)
        began = time.monotonic()
        endpoints = _make_endpoints(http, receiver)
        ids = _endure(plan, stack, store, database, http, chance, report)
        report.seconds = time.monotonic() - began
        _count(database, report)
        expected = _expected(store, ids, report)
        _check(receiver.received, expected, report)
        report.wrong += [f"{one.name} logs URLs" for one in stack.couriers if receiver.base in one.output()]
        _recover(plan, http, endpoints["failing"], receiver, database, expected, report)
    return report


def _make_endpoints(http: httpx.Client, receiver: Receiver) -> dict[str, str]:
    ids, secrets = {}, {}
    for name, way in WAYS.items():
        made = http.post("/webhooks", json={"url": receiver.url(way, name)}).json()
        ids[name], secrets[f"/{way}/{name}"] = made["id"], made["secret"]
    receiver.tell_secrets(secrets)
    return ids


def _endure(
    plan: Plan,
    stack: Stack,
    store: Store,
    database: WebhookDatabase,
    http: httpx.Client,
    chance: random.Random,
    report: Report,
) -> list[str]:
    deadline = time.monotonic() + plan.limit_seconds
    kill_at = time.monotonic() + plan.kill_every_seconds
    ids: list[str] = []
    left: set[str] = set()
    while len(ids) < plan.documents or left or not _is_told(stack, database, ids):
        if time.monotonic() > deadline:
            report.wrong.append(f"not done in {plan.limit_seconds:.0f} s: {len(left)} documents, {_pending(database)}")
            break
        if len(ids) < plan.documents:
            ids.append(_upload(http, len(ids)))
            left.add(ids[-1])
        else:
            time.sleep(LOOK_SECONDS)
        if len(ids) == plan.documents:
            left = {document_id for document_id in left if not store.state(document_id).is_final}
        if time.monotonic() > kill_at and report.couriers_killed + report.workers_killed < plan.most_kills:
            _kill(stack, chance, report)
            kill_at = time.monotonic() + plan.kill_every_seconds
    return ids


def _upload(http: httpx.Client, number: int) -> str:
    text = f"# Document {number}\n\n" + "The quick brown fox jumps over the lazy dog. " * 20
    answer = http.post("/ingestions", files={"file": (f"{number}.md", text.encode())})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _kill(stack: Stack, chance: random.Random, report: Report) -> None:
    """SIGKILL to a courier or a worker with all its children, which is started again at once."""
    victim: Process = chance.choice([*stack.couriers, *stack.workers])
    victim.kill()
    victim.start()
    if victim in stack.couriers:
        report.couriers_killed += 1
    else:
        report.workers_killed += 1


def _is_told(stack: Stack, database: WebhookDatabase, ids: list[str]) -> bool:
    """Whether nothing is left to be taken over, and then nothing to be sent."""
    with closing(stack.redis()) as client:
        return not client.exists(*map(keys.outbox, ids)) and not _pending(database)


def _pending(database: WebhookDatabase) -> int:
    pending = DELIVERIES.c.state == DeliveryState.PENDING
    with database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(DELIVERIES).where(pending)).scalar_one())


def _count(database: WebhookDatabase, report: Report) -> None:
    with database.reading() as connection:
        states = connection.execute(select(DELIVERIES.c.state, func.count()).group_by(DELIVERIES.c.state)).all()
        report.states = Counter({str(state): count for state, count in states})
        report.attempts = connection.execute(select(func.count()).select_from(ATTEMPTS)).scalar_one()


def _expected(store: Store, ids: Iterable[str], report: Report) -> dict[str, list[str]]:
    """The messages of each document, by the events of its stream."""
    expected = {}
    for document_id in ids:
        events = [State.from_json(data) for _, data in store.histories([(document_id, 0)])[document_id, 0].events]
        report.documents[events[-1].status] += 1
        changes = [after for before, after in pairwise(events) if after.status != before.status]
        expected[document_id] = [id_of(document_id, event.seq, event.status) for event in changes]
        if not events[-1].is_final:
            report.wrong.append(f"{document_id} is {events[-1].status}")
    report.messages = sum(map(len, expected.values()))
    return expected


def _check(received: list[dict[str, Any]], expected: dict[str, list[str]], report: Report) -> None:
    report.wrong += [f"not verified: {one['path']} {one['body'][:200]}" for one in received if not one["verified"]]
    for name, way in WAYS.items():
        came = [one for one in received if one["path"] == f"/{way}/{name}"]
        report.requests[name] = len(came)
        report.repeated[name] = len(came) - len({one["headers"]["webhook-id"] for one in came})
        report.wrong += [f"{name}: {fault}" for fault in _faults(came, expected)]
        report.wrong += [
            f"{name}: no counts in {one['body']}" for one in came if not _has_counts(json.loads(one["body"]))
        ]
        first = {one["headers"]["webhook-id"]: one for one in reversed(came)}
        report.delays[name] = [one["at"] - _moment(json.loads(one["body"])["timestamp"]) for one in first.values()]


def _has_counts(body: dict[str, Any]) -> bool:
    """Whether a document that is completed is told of with its sections and chunks."""
    return body["type"] != EventType.COMPLETED or body["data"]["counts"].keys() == {"sections", "chunks"}


def _faults(came: list[dict[str, Any]], expected: dict[str, list[str]]) -> Iterator[str]:
    by_document: dict[str, list[str]] = defaultdict(list)
    for one in came:
        by_document[json.loads(one["body"])["data"]["id"]].append(one["headers"]["webhook-id"])
    if strangers := by_document.keys() - expected.keys():
        yield f"documents that were not uploaded: {sorted(strangers)[:5]}"
    for document_id, wanted in expected.items():
        # Repetitions stand beside each other: the next one waits until the one before is over.
        told = [
            name for n, name in enumerate(by_document[document_id]) if n == 0 or name != by_document[document_id][n - 1]
        ]
        if told != wanted:
            yield f"{document_id}: {told} instead of {wanted}"


def _recover(
    plan: Plan,
    http: httpx.Client,
    endpoint_id: str,
    receiver: Receiver,
    database: WebhookDatabase,
    expected: dict[str, list[str]],
    report: Report,
) -> None:
    """The endpoint that fails is well: all it has missed is sent again, and now arrives."""
    receiver.answer_told(200)
    before, began = len(receiver.received), time.monotonic()
    since = datetime.fromtimestamp(0, UTC).isoformat()
    while count := http.post(f"/webhooks/{endpoint_id}/recover", json={"since": since}).json()["recovered"]:
        report.recovered += count
    while _pending(database) and time.monotonic() - began < plan.limit_seconds:
        time.sleep(LOOK_SECONDS)
    report.recovery_seconds = time.monotonic() - began
    report.wrong += [f"recovered: {fault}" for fault in _faults(receiver.received[before:], expected)]
    report.wrong += [f"recovered: {_pending(database)} are pending still"] * bool(_pending(database))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def show(report: Report) -> None:
    """The report, for people."""
    table = Table("what", "figure")
    documents = ", ".join(f"{n} {status}" for status, n in report.documents.items())
    table.add_row("documents", f"{report.plan.documents}: {documents}")
    table.add_row("messages for each of the three endpoints", str(report.messages))
    table.add_row("seconds", f"{report.seconds:.0f}")
    table.add_row("killed with SIGKILL", f"{report.couriers_killed} couriers, {report.workers_killed} whole workers")
    for name in WAYS:
        figures = f"{report.requests[name]} requests, of which {report.repeated[name]} repeat one"
        table.add_row(
            f"endpoint that is {name}", f"{figures}; from the event to the first: {_spread(report.delays[name])}"
        )
    table.add_row("deliveries in the end", ", ".join(f"{n} {state}" for state, n in sorted(report.states.items())))
    table.add_row("attempts that are listed", str(report.attempts))
    table.add_row("recovered when the failing one is well", f"{report.recovered} in {report.recovery_seconds:.0f} s")
    table.add_row("wrong", str(len(report.wrong)))
    console = Console(width=140)
    console.print(table)
    for fault in report.wrong[:20]:
        console.print(fault)


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    in_order = sorted(seconds)
    at = {share: in_order[min(len(in_order) - 1, int(len(in_order) * share))] for share in (0.5, 0.95, 0.99)}
    return (
        ", ".join(f"p{share * 100:.0f} {value:.2f} s" for share, value in at.items())
        + f", longest {in_order[-1]:.2f} s"
    )


def main() -> int:
    """The run of ``make deliveries``. The exit status says whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=Plan().documents)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    parser.add_argument("--kill-every", type=float, default=Plan().kill_every_seconds, metavar="SECONDS")
    options = parser.parse_args()
    plan = Plan(documents=options.documents, seed=options.seed, kill_every_seconds=options.kill_every)
    with tempfile.TemporaryDirectory(prefix="ingest-deliveries-") as folder, suppress(KeyboardInterrupt):
        report = run(plan, Path(folder))
        show(report)
        return 1 if report.wrong else 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
