"""Tokens of streams: forged, cut, of another document, on other routes, expired, of a key that is revoked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

from itsdangerous import Signer, TimestampSigner, URLSafeSerializer

from ingest_web.permits import ASK_SECONDS
from tests.attack import wire
from tests.attack.keys import SHUT, SLACK_SECONDS, TOLD_NOTHING
from tests.attack.report import Try
from tests.attack.stage import TEXT, VICTIM, Key, Stage, in_url
from tests.awaiting import wait_until

#: What secrets are called by those who leave them as they are.
GUESSES = ["", "secret", "dev", "changeme", "ingest", "ingest-live", "None", "SECRET_KEY", "secret.key"]


def token_of(stage: Stage, key: Key, document_id: str, seconds: int = 3600) -> str:
    """A token as the service writes it for its owner."""
    path = f"/ingestions/{document_id}/links"
    asked = wire.request("POST", path, [*key.headers, FORM], b"expires_in=%d" % seconds)
    answer = wire.exchange(stage.stack.web[0].address, asked)
    assert answer.status == 201, answer.data
    token = str(json.loads(answer.body)["stream_url"]).partition("token=")[2]
    stage.told.add(token)
    return token


FORM = ("Content-Type", "application/x-www-form-urlencoded")


def forgeries(stage: Stage) -> Iterator[Try]:
    """Whatever can be made of a token of one's own, and of half of another's: the other's stream does not begin."""
    own = token_of(stage, stage.intruder, stage.own.document_id)
    other = token_of(stage, stage.victim, stage.document)
    made = [*_made_of(own, other, stage), *_changed(other), *_guessed(other), *_of_jwt(other)]
    for name, text in stage.draw(made):
        for path in (f"/{stage.document}?", f"?id={stage.document}&", "?"):
            answer = stage.send(wire.request("GET", f"/status/stream{path}token={in_url(text)}"), seconds=3)
            told = stage.document.encode() in answer.body
            yield Try(f"{name} at {path}: {answer.status}", answer.status in REFUSED and not told)


#: 422: a token that is not there says of no document that it may be watched.
REFUSED = SHUT | {422}


def _made_of(own: str, other: str, stage: Stage) -> Iterator[tuple[str, str]]:
    _, key_id, expires_at, signature = own.split(".")
    *_, others_signature = other.split(".")
    yield "another's document, own signature", f"{stage.document}.{key_id}.{expires_at}.{signature}"
    yield "another's document and key, own signature", f"{stage.document}.{stage.victim.id}.{expires_at}.{signature}"
    yield "another's document, another's signature", f"{stage.document}.{key_id}.{expires_at}.{others_signature}"
    yield "own token, dot, another's document", f"{own}.{stage.document}"
    yield "both documents", f"{stage.document}{own}"
    yield "own document's token twice", f"{own},{own}"


def _changed(other: str) -> Iterator[tuple[str, str]]:
    for cut in range(1, len(other) - 1, 3):
        yield f"cut after {cut}", other[:cut]
    for place in range(0, len(other), 2):
        changed = "b" if other[place] == "a" else "a"
        yield f"another character at {place}", other[:place] + changed + other[place + 1 :]
    document, key_id, expires_at, signature = other.split(".")
    yield "a later expiry", f"{document}.{key_id}.{int(expires_at, 16) + 1:x}.{signature}"
    yield "an expiry with a zero in front", f"{document}.{key_id}.0{expires_at}.{signature}"
    yield "no key", f"{document}..{expires_at}.{signature}"
    yield "no signature", f"{document}.{key_id}.{expires_at}."
    yield "only three parts", f"{document}.{key_id}.{expires_at}"
    for more in ("=", "==", " ", "\n", "\x00", ".", "A", "\u200b"):
        yield f"{more!a} behind it", other + more
    yield "capital letters", other.upper()
    yield "very long", other * 100


def _guessed(other: str) -> Iterator[tuple[str, str]]:
    written = other.rpartition(".")[0]
    for guess in GUESSES:
        signer = Signer(guess or "x", salt=b"ingest-live stream token 1")
        yield f"itsdangerous with {guess!r}", signer.sign(written).decode()
        yield f"its time stamps with {guess!r}", TimestampSigner(guess or "x").sign(written).decode()
        yield f"its serializer with {guess!r}", str(URLSafeSerializer(guess or "x").dumps(written))
        for digest in ("sha1", "sha256", "md5"):
            made = base64.urlsafe_b64encode(hmac.new(guess.encode(), written.encode(), digest).digest()).decode()
            yield f"{digest} with {guess!r}", f"{written}.{made.rstrip('=')}"
    plain = base64.urlsafe_b64encode(hashlib.sha256(written.encode()).digest()).decode().rstrip("=")
    yield "a digest without a secret", f"{written}.{plain}"


