"""Webhooks by which the service shall call what the attacker can't reach himself."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx

from tests.attack import wire
from tests.attack.report import Try
from tests.attack.stage import TEXT, Key, Stage, upload_request
from tests.awaiting import wait_until

#: Ways to write 127.0.0.1 and other addresses that are not public; and names that lead there on most machines.
HOSTS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
    "127.0.0.1.", "0", "0.0.0.0", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]",
    "[::ffff:0:127.0.0.1]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[fe80::1%25lo]", "[::1%25lo]",
    "169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.192", "100.100.100.200", "0xa9fea9fe", "2852039166",
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.127.255.255", "198.18.0.1",
    "[fe80::1]", "255.255.255.255", "240.0.0.1", "192.0.2.1", "203.0.113.1", "localhost", "LOCALHOST", "localhost.",
    "ip6-localhost", "127.0.0.3", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1",
    "loc\u00adalhost",
    "127.0.0.1%00.example.com", "127.0.0.1%2eexample.com", "%31%32%37.0.0.1", "127.0.0.1\t", " 127.0.0.1", "224.0.0.1",
]  # fmt: skip

#: Whole URLs, for a place that may be called, one that may not, and the port there.
URLS = [
    "http://{open}@{closed}/", "http://{open}:80@{closed}/", "http://{open}#@{closed}/", "http://{open}\\@{closed}/",
    "http://{closed}#{open}", "http://{closed}?@{open}", "http:///{closed}/", "http:{closed}/", "//{closed}/", "http://",
    "ftp://{closed}/", "file:///etc/passwd", "gopher://{closed}/_x", "dict://{closed}/x", "http+unix://%2Ftmp%2Fx/",
    "unix:///tmp/x", "javascript:alert(1)", "data:text/plain,x", "HTTP://{closed}/", "http://{open}\r\nHost: {closed}/",
    "http://[{closed}", "http://{closed}:0/", "http://{closed}:99999/", "http://user:password@{open}/", "",
]  # fmt: skip


def addresses(stage: Stage) -> Iterator[Try]:
    """Every spelling, for an endpoint, for a change of one, and for one upload: it is refused, or nobody is called."""
    key = stage.key("caller")
    standing = stage.endpoint(key, stage.open.url("ok"))
    for url in stage.draw(_urls(stage)):
        for way, data in _ways(key, standing, url):
            answer = stage.send(data)
            if answer.status in {400, 422}:
                yield Try(f"{url!a}, {way}", stopped=True)
            else:  # a name that leads nowhere may be one that does tomorrow
                yield Try(f"{url!a}, {way}: {answer.status}", answer.status < 300 and _leads_nowhere(url))
    made = [
        one["id"]
        for one in stage.ask(key, "GET", "/webhooks?limit=250")["webhooks"]
        if not one["url"].startswith(stage.open.url(""))
    ]
    stage.endpoint(key, stage.open.url("last"))
    _deliver_something(stage, key, "/last")
    for endpoint_id in made:
        deliveries = stage.ask(key, "GET", f"/webhooks/{endpoint_id}/deliveries")["deliveries"]
        answered = [one for delivery in deliveries for one in delivery["attempts"] if one["status"] is not None]
        yield Try(f"{endpoint_id}: {answered[:1]}", not answered)
    yield from _never_called(stage)


def _urls(stage: Stage) -> list[str]:
    closed = stage.closed[0]
    hosts = [*HOSTS, socket.gethostname()]
    open_place, closed_place = (f"{trap.host}:{trap.port}" for trap in (stage.open, closed))
    return [
        *(f"http://{host}:{closed.port}/" for host in hosts),
        *(f"https://{host}/" for host in hosts),
        *(url.format(open=open_place, closed=closed_place) for url in URLS),
    ]


def _ways(key: Key, endpoint_id: str, url: str) -> Iterator[tuple[str, bytes]]:
    body = json.dumps({"url": url}).encode()
    headers = [*key.headers, ("Content-Type", "application/json")]
    yield "a new endpoint", wire.request("POST", "/webhooks", headers, body)
    yield "an endpoint changed", wire.request("PATCH", f"/webhooks/{endpoint_id}", headers, body)
    if url.isprintable() and url.strip():
        yield "an upload", upload_request(key, TEXT, webhook_url=url)


def _leads_nowhere(url: str) -> bool:
    """Whether this machine's resolver knows no address for it, as a program would ask for it."""
    try:
        socket.getaddrinfo(httpx.URL(url).raw_host.decode(), None)
    except (OSError, UnicodeError):
        return True
    return False


def redirects(stage: Stage) -> Iterator[Try]:
    """A place that may be called leads to one that may not, in every way that HTTP has: nobody follows."""
    key = stage.key("redirected")
    statuses = (301, 302, 303, 307, 308, 300, 305)
    for status in statuses:
        stage.endpoint(key, _redirect(stage, status))
    _deliver_something(stage, key, *(f"/redirect/{status}/" for status in statuses))
    for status in statuses:
        yield Try(f"{status}", not any(trap.called for trap in stage.closed))
    yield from _never_called(stage)


def _redirect(stage: Stage, status: int) -> str:
    return stage.open.url(f"redirect/{status}/{stage.closed[0].url('astray')}")


def _deliver_something(stage: Stage, key: Key, *paths: str) -> None:
    """An event for every endpoint of the tenant; those at these paths have heard it."""
    stage.upload(key, TEXT)
    for path in paths:
        wait_until(lambda path=path: any(one.startswith(path) for one in stage.open.called), what=f"a call of {path}")


def _never_called(stage: Stage) -> Iterator[Try]:
    for trap in stage.closed:
        yield Try(f"{trap.host} was called: {trap.called[:3]}", not trap.called)
