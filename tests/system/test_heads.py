"""What stands in the head of a request, on a real web node: who sends it chooses neither where routes are nor the form
of a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ingest_web.envelope import SAFE
from tests.attack import wire
from tests.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """One web node, no worker. Every request comes from a loopback address, as behind a proxy on the same machine."""
    with Stack(tmp_path_factory.mktemp("heads"), web=1, workers=0) as running:
        yield running


@pytest.fixture
def address(stack) -> str:
    return stack.web[0].address


def ask(address: str, target: str, *headers: tuple[str, str], method: str = "GET") -> wire.Answer:
    return wire.exchange(address, wire.request(method, target, headers))


@pytest.mark.parametrize(("name", "value"), [("SCRIPT_NAME", "/x"), ("SCRIPT-NAME", "/x"), ("PATH_INFO", "/queues")])
def test_no_header_says_where_the_routes_are(address, name, value):
    """gunicorn would let a proxy say it, and takes whoever connects from this machine for one."""
    for target, status in (("/livez", 200), ("/x/livez", 404), ("/x/openapi.json", 404)):
        answer = ask(address, target, (name, value))
        assert answer.status == status, answer.data
    assert ask(address, "/x/ingestions", (name, value), method="POST").status == 404


@pytest.mark.parametrize("name", ["X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Ssl"])
def test_no_header_says_how_a_request_has_come(address, name):
    """Nothing here depends on it, so that two of them contradict each other is no reason for a refusal."""
    answer = ask(address, "/livez", ("X-Forwarded-Proto", "https"), (name, "off"), ("X-Forwarded-Ssl", "on"))
    assert answer.status == 200


HOST = b"Host: ingest.test\r\n"

#: What gunicorn itself refuses, and with which code.
REFUSED = {
    "no request": (b"no request\r\n\r\n", 400, "bad_request"),
    "a method of other letters": (b"<b> /livez HTTP/1.1\r\n" + HOST + b"\r\n", 400, "bad_request"),
    "another version": (b"GET /livez HTTP/3.0\r\n" + HOST + b"\r\n", 400, "bad_request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "no header": (b"GET /livez HTTP/1.1\r\n" + HOST + b"<b>\r\n\r\n", 400, "bad_request"),
    "a name with a space": (b"GET /livez HTTP/1.1\r\n" + HOST + b"a <b>: c\r\n\r\n", 400, "bad_request"),
    "a folded line": (b"GET /livez HTTP/1.1\r\n" + HOST + b"a: b\r\n c\r\n\r\n", 400, "bad_request"),
    "two hosts": (b"GET /livez HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400, "bad_request"),
    "a length with a sign": (b"POST /livez HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na", 400, "bad_request"),
    "a long address": (b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "request_uri_too_long"),
    "an expectation": (b"GET /livez HTTP/1.1\r\n" + HOST + b"Expect: <b>\r\n\r\n", 417, "expectation_failed"),
    "a long header": (
        b"GET /livez HTTP/1.1\r\n" + HOST + b"a: " + b"b" * 9_000 + b"\r\n\r\n",
        431,
        "request_header_fields_too_large",
    ),
    "many headers": (
        b"GET /livez HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 101 + b"\r\n",
        431,
        "request_header_fields_too_large",
    ),
} | {
    f"the coding {coding}": (
        f"POST /ingestions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {coding}\r\n\r\n".encode(),
        400,
        "bad_request",
    )
    for coding in ("gzip", "br", "x-gzip", "trailers", '"chunked"', "foo, chunked", "chunked, chunked")
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_is_answered_like_every_other_error(address, name):
    """A problem with a stable code that says whose fault it is, with the headers of every answer, and no word of what
    was sent.
    """
    data, status, code = REFUSED[name]
    answer = wire.exchange(address, data, to_the_end=True)
    assert answer.statuses == [status]
    told = json.loads(answer.body)
    assert (told["status"], told["code"], told["type"]) == (status, code, f"urn:ingest-live:problem:{code}")
    assert answer.header("Content-Type") == "application/problem+json"
    assert answer.header("Content-Length") == str(len(answer.body))
    assert answer.header("Connection") == "close"
    assert answer.header("Cache-Control") == "no-store"
    for header, value in SAFE:
        assert answer.header(header) == value
    assert b"<b>" not in answer.data


def test_what_is_no_request_is_described(address):
    """It may be the answer on any route."""
    described = json.loads(ask(address, "/openapi.json").body)["paths"]
    for status, code in {(status, code) for _, status, code in REFUSED.values()}:
        for methods in described.values():
            for told in methods.values():
                schema = told["responses"][str(status)]["content"]["application/problem+json"]["schema"]
                assert code in schema["properties"]["code"]["enum"]
