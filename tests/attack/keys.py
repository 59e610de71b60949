"""At the door: without a key, with what is none, with one that is not good for this."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator

from ingest_web.guard import FRESH_SECONDS
from shared.access import DEFAULT_TENANT, Scope
from tests.attack import wire
from tests.attack.report import Try
from tests.attack.stage import VICTIM, Stage, in_url
from tests.awaiting import wait_until

#: Answers to who shows no key: there is nothing here for you.
SHUT = {401, 404, 405, 400, 0}

#: For the machine, which may be busy.
SLACK_SECONDS = 1.0

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "get", "GET\t", "G\x00ET"]

#: Other spellings of a path, which a proxy or a router might take for the same.
SPELLINGS = [
    "/.{}", "/x/..{}", "/static/..{}", "/livez/..{}", "/static/%2e%2e{}", "/{}", "//{}", "{}/", "{}/.", "{};x", "{}%00",
    "{}%2f", "{}%20", "{}.json", "{}?", "{}#", "http://ingest.test{}", "http://127.0.0.1/livez{}", "/livez%2f..{}",
    "/livez\\..{}",
]  # fmt: skip

#: Headers in which a proxy might say which path is meant.
SAYS_WHERE = [
    "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Path", "Script-Name", "SCRIPT_NAME",
    "PATH_INFO",
]  # fmt: skip


def bad_headers(stage: Stage) -> list[tuple[str, list[tuple[str, str]]]]:
    """What is no key, each with a name."""
    key = stage.victim
    values = {
        "nothing": None,
        "an empty value": "",
        "the scheme alone": "Bearer",
        "the scheme and a space": "Bearer ",
        "null": "Bearer null",
        "the prefix alone": "Bearer ingest_",
        "the id alone": f"Bearer ingest_{key.id}",
        "the id and no secret": f"Bearer ingest_{key.id}_",
        "half of the secret": f"Bearer {key.text[: -len(key.secret) // 2]}",
        "all but the last character": f"Bearer {key.text[:-1]}",
        "one character more": f"Bearer {key.text}x",
        "another last character": f"Bearer {key.text[:-1]}{'A' if key.text[-1] != 'A' else 'B'}",
        "another case": f"Bearer {key.text.swapcase()}",
        "the digest for the secret": f"Bearer ingest_{key.id}_{hashlib.sha256(key.secret.encode()).hexdigest()}",
        "another tenant's secret": f"Bearer ingest_{key.id}_{stage.intruder.secret}",
        "a revoked key": f"Bearer {stage.revoked.text}",
        "an id of SQL": f"Bearer ingest_' OR '1'='1_{key.secret}",
        "an id of a pattern": f"Bearer ingest_%_{key.secret}",
        "no scheme": key.text,
        "Basic, with the key as the name": "Basic " + base64.b64encode(f"{key.text}:".encode()).decode(),
        "Token": f"Token {key.text}",
        "two keys": f"Bearer {stage.revoked.text},Bearer {stage.revoked.text}",
        "a NUL": f"Bearer {key.text[:-1]}\x00",
        "letters of elsewhere": f"Bearer {key.text[:-1]}\N{FULLWIDTH LATIN SMALL LETTER A}",
        "eight thousand letters": "Bearer ingest_" + "a" * 8000,
        "a token without a signature": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhY21lIn0.",
    }
    named = [(name, [] if value is None else [("Authorization", value)]) for name, value in values.items()]
    good = f"Bearer {key.text}"
    elsewhere = ["Proxy-Authorization", "X-Authorization", "X-Forwarded-Authorization", "X-Api-Key", "Cookie"]
    return [*named, *((f"the key in {name}", [(name, good)]) for name in elsewhere)]


def without_a_key(stage: Stage) -> Iterator[Try]:
    """Every route, every method it has, with everything that is no key."""
    for operation in stage.closed_operations:
        for name, headers in stage.draw(bad_headers(stage)):
            answer = stage.send(operation.request(stage.victims, headers))
            yield Try(f"{operation.method} {operation.path}, {name}: {answer.status}", _is_shut(answer))


def key_in_the_address(stage: Stage) -> Iterator[Try]:
    """A key in the address would stand in every log on its way: it opens nothing there."""
    for operation in stage.closed_operations:
        for name in ("key", "token", "access_token", "api_key", "Authorization"):
            mark = "&" if operation.query else "?"
            answer = stage.send(operation.request(stage.victims, [], f"{mark}{name}={in_url(stage.victim.text)}"))
            yield Try(f"{operation.method} {operation.path}, {name}=: {answer.status}", _is_shut(answer))


def other_methods(stage: Stage) -> Iterator[Try]:
    """Methods that a route does not have, and headers that would change the method."""
    paths = sorted({operation.path: operation for operation in stage.closed_operations}.values(), key=lambda o: o.path)
    for operation in stage.draw(paths):
        target = operation.target(stage.victims)
        for method in METHODS:
            answer = stage.send(wire.request(method, target), seconds=3)
            yield Try(f"{method!r} {operation.path}: {answer.status}", _is_shut(answer))
        for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            for method in ("GET", "DELETE"):
                answer = stage.send(wire.request("POST", target, [(header, method)]))
                yield Try(f"POST {operation.path}, {header}: {method}: {answer.status}", _is_shut(answer))


def other_spellings(stage: Stage) -> Iterator[Try]:
    """Paths that are nearly the right ones."""
    for operation in stage.closed_operations:
        for spelling in stage.draw(SPELLINGS):
            target = spelling.format(operation.target(stage.victims))
            answer = stage.send(wire.request(operation.method, target))
            yield Try(f"{operation.method} {target}: {answer.status}", _is_shut(answer))
        moved = wire.request(operation.method, f"/x{operation.target(stage.victims)}", [("SCRIPT_NAME", "/x")])
        yield Try(f"{operation.method} /x{operation.path}, SCRIPT_NAME", stage.send(moved).status == 404)
        for header in SAYS_WHERE:
            answer = stage.send(wire.request("GET", "/livez", [(header, operation.target(stage.victims))]))
            yield Try(f"/livez, {header}: {operation.path}", answer.body.strip() in {b'{"status":"alive"}', b""})


def scopes(stage: Stage) -> Iterator[Try]:
    """A key of each set of scopes, on every route that asks for another; nor are figures of all shown to a tenant."""
    keys = {only: stage.key(VICTIM, set(Scope) - {only}) for only in Scope}
    none = stage.key(VICTIM, ())
    for operation in stage.closed_operations:
        for key in (keys[Scope(operation.scope)], none):
            yield _refused(stage, operation.method, operation.request(stage.victims, key.headers), operation.path)
    not_operators = [stage.victim, stage.intruder, stage.key(DEFAULT_TENANT, {Scope.READ, Scope.UPLOAD})]
    for path in ("/queues", "/metrics"):
        for key in not_operators:
            yield _refused(stage, "GET", wire.request("GET", path, key.headers), path)


def _refused(stage: Stage, method: str, data: bytes, path: str) -> Try:
    answer = stage.send(data)
    return Try(f"{method} {path}: {answer.status}", answer.status == 403 and TOLD_NOTHING not in answer.body)


#: What is in every state of a document, and in no error.
TOLD_NOTHING = b'"filename"'


def _is_shut(answer: wire.Answer) -> bool:
    return answer.status in SHUT and TOLD_NOTHING not in answer.body


def revocation(stage: Stage) -> Iterator[Try]:
    """A key that worked a moment ago, on every node: when it is revoked, nobody takes it a second later."""
    key = stage.key(VICTIM)
    asked = wire.request("GET", f"/status/{stage.document}", key.headers)
    for node in stage.stack.web:
        assert wire.exchange(node.address, asked).status == 200
    stage.ring.revoke(key.id)
    revoked_at = time.monotonic()
    for node in stage.stack.web:
        wait_until(lambda node=node: wire.exchange(node.address, asked).status == 401, what="the key refused")
        seconds = time.monotonic() - revoked_at
        yield Try(f"{node.name}: {seconds:.1f} s after the key was revoked", seconds < FRESH_SECONDS + SLACK_SECONDS)
    for operation in stage.closed_operations:
        answer = stage.send(operation.request(stage.victims, key.headers))
        yield Try(f"{operation.method} {operation.path} with a revoked key: {answer.status}", _is_shut(answer))
