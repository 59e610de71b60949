"""Pages of other origins, and names that would become something else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from tests.attack import wire
from tests.attack.report import Try
from tests.attack.stage import ORIGIN, TEXT, Stage, upload_request

#: Nearly the one that is allowed.
ORIGINS = [
    "null", "https://evil.example", "http://app.example.com", "https://app.example.com.evil.example", "*", "", "file://",
    "https://evil.example/https://app.example.com", "https://appxexample.com", "https://APP.EXAMPLE.COM",
    "https://app.example.com:8443", "https://app.example.com@evil.example", "https://xapp.example.com",
    "https://app.example.com/", "https://app.example.com, https://evil.example", "https://app.example.com%0d%0aX: y",
]  # fmt: skip


def origins(stage: Stage) -> Iterator[Try]:
    """Every route, for a page of an origin that is not allowed: no answer may be read by it, asked before or not."""
    for operation in stage.operations:
        for origin in stage.draw(ORIGINS):
            headers = [("Origin", origin), *stage.victim.headers]
            if operation.method == "GET":
                yield _unread(origin, stage.send(operation.request(stage.victims, headers), seconds=3))
            asked = [*headers, ("Access-Control-Request-Method", operation.method)]
            yield _unread(origin, stage.send(wire.request("OPTIONS", operation.target(stage.victims), asked)))


def _unread(origin: str, answer: wire.Answer) -> Try:
    allowed = answer.header("Access-Control-Allow-Origin")
    credentials = answer.header("Access-Control-Allow-Credentials")
    is_told = allowed not in {None, ORIGIN} or allowed == origin or credentials
    return Try(f"{origin}: {allowed}, {credentials}", not is_told)


NAMES = [
    "../../../../tmp/attack", "..\\..\\attack.txt", "/etc/passwd", "C:\\Windows\\attack", "....//....//attack",
    'a"; filename="b', "a\r\nX-Attack: yes", "a\r\n\r\n<script>alert(1)</script>", "a%0d%0aX-Attack: yes", "a\x00.pdf",
    "<script>alert(1)</script>.txt", "<img src=x onerror=alert(1)>.txt", "javascript:alert(1)", "{{7*7}}.txt", "%s%s%n",
    "a" * 4000, "\u202etxt.exe", "\ufeffa.txt", "a\u2028b", "a\u0085b", "\ud800.txt", ".", "..", "", " ", "CON", "-rf",
    "$(id)", "`id`", "a;id", "a|id", "a\tb", "name\n", "\x7f", "data: x\n\nevent: progress", "id: 9\n\n", "a\x1b[2J",
    "%2e%2e%2fx",
]  # fmt: skip


def names(stage: Stage) -> Iterator[Try]:
    """File names that are paths, headers, events, markup or commands, on the way in and on every way out."""
    before = _files(stage.settings.var)
    for name in stage.draw(NAMES):
        answer = stage.send(upload_request(stage.intruder, TEXT, name))
        if answer.status != 202:
            yield Try(f"{name!a}: {answer.status}", answer.status in {400, 422})
            continue
        document_id = json.loads(answer.body)["id"]
        kept = stage.state(document_id).filename
        is_harmless = kept.isprintable() and not {"/", "\\"} & {*kept} and len(kept) <= 255
        yield Try(f"{name!a} is kept as {kept!a}", is_harmless)
        for target in ("/status/{}", "/status/stream/{}", "/ingestions/{}/chunks"):
            shown = stage.send(wire.request("GET", target.format(document_id), stage.intruder.headers), seconds=3)
            yield Try(f"{name!a} at {target}: {shown.head}", "X-Attack" not in shown.head and _is_data(shown))
    for path in _files(stage.settings.var) - before:
        is_ours = path.is_relative_to(stage.settings.var / "storage") or path.name.startswith("chunks.sqlite3")
        yield Try(f"{path} was written", is_ours)


def _files(folder: Path) -> set[Path]:
    return {Path(inside) / name for inside, _, names in os.walk(folder) for name in names}


def _is_data(answer: wire.Answer) -> bool:
    """Whether a browser takes it for what it is."""
    media_type = (answer.header("Content-Type") or "").partition(";")[0]
    is_known = media_type in {"application/json", "application/problem+json", "application/jsonl", "text/event-stream"}
    return is_known and answer.header("X-Content-Type-Options") == "nosniff"


def traversal(stage: Stage) -> Iterator[Try]:
    """Files beside those of the page."""
    ups = ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "....//", "..;/", "%252e%252e%252f", "/", "%2f"]
    files = ["etc/passwd", "ingest_web/app.py", "app.py", "../var/secret.key", "proc/self/environ", "page.py"]
    for up in stage.draw(ups):
        for depth in (1, 2, 3, 6, 10):
            for file in files:
                target = f"/static/{up * depth}{file}"
                answer = stage.send(wire.request("GET", target))
                told = any(mark in answer.body for mark in (b"root:", b"import ", b"INGEST_", b"{%"))
                yield Try(f"{target}: {answer.status}", answer.status in {400, 404} and not told)
