"""Requests that two readers would understand differently, that never end, or that are too much of everything."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.attack import wire
from tests.attack.report import Try
from tests.attack.stage import UPLOAD, Stage, multipart

#: What the attacker hopes is answered: with it, he has asked in somebody else's name.
SMUGGLED = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"

_CHUNKED = b"0\r\n\r\n"

#: What it takes for nobody else to notice.
SERVED_WITHIN_SECONDS = 3.0


#: Slow heads within what gunicorn keeps a connection for, slow bodies within `INGEST_UPLOAD_STALL_SECONDS`.
LET_GO_WITHIN_SECONDS = 20.0


def _smuggling() -> Iterator[tuple[str, bytes]]:
    """Heads whose length is told twice, or in words that not everybody understands; then the smuggled request."""
    start = b"POST /livez HTTP/1.1\r\nHost: x\r\n"
    cut, whole = len(_CHUNKED), len(_CHUNKED + SMUGGLED)
    lengths = {
        "both lengths": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % whole,
        "both lengths, the short one": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % cut,
        "two lengths": b"Content-Length: %d\r\nContent-Length: %d\r\n" % (cut, whole),
        "two lengths in one": b"Content-Length: %d, %d\r\n" % (cut, whole),
        "a length with a sign": b"Content-Length: +%d\r\n" % cut,
        "a length with a line": b"Content-Length: 1_0\r\n",
        "a negative length": b"Content-Length: -1\r\n",
        "a length in hex": b"Content-Length: 0x5\r\n",
        "a length of other digits": "Content-Length: \N{ARABIC-INDIC DIGIT FIVE}\r\n".encode(),
        "a huge length": b"Content-Length: " + b"9" * 40 + b"\r\n",
        "a space before the colon": b"Transfer-Encoding : chunked\r\nContent-Length: %d\r\n" % whole,
        "a folded line": b"Transfer-Encoding:\r\n chunked\r\nContent-Length: %d\r\n" % whole,
        "a tab": b"Transfer-Encoding:\tchunked\r\nContent-Length: %d\r\n" % whole,
        "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\nContent-Length: %d\r\n" % whole,
        "another case": b"Transfer-Encoding: cHuNkEd\r\nContent-Length: %d\r\n" % whole,
        "identity": b"Transfer-Encoding: identity\r\nContent-Length: %d\r\n" % cut,
        "two codings": b"Transfer-Encoding: chunked, identity\r\n",
        "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "an unknown coding": b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n" % whole,
        "quotes": b'Transfer-Encoding: "chunked"\r\nContent-Length: %d\r\n' % whole,
        "an underscore": b"Transfer_Encoding: chunked\r\nContent-Length: %d\r\n" % whole,
        "a bare line feed": b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n" % whole,
        "a bare carriage return": b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: %d\r\n" % whole,
        "a NUL": b"X: y\x00\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n" % whole,
    }
    for name, head in lengths.items():
        yield name, start + head + b"\r\n" + _CHUNKED + SMUGGLED
    chunked = start + b"Transfer-Encoding: chunked\r\n\r\n"
    for name, body in {
        "a size with a sign": b"+0\r\n\r\n",
        "a size with 0x": b"0x0\r\n\r\n",
        "a size with an underscore": b"0_0\r\n\r\n",
        "a line feed after the size": b"0\n\r\n",
        "a bare end": b"0\r\n\n",
        "an endless extension": b"0;" + b"a" * 100_000,
        "too much in a chunk": b"1\r\nab\r\n0\r\n\r\n",
    }.items():
        yield name, chunked + body + SMUGGLED
    yield "spaces before the request", b"  GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED
    yield "a space before a header", b"GET /livez HTTP/1.1\r\n Host: x\r\n\r\n" + SMUGGLED
    yield "version 0.9", b"GET /livez\r\n" + SMUGGLED
    yield "version 3", b"GET /livez HTTP/3.0\r\nHost: x\r\n\r\n" + SMUGGLED


def smuggling(stage: Stage) -> Iterator[Try]:
    """A request in the body of another is not answered: what is in doubt is refused, and the connection ends."""
    for name, data in stage.draw(list(_smuggling())):
        answer = stage.send(data, seconds=3, to_the_end=True)
        yield Try(f"{name}: {answer.statuses}", b'"openapi"' not in answer.data)


def smuggling_past_the_balancer(stage: Stage) -> Iterator[Try]:
    """Whoever asks next, over the balancer's connection to the node, gets the answer to what he asked."""
    balancer = stage.stack.balancer
    assert balancer
    for name, data in stage.draw(list(_smuggling())):
        # Where both requests are the sender's own to the balancer, it may answer both.
        wire.exchange(balancer.address, data, seconds=0.3, to_the_end=True)
        for _ in stage.stack.web:
            after = wire.exchange(balancer.address, wire.request("GET", "/livez"))
            yield Try(f"the next after {name}: {after.data[:200]!r}", after.body.strip() == b'{"status":"alive"}')


