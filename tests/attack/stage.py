"""The service under attack: two web nodes that ask for keys, a worker, and two tenants who must not know each other."""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from shared.access import ALL_SCOPES, DEFAULT_TENANT, Scope
from shared.config import Settings
from shared.keyring import KeyRing, parts_of
from shared.protocol import State
from tests import texts
from tests.attack import wire
from tests.attack.trap import CLOSED_HOSTS, OPEN_HOST, Trap
from tests.attack.wire import Answer, Headers
from tests.awaiting import wait_until
from tests.stack import Process, Stack

T = TypeVar("T")

VICTIM, INTRUDER = "acme", "zenith"

#: The page of this origin may read answers, and no other.
ORIGIN = "https://app.example.com"

PASSWORD = "correct-horse-battery-staple"

#: A request's body that does not get on for so long is given up.
STALL_SECONDS = 2.0

#: Of each list of attempts that is drawn from, so many in the short form.
SAMPLE = 6

_SEPARATOR = "attackattackattack"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its owner was told it."""

    id: str
    text: str

    @property
    def secret(self) -> str:
        parts = parts_of(self.text)
        assert parts
        return parts[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {self.text}")]


@dataclass(frozen=True, slots=True)
class Things:
    """What the paths of the routes name."""

    document_id: str
    endpoint_id: str
    delivery_id: str


#: Ids that were never given.
NEVER = Things("01m857xcw5wq82xwhr9ttcn3ay", "ep_01m857xcw5wq82xwhr9ttcn3ay", "dl_01m857xcw5wq82xwhr9ttcn3ay")


@dataclass(frozen=True, slots=True)
class Operation:
    """A route with a method, as the description has it. ``scope`` is empty where no key is asked for."""

    method: str
    path: str
    scope: str
    media_type: str
    query: tuple[str, ...]

    def target(self, things: Things) -> str:
        """The request target, about somebody's things."""
        names = {**asdict(things), "filename": "page.css"}
        return self.path.format_map(names) + ("?id=" + things.document_id if "id" in self.query else "")

    def request(self, things: Things, headers: Headers, more: str = "") -> bytes:
        """A request that would be in order, if it were allowed. ``more`` is put behind the target."""
        content = [("Content-Type", self.media_type)] if self.media_type else []
        body = BODIES[self.media_type.partition(";")[0]]
        return wire.request(self.method, self.target(things) + more, [*headers, *content], body)


