"""What was said and written down meanwhile: no trace of the inside in an answer, and no secret anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import redis

from ingest_web.envelope import SAFE
from tests.attack.report import Try
from tests.attack.stage import Stage

#: What only an answer that tells too much has in it.
TRACES = [
    b"Traceback",
    b'File "/',
    b'.py"',
    b".py:",
    b"site-packages",
    b"sqlalchemy",
    b"redis.exceptions",
    b"werkzeug.",
]


def answers(stage: Stage) -> Iterator[Try]:
    """Every answer that any attack got; nor is one an error of ours, and errors have the form that is promised."""
    secrets = [secret.encode() for secret in stage.secrets] + [str(stage.settings.var).encode()]
    for answer in stage.answers:
        found = [mark for mark in (*TRACES, *secrets) if mark in answer]
        yield Try(f"{found} in {answer[:300]!r}", not found)
        yield Try(f"{answer[:300]!r}", not re.match(rb"HTTP/1.1 5", answer))
        head = answer.partition(b"\r\n\r\n")[0]
        is_problem = b"application/problem+json" in head and all(
            f"{name}: {value}".encode() in head for name, value in SAFE
        )
        yield Try(f"no problem: {answer[:300]!r}", is_problem or not re.match(rb"HTTP/1.1 [45]", answer))


def logs(stage: Stage) -> Iterator[Try]:
    """What all processes have written, at the level `debug`: no key, no password, no token."""
    for process in stage.processes:
        yield from _without_secrets(process.name, process.output(), stage.secrets | stage.told)
        unexpected = [line for line in process.output().splitlines() if "request.failed" in line]
        yield Try(f"{process.name}: {unexpected[:3]}", not unexpected)


def what_is_kept(stage: Stage) -> Iterator[Try]:
    """Redis and every file under `INGEST_VAR`, to the last byte."""
    secrets = stage.secrets | stage.told
    with stage.stack.redis() as client:
        for name in client.scan_iter("*", count=1000):
            yield from _without_secrets(f"Redis, {name!r}", repr((name, _content(client, name))), secrets)
    for folder, _, names in os.walk(stage.settings.var):
        for path in (Path(folder) / name for name in names):
            with suppress(FileNotFoundError):  # some are there for a moment only
                yield from _without_secrets(str(path), path.read_bytes().decode("latin-1"), secrets)


def _content(client: redis.Redis, name: bytes) -> object:
    match client.type(name):
        case b"hash":
            return client.hgetall(name)
        case b"string":
            return client.get(name)
        case b"list":
            return client.lrange(name, 0, -1)
        case b"set":
            return client.smembers(name)
        case b"zset":
            return client.zrange(name, 0, -1)
        case _:
            return client.xrange(name)


def _without_secrets(where: str, text: str, secrets: set[str]) -> Iterator[Try]:
    found = [secret for secret in secrets if secret in text]
    yield Try(f"{len(found)} secrets in {where}", not found)