def heads(stage: Stage) -> Iterator[Try]:
    """Heads that are too long, too many, or no heads: refused, and not read to their end."""
    huge = {
        "a line of a megabyte": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        "a header of a megabyte": b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        "a name of a megabyte": b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a" * 1_000_000 + b": y\r\n\r\n",
        "ten thousand headers": b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        "empty lines": b"\r\n" * 100_000,
        "no words": bytes(range(256)) * 100,
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 100,
        "five hundred and one ids": wire.request("GET", "/status/stream?" + "&".join(["id=a"] * 501)),
        "a boundary of 60 kB": form(stage, "/ingestions", UPLOAD + "x" * 60_000),
    }
    for name, data in stage.draw(list(huge.items())):
        began = time.monotonic()
        answer = stage.send(data)
        is_refused = answer.status == 0 or 400 <= answer.status < 500
        yield Try(f"{name}: {answer.status}", is_refused and time.monotonic() - began < wire.ANSWER_SECONDS)


def bombs(stage: Stage) -> Iterator[Try]:
    """Multipart bodies that are more than they seem."""
    part = b'--attackattackattack\r\nContent-Disposition: form-data; name="%s"\r\n'
    end = b"--attackattackattack--\r\n"
    bodies = {
        "a hundred thousand parts": b"".join(part % (b"a%d" % n) + b"\r\nx\r\n" for n in range(100_000)) + end,
        "a thousand headers of a part": part % b"file" + b"X: y\r\n" * 1000 + b"\r\nx\r\n" + end,
        "a header of a megabyte": part % b"file" + b"X: " + b"y" * 1_000_000 + b"\r\n\r\nx\r\n" + end,
        "a field of ten megabytes": part % b"engine" + b"\r\n" + b"a" * 10_000_000 + b"\r\n" + end,
        "a name of a megabyte": part % (b"a" * 1_000_000) + b"\r\nx\r\n" + end,
        "twenty megabytes before the first part": b"a" * 20_000_000,
        "nested": part % b"file" + b"Content-Type: multipart/mixed\r\n\r\n" + multipart(b"x"),
        "two files": multipart(b"x")[: -len(end)] + multipart(b"y"),
        "no end": multipart(b"x")[: -len(end)],
        "nothing": b"",
        "line ends alone": b"\r\n" * 1_000_000,
        "dashes alone": b"--attackattackattack" * 100_000,
    }
    for name, body in bodies.items():
        began = time.monotonic()
        answer = stage.send(form(stage, "/ingestions", UPLOAD, body))
        is_refused = answer.status == 0 or 400 <= answer.status < 500
        yield Try(f"{name}: {answer.status}", is_refused and time.monotonic() - began < 2 * SERVED_WITHIN_SECONDS)