def multipart(data: bytes, filename: str = "a.txt", **fields: str) -> bytes:
    """The body of an upload. The name is put in as it is."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
    file = f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    head = "".join(f"--{_SEPARATOR}\r\n{part}\r\n" for part in parts) + f"--{_SEPARATOR}\r\n{file}"
    return head.encode("utf-8", "surrogatepass") + data + f"\r\n--{_SEPARATOR}--\r\n".encode()


UPLOAD = f"multipart/form-data; boundary={_SEPARATOR}"

TEXT = b"Nobody else may read this.\n"

BODIES = {
    "": b"",
    "application/json": b"{}",
    "application/x-www-form-urlencoded": b"password=x",
    "multipart/form-data": multipart(TEXT),
}


class Stage:
    """Everything that an attack needs. ``short`` draws samples instead of trying everything."""

    def __init__(self, folder: Path, *, short: bool = False, seed: int = 1):
        self.short = short
        self.chance = random.Random(seed)
        self.answers: list[bytes] = []
        #: Is in no answer, log or record.
        self.secrets: set[str] = {PASSWORD}
        #: Is in an answer, to whom it is due, and nowhere else.
        self.told: set[str] = set()
        self._resources = ExitStack()
        self._folder = folder

    def __enter__(self) -> Self:
        environment = {
            "INGEST_AUTH": "keys",
            "INGEST_ALLOWED_ORIGINS": ORIGIN,
            "INGEST_LOG_LEVEL": "debug",
            "INGEST_WEBHOOK_ALLOWED_NETWORKS": f"{OPEN_HOST}/32",
            "INGEST_WEBHOOK_RETRY_SECONDS": "0.1",
            # What is tried here is not to be stopped for its number; `limits` tries that.
            "INGEST_LIMIT_REQUESTS_PER_MINUTE": "0",
            "INGEST_UPLOAD_STALL_SECONDS": str(STALL_SECONDS),
        }
        with ExitStack() as resources:
            self.closed = [resources.enter_context(Trap(host)) for host in CLOSED_HOSTS]
            self.open = resources.enter_context(Trap(OPEN_HOST))
            self.stack = resources.enter_context(
                Stack(self._folder, web=2, workers=1, balancer=True, settings=environment)
            )
            self.settings = Settings.from_environment(self.stack.environment_of_ours)
            self.ring = resources.enter_context(closing(KeyRing.from_settings(self.settings)))
            self.store = resources.enter_context(closing(self.stack.open_store()))
            self._start_courier(resources)
            self._nodes = itertools.cycle([node.address for node in self.stack.web])
            self._prepare()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.__exit__(kind, error, trace)

    def _start_courier(self, resources: ExitStack) -> None:
        command = [sys.executable, "-m", "ingest_worker.courier"]
        self.courier = Process("courier", command, self.stack.environment, self._folder / "courier.log")
        resources.callback(self.courier.kill)
        self.courier.start()
        wait_until(lambda: "courier.ready" in self.courier.output(), what="the courier")

    def _prepare(self) -> None:
        self.victim = self.key(VICTIM)
        self.intruder = self.key(INTRUDER)
        self.operator = self.key(DEFAULT_TENANT, {Scope.ADMIN})
        self.revoked = self.key(VICTIM)
        self.ring.revoke(self.revoked.id)
        description = httpx.get(f"{self.stack.urls[0]}/openapi.json").json()
        self.operations = list(_operations(description))
        self.victims = self._things(self.victim, TEXT, password=PASSWORD)
        self.own = self._things(self.intruder, texts.markdown(3))
        self.document = self.victims.document_id

    def _things(self, key: Key, data: bytes, **fields: str) -> Things:
        """A finished document, an endpoint, and a delivery to it."""
        endpoint_id = self.endpoint(key, self.open.url("ok"))
        document_id = self.upload(key, data, **fields)
        wait_until(lambda: self.state(document_id).is_final, what="a finished document")
        path = f"/webhooks/{endpoint_id}/deliveries"
        delivered = wait_until(lambda: self.ask(key, "GET", path)["deliveries"], what="a delivery")
        return Things(document_id, endpoint_id, delivered[0]["id"])

    def endpoint(self, key: Key, url: str) -> str:
        """The id of a new webhook endpoint."""
        made = self.ask(key, "POST", "/webhooks", {"url": url})
        self.told.add(made["secret"])
        return str(made["id"])

    def ask(self, key: Key, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What a well-behaved client is answered, as JSON. It is not kept: secrets may be in it, as they should."""
        headers = dict(key.headers)
        return httpx.request(method, self.stack.urls[0] + path, headers=headers, json=body).raise_for_status().json()

    def key(self, tenant: str, scopes: Collection[Scope] = ALL_SCOPES) -> Key:
        """A new key, whose secret must not be seen anywhere."""
        made, text = self.ring.create(tenant, scopes)
        key = Key(made.id, text)
        self.secrets.add(key.secret)
        return key

    def state(self, document_id: str) -> State:
        """Where a document stands, from the record."""
        return self.store.state(document_id)

    def upload(self, key: Key, data: bytes, filename: str = "a.txt", **fields: str) -> str:
        """The id of a document that was taken in."""
        return str(self.accepted(key, data, filename, **fields)["id"])

    def accepted(self, key: Key, data: bytes, filename: str = "a.txt", **fields: str) -> dict[str, Any]:
        """What an upload is answered."""
        answer = self.send(upload_request(key, data, filename, **fields))
        assert answer.status == 202, answer.data
        told: dict[str, Any] = json.loads(answer.body)
        self.told.add(told["stream_url"].partition("token=")[2])
        return told

    def send(self, data: bytes, **how: Any) -> Answer:
        """An exchange with one node and then the other. The answer is kept, to be searched."""
        answer = wire.exchange(next(self._nodes), data, **how)
        self.answers.append(answer.data[:20_000])
        return answer

    def draw(self, attempts: Sequence[T]) -> Sequence[T]:
        """All of them; a few in the short form."""
        return self.chance.sample(attempts, min(SAMPLE, len(attempts))) if self.short else attempts

    @property
    def processes(self) -> list[Process]:
        return [*self.stack.processes, self.courier]

    @property
    def closed_operations(self) -> list[Operation]:
        """Those that ask for a key."""
        return [operation for operation in self.operations if operation.scope]


def upload_request(key: Key, data: bytes, filename: str = "a.txt", more: Headers = (), **fields: str) -> bytes:
    headers = [*key.headers, ("Content-Type", UPLOAD), *more]
    return wire.request("POST", "/ingestions", headers, multipart(data, filename, **fields))


def _operations(description: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in description["paths"].items():
        for method, told in methods.items():
            media_types = list(told.get("requestBody", {}).get("content", {""}))
            media_type = UPLOAD if media_types[0] == "multipart/form-data" else media_types[0]
            query = tuple(one["name"] for one in told["parameters"] if one["in"] == "query")
            scopes = [scope for needs in told.get("security", ()) for scope in needs.get("key", ())]
            yield Operation(method.upper(), path, "".join(scopes), media_type, query)


def in_url(text: str) -> str:
    return quote(text, safe="")