def _of_jwt(other: str) -> Iterator[tuple[str, str]]:
    document = other.partition(".")[0]
    claims = _part({"sub": document, "document_id": document, "exp": 9999999999})
    for algorithm in ("none", "None", "HS256", "RS256"):
        yield f"a JWT, {algorithm}", f"{_part({'alg': algorithm, 'typ': 'JWT'})}.{claims}."


def _part(values: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def elsewhere(stage: Stage) -> Iterator[Try]:
    """A token that is good opens its stream, and nothing else, wherever it is put."""
    token = token_of(stage, stage.victim, stage.document)
    stream = f"/status/stream/{stage.document}"
    assert wire.exchange(stage.stack.web[0].address, wire.request("GET", f"{stream}?token={token}")).status == 200
    for operation in stage.closed_operations:
        if not operation.path.startswith("/status/stream"):
            mark = "&" if "?" in operation.target(stage.victims) else "?"
            answer = stage.send(operation.request(stage.victims, [], f"{mark}token={token}"))
            yield Try(f"{operation.method} {operation.path}?token=: {answer.status}", answer.status in SHUT)
        for name, value in (("Authorization", f"Bearer {token}"), ("Cookie", f"token={token}"), ("X-Token", token)):
            answer = stage.send(operation.request(stage.victims, [(name, value)]))
            yield Try(f"{operation.method} {operation.path}, {name}: {answer.status}", answer.status in SHUT)
    for target in (f"/status/stream/{stage.own.document_id}?token={token}", f"{stream}x?token={token}"):
        answer = stage.send(wire.request("GET", target))
        yield Try(f"{target}: {answer.status}", answer.status in SHUT)
    both = f"/status/stream?id={stage.document}&id={stage.own.document_id}&token={token}"
    answer = stage.send(wire.request("GET", both, stage.victim.headers))
    yield Try(f"two documents with one token: {answer.status}", answer.status in SHUT)


def over(stage: Stage) -> Iterator[Try]:
    """Expired, of a key that is revoked, of a document that is removed: on both nodes, whatever else is asked."""
    expiring = token_of(stage, stage.victim, stage.document, seconds=1)
    of_revoked = stage.key(VICTIM)
    revoked = token_of(stage, of_revoked, stage.document)
    stage.ring.revoke(of_revoked.id)
    gone = stage.upload(stage.intruder, TEXT)
    wait_until(lambda: stage.state(gone).is_final, what="a finished document")
    removed = token_of(stage, stage.intruder, gone)
    assert stage.send(wire.request("DELETE", f"/ingestions/{gone}", stage.intruder.headers)).status == 204
    for name, document_id, token in (
        ("expired", stage.document, expiring),
        ("revoked", stage.document, revoked),
        ("removed", gone, removed),
    ):
        for node in stage.stack.web:
            asked = wire.request("GET", f"/status/stream/{document_id}?token={token}")
            began = time.monotonic()
            wait_until(lambda node=node, asked=asked: wire.exchange(node.address, asked).status in SHUT, what=name)
            seconds = time.monotonic() - began
            yield Try(f"{name}: taken for {seconds:.1f} s", seconds < 2 + SLACK_SECONDS)
            for headers in ([("Last-Event-ID", "1")], [("Last-Event-ID", "99")], stage.revoked.headers):
                again = stage.send(wire.request("GET", f"/status/stream/{document_id}?token={token}", headers))
                yield Try(f"{name}, {headers}: {again.status}", again.status in SHUT and TOLD_NOTHING not in again.body)


def live_revocation(stage: Stage) -> Iterator[Try]:
    """Streams that are open, by key and by token, on both nodes, end soon after the key is revoked."""
    worker = stage.stack.workers[0]
    worker.signal(signal.SIGSTOP)  # so that the document stays on its way
    try:
        document_id = stage.upload(stage.victim, TEXT)
        key = stage.key(VICTIM)
        token = token_of(stage, key, document_id)
        by_key = wire.request("GET", f"/status/stream/{document_id}", key.headers)
        by_token = wire.request("GET", f"/status/stream/{document_id}?token={token}")
        with ExitStack() as lines:
            opened = []
            for node in stage.stack.web:
                for how in (by_key, by_token):
                    line = lines.enter_context(wire.connect(node.address))
                    line.sendall(how)
                    assert TOLD_NOTHING in wire.receive(line, until=TOLD_NOTHING).data
                    opened.append(line)
            stage.ring.revoke(key.id)
            began = time.monotonic()
            for n, line in enumerate(opened):
                wire.receive(line, to_the_end=True)
                seconds = time.monotonic() - began
                yield Try(f"stream {n} went on for {seconds:.1f} s", seconds < 2 * ASK_SECONDS + SLACK_SECONDS)
    finally:
        worker.signal(signal.SIGCONT)