def long_forms(stage: Stage) -> Iterator[Try]:
    """A megabyte where a few words are due, announced or in pieces."""
    data = b"a" * 0x100000
    in_pieces = b"100000\r\n" + data + b"\r\n0\r\n\r\n"
    for media_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"):
        for operation in stage.closed_operations:
            if not operation.media_type or operation.path == "/ingestions":  # no body is read, or a long one is due
                continue
            target = operation.target(stage.own)
            head = form(stage, target, media_type, method=operation.method)
            chunked = head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + in_pieces
            for request in (form(stage, target, media_type, data, method=operation.method), chunked):
                answer = stage.send(request)
                is_refused = answer.status == 0 or 400 <= answer.status < 500
                yield Try(f"{media_type} to {target}: {answer.status}", is_refused)


#: Beginnings of files that whoever tells their type might look at again and again.
BEGINNINGS = [
    b"<!---->" * 500, b"<!-- -->\n" * 400, b"<!--" * 1000, b"<?xml " * 600, b"<?xml ?>" * 500, b" " * 4096 + b"<",
    b"<" * 4096, b"%PDF-" * 800, b"PK\x03\x04" * 1000, b"\xff\xfe" + b"<\x00" * 2000, b"\xef\xbb\xbf" * 1300,
]  # fmt: skip


def beginnings(stage: Stage) -> Iterator[Try]:
    """A web process looks at how each file begins, and serves nobody meanwhile: it is done at once."""
    for beginning in BEGINNINGS:
        for name in ("a.txt", "a.html", "a.md", "a.docx"):
            began = time.monotonic()
            answer = stage.send(form(stage, "/ingestions", UPLOAD, multipart(beginning, name)))
            seconds = time.monotonic() - began
            is_told = answer.status in {202, 415, 422} and seconds < SERVED_WITHIN_SECONDS
            yield Try(f"{beginning[:20]!r} as {name}: {answer.status} after {seconds:.1f} s", is_told)


def form(stage: Stage, target: str, media_type: str, body: bytes = b"", method: str = "POST") -> bytes:
    """A request of a tenant with a good key."""
    return wire.request(method, target, [*stage.intruder.headers, ("Content-Type", media_type)], body)


def slowness(stage: Stage) -> Iterator[Try]:
    """Hundreds who send a byte now and then: others are served as ever, and each is let go of in bounded time."""
    announced = form(stage, "/ingestions", UPLOAD).replace(b"Content-Length: 0", b"Content-Length: 1000000")
    heads = [b"GET /livez HTTP/1.1\r\nX: ", announced, b"POST /ingestions HTTP/1.1\r\n", b""]
    with ExitStack() as open_lines:
        lines = [open_lines.enter_context(wire.connect(node.address)) for node in stage.stack.web for _ in range(200)]
        for n, line in enumerate(lines):
            line.sendall(heads[n % len(heads)])
        began = time.monotonic()
        with ThreadPoolExecutor(4) as others:
            for seconds in others.map(lambda _: _served(stage), range(40)):
                yield Try(f"others wait for {seconds:.1f} s", seconds < SERVED_WITHIN_SECONDS)
        if stage.short:  # `tests/system/test_slow_clients.py` waits for it
            return
        while lines and time.monotonic() - began < LET_GO_WITHIN_SECONDS:
            lines = [line for line in lines if _drips(line)]
            time.sleep(0.2)
        yield from (Try(f"{line} is held", stopped=False) for line in lines)
        yield Try("nobody is held", stopped=True)


def _drips(line: socket.socket) -> bool:
    """Send one byte more; whether the other side still listens."""
    try:
        line.send(b"a")
        line.setblocking(False)
        return line.recv(65536) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _served(stage: Stage) -> float:
    began = time.monotonic()
    answer = stage.send(wire.request("GET", f"/status/{stage.document}", stage.victim.headers))
    assert answer.status == 200, answer.data
    return time.monotonic() - began
