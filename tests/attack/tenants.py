"""A tenant with a good key, who wants what is another's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, replace

from tests.attack import wire
from tests.attack.keys import TOLD_NOTHING
from tests.attack.report import Try
from tests.attack.stage import NEVER, TEXT, Stage, Things, upload_request


def things_of_others(stage: Stage) -> Iterator[Try]:
    """Every route about a document or an endpoint: the answer is the one for an id that was never given."""
    before = _all_of_the_victim(stage)
    for operation in stage.closed_operations:
        target, unknown = operation.target(stage.victims), operation.target(NEVER)
        if target == unknown:
            continue
        for more in stage.draw([[], [("Last-Event-ID", "1")], [("Origin", "https://app.example.com")]]):
            headers = [*stage.intruder.headers, *more]
            answer = stage.send(operation.request(stage.victims, headers))
            never = stage.send(operation.request(NEVER, headers))
            is_same = _without_ids(answer.body, stage.victims) == _without_ids(never.body, NEVER)
            yield Try(f"{operation.method} {operation.path}: {answer.status}", answer.status == 404 and is_same)
    yield Try("what is another's was changed", _all_of_the_victim(stage) == before)


def things_of_two(stage: Stage) -> Iterator[Try]:
    """A delivery of another by way of one's own endpoint, and the other way round."""
    mixed = replace(stage.own, delivery_id=stage.victims.delivery_id)
    for things in (mixed, replace(stage.victims, delivery_id=stage.own.delivery_id)):
        for operation in stage.closed_operations:
            if "{delivery_id}" in operation.path:
                answer = stage.send(operation.request(things, stage.intruder.headers))
                yield Try(f"{operation.method} {operation.target(things)}: {answer.status}", answer.status == 404)
    for limit in ("", "?limit=250", f"?before={stage.victims.endpoint_id}", "?before=ep_" + "z" * 26):
        answer = stage.send(wire.request("GET", f"/webhooks{limit}", stage.intruder.headers))
        named = stage.victims.endpoint_id.encode() in answer.body.partition(b'"next"')[0]
        yield Try(f"/webhooks{limit}: {answer.status}", answer.status == 200 and not named)


def _all_of_the_victim(stage: Stage) -> object:
    endpoint = f"/webhooks/{stage.victims.endpoint_id}"
    told = [stage.ask(stage.victim, "GET", path) for path in (endpoint, f"{endpoint}/deliveries")]
    return stage.state(stage.document), told


def _without_ids(body: bytes, things: Things) -> bytes:
    for one in astuple(things):
        body = body.replace(one.encode(), b"?")
    return body


def streams_of_others(stage: Stage) -> Iterator[Try]:
    """Among one's own documents, twice, in another spelling, with a cursor: no stream begins."""
    own, other = stage.own.document_id, stage.document
    queries = [
        f"id={own}&id={other}", f"id={other}&id={own}", f"id={other}&id={other}", f"id={own},{other}", f"ID={other}",
        f"id={own}&id={other.upper()}", f"id={own}&id=%00{other}", f"id={own}&id={other}%20", f"id[]={other}",
        "&".join([f"id={own}"] * 400 + [f"id={other}"]), f"id=*&id={other}", f"id={{{other}}}", f"id={other}:events",
        f"id={own}%0a{other}",
    ]  # fmt: skip
    for query in stage.draw(queries):
        for cursor in ("", "0", "1.1", "9" * 15):
            headers = [*stage.intruder.headers, *([("Last-Event-ID", cursor)] if cursor else [])]
            answer = stage.send(wire.request("GET", f"/status/stream?{query}", headers), seconds=3)
            yield Try(f"{query[:80]}, {cursor!r}: {answer.status}", answer.status in {404, 422})


def lists(stage: Stage) -> Iterator[Try]:
    """No list names another's document, wherever it begins."""
    for before in ("", NEVER.document_id, stage.document, "7" * 26, stage.own.document_id):
        for limit in ("", "1", "500"):
            query = "&".join(part for part in (before and f"before={before}", limit and f"limit={limit}") if part)
            for key in (stage.intruder, stage.operator):
                answer = stage.send(wire.request("GET", f"/ingestions?{query}", key.headers))
                named = stage.document.encode() in answer.body.partition(b'"next"')[0]
                yield Try(f"?{query}: {answer.status}", not named)


def figures(stage: Stage) -> Iterator[Try]:
    """What the operators see counts documents and names none."""
    for path in ("/metrics", "/queues"):
        answer = stage.send(wire.request("GET", path, stage.operator.headers))
        named = [name for name in (stage.document, "acme", "zenith", stage.victim.id) if name.encode() in answer.body]
        yield Try(f"{path} names {named}", answer.status == 200 and not named)


def results_of_the_same_bytes(stage: Stage) -> Iterator[Try]:
    """Who sends the same bytes gets a document of his own: nothing says that somebody had them before."""
    for fields in ({}, {"reuse": "true"}, {"reuse": "true", "engine": "auto"}):
        answer = stage.send(upload_request(stage.intruder, TEXT, **fields))
        told = json.loads(answer.body)
        yield Try(f"{fields}: {answer.status}", answer.status == 202 and told["id"] != stage.document)


def fields_of_others(stage: Stage) -> Iterator[Try]:
    """A tenant can't be chosen, by a field, a query or a header."""
    for name in ("tenant", "Tenant", "source", "id", "document_id", "key_id"):
        answer = stage.send(upload_request(stage.intruder, TEXT, **{name: "acme"}))
        yield Try(f"the field {name}: {answer.status}", answer.status == 422)
    for name in ("tenant", "X-Tenant", "X-Tenant-Id", "X-Forwarded-User", "X-Remote-User"):
        headers = [*stage.intruder.headers, (name, "acme")]
        for target in (f"/status/{stage.document}", f"/status/{stage.document}?tenant=acme"):
            answer = stage.send(wire.request("GET", target, headers))
            yield Try(f"{target}, {name}: acme: {answer.status}", answer.status == 404)
            assert TOLD_NOTHING not in answer.body
