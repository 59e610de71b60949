"""More than one's share, from many threads, over both nodes at once: no bound is passed, and nobody else notices."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from shared.access import ALL_SCOPES
from shared.config import Settings
from shared.keyring import KeyRing
from tests.attack import wire
from tests.attack.keys import TOLD_NOTHING
from tests.attack.report import Try
from tests.attack.stage import INTRUDER, TEXT, VICTIM, Key, Stage, upload_request
from tests.stack import Stack

THREADS = 16

REQUESTS, DOCUMENTS, STREAMS, BYTES = 300, 6, 6, 1_000_000

WRONG_KEYS = 160

#: Of each a tenant of its own, so that one bound is not met for the sake of another.
SETTINGS = {
    "INGEST_AUTH": "keys",
    "INGEST_LIMIT_REQUESTS_PER_MINUTE": str(REQUESTS),
    "INGEST_LIMIT_DOCUMENTS": str(DOCUMENTS),
    "INGEST_LIMIT_STREAMS": str(STREAMS),
    "INGEST_LIMIT_BYTES_PER_HOUR": str(BYTES),
}

WINDOW_SECONDS = 60


class Both:
    """Two nodes that share small bounds, and no worker: what is taken in stays on its way."""

    def __init__(self, stack: Stack, ring: KeyRing) -> None:
        self._ring = ring
        self._nodes = itertools.cycle([node.address for node in stack.web])

    def key(self, tenant: str) -> Key:
        made, text = self._ring.create(tenant, ALL_SCOPES)
        return Key(made.id, text)

    def send(self, requests: Sequence[bytes]) -> list[wire.Answer]:
        """All at once, one to one node and the next to the other."""
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(wire.exchange, [next(self._nodes) for _ in requests], requests))

    def connect(self, requests: Sequence[bytes], lines: ExitStack) -> list[bytes]:
        """The beginning of each answer; the connections stay open."""

        def begin(address: str, request: bytes) -> bytes:
            line = lines.enter_context(wire.connect(address))
            line.sendall(request)
            return wire.receive(line, seconds=2, until=TOLD_NOTHING).data

        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(begin, [next(self._nodes) for _ in requests], requests))


def shares(stage: Stage) -> Iterator[Try]:
    """Requests, wrong keys, documents, streams, bytes, and one upload that is sent by many."""
    stack = Stack(stage.stack.folder / "limits", web=2, workers=0, settings=SETTINGS)
    with stack, closing(KeyRing.from_settings(Settings.from_environment(stack.environment_of_ours))) as ring:
        both = Both(stack, ring)
        for attempt in (_requests, _documents, _streams, _bytes, _one_upload, _wrong_keys):
            yield from attempt(both)


def _requests(both: Both) -> Iterator[Try]:
    key, other = both.key("many-requests"), both.key("few-requests")
    asked = wire.request("GET", "/ingestions", key.headers)
    yield from _bounded("requests", REQUESTS, lambda: both.send([asked] * (2 * REQUESTS)))
    for answer in both.send([wire.request("GET", "/ingestions", other.headers)] * 4):
        yield Try(f"another tenant is answered {answer.status}", answer.status == 200)


def _wrong_keys(both: Both) -> Iterator[Try]:
    """A flood of keys that are none shuts nobody out, wherever it comes from."""
    good = wire.request("GET", "/ingestions", both.key("unmoved").headers)
    wrong = [
        wire.request("GET", "/ingestions", [("Authorization", f"Bearer ingest_{n:016x}_x")]) for n in range(WRONG_KEYS)
    ]
    answers = both.send([*wrong, good])
    for answer in answers[:-1]:
        yield Try(f"a key that is none: {answer.status}", answer.status == 401)
    yield Try(f"a good key meanwhile: {answers[-1].status}", answers[-1].status == 200)


def _bounded(what: str, most: int, send: Callable[[], list[wire.Answer]]) -> Iterator[Try]:
    """Windows are minutes: when one begins meanwhile there are two, each with its bound."""
    windows = {int(time.time() // WINDOW_SECONDS)}
    answers = send()
    windows.add(int(time.time() // WINDOW_SECONDS))
    passed = sum(answer.status == 200 for answer in answers)
    yield Try(f"{passed} {what}, where {most} are allowed in a minute", passed <= most * len(windows))
    for answer in answers:
        yield Try(f"{what}: {answer.status}", answer.status in {200, 429})


def _documents(both: Both) -> Iterator[Try]:
    key = both.key("many-documents")
    answers = both.send([upload_request(key, TEXT, f"{n}.txt") for n in range(4 * DOCUMENTS)])
    taken = [answer for answer in answers if answer.status == 202]
    yield Try(f"{len(taken)} documents on their way", len(taken) <= DOCUMENTS)
    for answer in answers:
        is_told = answer.status == 202 or (answer.status == 429 and answer.header("Retry-After") is not None)
        yield Try(f"{answer.status}", is_told)


def _streams(both: Both) -> Iterator[Try]:
    key = both.key("many-streams")
    (taken,) = both.send([upload_request(key, TEXT)])
    asked = wire.request("GET", f"/status/stream/{json.loads(taken.body)['id']}", key.headers)
    with ExitStack() as lines:
        begun = both.connect([asked] * (4 * STREAMS), lines)
        opened = [answer for answer in begun if TOLD_NOTHING in answer]
        yield Try(f"{len(opened)} streams", len(opened) <= STREAMS)
        for answer in begun:
            yield Try(f"{answer[:200]!r}", TOLD_NOTHING in answer or b"retry: " in answer)


def _bytes(both: Both) -> Iterator[Try]:
    key = both.key("many-bytes")
    each = BYTES // DOCUMENTS + 50_000
    sent = [upload_request(key, TEXT * (each // len(TEXT)), f"{n}.txt") for n in range(2 * DOCUMENTS)]
    answers = both.send(sent)
    taken = sum(answer.status == 202 for answer in answers)
    yield Try(f"{taken} uploads of {each} bytes", taken * each <= BYTES)
    for answer in answers:
        yield Try(f"{answer.status}", answer.status in {202, 429})


def _one_upload(both: Both) -> Iterator[Try]:
    """The same `Idempotency-Key`, at the same time, on both nodes; and what others do with it."""
    key, other = both.key(VICTIM), both.key(INTRUDER)
    name = ("Idempotency-Key", "attack-1")
    answers = both.send([upload_request(key, TEXT, more=[name])] * THREADS)
    ids = {json.loads(answer.body)["id"] for answer in answers if answer.status == 202}
    yield Try(f"{len(ids)} documents of one upload", len(ids) == 1)
    for answer in answers:
        yield Try(f"{answer.status}", answer.status == 202)
    (stolen,) = both.send([upload_request(other, TEXT, more=[name])])
    yield Try(f"another tenant's: {stolen.body!r}", stolen.status == 202 and json.loads(stolen.body)["id"] not in ids)
    (changed,) = both.send([upload_request(key, TEXT + b"more", more=[name])])
    yield Try(f"other bytes: {changed.status}", changed.status == 422)
