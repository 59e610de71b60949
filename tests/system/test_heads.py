"""What stands in the head of a request, on a real web node: who sends it chooses neither where routes are nor the form
of a refusal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
